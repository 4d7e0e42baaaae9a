/**
 * A sidecar that may not talk to systemd asks, and another process acts: no action may get lost between the two, or be
 * done twice.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Acting } from "../../../src/systemd/acting.ts";
import { ActionCounter, ActionDesk } from "../../../src/systemd/action-desk.ts";
import { AskedTargets } from "../../../src/systemd/asked-targets.ts";
import { configOf } from "../command-line.ts";
import { FakeClock, FakeSystemd, recordingLog } from "../fakes.ts";

/** Both sides in one process, on a real directory; time and systemd are fakes. `act` is what the path unit does. */
function bothSides(onChange: object = {}) {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-act-"));
  mkdirSync(join(directory, "inbox"));
  const stop = new AbortController();
  const clock = new FakeClock();
  const systemd = new FakeSystemd(clock);
  const config = configOf({
    service: "app.service",
    secrets: { a: {} },
    output: { directory: "/run/app-secrets/pub" },
    onChange: { minInterval: 0, ...onChange },
  });
  const marks: (number | null)[] = [];
  let applied = 0;
  const log = recordingLog();
  /** Of the unit that acts. */
  const acts = recordingLog();
  const begin = () => {
    const targets = new AskedTargets({
      ...{ config, log, clock },
      publisher: { setPending: (publishedAt) => marks.push(publishedAt) },
      counter: new ActionCounter(directory),
      changed: () => undefined,
      applied: () => (applied += 1),
      unmarked: () => undefined,
    });
    void targets.run(stop.signal);
    return targets;
  };
  const targets = begin();
  const inbox = () => readdirSync(join(directory, "inbox"));
  const act = (end = new AbortController().signal) =>
    new Acting({ config, desk: new ActionDesk(directory), systemd, log: acts, clock, random: () => 0.5 }).run(end);
  /** Acts until nothing is due, as the path unit has it. */
  const actAll = async () => {
    let isOver = false;
    const over = act().finally(() => (isOver = true));
    await clock.until(() => isOver);
    const result = await over;
    await clock.advance(5);
    return result;
  };
  const restarts = () => systemd.jobs.filter(({ what }) => what === "restart app.service").length;
  onTestFinished(async () => {
    stop.abort();
    await clock.advance(1);
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    directory,
    clock,
    systemd,
    log,
    marks,
    targets,
    begin,
    inbox,
    act,
    actAll,
    restarts,
    applied: () => applied,
  };
}

test("does a requested action once, clears the mark, and only then ends old leases", async () => {
  const { targets, clock, marks, inbox, actAll, restarts, applied, log } = bothSides();
  const at = clock.monotonic();
  targets.request(["a"]);
  expect(inbox()).toEqual([`set-${at}`]);
  await clock.advance(8);
  expect([marks, restarts(), applied()]).toEqual([[at], 0, 0]);
  expect(await actAll()).toBe(true);
  expect([marks, restarts(), applied(), inbox()]).toEqual([[at, null], 1, 1, []]);
  expect(targets.counts).toEqual({ done: 1, failed: 0 });
  // What the other unit has logged, the sidecar's journal has once.
  expect(log.lines.map(({ message }) => message).filter((line) => line.startsWith("app.service"))).toEqual([
    "app.service: restart for the new secrets",
    "app.service: restart done",
  ]);
  await actAll();
  expect(restarts()).toBe(1);
});

test("merges two sets requested while nothing acts into one action, and one more requested before the target starts again", async () => {
  const { targets, clock, inbox, actAll, act, restarts, systemd } = bothSides();
  targets.request(["a"]);
  await clock.advance(1);
  targets.request(["a"]);
  systemd.jobTime = 20;
  let isOver = false;
  const acting = act().finally(() => (isOver = true));
  await clock.until(() => restarts() === 1);
  targets.request(["a"]);
  await clock.until(() => isOver);
  expect(await acting).toBe(true);
  await actAll();
  expect([restarts(), inbox()]).toEqual([1, []]);
});

test("when killed or stopped, leaves the due action to its successor, which knows earlier starts", async () => {
  const { targets, clock, systemd, inbox, act, actAll, restarts } = bothSides({ minInterval: 30 });
  targets.request(["a"]);
  await actAll();
  const first = clock.monotonic();
  targets.request(["a"]);
  const end = new AbortController();
  const acting = act(end.signal);
  await clock.advance(2);
  expect(targets.statuses).toEqual([expect.stringMatching(/^restart of app\.service in \d+ s \(paced\)$/)]);
  end.abort();
  await clock.advance(0);
  await acting;
  expect([restarts(), inbox().length]).toEqual([1, 1]);
  await actAll();
  expect([restarts(), inbox()]).toEqual([2, []]);
  const [, second = 0] = systemd.jobs.filter(({ what }) => what === "restart app.service").map(({ at }) => at);
  expect(second).toBeGreaterThanOrEqual(first / 1e6 + 30 - 6);
});

test("leaves a target alone that has started with the new secrets since", async () => {
  const { targets, clock, systemd, actAll, restarts, applied } = bothSides();
  targets.request(["a"]);
  await clock.advance(1);
  systemd.state = { ...systemd.state, leftInactiveAt: clock.monotonic(), mainStartedAt: clock.monotonic() };
  await actAll();
  expect([restarts(), applied()]).toEqual([0, 1]);
});

test("does not repeat an action whose end the sidecar did not see", async () => {
  const { targets, clock, begin, marks, actAll, restarts } = bothSides();
  const at = clock.monotonic();
  targets.request(["a"]);
  await actAll();
  const next = begin();
  next.resume({ pending: { publishedAt: at } });
  await clock.advance(6);
  await actAll();
  expect([restarts(), marks.at(-1), next.counts]).toEqual([1, null, { done: 0, failed: 0 }]);
});

test("STATUS says so when the acting unit does not begin", async () => {
  const { targets, clock, log, actAll } = bothSides();
  targets.request(["a"]);
  await clock.advance(16);
  const words = /has not begun \(see systemctl status fetcher-act-\w+\.path fetcher-act-\w+\.service\)/;
  expect(targets.statuses).toEqual([expect.stringMatching(words)]);
  expect(log.at("warn")).toEqual([expect.stringMatching(words)]);
  await actAll();
  expect(targets.statuses).toEqual([]);
});

describe("an intruder's file in the inbox", () => {
  test("causes no other unit's action, no other action and no write elsewhere, and is removed", async () => {
    const { directory, clock, inbox, actAll, systemd } = bothSides();
    const [box, aside] = [join(directory, "inbox"), join(directory, "aside")];
    mkdirSync(aside);
    writeFileSync(join(aside, "kept"), "");
    for (const name of [
      "set-0",
      "set--1",
      "set-1e3",
      "restart-sshd.service",
      "set-99999999999999999999",
      ".hidden",
      "look-x",
    ])
      writeFileSync(join(box, name), '{"unit":"sshd.service","action":"start"}');
    writeFileSync(join(box, `set-${clock.monotonic() + 60e6}`), "");
    mkdirSync(join(box, "deep/er"), { recursive: true });
    symlinkSync(aside, join(box, "link"));
    symlinkSync(aside, join(box, "deep/link"));
    expect(await actAll()).toBe(true);
    expect([inbox(), systemd.jobs, readdirSync(aside)]).toEqual([[], [], ["kept"]]);
  });

  test("causes at most its own targets' action, at their pace", async () => {
    const { directory, clock, actAll, restarts, systemd } = bothSides({ minInterval: 20 });
    for (let time = 1; time < 40; time += 1)
      writeFileSync(join(directory, "inbox", `set-${clock.monotonic() - time}`), "");
    await actAll();
    writeFileSync(join(directory, "inbox", `set-${clock.monotonic()}`), "");
    await actAll();
    expect(restarts()).toBe(2);
    const [one = 0, two = 0] = systemd.starts;
    expect(two - one).toBeGreaterThanOrEqual(20);
  });
});

describe("a sidecar stopped right after an action that broke its target", () => {
  test("learns about it, and restarts both", async () => {
    const { targets, clock, systemd, actAll, log } = bothSides();
    targets.request(["a"]);
    await actAll();
    systemd.fail();
    const { signal } = new AbortController();
    const asked = targets.broken(signal);
    await clock.advance(0.01);
    await actAll();
    expect(await asked).toEqual([{ unit: "app.service", hasNewer: false, hasJob: false }]);
    const revived = targets.reviveBoth("app.service", signal);
    await clock.advance(0.01);
    await actAll();
    expect(await revived).toEqual({ ok: true, detail: "" });
    expect(systemd.jobs.map(({ what }) => what)).toContain("revive app.service and the sidecar");
    expect(log.at("error")).toEqual([]);
  });

  test("learns about it during the action", async () => {
    const { directory, targets, clock, systemd, act } = bothSides();
    targets.request(["a"]);
    systemd.jobTime = 30;
    const end = new AbortController();
    const acting = act(end.signal);
    await clock.until(() => systemd.jobs.some(({ what }) => what === "restart app.service"));
    void targets.broken(new AbortController().signal);
    await clock.advance(6);
    expect(new ActionDesk(directory).report.answered).toBeGreaterThan(0);
    end.abort();
    await clock.advance(0);
    await acting;
  });

  test("does not ask if no action was done, and does not wait for ever for an answer", async () => {
    const { targets, clock, inbox, actAll } = bothSides();
    const { signal } = new AbortController();
    expect(await targets.broken(signal)).toEqual([]);
    expect(inbox()).toEqual([]);
    targets.request(["a"]);
    await actAll();
    let broken: unknown;
    void targets.broken(signal).then((answer) => (broken = answer));
    await clock.advance(6);
    expect(broken).toEqual([]);
  });
});

test("serves a request that arrives while the inbox is cleared, and does not take it for one from the future", () => {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-act-"));
  onTestFinished(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  mkdirSync(join(directory, "inbox"));
  const counter = new ActionCounter(directory);
  counter.ask("set", 10);
  const clock = () => {
    counter.ask("set", 21);
    return 20;
  };
  expect(new ActionDesk(directory).clear({ done: 10, answered: 0 }, clock)).toBe(true);
  expect(readdirSync(join(directory, "inbox"))).toEqual(["set-21"]);
});
