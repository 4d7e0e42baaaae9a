/**
 * The core of the matrix, for each delivery and each writer of units. The full matrix is on the plain units in /tmp.
 */
import { randomBytes } from "node:crypto";
import { expect } from "vitest";
import type { Guest } from "./guest.ts";
import type { Pair, PairOptions, UnitSource } from "./pair.ts";
import { scenario } from "./scenario.ts";

// Made at run time: if it were in the source, the compiler's own cache would hold it.
const canary = () => `canary-${randomBytes(6).toString("hex")}`;

/** @param place where the target's program finds the file of the secret `token`, as sh writes it. */
export function coreOfTheMatrix(guest: Guest, delivery: string, place: string, source: UnitSource): void {
  const isCredential = place.startsWith("$CREDENTIALS_DIRECTORY/");
  const says = `echo "start pid=$$ file=$(cat ${place}) variable=$token"`;
  const core = (title: string, body: (pairOf: (options: PairOptions) => Promise<Pair>) => Promise<void>) => {
    scenario(
      guest,
      `${delivery}: ${title}`,
      async (pairOf) => {
        await body(async (options) => {
          const name = `${options.name}-${delivery}`;
          return await pairOf({ program: `${says}\nexec sleep infinity\n`, ...options, name });
        });
      },
      { source },
    );
  };

  core("start: file and variable exist, and the main process is the service's own", async (pairOf) => {
    const pair = await pairOf({ name: "begin", target: { service: ["DynamicUser=yes"] } });
    await pair.start();
    const { target } = await pair.pids();
    expect(await pair.untilSaid(/^start/)).toEqual([`start pid=${target} file=one variable=one`]);
  });

  core("stop: the sidecar stops with the target, and no secret is left", async (pairOf) => {
    const secret = canary();
    const pair = await pairOf({ name: "stop", secrets: { token: secret } });
    await pair.start();
    expect(await pair.traces(secret)).toContain(`${pair.runtime}/pub/token`);
    await pair.stop();
    await pair.untilNothingIsLeft(secret);
  });

  core(
    "stop of the sidecar: the target stops too, because it never runs without its secrets, and starts again",
    async (pairOf) => {
      const pair = await pairOf({ name: "sidestop" });
      await pair.start();
      await guest.systemctl("stop", pair.sidecar);
      await pair.untilState(pair.target, "inactive");
      await pair.start();
      await pair.untilSaid("file=one variable=one", { lines: 2 });
    },
  );

  core("kill of the target: it comes back, even during an outage", async (pairOf) => {
    const pair = await pairOf({ name: "kill", target: { service: ["Restart=on-failure"] } });
    await pair.start();
    const before = await pair.pids();
    await pair.loseStore();
    await pair.kill(pair.target, "KILL");
    const pid = await pair.untilRestarted(pair.target, before.target);
    await pair.untilSaid(`pid=${pid} file=one variable=one`, { lines: 2 });
    await pair.returnStore();
  });

  core("kill of the sidecar: rotation continues", async (pairOf) => {
    const pair = await pairOf({ name: "sidekill" });
    await pair.start();
    const before = await pair.pids();
    await pair.kill(pair.sidecar, "KILL");
    await pair.untilRestarted(pair.sidecar, before.sidecar);
    await pair.untilState(pair.target, "active");
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
  });

  core("rotation: the target restarts with the new value", async (pairOf) => {
    const pair = await pairOf({ name: "rotate" });
    await pair.start();
    const before = await pair.pids();
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two", { lines: 2 });
    expect((await pair.pids()).sidecar).toBe(before.sidecar);
  });

  core("no reloadOnChange: only a restart of the target fetches again", async (pairOf) => {
    const pair = await pairOf({ name: "still", config: { config: { reloadOnChange: false } } });
    await pair.start();
    await pair.put("token", "two");
    await pair.restart();
    expect(await pair.untilSaid("file=two variable=two", { lines: 2 })).toHaveLength(2);
  });

  core(
    "no resident process: the published set lasts as long as the target, and a restart fetches again",
    async (pairOf) => {
      const pair = await pairOf({
        name: "once",
        target: { service: ["Restart=on-failure"] },
        config: { resident: false, config: { reloadOnChange: false } },
      });
      await pair.start();
      expect(await guest.show(pair.sidecar, "ActiveState", "SubState", "MainPID")).toEqual({
        ActiveState: "active",
        SubState: "exited",
        MainPID: "0",
      });
      const two = canary();
      await pair.put("token", two);
      await pair.restart();
      await pair.untilSaid(`file=${two} variable=${two}`, { lines: 2 });
      // The sidecar is killed and the store is away: the earlier set still lies there.
      const pid = await guest.mainPid(pair.target);
      await pair.loseStore();
      await pair.kill(pair.target, "KILL");
      await pair.untilRestarted(pair.target, pid);
      await pair.untilSaid(`file=${two} variable=${two}`, { lines: 3 });
      await pair.returnStore();
      await pair.stop();
      await pair.untilNothingIsLeft(two);
    },
  );

  core("a missing secret: the start fails at once, and the sidecar's status says why", async (pairOf) => {
    const pair = await pairOf({ name: "missing", secrets: { other: "x" }, config: { secrets: { token: {} } } });
    await pair.restStore();
    await expect(pair.start()).rejects.toThrow(/dependency job|failed/i);
    expect(await guest.show(pair.sidecar, "Result", "ExecMainStatus")).toEqual({
      Result: "exit-code",
      ExecMainStatus: "66",
    });
    expect(await guest.status(pair.sidecar)).toContain(`no file ${pair.store}/token`);
    expect(await pair.said()).toEqual([]);
  });

  core("a missing optional secret: its file is empty, and the target starts", async (pairOf) => {
    const pair = await pairOf({
      name: "optional",
      config: { secrets: { maybe: { optional: true } } },
      program: `echo "start token=$(cat ${place}) maybe=$(cat ${place.replace("token", "maybe")} 2>&1)"
  exec sleep infinity`,
    });
    await pair.start();
    await pair.untilSaid(isCredential ? /^start token=one maybe=$/ : /^start token=one maybe=.*No such file/);
  });
}
