/** Long work in slices. If this fails, a stop waits until a store's largest answer has been looked through. */
import { expect, test } from "vitest";
import { atOnce, inSlices, type Sliced } from "../../../src/contract/slices.ts";

function* endless(): Sliced<never> {
  for (;;) yield;
}

function* counting(steps: number): Sliced<number> {
  for (let step = 0; step < steps; step += 1) yield;
  return steps;
}

test("lets events in, and ends the work when one of them is a stop", async () => {
  const stop = new AbortController();
  setTimeout(() => {
    stop.abort(new Error("stopped"));
  });
  await expect(inSlices(endless(), stop.signal)).rejects.toThrow("stopped");
});

test("does small work before it lets anything in", async () => {
  let isLater = false;
  setImmediate(() => (isLater = true));
  expect(await inSlices(counting(0))).toBe(0);
  expect(isLater).toBe(false);
});

test("gives the result of all steps, in slices or at once", async () => {
  expect(await inSlices(counting(1000))).toBe(1000);
  expect(atOnce(counting(1000))).toBe(1000);
});
