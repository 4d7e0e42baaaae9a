/** How the backend of a configuration is checked, opened, and kept over a reload. The table of backends is a fake. */
import { join } from "node:path";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { type Backend, type BackendModule, BackendError, type Outcome } from "../../../src/contract/backend.ts";
import { ConfigError } from "../../../src/contract/errors.ts";
import { checkStore, isSameBackend, openStore } from "../../../src/engine/store.ts";
import { configOf } from "../command-line.ts";
import { recordingLog, settled } from "../fakes.ts";
import { freshDirectory } from "./running-sidecar.ts";

const never = new AbortController().signal;

let given: Partial<BackendModule> = {};
let backend: Partial<Backend<unknown>> = {};
let prepared: boolean[] = [];
let opens = 0;
let context: Parameters<BackendModule["open"]>[1] | undefined;

vi.mock("../../../backends/index.ts", () => ({
  isForeign: (name: string) => name.includes("/"),
  loadBackend: () =>
    Promise.resolve({
      name: "third",
      defaultPollingInterval: 30,
      parseSettings: (settings: object) => settings,
      parseSource: (id: string) => ({ id }),
      describe: ({ id }: { id: string }) => `the place of ${id}`,
      open: (_: unknown, its: typeof context) => {
        opens += 1;
        context = its;
        return Promise.resolve({ ...backend });
      },
      ...given,
    }),
}));
vi.mock("../../../src/runtime/platform.ts", async (original) => ({
  ...(await original<object>()),
  // The real one may start the program again.
  prepareForeignCode: (isRunning: boolean) => prepared.push(isRunning),
}));

beforeEach(() => {
  [given, backend, prepared, opens, context] = [{}, {}, [], 0, undefined];
});

const secrets = { a: {}, b: {} };
const open = (config: object = {}, running?: Awaited<ReturnType<typeof openStore>>) =>
  openStore(configOf({ secrets, ...config }), recordingLog(), Math.random, running);

describe("a reload", () => {
  test("keeps the running backend, with its sessions, if its settings are the same", async () => {
    const running = await open({ config: { url: "x" } });
    const next = await open({ config: { url: "x", pollingInterval: 5 }, secrets: { c: {} } }, running);
    expect([opens, isSameBackend(running, next), next.pollingInterval]).toEqual([1, true, 5]);
    const third = await open({ config: { url: "x" } }, next);
    expect([opens, isSameBackend(running, third)]).toEqual([1, true]);
  });

  test.each([
    ["settings", { config: { url: "y" } }],
    ["backend", { config: { url: "x" }, backend: "vault" }],
  ])("opens another backend if the %s differ", async (_, config) => {
    const running = await open({ config: { url: "x" } });
    const next = await open(config, running);
    expect([opens, isSameBackend(running, next), isSameBackend(next, next)]).toEqual([2, false, true]);
  });

  test("a start has no backend to keep, and two stores without one share none", async () => {
    const [one, other] = [await open(), await open()];
    expect([opens, isSameBackend(one, other)]).toEqual([2, false]);
    expect([isSameBackend({ ...one }, { ...one }), isSameBackend({ ...one }, one)]).toEqual([false, false]);
  });
});

describe("a configuration", () => {
  test("reports an error at its own option, in the settings and in a source", async () => {
    const wrong = () => {
      throw new ConfigError("deep", "is wrong");
    };
    given = { parseSettings: wrong };
    await expect(open()).rejects.toThrow("configuration: config.deep: is wrong");
    given = { parseSource: wrong };
    await expect(open()).rejects.toThrow("configuration: secrets.a.source.deep: is wrong");
    await expect(open({ secrets: { "a b": {} } })).rejects.toThrow('configuration: secrets["a b"].source.deep');
  });

  test("with `all` requests a whole place if the backend can name one", async () => {
    const config = { secrets: { a: { all: true }, b: {} } };
    const asked = async () => (await checkStore(configOf(config))).requests.map(({ source }) => source);
    expect(await asked()).toEqual([{ id: "a" }, { id: "b" }]);
    given = { parseWhole: (id: string) => ({ whole: id }) };
    expect(await asked()).toEqual([{ whole: "a" }, { id: "b" }]);
  });

  test("is refused if its output lies where the secrets come from; without an output nothing can overlap", async () => {
    const directory = freshDirectory();
    given = { reads: () => [directory] };
    const output = { directory: join(directory, "pub") };
    await expect(open({ output })).rejects.toThrow("configuration: output.directory: lies in");
    await open();
    given = {};
    await open({ output });
  });

  test("with a third-party module prepares for it first, and says whether a sidecar runs", async () => {
    const running = await open();
    expect(prepared).toEqual([]);
    await open({ backend: "/opt/store.mjs" });
    await open({ backend: "/opt/store.mjs" }, running);
    await checkStore(configOf({ secrets, backend: "/opt/store.mjs" }));
    expect(prepared).toEqual([false, true, false]);
  });
});

