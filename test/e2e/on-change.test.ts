/** "resident": "on-change": no process of the sidecar stays, and systemd starts one when the store may have changed. */
import { expect } from "vitest";
import { generatedUnits } from "./generated-units.ts";
import { onEachGuest } from "./guests.ts";
import type { Pair, PairOptions } from "./pair.ts";
import { scenario } from "./scenario.ts";

/** Another pair needs a daemon-reload, during which systemd misses changes. */
const source = { source: generatedUnits, alone: true };
const unitOf = ({ name }: Pair, end: string) => `${name}-secrets-${end}`;

onEachGuest("an on-change sidecar", (guest) => {
  const onChange = (options: PairOptions): PairOptions => ({
    ...options,
    // A poll would hide what the watch does not see.
    config: {
      resident: "on-change",
      ...options.config,
      config: { reloadOnChange: true, pollingInterval: 3600, ...(options.config?.["config"] as object | undefined) },
    },
  });

  /** No look is in progress, none is due, and no action is in progress. */
  async function untilQuiet(pair: Pair): Promise<void> {
    await guest.until(
      "all looks are over",
      async () => {
        const states = await Promise.all(
          ["refresh.service", "watch.service", "act.service"].map((end) => pair.state(unitOf(pair, end))),
        );
        const notes = await guest.text(
          `ls -A /run/${pair.name}-secrets-refresh/inbox /run/${pair.name}-secrets-act/inbox | grep -v : | tr -d '\\n'`,
          { check: false },
        );
        return [...states, notes];
      },
      ([...states]) => states.every((state) => state === "inactive" || state === ""),
      { timeout: 60 },
    );
  }

  /** Runs a command as soon as a look is in progress: in the guest, since a look may be over before the test sees it. */
  async function duringLook(pair: Pair, command: string): Promise<void> {
    const look = unitOf(pair, "refresh.service");
    await guest.run(`until systemctl is-active --quiet ${look}; do :; done; ${command}`);
  }

  /** The file has units already, which is why another name would be taken for it. */
  async function statusOf(pair: Pair): Promise<unknown> {
    const all: unknown = JSON.parse(await guest.text(["fetcher", "status", "--json", pair.name]));
    return (all as readonly { readonly unit: string }[]).find(({ unit }) => unit === pair.sidecar);
  }

  async function untilLookSays(pair: Pair, pattern: RegExp): Promise<string> {
    return await guest.until(
      `the look says ${String(pattern)}`,
      async () => (await guest.show(unitOf(pair, "refresh.service"), "StatusText")).StatusText,
      (text) => pattern.test(text),
    );
  }

  scenario(
    guest,
    "runs no process, still brings a changed value to its service, and reports it once",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "change" }));
      await pair.start();
      for (const value of ["two", "three"]) {
        await untilQuiet(pair);
        expect(await guest.show(pair.sidecar, "ActiveState", "SubState", "MainPID")).toEqual({
          ActiveState: "active",
          SubState: "exited",
          MainPID: "0",
        });
        await pair.put("token", value);
        await pair.untilSaid(`file=${value} variable=${value}`);
      }
      await untilQuiet(pair);
      expect(await pair.said()).toHaveLength(3);
      expect(await guest.text("pgrep -f 'fetcher.*/change[.]json'", { check: false })).toBe("");
      await untilLookSays(pair, /^1 secret from folder, version \S+, checked at [^;]*; fetcher /);
      expect(await statusOf(pair)).toMatchObject({ state: "ok", facts: { rotations: 2 } });
      // The mark of the last action goes with the next look.
      await guest.systemctl("start", unitOf(pair, "refresh.service"));
      await untilQuiet(pair);
      expect(JSON.parse(await guest.read(`${pair.runtime}/pub/.fetcher-state`))).toMatchObject({ pending: null });
      expect(await pair.said()).toHaveLength(3);
    },
    source,
  );

  scenario(
    guest,
    "sees the last of a hundred quick rotations, and none of its units fails",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "burst" }));
      await pair.start();
      await untilQuiet(pair);
      await guest.run(
        `cd ${pair.store} && i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo -n "v$i" > .new && mv .new token; sleep 0.05; done; cat token`,
      );
      await pair.untilSaid("file=v100 variable=v100", { timeout: 60 });
      await untilQuiet(pair);
      for (const end of ["watch.path", "refresh.path", "refresh.timer", "act.path"])
        expect([end, await pair.state(unitOf(pair, end))]).toEqual([end, "active"]);
      for (const end of ["watch.service", "refresh.service"])
        expect(await guest.show(unitOf(pair, end), "Result")).toEqual({ Result: "success" });
      // The units keep working.
      await pair.put("token", "after");
      await pair.untilSaid("file=after variable=after");
      await pair.untilState(pair.target, "active");
    },
    source,
  );

  scenario(
    guest,
    "loses no change that comes during a look",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "during", config: { onChange: { settle: 1 } } }));
      await pair.start();
      for (const value of ["one", "two", "three"]) {
        await untilQuiet(pair);
        await pair.put("token", `${value}-a`);
        // As soon as the first is published, which is just before the look ends.
        await guest.run(
          `until [ "$(cat ${pair.runtime}/pub/token)" = ${value}-a ]; do :; done; echo -n ${value}-b > ${pair.store}/.new; mv ${pair.store}/.new ${pair.store}/token`,
          { timeout: 60 },
        );
        await pair.untilSaid(`file=${value}-b variable=${value}-b`, { timeout: 60 });
      }
    },
    source,
  );

  scenario(
    guest,
    "keeps its set while the store is away or unreadable, says so once, and continues afterwards",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "outage" }));
      await pair.start();
      const first = await guest.mainPid(pair.target);
      await untilQuiet(pair);
      await pair.loseStore();
      await untilLookSays(pair, /secret "token": no directory .*, since /);
      await untilQuiet(pair);
      await guest.systemctl("start", unitOf(pair, "refresh.service"));
      await untilQuiet(pair);
      const journal = await guest.journal(unitOf(pair, "refresh.service"));
      expect(journal.match(/the published values stay in use/g)).toHaveLength(1);
      expect(await guest.mainPid(pair.target)).toBe(first);
      expect((await pair.seen("token")).toString()).toBe("one");
      expect(await statusOf(pair)).toMatchObject({ state: "trouble" });
      await guest.write(`${pair.store}.away/token`, "two", 0o400);
      await pair.returnStore();
      await pair.untilSaid("file=two variable=two", { lines: 2 });
      await guest.until(
        "the journal says so",
        async () => await guest.journal(unitOf(pair, "refresh.service")),
        (lines) => lines.includes("answers again"),
      );
    },
    source,
  );

  scenario(
    guest,
    "sees swapped links, whether the older generation is removed or stays",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "swap", secrets: undefined }));
      const home = "/etc/fetcher/swap";
      const generation = async (number: number) => {
        await guest.write(`${home}/generations/${String(number)}/token`, `g${String(number)}`, 0o400);
        await guest.run(`ln -sfnT generations/${String(number)} ${home}/.new && mv -T ${home}/.new ${home}/secrets`);
      };
      await guest.run(`mkdir -p ${home}/generations/1 ${home}/generations/2 ${home}/generations/3`);
      await generation(1);
      await pair.start();
      for (const number of [2, 3]) {
        await untilQuiet(pair);
        await generation(number);
        await pair.untilSaid(`file=g${String(number)} variable=g${String(number)}`);
        if (number === 2) await guest.run(`rm -r ${home}/generations/1`);
      }
    },
    source,
  );

  scenario(
    guest,
    "sees a directory that another one replaces later",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "later" }));
      await pair.start();
      await untilQuiet(pair);
      await guest.run(`rm -r ${pair.store}`);
      await untilLookSays(pair, /no directory/);
      await untilQuiet(pair);
      await guest.run(
        `mkdir -p ${pair.store}.new && echo -n two > ${pair.store}.new/token && mv -T ${pair.store}.new ${pair.store}`,
      );
      await pair.untilSaid("file=two variable=two", { lines: 2 });
    },
    source,
  );

  scenario(
    guest,
    "makes up for a killed look, and does not lose its action",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "killed", config: { onChange: { settle: 2 } } }));
      await pair.start();
      await untilQuiet(pair);
      await pair.put("token", "two");
      await duringLook(pair, `systemctl kill --kill-whom=main --signal=KILL ${unitOf(pair, "refresh.service")}`);
      await pair.untilSaid("file=two variable=two", { lines: 2 });
      await untilQuiet(pair);
      expect(await pair.said()).toHaveLength(2);
    },
    source,
  );

  scenario(
    guest,
    "keeps to the target's start limit, and the target gets the last value in the end",
    async (pairOf) => {
      const pair = await pairOf(
        onChange({
          name: "limit",
          target: { unit: ["StartLimitIntervalSec=15", "StartLimitBurst=3"], service: [] },
        }),
      );
      await pair.start();
      for (const value of ["two", "three", "four", "five"]) {
        await untilQuietLook(pair);
        await pair.put("token", value);
        await guest.until(
          `${value} is published`,
          async () => await guest.read(`${pair.runtime}/pub/token`),
          (text) => text === value,
        );
      }
      await pair.untilSaid("file=five variable=five", { timeout: 60 });
      // Another restart may be due for what was published last.
      await pair.untilState(pair.target, "active");
    },
    source,
  );

  async function untilQuietLook(pair: Pair): Promise<void> {
    await pair.untilState(unitOf(pair, "refresh.service"), "inactive");
  }

  scenario(
    guest,
    "stops with its service, at any moment and in any way, leaves nothing, and reports no trouble",
    async (pairOf) => {
      // In its own directory it says that it has begun. The mount of that in the look's unit outlives the directory.
      const program = `cd /etc/fetcher/gone; test -e hold || exit 0; touch "$SECRETS_DIRECTORY/../../verifying"; until test -e go; do sleep 0.05; done`;
      const verify = { command: ["sh", "-c", program] };
      const pair = await pairOf(onChange({ name: "gone", config: { onChange: { settle: 2, verify } } }));
      const ends = ["watch.path", "refresh.path", "refresh.timer", "refresh.service", "watch.service", "act.path"];
      const since = await guest.journalCursor();
      for (const during of ["nothing", "look", "verify"]) {
        await pair.start();
        await untilQuiet(pair);
        if (during === "verify") await guest.write("/etc/fetcher/gone/hold", "");
        if (during !== "nothing") await pair.put("token", during);
        if (during === "look") await duringLook(pair, `systemctl stop ${pair.target}`);
        if (during === "verify")
          await guest.until("verify runs", async () => await guest.exists(`${pair.runtime}/verifying`));
        await pair.stop();
        await guest.until(
          "no directory is left",
          async () => (await guest.run("ls -d /run/gone-secrets*", { check: false })).stdout === "",
        );
        if (during === "verify") await guest.write("/etc/fetcher/gone/go", "");
        for (const end of ends) await pair.untilState(unitOf(pair, end), "inactive");
        const words = [
          "journalctl",
          "--quiet",
          "--boot",
          "--output=cat",
          "--priority=err",
          `--since=${since}`,
        ] as const;
        const units = [pair.sidecar, ...ends.map((end) => unitOf(pair, end))].map((unit) => `--unit=${unit}`);
        await guest.run(["journalctl", "--sync"]);
        expect([during, await guest.text([...words, ...units])]).toEqual([during, ""]);
      }
      expect(await guest.journal(unitOf(pair, "refresh.service"))).toContain("stopped together with the sidecar");
      await pair.start();
      await pair.untilSaid("file=verify variable=verify");
    },
    source,
  );

  for (const resident of [true, "on-change"] as const)
    scenario(
      guest,
      `waits for a late key of NixOps and for its bytes, and follows it (resident: ${String(resident)})`,
      async (pairOf) => {
        const [unit, key] = ["token-key.service", "/run/keys/token"];
        // A stand-in for NixOps' own (nix/keys.nix), without its inotifywait: it runs while the key is there.
        const lines = [
          ...["[Service]", "TimeoutStartSec=infinity", "Restart=always", "RestartSec=100ms"],
          `ExecStartPre=sh -c 'until test -e ${key}; do sleep 0.1; done'`,
          `ExecStart=sh -c 'while test -e ${key}; do sleep 0.1; done'`,
        ];
        await guest.write(`/etc/systemd/system/${unit}`, `${lines.join("\n")}\n`);
        const settings = { secretsDir: undefined, reloadOnChange: true, pollingInterval: 3600 };
        const config = { backend: "nixops", resident, config: settings };
        const pair = await pairOf({ name: `keys-${String(resident)}`, secrets: undefined, config });
        await guest.systemctl("start", "--no-block", pair.target);
        await pair.untilState(unit, "activating");
        expect(await guest.text("systemctl list-jobs --no-legend")).toMatch(
          new RegExp(`${pair.sidecar} +start +waiting`),
        );
        expect(await pair.said()).toEqual([]);
        // NixOps makes the file first, and fills it then.
        await guest.run(`install -d -m 0750 /run/keys && install -m 0600 /dev/null ${key}`);
        await pair.untilStatus(/still empty/);
        expect(await pair.said()).toEqual([]);
        await guest.write(key, "one", 0o600);
        await pair.untilSaid("file=one variable=one");
        if (pair.isOnChange) await untilQuiet(pair);
        await guest.write(key, "two", 0o600);
        await pair.untilSaid("file=two variable=two", { lines: 2 });
        await pair.stop();
        await guest.run(`systemctl stop ${unit}; rm -r /run/keys /etc/systemd/system/${unit}`);
      },
      source,
    );

  scenario(
    guest,
    "waits for a late store at its start, and sees later changes",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "late", secrets: undefined }));
      await guest.systemctl("start", "--no-block", pair.target);
      await pair.untilStatus(/^waiting for folder: no directory /);
      expect(await pair.said()).toEqual([]);
      await guest.run(`mkdir -p ${pair.store}.new && echo -n one > ${pair.store}.new/token`);
      await guest.run(`mv -T ${pair.store}.new ${pair.store}`);
      await pair.untilSaid("file=one variable=one");
      await pair.put("token", "two");
      await pair.untilSaid("file=two variable=two", { lines: 2 });
    },
    source,
  );

  scenario(
    guest,
    "reports in STATUS that no unit acts for it, as when its path unit got no inotify instance, and acts once one does",
    async (pairOf) => {
      const pair = await pairOf(onChange({ name: "actless" }));
      await pair.start();
      await untilQuiet(pair);
      await guest.systemctl("stop", unitOf(pair, "act.path"));
      await pair.put("token", "two");
      const words =
        "the action waits: actless-secrets-act.service has not begun (see systemctl status actless-secrets-act.path ";
      await guest.until(
        "fetcher status reports it",
        async () => JSON.stringify(await statusOf(pair)),
        (text) => text.includes(words),
        { timeout: 60 },
      );
      await guest.systemctl("start", unitOf(pair, "refresh.service"));
      await untilLookSays(pair, /the action waits: actless-secrets-act/);
      await guest.until(
        "the journal tells it",
        async () => await guest.journal(unitOf(pair, "refresh.service")),
        (lines) => lines.includes(words),
      );
      expect(await pair.said()).toHaveLength(1);
      await guest.systemctl("start", unitOf(pair, "act.path"));
      await pair.untilSaid("file=two variable=two", { lines: 2 });
    },
    source,
  );

  scenario(
    guest,
    "is started by a timer where systemd cannot watch the store",
    async (pairOf) => {
      const settings = { command: ["sh", "-c", "cat /srv/polls-token"], pollingInterval: 2, secretsDir: undefined };
      await guest.write("/srv/polls-token", "one", 0o400);
      const pair = await pairOf(onChange({ name: "polls", config: { backend: "command", config: settings } }));
      await pair.start();
      expect(await pair.state(unitOf(pair, "watch.path"))).toBe("inactive");
      await guest.write("/srv/polls-token", "two", 0o400);
      await pair.untilSaid("file=two variable=two", { lines: 2 });
    },
    source,
  );
});
