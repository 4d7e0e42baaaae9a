/** One way to wait for work that may never end: without it, a stop or a time limit would hang with the work. */
import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { aborted, late, reasonOf, unlessAborted, waitFor } from "../../../src/contract/bounded-wait.ts";

const never = new Promise<string>(() => undefined);

test("returns the work's result or error, and leaves no listener on the signal", async () => {
  const { signal } = new AbortController();
  await expect(waitFor(Promise.resolve("done"), signal, 60)).resolves.toBe("done");
  await expect(waitFor(Promise.reject(new Error("broken")), signal, 60)).rejects.toThrow("broken");
  expect(getEventListeners(signal, "abort")).toEqual([]);
});

test("abandons endless work when the signal aborts, before or meanwhile", async () => {
  const stop = new AbortController();
  const waiting = waitFor(never, stop.signal, 60);
  stop.abort();
  await expect(waiting).resolves.toBe(aborted);
  await expect(waitFor(never, stop.signal)).resolves.toBe(aborted);
});

test("abandons endless work when its time is over", async () => {
  const { signal } = new AbortController();
  await expect(waitFor(never, signal, 0)).resolves.toBe(late);
  await expect(waitFor(never, undefined, 0)).resolves.toBe(late);
  expect(getEventListeners(signal, "abort")).toEqual([]);
});

test("waits beyond the longest timer, where setTimeout() would fire at once", async () => {
  const stop = new AbortController();
  const waiting = waitFor(never, stop.signal, 1e9);
  // A timer that fires at once fires before this one.
  await waitFor(never, undefined, 0.05);
  stop.abort();
  await expect(waiting).resolves.toBe(aborted);
});

test("a failure of abandoned work does not end the process", async () => {
  const stop = new AbortController();
  let fail: (error: Error) => void = () => undefined;
  const work = new Promise<string>((_, reject) => (fail = reject));
  stop.abort(new Error("stopped"));
  await expect(unlessAborted(stop.signal, work)).rejects.toThrow("stopped");
  const unhandled: unknown[] = [];
  const note = (error: unknown) => unhandled.push(error);
  process.on("unhandledRejection", note);
  fail(new Error("too late"));
  await new Promise((done) => setImmediate(done));
  process.off("unhandledRejection", note);
  expect(unhandled).toEqual([]);
});

test("turns a reason that is not an error into one", () => {
  const stop = new AbortController();
  stop.abort("SIGTERM");
  expect(reasonOf(stop.signal)).toEqual(new Error("aborted"));
});
