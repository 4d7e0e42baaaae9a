/** A canary in every value: whatever happens to the pair, it is in the published files and nowhere else. */
import { randomBytes } from "node:crypto";
import { expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import type { Guest } from "./guest.ts";
import { home, type Pair } from "./pair.ts";
import { scenario } from "./scenario.ts";

// Made at run time: in the source, the compiler's own cache would hold it.
const CANARY = `canary-${randomBytes(6).toString("hex")}`;
const binary = Buffer.concat([Buffer.from(`${CANARY} `), Buffer.from([0, 1, 2, 255])]);

onEachGuest("no secret", (guest) => {
  scenario(
    guest,
    "appears in the journal at any level, in systemctl's output, in an argument or the sidecar's environment",
    async (pairOf) => {
      const pair = await pairOf({
        name: "quiet",
        secrets: { token: `${CANARY} one`, binary },
        program: "echo start\nexec sleep infinity\n",
        // Explicit: a value that no variable can hold is then not published.
        config: { secrets: { token: { env: "token" }, binary: {} } },
        // Long enough for the systemctl that waits for it to be seen.
        target: { service: ["ExecStop=sleep 2"] },
        sidecar: { flags: ["--log-level", "trace"] },
      });
      const sample = await watchProcesses(guest, pair);
      try {
        await liveThrough(pair);
      } finally {
        await sample.end();
      }
      const said = {
        journal: await guest.journal(undefined, { output: "export" }),
        json: await guest.journal(undefined, { output: "json" }),
        ownLog: await pair.journal(),
        show: await guest.text(["systemctl", "show", "--all", pair.target, pair.sidecar, pair.asking]),
        status:
          (await guest.status(pair.target)) + (await guest.status(pair.sidecar)) + (await guest.status(pair.asking)),
        commands: await sample.commands(),
        environment: await sample.environment(),
        environ: await environmentOfAsking(pair),
      };
      // Each has been looked at, or its silence would prove nothing.
      expect(said.journal).toContain("MESSAGE");
      expect(said.json).toContain('"MESSAGE"');
      expect(said.ownLog).toContain("asking for the action");
      expect(said.show).toContain("StatusText=2 secrets from folder");
      expect(said.status).toContain("2 secrets from folder");
      expect(said.commands).toMatch(/^--config$/m);
      expect(said.commands).toMatch(/^try-restart$/m);
      expect(said.environment).toContain("RUNTIME_DIRECTORY=");
      expect(said.environ).toContain("INVOCATION_ID=");
      expect(Object.entries(said).flatMap(([where, text]) => (text.includes(CANARY) ? [where] : []))).toEqual([]);
      // As numbers, which is how journalctl writes what is not printable.
      expect(said.json).not.toContain(Array.from(Buffer.from(CANARY)).join(","));
      const files = (await guest.text(`grep -rlF ${CANARY} /run /tmp /var/tmp /var/log /dev/shm /var/lib/pairs`)).split(
        "\n",
      );
      expect(files.sort()).toEqual(["binary", "secrets.env", "token"].map((name) => `${pair.runtime}/pub/${name}`));
    },
    { alone: true },
  );
});

/** Rotation, an outage, a death, an adoption, a value that cannot be published, a forced fetch. */
async function liveThrough(pair: Pair): Promise<void> {
  const { guest } = pair;
  await pair.start();
  await pair.put("token", `${CANARY} two`);
  await pair.untilSaid("start", { lines: 2 });
  await pair.loseStore();
  // It waits for the fetch, which fails.
  await guest.run(["systemctl", pair.isOnChange ? "start" : "reload", pair.asking], { check: false });
  await pair.untilStatus(/no directory/);
  const before = await pair.pids();
  await pair.kill(pair.sidecar, "KILL");
  await pair.untilRestarted(pair.sidecar, before.sidecar);
  // One that stays adopts what it published; a look has it.
  if (!pair.isOnChange) await pair.untilStatus(/published before/);
  await pair.returnStore();
  await pair.put("token", binary);
  await pair.untilStatus(/not published/);
  await pair.put("token", `${CANARY} three`);
  await pair.untilSeen("token", `${CANARY} three`);
  await pair.askStore();
  if (pair.isOnChange) await pair.untilAsked();
  else
    await guest.until("it has fetched again", async () =>
      (await guest.journal(pair.sidecar)).includes("nothing has changed"),
    );
}

/** A look is stopped for it, or it would be over. */
async function environmentOfAsking(pair: Pair): Promise<string> {
  const { guest, asking, sidecar, isOnChange } = pair;
  // It may be over before it is stopped.
  const isStopped = () =>
    pair.kill(sidecar, "STOP").then(
      () => true,
      (error: unknown) => {
        if (String(error).includes("No main process to kill")) return false;
        throw error;
      },
    );
  if (isOnChange) await guest.until("a stopped look", isStopped);
  const environment = await guest.text(`tr '\\0' '\\n' < /proc/${await guest.mainPid(asking)}/environ`);
  if (isOnChange) await pair.kill(sidecar, "CONT");
  return environment;
}

/** Looks at all processes again and again, also at those that live but a moment. */
async function watchProcesses(guest: Guest, { name, asking }: Pair) {
  const here = `${home}/${name}.sample`;
  await guest.write(
    `${here}/watch.sh`,
    `until [ -e ${here}/end ]; do
       cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' >> ${here}/commands
       for group in $(grep -lF '${asking}' /proc/[0-9]*/cgroup 2>/dev/null); do
         cat \${group%/cgroup}/environ 2>/dev/null | tr '\\0' '\\n' >> ${here}/environment
       done
       sleep 0.01
     done\n`,
  );
  await guest.run(["systemd-run", "--quiet", "--unit=sample", "sh", `${here}/watch.sh`]);
  const unique = async (name: string) => await guest.text(["sort", "-u", `${here}/${name}`]);
  return {
    commands: async () => await unique("commands"),
    environment: async () => await unique("environment"),
    async end() {
      await guest.run(["touch", `${here}/end`]);
      await guest.until(
        "the sampling has ended",
        async () => (await guest.show("sample", "ActiveState")).ActiveState !== "active",
      );
    },
  };
}