test("a backend's lines have its name, and no control characters for the terminal", async () => {
  const log = recordingLog();
  await openStore(configOf({ secrets }), log, () => 0.25);
  context?.log("notice", "renewed \u001b[2J");
  expect(log.lines).toMatchObject([{ level: "notice", message: "third: renewed \\u001b[2J" }]);
  expect(context?.random()).toBe(0.25);
});

test("a secret's place has no control characters for the terminal either", async () => {
  given = { describe: () => "place\u0007" };
  const where = { status: "missing", where: "no\u0007" } as const;
  backend = { fetch: () => Promise.resolve(new Map([["a", where]])) };
  const store = await open();
  expect(store.describe("a")).toBe("place\\u0007");
  expect((await store.fetch(["a"], never)).get("a")).toEqual({ ...where, where: "no\\u0007" });
});

test("constant values are not polled, whatever the configuration says", async () => {
  given = { defaultPollingInterval: null };
  expect((await open({ config: { pollingInterval: 5 } })).pollingInterval).toBeNull();
});

test("a lease's backend learns which versions are in use", async () => {
  const told: unknown[] = [];
  backend = {
    applied: (versions) => {
      told.push(versions);
      return Promise.resolve();
    },
  };
  const versions = new Map([["a", "1"]]);
  await (await open()).applied(versions);
  expect(told).toEqual([versions]);
});

test("a backend whose close() hangs does not keep the process from ending", async () => {
  const log = recordingLog();
  backend = { close: () => new Promise(() => undefined) };
  await (await openStore(configOf({ secrets }), log, Math.random)).close();
  expect(log.at("warn")).toEqual(["third: did not close within 0.5 s"]);
});

test("a backend that closes in time, or lacks these methods, causes no warning", async () => {
  for (const methods of [{}, { close: () => Promise.resolve(), applied: () => Promise.resolve() }]) {
    const log = recordingLog();
    backend = methods;
    const store = await openStore(configOf({ secrets }), log, Math.random);
    await store.applied(new Map());
    await store.close();
    expect(log.lines).toEqual([]);
  }
});

describe("an answer", () => {
  const value = (more: object = {}): Outcome => ({ status: "value", value: Buffer.from("x"), version: "1", ...more });
  const answered = async (outcome: unknown) => {
    backend = { fetch: () => Promise.resolve(new Map([["a", outcome as Outcome]])) };
    return (await (await open()).fetch(["a"], never)).get("a");
  };

  test("keeps its lease and its age if they are valid", async () => {
    expect(await answered(value({ refreshAfter: 60, writtenAgo: 0 }))).toEqual(
      value({ refreshAfter: 60, writtenAgo: 0 }),
    );
    expect(await answered(value({ writtenAgo: 3 }))).toEqual(value({ writtenAgo: 3 }));
    for (const writtenAgo of [-1, "3"]) expect(await answered(value({ writtenAgo }))).toEqual(value());
    expect(await answered(value({ refreshAfter: 0.2, writtenAgo: -1 }))).toEqual(value({ refreshAfter: 1 }));
    expect(await answered(value({ refreshAfter: Infinity }))).toMatchObject({ kind: "invalid" });
  });

  test("an answer that throws when read is that secret's failure, and nothing of it is shown", async () => {
    const trap = {
      get status() {
        throw new Error("canary-5705");
      },
    };
    const outcome = await answered(trap);
    expect(outcome).toMatchObject({
      kind: "invalid",
      message: "the backend gave no proper answer for it (a bug of the backend)",
    });
  });

  test("is decoded as configured", async () => {
    backend = { fetch: () => Promise.resolve(new Map([["a", value({ value: Buffer.from("eA==") })]])) };
    const store = await open({ secrets: { a: { decode: "base64" } } });
    expect((await store.fetch(["a"], never)).get("a")).toMatchObject({ value: Buffer.from("x") });
    backend.fetch = () => Promise.resolve(new Map([["a", value({ value: Buffer.from("?") })]]));
    const other = await open({ secrets: { a: { decode: "base64" } } });
    expect((await other.fetch(["a"], never)).get("a")).toMatchObject({
      message: "the place of a: is not base64, which `decode` expects",
    });
  });

  test("an answer for an unrequested secret is dropped", async () => {
    backend = {
      fetch: () =>
        Promise.resolve(
          new Map([
            ["a", value()],
            ["c", value()],
          ]),
        ),
    };
    expect([...(await (await open()).fetch(["a"], never)).keys()]).toEqual(["a"]);
  });

  test.each(["values", "an error", "something else"])("a late answer with %s ends nothing", async (late) => {
    let answer: (late: unknown) => void = () => undefined;
    const canary = Buffer.from("canary-5706");
    const trap = Object.defineProperty({}, "value", {
      get: () => {
        throw new Error("canary-5707");
      },
    });
    const answers: Readonly<Record<string, unknown>> = {
      values: new Map<string, unknown>([
        ...Object.entries({ a: 1, b: null, c: "text", d: trap, e: new BackendError("denied", "no") }),
        ...Object.entries({ f: { status: "value", value: "text" }, g: value({ value: canary }) }),
      ]),
      "an error": new BackendError("denied", "no"),
      "something else": { a: 1 },
    };
    backend = { fetch: () => new Promise((done) => (answer = done as typeof answer)) };
    const stop = new AbortController();
    const asked = (await open()).fetch(["a", "b"], stop.signal);
    stop.abort();
    expect((await asked).get("b")).toMatchObject({ message: "stopped" });
    answer(answers[late]);
    // An unhandled rejection would fail the test.
    await settled();
    if (late === "values") expect(canary.every((byte) => byte === 0)).toBe(true);
  });
});

