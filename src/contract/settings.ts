/** Checks plain JSON against a valibot schema, and turns what is wrong into one line that names the option. */
import * as v from "valibot";
import { ConfigError } from "./errors.ts";
import { didYouMean, type OtherNames } from "./nearest.ts";
import { isRecord } from "./records.ts";
import { means, option } from "./option.ts";
import { LONGEST_TIMER } from "./timers.ts";

/** A non-empty string without NUL: what names a file, a key or a URL. */
export const text = v.pipe(
  v.string("expected a string"),
  v.nonEmpty("must not be empty"),
  v.check((value) => !value.includes("\0"), "must not contain a NUL character"),
);

/** A duration in seconds, as a person writes it: 0.5, 30. */
export const seconds = option(
  v.pipe(
    v.number("expected a number of seconds"),
    v.finite("expected a finite number of seconds"),
    v.minValue(0, "expected a number of seconds, 0 or more"),
    // Nobody means to wait longer.
    v.maxValue(LONGEST_TIMER, `expected at most ${LONGEST_TIMER} seconds (24 days)`),
  ),
  means("", { unit: "seconds" }),
);

/** A duration in seconds that must not be 0. */
export const positiveSeconds = v.pipe(seconds, v.minValue(0.05, "expected at least 0.05 seconds"));

/** Seconds that one request of a backend may take. The engine gives a fetch of all secrets 120 seconds. */
export const requestSeconds = v.pipe(
  positiveSeconds,
  v.maxValue(100, "expected at most 100 seconds: a fetch of all secrets is given up after 120"),
);

export const absolutePath = v.pipe(text, v.startsWith("/", "expected an absolute path"));

/** What other programs call the options of rotation. */
const ROTATION_ELSEWHERE: OtherNames = { pollingInterval: "interval poll frequency refreshperiod" };

/** What every `config` may have beside the settings of its backend: when to ask the store again. */
const ROTATION = ["reloadOnChange", "pollingInterval", "refreshInterval"];

/** The settings of a backend: an objectAs() for `config`, which may also have the options of rotation. */
export function settingsObject<const Entries extends v.ObjectEntries>(elsewhere: OtherNames, entries: Entries) {
  return objectAs({ ...ROTATION_ELSEWHERE, ...elsewhere }, entries, ROTATION);
}

/** An object with exactly these options; every other key is an error that lists the known ones. */
export function object<const Entries extends v.ObjectEntries>(entries: Entries) {
  return objectAs({}, entries);
}

/**
 * An object() whose error names the option that is meant by a name of another program.
 *
 * @param elsewhere what other programs call them. A name may also be that of an option at another place: `tls.caFile`.
 * @param beside other known options, which this schema does not check.
 */
export function objectAs<const Entries extends v.ObjectEntries>(
  elsewhere: OtherNames,
  entries: Entries,
  beside: readonly string[] = [],
) {
  const known = [...Object.keys(entries), ...beside];
  return v.pipe(
    v.custom<object>(
      (input) => typeof input === "object" && input !== null && !Array.isArray(input),
      known.length === 0 ? "expected an empty object: {}" : `expected an object: known here are ${known.join(", ")}`,
    ),
    v.strictObject(entries, (issue) => {
      if (issue.expected !== "never") return "is required";
      if (known.length === 0) return "unknown option: none are known here";
      const key = (issue.path?.at(-1) as { key?: unknown } | undefined)?.key;
      return `unknown option: known here are ${known.join(", ")}${didYouMean(String(key), known, elsewhere)}`;
    }),
  );
}

/**
 * An object with keys of any name, each with a value like `value`. valibot's record() silently skips `constructor`,
 * `prototype` and `__proto__`.
 */
export function record<Value>(
  value: v.GenericSchema<unknown, Value>,
  key: v.GenericSchema<unknown, string> = v.string(),
  message = "expected an object",
) {
  return v.pipe(
    v.custom<Readonly<Record<string, unknown>>>(isRecord, message),
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const input = dataset.value;
      for (const name of Object.keys(input)) {
        const [issue] = [v.safeParse(key, name), v.safeParse(value, input[name])].flatMap(({ issues = [] }) => issues);
        const path = [{ type: "object", origin: "value", input, key: name, value: input[name] }] as const;
        if (issue !== undefined) addIssue({ message: issue.message, path: [...path] });
      }
    }),
    v.transform((input) => input as Readonly<Record<string, Value>>),
  );
}

/**
 * One of these words. The error does not show what was found, but suggests a near word: not for a number, such as a
 * version.
 */
export function oneOf<const Words extends readonly string[]>(words: Words) {
  const expected = `expected ${words.map((word) => JSON.stringify(word)).join(" or ")}`;
  return v.picklist(
    words,
    ({ input }) => `${expected}${typeof input === "string" && !/\d/.test(input) ? didYouMean(input, words) : ""}`,
  );
}

/**
 * @param path of `input` in the whole configuration; "" for its root.
 * @throws ConfigError with the path of the first thing wrong. Its message never holds the value that was found.
 */
export function parse<const Schema extends v.GenericSchema>(
  schema: Schema,
  input: unknown,
  path = "",
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, input);
  if (result.success) return result.output;
  // A mistyped name says more than the absence of the right one.
  const issue =
    result.issues.find(({ expected, type }) => type === "strict_object" && expected === "never") ?? result.issues[0];
  const keys = (issue.path ?? []).map((item) => (item as { key?: unknown }).key);
  throw new ConfigError(joinPath(path, ...keys), explain(issue));
}

/** valibot's own texts end in "but received VALUE"; those given beside each schema do not. */
function explain(issue: v.BaseIssue<unknown>): string {
  return issue.message.startsWith("Invalid ") ? `expected ${String(issue.expected)}` : issue.message;
}

/** `secrets.db_password.mode`, or `secrets["a b"].mode` where a key is no plain word. */
export function joinPath(base: string, ...keys: readonly unknown[]): string {
  let path = base;
  for (const key of keys) {
    if (typeof key === "number") path += `[${key}]`;
    else if (typeof key === "string" && /^[A-Za-z_][\w-]*$/.test(key)) path += path === "" ? key : `.${key}`;
    else path += `[${JSON.stringify(String(key))}]`;
  }
  return path;
}

/** Rethrows a ConfigError of `inner` with `base` before its path. */
export function atOption<T>(base: string, inner: () => T): T {
  try {
    return inner();
  } catch (error) {
    if (!isConfigError(error)) throw error;
    const separator = error.path === "" || error.path.startsWith("[") ? "" : ".";
    throw new ConfigError(`${base}${separator}${error.path}`, error.problem);
  }
}

/** A third party's module cannot import the class: an error of that name with a path and a problem is one too. */
function isConfigError(error: unknown): error is Pick<ConfigError, "path" | "problem"> {
  if (error instanceof ConfigError) return true;
  if (!(error instanceof Error) || error.name !== "ConfigError") return false;
  const { path, problem } = error as Partial<ConfigError>;
  return typeof path === "string" && typeof problem === "string";
}
