/** Traps of the target's user in the shared /tmp, and a full disk: root writes nowhere else, and nothing is lost. */
import { expect } from "vitest";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { comesBackAlone, home, type Pair } from "./pair.ts";
import { areGenerated, scenario } from "./scenario.ts";

const optional = { optional: true };
const nobody = { service: ["User=nobody", "Group=nogroup"] };

onEachGuest("traps", (guest) => {
  for (const [where, output] of [
    ["among the links", {}],
    ["among the files in /tmp itself", { directory: "/tmp", links: null }],
  ] as const) {
    // Who has the units generated has no such output.
    if (areGenerated && "directory" in output) continue;
    scenario(guest, `${where} lead no write and no chown elsewhere, and are replaced`, async (pairOf) => {
      const name = where.includes("links") ? "trap-links" : "trap-files";
      const owned = { ...optional, owner: "nobody" };
      const pair = await pairOf({
        name,
        config: {
          secrets: { "a-link": owned, "b-fifo": optional, "c-file": owned, "d-dangling": optional, token: {} },
          output,
        },
        target: nobody,
      });
      await pair.start();
      const victim = await victimOf(guest, name);
      const { sidecar } = await pair.pids();
      await byTarget(
        pair,
        `ln -s ${victim.path}/file /tmp/a-link
         mkfifo /tmp/b-fifo
         echo evil > /tmp/c-file
         ln -s ${victim.path}/new /tmp/d-dangling
         mkdir /tmp/.fetcher-commit-000000000000 /tmp/.fetcher-stage-000000000000
         echo evil > /tmp/.fetcher-commit-000000000000/token
         ln -s ${victim.path} /tmp/.fetcher-commit-111111111111
         ln -s ${victim.path}/new /tmp/.fetcher-link-000000000000`,
      );
      const ids = ["a-link", "b-fifo", "c-file", "d-dangling"];
      // Together: a restart for each, and those of 252 for the sidecar's end, would come near the target's start limit.
      await pair.putTogether({ ...Object.fromEntries(ids.map((id) => [id, `value of ${id}`])), token: "two" });
      await pair.untilSaid("file=two variable=two");
      for (const id of ids) await pair.untilSeen(id, `value of ${id}`);
      expect((await pair.pids()).sidecar).toBe(sidecar);
      expect(await victim.look()).toBe(victim.before);
      // Its next life looks through what is in /tmp.
      await pair.kill(pair.sidecar, "KILL");
      await pair.untilRestarted(pair.sidecar, sidecar);
      // If /tmp is still the same, the sidecar does not complete something that only looks like an interrupted publish.
      if (await comesBackAlone(guest)) await pair.untilSeen(".fetcher-commit-000000000000/token", "evil\n");
      await pair.put("token", "three");
      await pair.untilSaid("file=three variable=three");
      expect(await victim.look()).toBe(victim.before);
    });
  }

  scenario(
    guest,
    "that the sidecar cannot replace appear in STATUS; once removed, the rotation continues",
    async (pairOf) => {
      const pair = await pairOf({
        name: "trap-directory",
        config: { secrets: { token: {}, late: optional } },
        target: nobody,
      });
      await pair.start();
      const before = await pair.pids();
      await byTarget(pair, "mkdir /tmp/late && touch /tmp/late/file");
      await pair.put("late", "value");
      await pair.untilStatus(/\/tmp\/late is a directory: remove it/);
      // What is published is acted on: a link is the service's own affair.
      await pair.untilRestarted(pair.target, before.target);
      expect((await pair.pids()).sidecar).toBe(before.sidecar);
      await guest.run(`rm -r /proc/${(await pair.pids()).target}/root/tmp/late`);
      await pair.put("token", "two");
      await pair.untilSaid("file=two variable=two", { timeout: 60 });
      await pair.untilSeen("late", "value");
      await pair.untilStatus(/^2 secrets from folder, [^;]*$/);
    },
  );

  scenario(guest, "at the name of a removed link are replaced", async (pairOf) => {
    const pair = await pairOf({ name: "trap-taken", target: nobody });
    await pair.start();
    // A look at the start would mend it at once.
    if (pair.isOnChange) await pair.untilAsked();
    const { target } = await pair.pids();
    await guest.run(`rm /proc/${target}/root/tmp/secrets.env`);
    await byTarget(pair, "echo 'token=evil' > /tmp/secrets.env");
    await pair.askStore();
    await guest.until(
      "secrets.env is the sidecar's again",
      async () => (await pair.seen("secrets.env")).toString() === "token='one'\n",
    );
    await pair.restart();
    await pair.untilSaid("file=one variable=one", { lines: 2 });
  });

  // systemd reads the variables itself where the units are generated.
  if (!areGenerated)
    scenario(guest, "stop a program that would source them from starting", async (pairOf) => {
      const pair = await pairOf({ name: "trap-sourced", target: nobody });
      await pair.start();
      const { target } = await pair.pids();
      await guest.run(`rm /proc/${target}/root/tmp/secrets.env`);
      await byTarget(pair, "echo 'token=evil' > /tmp/secrets.env");
      await guest.systemctl("restart", pair.target);
      await pair.untilState(pair.target, "failed");
      expect(await guest.journal(pair.target)).toContain("/tmp/secrets.env does not belong to root");
      expect(await pair.said()).toHaveLength(1);
    });

  scenario(guest, "a full disk keeps the old set and the target as they are, says so, and heals", async (pairOf) => {
    const pair = await pairOf({ name: "full" });
    await guest.tmpfs(pair.runtime, "96k");
    await pair.start();
    const before = await pair.pids();
    await pair.put("token", "x".repeat(100_000));
    await pair.untilStatus(/no space left on/);
    expect(await pair.pids()).toEqual(before);
    expect((await pair.seen("token")).toString()).toBe("one");
    await pair.restart();
    await pair.untilSaid("file=one variable=one", { lines: 2 });
    await pair.put("token", "three");
    await pair.untilSaid("file=three variable=three");
    await pair.untilStatus(/^1 secret from folder, [^;]*$/);
    expect(await guest.text(`ls -A ${pair.runtime}/pub`)).toBe(".fetcher-lock\n.fetcher-state\nsecrets.env\ntoken");
  });
});

/** What the target's own user can do. */
async function byTarget(pair: Pair, command: string): Promise<void> {
  await pair.guest.inUnit(pair.target, ["sh", "-euc", command], { asItsUser: true });
}

/** Files of root's that a trap leads to, and how they look. */
async function victimOf(
  guest: Guest,
  name: string,
): Promise<{ path: string; before: string; look(): Promise<string> }> {
  const path = `${home}/${name}.victim`;
  await guest.write(`${path}/file`, "precious", 0o600);
  const look = async () => await guest.text(`cd ${path} && ls -A && stat -c '%n %F %a %u %g %y %Z' . file && cat file`);
  return { path, before: await look(), look };
}
