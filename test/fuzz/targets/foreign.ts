import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll } from "vitest";
import { checkStore } from "../../../src/engine/store.ts";
import { configOf } from "../../unit/command-line.ts";
import { number, secretText, text } from "../arbitraries.ts";
import { CANARY, expectConfigError, expectEnd, expectOurs } from "../invariants.ts";
import { target } from "../target.ts";
import { fetchAll } from "./store.ts";

/** Any value of JavaScript. */
const garbage: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom(undefined, null, true, NaN, Infinity, 1n, Symbol(CANARY), CANARY, Buffer.from(CANARY), new Date(NaN)),
  fc.constant(() => CANARY),
  fc.constant(Object.create(null) as unknown),
  fc.constant(
    new Proxy(
      {},
      {
        get: () => {
          throw new Error(CANARY);
        },
      },
    ),
  ),
  fc.constant({
    toString: () => {
      throw new Error(CANARY);
    },
  }),
  fc.constant({
    get status(): string {
      throw new Error(CANARY);
    },
  }),
  fc.constant(
    new Map<unknown, unknown>([
      ["a", CANARY],
      [1, 2],
    ]),
  ),
  fc.constant({ then: CANARY }),
  number,
  text,
);

/** Text that the contract lets a module show, and that says nothing. */
const words: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.constantFrom(undefined, null, NaN, 1n, Object.create(null)),
  number,
);

/** What a module may throw: our errors in another's words, and anything else. */
const thrown: fc.Arbitrary<unknown> = fc.oneof(
  fc
    .record({
      name: fc.constant("BackendError"),
      kind: fc.oneof(fc.constantFrom("unavailable", "denied", "invalid"), garbage),
      message: words,
      retryAfter: fc.oneof(number, garbage),
    })
    .map((fields): unknown => Object.assign(new Error(), fields)),
  fc
    .record({ name: fc.constant("ConfigError"), path: words, problem: words })
    .map((fields): unknown => Object.assign(new Error(), fields)),
  secretText.map((message): unknown => new TypeError(message)),
  garbage,
);

const outcome: fc.Arbitrary<unknown> = fc.oneof(
  fc.record({
    status: fc.constant("value"),
    value: fc.oneof(fc.uint8Array({ maxLength: 9 }), garbage),
    version: words,
    refreshAfter: fc.oneof(number, garbage),
  }),
  fc.record({ status: fc.constant("missing"), where: words, mayAppear: garbage }),
  thrown,
);

interface Behaviour {
  readonly how: "return" | "throw" | "reject" | "resolve" | "hang";
  readonly what: unknown;
}
const behaviour = (what: fc.Arbitrary<unknown>): fc.Arbitrary<Behaviour> =>
  fc.oneof(
    fc.record({ how: fc.constantFrom("return", "resolve"), what }),
    fc.record({ how: fc.constantFrom("throw", "reject"), what: thrown }),
    fc.record({ how: fc.constant("hang"), what: fc.constant(undefined) }),
  );

function behave({ how, what }: Behaviour): unknown {
  if (how === "throw") throw what;
  if (how === "reject") {
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- a third party may do just that
    const rejected = Promise.reject(what);
    return rejected;
  }
  if (how === "hang") return new Promise(() => undefined);
  return how === "resolve" ? Promise.resolve(what) : what;
}

/** What the module in the file does next. */
const next: { methods: Record<string, (...given: unknown[]) => unknown>; exported: unknown } = {
  methods: {},
  exported: {},
};
(globalThis as { fuzzed?: typeof next }).fuzzed = next;

/** Below a directory that only root or the tests' own user can write to: fetcher refuses others. */
let place: string | undefined;
let files = 0;
afterAll(() => {
  if (place !== undefined) rmSync(place, { recursive: true });
});
function write(text_: string): string {
  place ??= mkdtempSync(join(homedir(), ".fuzz-foreign-"));
  files += 1;
  const path = join(place, `${files}.mjs`);
  writeFileSync(path, text_);
  return path;
}

let delegating: string | undefined;
const delegate = (method: string) => `${method}: (...given) => globalThis.fuzzed.methods.${method}(...given)`;

const good = { parseSettings: {}, parseSource: {}, describe: "there" };

