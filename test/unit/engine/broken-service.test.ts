/**
 * A service that did not survive the first half of a pair takes its sidecar along. The second half comes a second
 * later, and the service must not stay down.
 */
import { describe, expect, test } from "vitest";
import { LONGEST_HELP } from "../../../src/engine/broken-service.ts";
import { FakeStore } from "../fakes.ts";
import { startSidecar } from "./running-sidecar.ts";

const REVIVED = "revive app.service and the sidecar";

/** A sidecar whose service has just died of the first half of a pair, and which systemd now stops. */
async function broken({
  verify = undefined as object | undefined,
  goesDown = false,
  dies = true,
  answers = true,
} = {}) {
  const store = new FakeStore({ a: "cert 1", b: "key 1" });
  const config = verify === undefined ? {} : { onChange: { verify } };
  const life = await startSidecar({ store, config });
  const { clock, systemd, restarts } = life;
  await clock.advance(1);
  store.put("a", "cert 2");
  store.hint();
  await clock.until(() => restarts() === 1, 30);
  await clock.advance(1);
  if (dies) systemd.fail();
  systemd.goesDown = goesDown;
  systemd.answers = answers;
  let ended = false;
  const end = life.stop().then(() => (ended = true));
  await clock.advance(0);
  const revived = () => systemd.jobs.filter(({ what }) => what === REVIVED).length;
  return { ...life, end, ended: () => ended, revived };
}

describe("a stop right after an action that broke the service", () => {
  test("waits for newer secrets, and restarts both when they come", async () => {
    const { store, clock, log, notifier, end, ended, revived } = await broken();
    await clock.advance(5);
    expect([ended(), revived()]).toEqual([false, 0]);
    expect(notifier.last).toBe(
      `app.service failed after the last action; waiting up to ${LONGEST_HELP} s for newer secrets`,
    );
    store.put("b", "key 2");
    await clock.until(ended, 5);
    await end;
    expect(revived()).toBe(1);
    expect(log.at("notice").at(-1)).toBe(
      "app.service failed after the last action: started again, newer secrets are there",
    );
  });

  test("looks again when its first look gets no answer, because the stop ends its child processes too", async () => {
    const { clock, systemd, ended } = await broken({ answers: false });
    await clock.advance(0.3);
    expect(ended()).toBe(false);
    systemd.answers = true;
    await clock.advance(5);
    expect(ended()).toBe(false);
    systemd.answers = false;
    await clock.until(ended, 5);
  });

  test("ends after its time when none come, and says that the service stays failed", async () => {
    const { clock, log, ended, revived } = await broken();
    await clock.until(ended, LONGEST_HELP + 2);
    expect(revived()).toBe(0);
    expect(log.at("warn").at(-1)).toBe("app.service stays failed: no newer secrets came");
  });

  test("ends at once when somebody starts the service", async () => {
    const { clock, systemd, ended, revived } = await broken();
    systemd.state = { ...systemd.state, hasJob: true };
    await clock.until(ended, 2);
    expect(revived()).toBe(0);
  });

  test("ends at once when the machine shuts down", async () => {
    const { ended, revived } = await broken({ goesDown: true });
    expect([ended(), revived()]).toEqual([true, 0]);
  });
});

test("any other stop ends at once, and starts nothing", async () => {
  const { ended, revived, systemd } = await broken({ dies: false });
  expect([ended(), revived()]).toEqual([true, 0]);
  expect(systemd.state.activeState).toBe("active");
});
