import { describe, expect, test, vi } from "vitest";
import { type Backend, BackendError, type Outcome } from "../../../src/contract/backend.ts";
import type { Store } from "../../../src/engine/store.ts";
import { openStore } from "../../../src/engine/store.ts";
import { configOf } from "../command-line.ts";
import { recordingLog, settled } from "../fakes.ts";

const canary = "canary-5704";
const never = new AbortController().signal;

type Methods = Partial<Record<keyof Backend<unknown>, (...args: never[]) => unknown>>;

let underTest: Methods = {};

/** In the place of the table: a backend with these methods, which need not keep to the contract. */
vi.mock("../../../backends/index.ts", () => ({
  isForeign: () => false,
  loadBackend: () =>
    Promise.resolve({
      name: "third",
      defaultPollingInterval: 30,
      parseSettings: () => ({}),
      parseSource: (id: string) => ({ id }),
      describe: ({ id }: { id: string }) => `the place of ${id}`,
      open: () => Promise.resolve(underTest),
    }),
}));

async function open(methods: Methods, config: object = {}) {
  underTest = methods;
  const log = recordingLog();
  const store = await openStore(configOf({ secrets: { a: {}, b: {} }, ...config }), log, Math.random);
  return { store, log };
}

const value = (text: string, more: object = {}): Outcome => ({
  status: "value",
  value: Buffer.from(text),
  version: "1",
  ...more,
});

async function outcomes(store: Store, limit?: number) {
  const answer = await store.fetch(["a", "b"], never, limit);
  expect([...answer.keys()]).toEqual(["a", "b"]);
  return answer;
}

async function messageOf(store: Store, limit?: number): Promise<string> {
  const [, outcome] = [...(await outcomes(store, limit))][0] ?? [];
  if (!(outcome instanceof Error)) throw new Error("no error");
  return `${outcome.kind}: ${outcome.message}`;
}

const bug = "the backend failed with";

describe("a fetch never rejects, and reveals no confidential text", () => {
  test.each<[string, () => unknown, string]>([
    ["rejects", () => Promise.reject(new TypeError(canary)), `unavailable: ${bug} TypeError (a bug of the backend)`],
    [
      "throws at once",
      () => {
        throw new RangeError(canary);
      },
      `unavailable: ${bug} RangeError (a bug of the backend)`,
    ],
    [
      "rejects with no error",
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      () => Promise.reject(canary),
      `unavailable: ${bug} string (a bug of the backend)`,
    ],
    [
      "has no descriptors",
      () => Promise.reject(Object.assign(new Error(canary), { code: "EMFILE" })),
      "unavailable: no file descriptors left: raise LimitNOFILE= of the unit",
    ],
    ["answers nothing", () => undefined, "invalid: the backend gave no proper answer (a bug of the backend)"],
    ["answers an object", () => ({ a: canary }), "invalid: the backend gave no proper answer (a bug of the backend)"],
    [
      "answers an empty map",
      () => Promise.resolve(new Map()),
      "invalid: the backend gave no proper answer for it (a bug of the backend)",
    ],
    [
      "throws a BackendError by its name",
      () =>
        Promise.reject(
          Object.assign(new Error("sealed"), { name: "BackendError", kind: "unavailable", retryAfter: 4 }),
        ),
      "unavailable: sealed",
    ],
  ])("a backend that %s", async (_, fetch, message) => {
    const { store, log } = await open({ fetch });
    expect(await messageOf(store)).toBe(message);
    expect(JSON.stringify(log.lines)).not.toContain(canary);
  });

  test.each([
    null,
    "text",
    { status: "value", value: "text", version: "1" },
    { status: "value", value: Buffer.from("x") },
    { status: "value", value: Buffer.from("x"), version: 1 },
    { status: "value", value: Buffer.from("x"), version: "1", refreshAfter: NaN },
    { status: "value", value: Buffer.from("x"), version: "1", refreshAfter: "10" },
    { status: "missing" },
  ])("limits a malformed outcome to its own secret: %j", async (wrong) => {
    const { store } = await open({
      fetch: () =>
        new Map<string, unknown>([
          ["a", wrong],
          ["b", value("x")],
        ]),
    });
    const answer = await outcomes(store);
    expect(answer.get("a")).toMatchObject({ kind: "invalid" });
    expect(answer.get("b")).toMatchObject({ status: "value" });
  });

  test("pauses before it requests again a lease that ends at once", async () => {
    const { store } = await open({ fetch: () => new Map([["a", value("x", { refreshAfter: 0 })]]) });
    expect((await outcomes(store)).get("a")).toMatchObject({ refreshAfter: 1 });
  });

  test("gives up a backend that hangs and ignores its signal", async () => {
    let aborted = false;
    const fetch = (_: never, signal: AbortSignal) => {
      signal.addEventListener("abort", () => (aborted = true));
      return new Promise(() => undefined);
    };
    const { store } = await open({ fetch });
    expect(await messageOf(store, 0.0521)).toBe("unavailable: no answer within 0.1 s");
    expect(aborted).toBe(true);
  });

  test("uses what a backend returns at its time limit: one secret's silence delays no other", async () => {
    const fetch = (_: never, signal: AbortSignal) =>
      new Promise((done) => {
        signal.addEventListener("abort", () => {
          done(
            new Map<string, unknown>([
              ["a", value("x")],
              ["b", new BackendError("unavailable", "stopped")],
              ["c", new BackendError("denied", "permission denied")],
              // Of d it says nothing.
            ]),
          );
        });
      });
    const { store } = await open({ fetch }, { secrets: { a: {}, b: {}, c: {}, d: {} } });
    const answer = await store.fetch(["a", "b", "c", "d"], never, 0.05);
    expect(answer.get("a")).toMatchObject({ status: "value" });
    // It may be said of what was cut short.
    for (const id of ["b", "c", "d"])
      expect(answer.get(id)).toMatchObject({ kind: "unavailable", message: "no answer within 0.1 s" });
  });

  test("overwrites a late answer", async () => {
    const late = Buffer.from(canary);
    let answer: (map: unknown) => void = () => undefined;
    const { store } = await open({ fetch: () => new Promise((done) => (answer = done)) });
    const stop = new AbortController();
    const asked = store.fetch(["a"], stop.signal);
    stop.abort();
    await asked;
    answer(new Map([["a", { status: "value", value: late, version: "1" }]]));
    await settled();
    expect(late.every((byte) => byte === 0)).toBe(true);
  });

  test.each(["before", "during"])("a stop %s the fetch ends it at once", async (when) => {
    const { store } = await open({ fetch: () => new Promise(() => undefined) });
    const stop = new AbortController();
    if (when === "before") stop.abort();
    const answer = store.fetch(["a"], stop.signal);
    stop.abort();
    expect((await answer).get("a")).toMatchObject({ kind: "unavailable", message: "stopped" });
  });

  test("asks the backend only for the requested secrets", async () => {
    let asked: unknown;
    const { store } = await open({
      fetch: (requests: never) => {
        asked = requests;
        return new Map();
      },
    });
    await store.fetch(["b"], never);
    expect(asked).toEqual([{ id: "b", source: { id: "b" } }]);
  });
});

