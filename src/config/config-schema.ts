/** What each option of the configuration may be. */
import { isRecord } from "../contract/records.ts";
import * as v from "valibot";
import { absolutePath, object, oneOf, positiveSeconds, seconds, text } from "../contract/settings.ts";

/** Names of the program's own in the output directory; no secret may use them. */
export const RESERVED_PREFIX = ".fetcher-";

/** The file of variables where the configuration names no other. */
export const ENV_FILE = "secrets.env";

const actions = ["restart", "reload", "signal", "none"] as const;
export type Action = (typeof actions)[number];

export const component = v.pipe(
  text,
  v.check((name) => !name.includes("/"), "must not contain a slash"),
  v.check((name) => name !== "." && name !== "..", "must not be . or .."),
  v.check((name) => Buffer.byteLength(name) <= 255, "must not be longer than 255 bytes"),
  v.check((name) => !name.startsWith(RESERVED_PREFIX), `must not begin with ${RESERVED_PREFIX}`),
  v.check((name) => !hasControlCharacter(name), "must not contain control characters"),
  // Lone surrogates would all become the same bytes in a file name.
  v.check((name) => !/\p{Surrogate}/u.test(name), "must be Unicode text"),
);

const principal = v.pipe(
  v.union([text, v.number()], "expected a name or a number"),
  v.check((id) => typeof id === "string" || (Number.isSafeInteger(id) && id >= 0), "expected a name or a number"),
  v.transform(String),
);

const mode = v.pipe(
  v.string('expected an octal string such as "0400"'),
  v.regex(/^0?[0-7]{3}$/, 'expected an octal string such as "0400"'),
  v.transform((digits) => Number.parseInt(digits, 8)),
);

const unit = v.pipe(
  text,
  v.transform((name) => (/\.[a-z]+$/.test(name) ? name : `${name}.service`)),
  v.regex(/^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.service$/, 'expected the name of a service unit, "grafana.service"'),
);

const anything = v.custom<Readonly<Record<string, unknown>>>(isRecord, "expected an object");
const flag = v.boolean("expected true or false");
const argv = v.pipe(
  v.array(v.string("expected a string"), "expected an array of strings"),
  v.check((words) => words.length > 0 && words[0] !== "", "expected at least the name of a command"),
  v.transform((words) => words as [string, ...string[]]),
);

export const secretSchema = object({
  source: v.optional(anything, {}),
  file: v.optional(component),
  env: v.nullish(v.string("expected the name of a variable, or null")),
  mode: v.optional(mode),
  owner: v.optional(principal),
  group: v.optional(principal),
  optional: v.optional(flag, false),
  empty: v.optional(flag, false),
});

export const templateSchema = object({
  template: text,
  mode: v.optional(mode),
  owner: v.optional(principal),
  group: v.optional(principal),
});

export const rotationSchema = v.object({
  reloadOnChange: v.optional(flag, false),
  pollingInterval: v.optional(positiveSeconds),
  refreshInterval: v.optional(positiveSeconds),
});

export const outputSchema = object({
  directory: absolutePath,
  links: v.optional(v.nullable(absolutePath), null),
  linksTo: v.optional(absolutePath),
  envFile: v.optional(v.nullable(component), ENV_FILE),
});

export const onChangeSchema = object({
  action: v.optional(oneOf(actions), "restart"),
  signal: v.optional(
    v.nullable(
      v.pipe(
        v.string('expected the name of a signal, "SIGHUP"'),
        v.regex(/^(SIG)?[A-Z][A-Z0-9+-]{1,11}$|^[1-9][0-9]?$/, 'expected the name of a signal, "SIGHUP"'),
      ),
    ),
    null,
  ),
  settle: v.optional(seconds, 2),
  minInterval: v.optional(seconds, 3),
  splay: v.optional(seconds, 0),
  verify: v.optional(v.nullable(object({ command: argv, timeout: v.optional(positiveSeconds, 30) })), null),
});

export const configSchema = object({
  service: v.optional(v.union([unit, v.array(unit)], 'expected the name of a service unit, "grafana.service"')),
  backend: v.optional(text),
  config: v.optional(anything, {}),
  secrets: v.optional(anything, {}),
  templates: v.optional(anything, {}),
  output: v.optional(outputSchema),
  onChange: v.optional(onChangeSchema, {}),
  startTimeout: v.optional(v.nullable(positiveSeconds), null),
  resident: v.optional(flag, true),
});

/** Those beyond ASCII too, and what ends a line: a terminal obeys them. */
function hasControlCharacter(name: string): boolean {
  return /[\p{Cc}\u2028\u2029]/u.test(name);
}