const done: Behaviour = { how: "return", what: undefined };
const works = {
  settings: { how: "return", what: good.parseSettings },
  source: { how: "return", what: good.parseSource },
  describe: { how: "return", what: good.describe },
  open: undefined,
  fetch: { how: "resolve", what: new Map() },
  applied: done,
  close: done,
} as const;
const throwing: unknown = new Proxy(
  {},
  {
    get: () => {
      throw new Error(CANARY);
    },
  },
);

export const foreignAnswers = target({
  title: "whatever a third party's backend answers or throws, each secret has an outcome and nothing of it is shown",
  weight: 3,
  input: fc.record({
    settings: fc.oneof(
      { weight: 3, arbitrary: fc.constant({ how: "return" as const, what: good.parseSettings }) },
      behaviour(garbage),
    ),
    source: fc.oneof(
      { weight: 3, arbitrary: fc.constant({ how: "return" as const, what: good.parseSource }) },
      behaviour(garbage),
    ),
    describe: fc.oneof(
      { weight: 3, arbitrary: fc.constant({ how: "return" as const, what: good.describe }) },
      // describe() must return text, which is shown.
      behaviour(garbage).filter(({ what }) => typeof what !== "string" || !what.includes(CANARY)),
    ),
    open: fc.oneof(
      { weight: 5, arbitrary: fc.constant(undefined) },
      behaviour(garbage).filter(({ how }) => how !== "hang"),
    ),
    fetch: behaviour(
      fc.oneof(
        fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), outcome)).map((all): unknown => new Map(all)),
        garbage,
      ),
    ),
    applied: behaviour(garbage).filter(({ how }) => how !== "hang"),
    close: behaviour(garbage).filter(({ how }) => how !== "hang"),
  }),
  found: [
    { ...works, settings: { how: "throw", what: new TypeError(CANARY) } },
    // The module's own rejection, which no other code handles.
    { ...works, source: { how: "reject", what: new Error(CANARY) } },
    { ...works, describe: { how: "return", what: Object.create(null) } },
    { ...works, describe: { how: "return", what: Buffer.from(CANARY) } },
    { ...works, fetch: { how: "throw", what: Object.assign(new Error(), { name: "BackendError", kind: "denied" }) } },
    {
      ...works,
      fetch: {
        how: "throw",
        what: Object.assign(new Error("x"), { name: "BackendError", kind: "denied", retryAfter: 1e99 }),
      },
    },
    { ...works, fetch: { how: "resolve", what: new Map([["a", throwing]]) } },
    { ...works, open: { how: "return", what: throwing } },
  ],
  async check({ settings, source, describe, open, fetch, applied, close }) {
    const backend = { fetch: () => behave(fetch), applied: () => behave(applied), close: () => behave(close) };
    next.methods = {
      parseSettings: () => behave(settings),
      parseSource: () => behave(source),
      describe: () => behave(describe),
      open: () => (open === undefined ? backend : behave(open)),
    };
    const methods = Object.keys(next.methods).map(delegate);
    delegating ??= write(`export default { name: "mine", defaultPollingInterval: 5, ${methods.join(", ")} };`);
    const config = configOf({ backend: delegating, secrets: { a: {}, b: {} } });
    await fetchAll(config, 1, 0.3);
  },
});

const source = fc.oneof(
  fc.constantFrom(
    "",
    "export default",
    "export default globalThis.fuzzed.exported",
    "throw globalThis.fuzzed.exported",
  ),
  fc.constantFrom(`import "${CANARY}";`, `export { x } from "node:fs";`, "#!/bin/sh\n", "await 0; export default 1;"),
  secretText,
);

export const foreignModules = target({
  title: "whatever a third party's module is, it is a backend or one line says why not",
  weight: 1,
  input: fc.tuple(
    source,
    fc.oneof(
      garbage,
      fc.record({
        name: fc.oneof(text, garbage),
        defaultPollingInterval: fc.oneof(number, garbage),
        parseSettings: garbage,
        parseSource: garbage,
        describe: garbage,
        open: garbage,
      }),
    ),
  ),
  async check([code, exported]) {
    next.exported = exported;
    const config = configOf({ backend: write(code), secrets: { a: {} } });
    try {
      await expectEnd("loading", checkStore(config));
    } catch (error) {
      expectOurs(error);
      expectConfigError(error, ["backend", "config", "secrets"]);
    }
  },
});
