/** Start, stop and restart of either unit, and starts that cannot work (yet). */
import { randomBytes } from "node:crypto";
import { expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import { saysStart } from "./pair.ts";
import { scenario } from "./scenario.ts";

// Made at run time: in the source, the compiler's own cache would hold it.
const CANARY = `canary-${randomBytes(6).toString("hex")}`;

onEachGuest("the life of a pair", (guest) => {
  scenario(guest, "starts with file and variable, and the main process is the service's own", async (pairOf) => {
    const pair = await pairOf({ name: "begin" });
    await pair.start();
    const { target } = await pair.pids();
    expect(await pair.untilSaid(/^start/)).toEqual([`start pid=${target} file=one variable=one`]);
    await guest.until(
      "the main process runs the command's own program",
      async () => await guest.text(["cat", `/proc/${target}/comm`]),
      (name) => name === "sleep",
    );
  });

  scenario(guest, "stops the sidecar when the target stops, and leaves no secret anywhere", async (pairOf) => {
    const pair = await pairOf({ name: "ending", secrets: { token: CANARY } });
    await pair.start();
    expect(await pair.traces(CANARY)).toEqual(
      expect.arrayContaining([
        "/run/ending-secrets/pub/token",
        "/run/ending-secrets/pub/secrets.env",
        expect.stringContaining("/tmp/systemd-private-"),
      ]),
    );
    await pair.stop();
    await pair.untilNothingIsLeft(CANARY);
    expect(await guest.show(pair.sidecar, "Result", "ExecMainStatus")).toEqual({
      Result: "success",
      ExecMainStatus: "0",
    });
  });

  scenario(guest, "stops the target when the sidecar stops: it never runs without its secrets", async (pairOf) => {
    const pair = await pairOf({ name: "sidestop" });
    await pair.start();
    await guest.systemctl("stop", pair.sidecar);
    await pair.untilState(pair.target, "inactive");
    expect(await pair.state(pair.sidecar)).toBe("inactive");
    await pair.start();
    expect(await pair.untilSaid(/^start/, { lines: 2 })).toHaveLength(2);
  });

  scenario(
    guest,
    "leaves the sidecar alone at a restart of the target with reloadOnChange: it asks no store",
    async (pairOf) => {
      const pair = await pairOf({ name: "keeps" });
      await pair.start();
      const before = await pair.pids();
      await pair.restart();
      const after = await pair.pids();
      expect(after.sidecar).toBe(before.sidecar);
      expect(after.target).not.toBe(before.target);
      expect(
        await pair.untilSaid(new RegExp(`^start pid=${after.target} file=one variable=one$`), { lines: 2 }),
      ).toHaveLength(2);
    },
  );

  scenario(guest, "fetches again only at a restart of the target without reloadOnChange", async (pairOf) => {
    const pair = await pairOf({
      name: "refetch",
      config: { config: { reloadOnChange: false, pollingInterval: 0.1 } },
    });
    await pair.start();
    const before = await pair.pids();
    await pair.put("token", "two");
    // Its sidecar would see the change many times while this one's target starts.
    const other = await pairOf({ name: "refetch-other" });
    await other.start();
    await other.put("token", "two");
    await other.untilSaid("file=two");
    expect(await pair.pids()).toEqual(before);
    expect((await pair.seen("token")).toString()).toBe("one");
    await pair.restart();
    expect((await pair.pids()).sidecar).not.toBe(before.sidecar);
    expect(await pair.untilSaid("file=two variable=two")).toHaveLength(2);
  });

  scenario(guest, "runs both units again after a restart of the sidecar", async (pairOf) => {
    const pair = await pairOf({ name: "siderestart" });
    await pair.start();
    const before = await pair.pids();
    await guest.systemctl("restart", pair.sidecar);
    await pair.untilState(pair.target, "active");
    expect((await pair.pids()).sidecar).not.toBe(before.sidecar);
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
  });

  for (const reloadOnChange of [true, false])
    scenario(
      guest,
      `restarts a target that dies, even during an outage (reloadOnChange: ${reloadOnChange})`,
      async (pairOf) => {
        const pair = await pairOf({
          name: `dies-${reloadOnChange}`,
          config: { config: { reloadOnChange } },
          target: { service: ["Restart=on-failure"] },
        });
        await pair.start();
        const first = await pair.pids();
        await pair.kill(pair.target, "KILL");
        const second = await pair.untilRestarted(pair.target, first.target);
        if (reloadOnChange) expect((await pair.pids()).sidecar).toBe(first.sidecar);
        await pair.untilSaid(`pid=${second} `);
        await pair.loseStore();
        await pair.kill(pair.target, "KILL");
        const third = await pair.untilRestarted(pair.target, second);
        expect(await pair.untilSaid(`pid=${third} file=one variable=one`, { lines: 3 })).toHaveLength(3);
      },
    );

  scenario(guest, "waits for a late store, says so, and then starts; no target starts before", async (pairOf) => {
    const pair = await pairOf({
      name: "late",
      secrets: undefined,
      program: `ls /tmp/token\n${saysStart}\nexec sleep 9999\n`,
    });
    await guest.systemctl("start", "--no-block", pair.target);
    await pair.untilStatus(/^waiting for folder: no directory \/etc\/fetcher\/late\/secrets.*attempt (?:[2-9]|\d\d)/);
    expect([await pair.state(pair.sidecar), await pair.state(pair.target)]).toEqual(["activating", "inactive"]);
    expect(await pair.said()).toEqual([]);
    await guest.write(`${pair.store}.away/token`, "one", 0o400);
    await pair.returnStore();
    await pair.untilState(pair.target, "active");
    const [listed, said] = await pair.untilSaid(/^start/, { lines: 2 });
    expect([listed, said]).toEqual(["/tmp/token", expect.stringContaining("file=one variable=one")]);
    await pair.untilStatus(/^1 secret from folder/);
    const ready = await guest.show(pair.sidecar, "ActiveEnterTimestampMonotonic");
    const began = await guest.show(pair.target, "ExecMainStartTimestampMonotonic");
    expect(Number(began.ExecMainStartTimestampMonotonic)).toBeGreaterThan(Number(ready.ActiveEnterTimestampMonotonic));
  });

  scenario(guest, "fails the start at once for a missing secret, and one line says which and where", async (pairOf) => {
    const pair = await pairOf({ name: "missing", secrets: { other: "here" }, config: { secrets: { token: {} } } });
    await pair.restStore();
    const { code, stderr } = await guest.run(["systemctl", "start", pair.target], { check: false });
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/[Dd]ependency/);
    expect(await guest.show(pair.sidecar, "ActiveState", "Result", "ExecMainStatus", "NRestarts")).toEqual({
      ActiveState: "failed",
      Result: "exit-code",
      ExecMainStatus: "66",
      NRestarts: "0",
    });
    expect(await pair.said()).toEqual([]);
    const why = 'folder: secret "token": no file /etc/fetcher/missing/secrets/token';
    expect(await guest.status(pair.sidecar)).toContain(why);
    const lines = (await pair.journal()).split("\n");
    // The journal's lines end in a code, by which the index of messages is searched.
    const told = lines.filter((line) => line.includes("token"));
    expect(told).toEqual([expect.stringMatching(/ \[F-[0-9A-Z]{5}\]$/)]);
    expect(told[0]).toContain(why);
    await pair.put("token", "one");
    await pair.start();
  });
});
