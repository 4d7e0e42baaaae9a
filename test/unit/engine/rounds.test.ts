import { expect, test } from "vitest";
import { startSidecar } from "./running-sidecar.ts";

/** Node's error for a failed call that our code does not expect. */
function refused(): never {
  throw Object.assign(new Error("not to be shown"), { code: "EMFILE", syscall: "uv_resident_set_memory" });
}

test("reports a failed system call of a round once, and publishes in the next round", async () => {
  let isRefusing = true;
  const idle = () => {
    if (isRefusing) refused();
  };
  const { clock, store, log, notifier, end, file } = await startSidecar({ idle });
  store.put("a", "a2");
  await clock.advance(40);
  store.put("a", "a3");
  await clock.advance(80);
  const text = "the system refuses uv_resident_set_memory: too many open files (EMFILE)";
  expect(log.at("error")).toEqual([`${text}; the sidecar tries again`]);
  expect(JSON.stringify(log.lines)).not.toContain("not to be shown");
  expect(notifier.last).toContain(text);
  isRefusing = false;
  store.put("a", "a4");
  await clock.advance(80);
  expect(file("a")).toBe("a4");
  expect(notifier.last).not.toContain("refuses");
  expect(end()).toBe("runs");
});

test("a reload whose round fails is not lost: the next round does it", async () => {
  const { clock, store, sidecar, file, log } = await startSidecar({ config: { config: { reloadOnChange: false } } });
  const { before } = store;
  store.before = () => {
    store.before = before;
    return refused();
  };
  store.put("a", "a2");
  sidecar.reload();
  await clock.advance(1);
  expect(log.at("error")).toHaveLength(1);
  expect(file("a")).toBe("a1");
  await clock.advance(10);
  expect(file("a")).toBe("a2");
});

test("answers who asked for a reload whose round fails, once the next round has done it", async () => {
  const { clock, publisher, ask } = await startSidecar();
  const maintain = publisher.maintain.bind(publisher);
  publisher.maintain = () => {
    publisher.maintain = maintain;
    refused();
  };
  const answer = ask();
  await clock.advance(1);
  expect(answer()).toBeUndefined();
  await clock.advance(10);
  expect(answer()).toMatchObject({ exitCode: 0 });
});

test("ends on a bug, and does not take it for a failed call", async () => {
  const idle = () => {
    throw new TypeError("bug");
  };
  const { clock, store, end } = await startSidecar({ idle });
  store.put("a", "a2");
  await clock.advance(40);
  expect(end()).toBeInstanceOf(TypeError);
});