describe("limits how much a backend may return", () => {
  const MIB = 1024 * 1024;
  const ids = ["a", "b", "c", "d", "e"];
  const secrets = Object.fromEntries(ids.map((id) => [id, {}]));
  const large = (size: number) => ({ status: "value", value: Buffer.alloc(size, 1), version: "1" });

  test("a value over 16 MiB fails only its own secret, and is overwritten", async () => {
    const tooLarge = large(16 * MIB + 1);
    const { store } = await open({
      fetch: () => new Map<string, unknown>(Object.entries({ a: tooLarge, b: value("x") })),
    });
    const answer = await outcomes(store);
    expect(answer.get("a")).toMatchObject({
      kind: "invalid",
      message: 'secret "a": the value is larger than 16 MiB',
    });
    expect(answer.get("b")).toMatchObject({ status: "value" });
    expect(tooLarge.value.every((byte) => byte === 0)).toBe(true);
  });

  test.each([
    ["in one fetch", [ids]],
    ["in several, as a retry has it", [["a", "b"], ["c"], ["d"], ["e"]]],
  ])("all values together may have 64 MiB: %s", async (_, goes) => {
    const fetch = (requests: readonly { id: string }[]) => new Map(requests.map(({ id }) => [id, large(16 * MIB)]));
    const { store } = await open({ fetch }, { secrets });
    const kinds = new Map<string, unknown>();
    for (const go of goes)
      for (const [id, outcome] of await store.fetch(go, never))
        kinds.set(id, outcome instanceof Error ? outcome.message : outcome.status);
    expect(Object.fromEntries(kinds)).toEqual({
      a: "value",
      b: "value",
      c: "value",
      d: "value",
      e: 'secret "e": with it, all secrets together are larger than 64 MiB',
    });
    // The same ones again are not counted twice.
    expect((await store.fetch(["a"], never)).get("a")).toMatchObject({ status: "value" });
  });
});

describe("a watch", () => {
  test("a watch that ignores its signal does not keep the sidecar from ending", async () => {
    const { store } = await open({ watch: () => new Promise(() => undefined) });
    const stop = new AbortController();
    const watch = store.watch?.(() => undefined, stop.signal);
    await settled();
    stop.abort();
    await watch;
    await store.watch?.(() => undefined, stop.signal);
    expect(stop.signal.aborted).toBe(true);
  });
  test("a failed watch reports the backend's failure", async () => {
    const { store } = await open({ watch: () => Promise.reject(new TypeError(canary)) });
    await expect(store.watch?.(() => undefined, never)).rejects.toMatchObject({
      name: "BackendError",
      message: `${bug} TypeError (a bug of the backend)`,
    });
  });
  test("does not exist where the backend has none", async () => {
    expect((await open({})).store.watch).toBeUndefined();
  });
});

test("logs failures of applied and close, and continues", async () => {
  const fail = () => Promise.reject(new TypeError(canary));
  const { store, log } = await open({ applied: fail, close: fail });
  await store.applied(new Map());
  await store.close();
  expect(log.at("warn")).toEqual(Array(2).fill(`third: ${bug} TypeError (a bug of the backend)`));
});

test("uses the configuration's polling interval, otherwise the backend's", async () => {
  expect((await open({})).store.pollingInterval).toBe(30);
  expect((await open({}, { config: { refreshInterval: 7 } })).store.pollingInterval).toBe(7);
  expect((await open({})).store.describe("a")).toBe("the place of a");
});
