/** "resident": false: the sidecar fetches, publishes and ends; its unit stays active with what it published. */
import { randomBytes } from "node:crypto";
import { expect } from "vitest";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { comesBackAlone, type Pair } from "./pair.ts";
import { scenario } from "./scenario.ts";

// Made at run time: in the source, the compiler's own cache would hold it.
const CANARY = `canary-${randomBytes(6).toString("hex")}`;

const oneshot = { resident: false, config: { reloadOnChange: false } } as const;

onEachGuest("a pair without a resident process", (guest) => {
  scenario(
    guest,
    "has its file and its variable at the start, a status, and no process of the sidecar",
    async (pairOf) => {
      const pair = await pairOf({ name: "once", config: oneshot });
      await pair.start();
      await pair.untilSaid("file=one variable=one");
      expect(await guest.show(pair.sidecar, "ActiveState", "SubState", "MainPID", "Type", "Result")).toEqual({
        ActiveState: "active",
        SubState: "exited",
        MainPID: "0",
        Type: "oneshot",
        Result: "success",
      });
      expect(await guest.status(pair.sidecar)).toMatch(/ready: 1 secret from folder/);
      // Nobody asks for the store any more.
      await pair.put("token", "two");
      expect((await pair.seen("token")).toString()).toBe("one");
    },
  );

  scenario(
    guest,
    "keeps its links and its mount in an aged /tmp, without a process that touches them",
    async (pairOf) => {
      const pair = await pairOf({ name: "once-aged", config: oneshot, target: { service: ["Restart=on-failure"] } });
      await pair.start();
      const pid = await guest.mainPid(pair.target);
      await guest.run(`echo > /proc/${pid}/root/tmp/witness`);
      await guest.write("/run/once-aged.conf", "e /tmp/systemd-private-%b-*once-aged.service-*/tmp - - - 1s\n");
      await guest.until(
        "the witness is gone",
        async () => {
          await guest.run(["systemd-tmpfiles", "--clean", "/run/once-aged.conf"]);
          return await guest.text(`ls -A /proc/${pid}/root/tmp`);
        },
        (names) => !names.includes("witness"),
      );
      expect((await pair.seen("token")).toString()).toBe("one");
      expect((await guest.inUnit(pair.target, "cat /tmp/secrets.env")).stdout).toBe("token='one'\n");
    },
  );

  scenario(guest, "stops both units, whichever is stopped, and leaves nothing", async (pairOf) => {
    const pair = await pairOf({ name: "once-stop", config: oneshot, secrets: { token: CANARY } });
    await pair.start();
    expect(await pair.traces(CANARY)).toContain("/run/once-stop-secrets/pub/token");
    await pair.stop();
    await pair.untilNothingIsLeft(CANARY);
    await pair.start();
    await guest.systemctl("stop", pair.sidecar);
    await pair.untilState(pair.target, "inactive");
    await pair.untilNothingIsLeft(CANARY);
    expect(await guest.show(pair.sidecar, "ActiveState", "Result")).toEqual({
      ActiveState: "inactive",
      Result: "success",
    });
  });

  scenario(guest, "fetches again when the target restarts, and keeps its set during an outage", async (pairOf) => {
    const pair = await pairOf({ name: "once-restart", config: oneshot });
    await pair.start();
    await pair.put("token", "two");
    await pair.restart();
    await pair.untilSaid("file=two variable=two", { lines: 2 });
    await pair.loseStore();
    // systemd keeps the runtime directory over a restart job: the set in it is adopted after five seconds.
    await pair.restart();
    await pair.untilSaid("file=two variable=two", { lines: 3 });
    expect(await pair.journal()).toContain("the set published before stays in use");
  });

  scenario(guest, "waits for the store after a stop, because no set is left to adopt", async (pairOf) => {
    const pair = await pairOf({ name: "once-again", config: oneshot });
    await pair.start();
    await pair.stop();
    await pair.loseStore();
    await guest.systemctl("start", "--no-block", pair.target);
    await pair.untilStatus(/^waiting for folder: no directory .*attempt (?:[2-9]|\d\d)/);
    expect(await pair.said()).toHaveLength(1);
    await pair.returnStore();
    await pair.untilSaid("file=one variable=one", { lines: 2 });
  });

  scenario(guest, "comes back when the target is killed, even during an outage", async (pairOf) => {
    const pair = await pairOf({ name: "once-dies", config: oneshot, target: { service: ["Restart=on-failure"] } });
    await pair.start();
    const first = await guest.mainPid(pair.target);
    await pair.put("token", "two");
    await pair.kill(pair.target, "KILL");
    const second = await pair.untilRestarted(pair.target, first);
    await pair.untilSaid(`pid=${second} file=two variable=two`, { lines: 2 });
    await pair.loseStore();
    await pair.kill(pair.target, "KILL");
    const third = await pair.untilRestarted(pair.target, second);
    await pair.untilSaid(`pid=${third} file=two variable=two`, { lines: 3 });
  });

  scenario(guest, "fails the start at once for a missing secret, and one line says which and where", async (pairOf) => {
    const pair = await pairOf({
      name: "once-missing",
      secrets: { other: "here" },
      config: { ...oneshot, secrets: { token: {} } },
    });
    await pair.restStore();
    const { code, stderr } = await guest.run(["systemctl", "start", pair.target], { check: false });
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/[Dd]ependency/);
    expect(await guest.show(pair.sidecar, "ActiveState", "ExecMainStatus", "NRestarts")).toEqual({
      ActiveState: "failed",
      ExecMainStatus: "66",
      NRestarts: "0",
    });
    expect(await pair.said()).toEqual([]);
    expect(await guest.status(pair.sidecar)).toContain(`no file ${pair.store}/token`);
    await pair.put("token", "one");
    await pair.start();
  });

  scenario(guest, "waits for a late store, says so, and starts no target before", async (pairOf) => {
    const pair = await late("once-late", pairOf);
    await arrive(pair);
    await pair.untilSaid("file=one variable=one");
  });

  for (const signal of ["KILL", "TERM"])
    scenario(
      guest,
      `restarts a sidecar that gets SIG${signal} while it waits, and starts no target before`,
      async (pairOf) => {
        const pair = await late(`once-late-${signal.toLowerCase()}`, pairOf);
        const before = await guest.mainPid(pair.sidecar);
        await pair.kill(pair.sidecar, signal);
        await guest.until(
          "another process waits",
          async () => await guest.mainPid(pair.sidecar),
          (pid) => pid !== before,
        );
        expect(await pair.said()).toEqual([]);
        // Before 254 the target's start has failed with the first process; a start is asked for again.
        if (!(await comesBackAlone(guest))) await guest.systemctl("start", "--no-block", pair.target);
        await arrive(pair);
        await pair.untilSaid("file=one variable=one");
      },
    );

  /** A pair whose store does not exist yet, and whose start waits for it. */
  async function late(name: string, pairOf: Parameters<Parameters<typeof scenario>[2]>[0]): Promise<Pair> {
    const pair = await pairOf({ name, secrets: undefined, config: oneshot });
    await guest.systemctl("start", "--no-block", pair.target);
    await pair.untilStatus(/^waiting for folder: no directory .*attempt (?:[2-9]|\d\d)/);
    expect([await pair.state(pair.sidecar), await pair.state(pair.target)]).toEqual(["activating", "inactive"]);
    expect(await pair.said()).toEqual([]);
    return pair;
  }

  async function arrive(pair: Pair): Promise<void> {
    await guest.write(`${pair.store}.away/token`, "one", 0o400);
    await pair.returnStore();
  }
});

onEachGuest("the drop-in of a pair without a resident process", (guest: Guest) => {
  scenario(guest, "passes systemd-analyze verify, and systemd refuses a reload", async (pairOf) => {
    const pair = await pairOf({ name: "once-verify", config: oneshot });
    const { stdout, stderr } = await guest.run(["systemd-analyze", "verify", pair.target], { check: false });
    // systemd 252 does not know these two, and says that it ignores them.
    const complaints = `${stdout}${stderr}`.split("\n").filter((line) => /fetcher|once-verify/.test(line));
    expect(complaints.filter((line) => !/RestartMode|boolean value, ignoring: identity/.test(line))).toEqual([]);
    await pair.start();
    const { code, stderr: why } = await guest.run(["systemctl", "reload", pair.sidecar], { check: false });
    expect(code).not.toBe(0);
    expect(why).toMatch(/not applicable/);
  });
});
