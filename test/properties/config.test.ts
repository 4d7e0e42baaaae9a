import { Ajv } from "ajv";
import fc from "fast-check";
import { expect, test } from "vitest";
import { configurationSchema } from "../../scripts/docs/json-schema.ts";
import { parseConfig } from "../../src/config/config.ts";
import { ConfigError } from "../../src/contract/errors.ts";
import { noFlags } from "../unit/command-line.ts";

/** In every generated string, so that a message that shows a value is found out. */
const canary = "cAnArY";

const known = ["service", "backend", "config", "secrets", "output", "onChange", "startTimeout"];
const inner = ["directory", "links", "linksTo", "envFile", "action", "signal", "settle", "minInterval", "splay"];
const more = ["verify", "command", "timeout", "reloadOnChange", "pollingInterval", "refreshInterval", "source", "file"];
const last = [
  "env",
  "mode",
  "owner",
  "group",
  "optional",
  "empty",
  "a",
  "a b",
  "__proto__",
  "constructor",
  "toString",
  "",
  "..",
];
const keys = fc.oneof(
  fc.constantFrom(...known, ...inner, ...more, ...last),
  fc.string({ unit: "binary", maxLength: 9 }),
);

const text = fc
  .tuple(fc.constantFrom("", "/", ".", "0", "SIG", "1"), fc.string({ unit: "binary", maxLength: 5 }))
  .map(([before, after]) => `${before}${canary}${after}`);
const leaf = fc.oneof(text, fc.double(), fc.integer(), fc.boolean(), fc.constant(null));

const { json } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    leaf,
    fc.array(tie("json"), { maxLength: 3 }),
    fc.array(fc.tuple(keys, tie("json")), { maxLength: 5 }).map(object),
  ),
}));

/** As JSON.parse makes it: `__proto__` is a key like any other. */
function object(entries: readonly (readonly [string, unknown])[]): unknown {
  return Object.fromEntries(entries);
}

/** Mostly the right shape: arbitrary JSON alone would hardly get beyond the first key. */
const nearly = fc
  .record(
    {
      backend: fc.oneof(fc.constant("folder"), json),
      service: fc.oneof(fc.constant("a.service"), json),
      config: json,
      secrets: fc.oneof(
        fc.array(fc.tuple(keys, fc.oneof(fc.constant({}), json, secret())), { maxLength: 4 }).map(object),
        json,
      ),
      output: fc.oneof(fc.record({ directory: fc.constant("/x"), links: json }, { requiredKeys: ["directory"] }), json),
      onChange: fc.array(fc.tuple(fc.constantFrom(...inner, ...more), json), { maxLength: 3 }).map(object),
      startTimeout: json,
    },
    { requiredKeys: ["backend", "secrets"] },
  )
  .map((value) => value as unknown);

/** A good configuration with one option replaced. */
const good = {
  service: "a.service",
  backend: "folder",
  config: {},
  secrets: { a: {}, b: {} },
  output: { directory: "/x" },
  onChange: {},
  startTimeout: null,
};
const wrongInOnePlace = fc.oneof(
  fc.tuple(fc.constantFrom(...known), json).map(([key, value]) => ({ ...good, [key]: value })),
  fc
    .tuple(fc.constantFrom("config", "output", "onChange"), fc.constantFrom(...inner, ...more), json)
    .map(([key, option, value]) => ({ ...good, [key]: { ...good[key as "output"], [option]: value } })),
  fc
    .tuple(keys, fc.oneof(fc.constant({}), secret()))
    .map(([id, value]) => ({ ...good, secrets: object([[id, value]]) })),
);

function secret() {
  return fc.array(fc.tuple(fc.constantFrom(...more, ...last), json), { maxLength: 3 }).map(object);
}

test("any file is a valid configuration, or causes one line that names the option and shows no value", () => {
  const seen = { accepted: 0, refused: 0 };
  // This test ignores a backend's errors about its own settings.
  const validate = new Ajv({ strict: false }).compile({ ...configurationSchema(), allOf: [true] });
  fc.assert(
    fc.property(fc.oneof(json, nearly, wrongInOnePlace, wrongInOnePlace), (input) => {
      try {
        const written: unknown = JSON.parse(JSON.stringify(input));
        const config = parseConfig(written, noFlags, "/");
        seen.accepted += 1;
        expect(validate(written), "an editor sees nothing wrong in it either").toBe(true);
        expect(config.secrets.length).toBeGreaterThan(0);
        expect(new Set(config.secrets.map(({ file }) => file)).size).toBe(config.secrets.length);
        for (const { file } of config.secrets) expect(file).not.toMatch(/[/\0]|^\.{0,2}$|^\.fetcher-/);
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        seen.refused += 1;
        expect(error.exitCode).toBe(78);
        expect(error.message).not.toContain(canary);
        expect(error.message).not.toMatch(/[\r\n]/);
        expect(error.problem).not.toBe("");
        // The root has no name.
        if (error.path === "") expect(typeof input !== "object" || input === null || Array.isArray(input)).toBe(true);
      }
    }),
    { numRuns: 20_000 },
  );
  expect(seen.accepted).toBeGreaterThan(100);
  expect(seen.refused).toBeGreaterThan(1000);
});

test("accepts deep nesting: no recursion over the backend's settings", () => {
  const depth = 200_000;
  const deep = JSON.parse(`${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`) as unknown;
  const flags = { ...noFlags, set: [{ path: ["b"], value: 1 }] };
  const config = parseConfig({ backend: "folder", config: deep, secrets: { x: { source: deep } } }, flags, "/");
  expect(Object.keys(config.settings)).toEqual(["a", "b"]);
  expect(() => parseConfig({ backend: "folder", secrets: { x: deep } }, noFlags, "/")).toThrow(ConfigError);
});
