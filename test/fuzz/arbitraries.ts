/** Input from others, as it comes: JSON that is nearly right, text that is hard to show, bytes. */
import fc from "fast-check";
import { CANARY } from "./invariants.ts";

/** Text that is hard to show, to split or to look up. */
export const awkward = fc.constantFrom(
  "",
  " ",
  "\n",
  "\r\n",
  "\0",
  "\u001b[2J",
  "\u0085",
  "\u2028",
  "\u202e",
  "\ud800",
  "\uffff",
  ".",
  "..",
  "/",
  "a/b",
  ":",
  "%s",
  "'",
  '"',
  "$(id)",
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "x".repeat(256),
  "é".repeat(128),
  "-",
  "--once",
);

export const text = fc.oneof(
  awkward,
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.string({ maxLength: 12 }),
  fc.tuple(awkward, fc.string({ unit: "binary", maxLength: 4 })).map((parts) => parts.join("")),
);

/** Text that nothing may show. */
export const secretText = text.map((value) => `${CANARY}${value}`);

export const number = fc.oneof(
  fc.constantFrom(0, -0, 1, -1, 0.05, 1e-9, 2 ** 31, 2 ** 53, 1e300, -1e300),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
);

const leaf = fc.oneof(secretText, number, fc.boolean(), fc.constant(null));

/** Like JSON.parse: `__proto__` is a key like any other. @param keys the ones that mean something. */
export function json(...keys: readonly string[]): fc.Arbitrary<unknown> {
  const key = keys.length === 0 ? text : fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...keys) }, text);
  return fc.letrec<{ json: unknown }>((tie) => ({
    json: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      leaf,
      fc.array(tie("json"), { maxLength: 3 }),
      fc.array(fc.tuple(key, tie("json")), { maxLength: 5 }).map((entries) => Object.fromEntries(entries) as unknown),
    ),
  })).json;
}

/** Replaces, removes or doubles one part of `good`, at any depth. */
export function mutated(good: unknown, other: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const paths = pathsOf(good);
  return fc
    .array(fc.tuple(fc.constantFrom(...paths), fc.constantFrom("replace", "remove", "add"), other, text), {
      minLength: 1,
      maxLength: 3,
    })
    .map((changes) =>
      changes.reduce<unknown>((value, [path, how, what, key]) => change(value, path, how, what, key), good),
    );
}

/** Text with some characters changed, and cut off. */
export function corrupted(good: string): fc.Arbitrary<string> {
  return fc
    .tuple(
      fc.array(fc.tuple(fc.nat({ max: good.length }), text), { maxLength: 3 }),
      fc.oneof(fc.constant(good.length), fc.nat({ max: good.length })),
    )
    .map(([edits, length]) =>
      edits.reduce((value, [at, what]) => value.slice(0, at) + what + value.slice(at + 1), good).slice(0, length + 12),
    );
}

type Path = readonly (string | number)[];

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => pathsOf(inner, [...path, key]))];
}

function change(value: unknown, [first, ...rest]: Path, how: string, what: unknown, key: string): unknown {
  if (first === undefined) {
    if (how === "add" && typeof value === "object" && value !== null && !Array.isArray(value))
      return Object.fromEntries([...Object.entries(value), [key, what]]);
    return what;
  }
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value as Record<string, unknown>).flatMap(([name, inner]) => {
    if (name !== String(first)) return [[name, inner] as const];
    if (rest.length === 0 && how === "remove") return [];
    return [[name, change(inner, rest, how, what, key)] as const];
  });
  return Array.isArray(value) ? entries.map(([, inner]) => inner) : Object.fromEntries(entries);
}