test("a watch gets all requests, and none starts once the sidecar stops", async () => {
  const watched: unknown[] = [];
  const hints: string[] = [];
  backend = {
    watch: (requests, hint) => {
      watched.push(requests);
      hint();
      return Promise.resolve();
    },
  };
  const store = await open();
  const stop = new AbortController();
  await store.watch?.(() => hints.push("hint"), stop.signal);
  expect([watched, hints]).toEqual([
    [
      [
        { id: "a", source: { id: "a" } },
        { id: "b", source: { id: "b" } },
      ],
    ],
    ["hint"],
  ]);
  stop.abort();
  await store.watch?.(() => hints.push("hint"), stop.signal);
  expect([watched.length, hints]).toEqual([1, ["hint"]]);
});

describe("what only saves time", () => {
  const plan = { first: 1, interval: 1, files: [] };

  test("is begun once, for all secrets, and not at a reload", async () => {
    const asked: (readonly string[])[] = [];
    backend = { prepare: (requests) => void asked.push(requests.map(({ id }) => id)) };
    const store = await open();
    expect(asked).toEqual([["a", "b"]]);
    await open({}, store);
    await open({ config: { other: true } }, store);
    expect(asked.length).toBe(1);
  });

  test.each<readonly [string, () => void]>([
    [
      "throws",
      () => {
        throw new TypeError("a bug");
      },
    ],
    ["rejects", () => Promise.reject(new TypeError("a bug")) as unknown as undefined],
  ])("may fail without a consequence: a preparation that %s", async (_, prepare) => {
    backend = { prepare };
    await expect(open()).resolves.toBeDefined();
    await settled();
  });

  test.each<readonly [string, NonNullable<Backend<unknown>["lookOut"]>]>([
    [
      "throws",
      () => {
        throw new TypeError("a bug");
      },
    ],
    ["gives nothing", () => undefined],
    ["gives something else", () => ({}) as never],
  ])("may fail without a consequence: a lookout that %s", async (_, lookOut) => {
    backend = { lookOut };
    expect((await open()).lookOut?.(plan, () => undefined)).toBeUndefined();
  });

  test("a lookout gets all secrets, and its end may fail", async () => {
    const asked: unknown[] = [];
    let ends = 0;
    backend = {
      lookOut: (requests, its) => {
        asked.push(
          requests.map(({ id }) => id),
          its,
        );
        return {
          end: () => {
            ends += 1;
            throw new TypeError("a bug");
          },
        };
      },
    };
    const store = await open();
    store.lookOut?.(plan, () => undefined)?.end();
    expect([asked, ends]).toEqual([[["a", "b"], plan], 1]);
  });

  test("a backend without it has none", async () => {
    expect((await open()).lookOut).toBeUndefined();
  });
});
