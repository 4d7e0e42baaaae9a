/** What each option of the configuration may be. */
import { isRecord } from "../contract/records.ts";
import * as v from "valibot";
import { means, option } from "../contract/option.ts";
import { absolutePath, object, objectAs, oneOf, positiveSeconds, seconds, text } from "../contract/settings.ts";

/** The program's own names in the output directory begin like this; no secret may use them. */
export const RESERVED_PREFIX = ".fetcher-";

/** The file of variables where the configuration names no other. */
export const ENV_FILE = "secrets.env";

/** What systemctl(1) takes: another name would show only when a rotation wants to send it. */
const SIGNAL =
  /^((SIG)?(HUP|INT|QUIT|ILL|TRAP|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|CONT|STOP|TSTP|TTIN|TTOU|URG|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|PWR|SYS|RTMIN(\+([0-9]|[12][0-9]|30))?|RTMAX(-([0-9]|[12][0-9]|30))?)|[1-9]|[1-5][0-9]|6[0-4])$/;

const actions = ["restart", "reload", "signal", "none"] as const;
export type Action = (typeof actions)[number];

const LONE_SURROGATE = /\p{Surrogate}/u;

export const component = v.pipe(
  text,
  v.check((name) => !name.includes("/"), "must not contain a slash"),
  v.check((name) => name !== "." && name !== "..", "must not be . or .."),
  v.check((name) => Buffer.byteLength(name) <= 255, "must not be longer than 255 bytes"),
  v.check((name) => !name.startsWith(RESERVED_PREFIX), `must not begin with ${RESERVED_PREFIX}`),
  v.check((name) => !hasControlCharacter(name), "must not contain control characters"),
  // Lone surrogates would all become the same bytes in a file name.
  v.check((name) => !LONE_SURROGATE.test(name), "must be Unicode text"),
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
  v.check(
    (name) => /^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*\.service$/.test(name),
    'expected the name of a service unit, "grafana.service"',
  ),
);

const anything = v.custom<Readonly<Record<string, unknown>>>(isRecord, "expected an object");
const flag = v.boolean("expected true or false");
const argv = v.pipe(
  v.array(v.string("expected a string"), 'expected an array of strings: ["program", "argument"]'),
  v.check((words) => words.length > 0 && words[0] !== "", "expected at least the name of a command"),
  v.transform((words) => words as [string, ...string[]]),
);

/** As other programs call them, or where they belong. */
const elsewhere = {
  secret: {
    source: "key path property remoteref valuefrom jsonkey secretid",
    mode: "perms permissions",
    owner: "user uid",
    group: "gid",
  },
  root: {
    service: "unit units restartunits reloadunits",
    backend: "store provider",
    config: "settings url address tokenpath secretsdir keysdir region command",
    "config.reloadOnChange": "reloadonchange watch",
    "config.pollingInterval": "pollinginterval refreshinterval interval",
    output: "destination directory",
    "onChange.action": "action",
  },
};

export const secretSchema = objectAs(elsewhere.secret, {
  source: option(v.optional(anything, {}), means("where it lives in the store: see the backend")),
  file: option(v.optional(component), means("the name of its file", { otherwise: "the id" })),
  env: option(
    v.nullish(v.string("expected the name of a variable, or null")),
    means("the name of its variable in secrets.env; `null`: none", {
      otherwise: "the id, every character that a variable's name cannot have as `_`",
    }),
  ),
  mode: option(
    v.optional(mode),
    means(
      "octal, as a string. A mode stricter than the default keeps the secret out of secrets.env, unless `env` is set",
      {
        otherwise:
          '`"0444"` where only the service can look (below a directory of mode 0700, in a private /tmp), else `"0400"`',
      },
    ),
  ),
  owner: option(
    v.optional(principal),
    means(
      "name or number of a user. A secret with an owner or a group enters secrets.env only with an explicit `env`; its default mode is 0400",
      { otherwise: "the sidecar's own" },
    ),
  ),
  group: option(v.optional(principal), means("name or number of a group", { otherwise: "the sidecar's own" })),
  optional: option(
    v.optional(flag, false),
    means(
      "the service can start without it: if it is missing, refused or invalid, it has no file. A start still waits for a store that does not answer",
    ),
  ),
  empty: option(
    v.optional(flag, false),
    means(
      "it may become empty. Without this, a secret that becomes empty keeps its last value, as one that vanishes does: a failed `decrypt > file` is not a rotation",
    ),
  ),
  decode: option(
    v.optional(oneOf(["base64"])),
    means(
      '`"base64"`: the store holds it as base64, as some do with a binary file; the decoded bytes are published. A value that is not padded base64 is invalid; line ends do not count',
      { otherwise: "none", since: "0.2.0", example: "base64" },
    ),
  ),
  join: option(
    v.optional(flag, false),
    means(
      "the store holds a JSON array of strings, such as `ca_chain` of a PKI: they are published one after the other, each with a newline at its end",
      { since: "0.2.0" },
    ),
  ),
  all: option(
    v.optional(flag, false),
    means(
      "all keys of a path of Vault, of an AWS secret, or of a value that is a JSON object: each becomes a file and a variable of its own, without being named. New keys appear with the next poll, and keys that the store no longer has go; `file` holds the object itself. Templates, which name their secrets, cannot use it, nor can the delivery as credentials",
      { since: "0.2.0" },
    ),
  ),
  prefix: option(
    v.optional(v.string("expected a string"), ""),
    means("with `all`: goes before each key, in the names of files and variables", { since: "0.2.0", example: "app_" }),
  ),
});

export const templateSchema = object({
  template: option(text, means("the template: a path, relative to this file; Mustache, with ids as names")),
  mode: option(
    v.optional(mode),
    means("octal, as a string", {
      otherwise: "readable only to those who can read each of its secrets",
    }),
  ),
  owner: option(v.optional(principal), means("name or number of a user", { otherwise: "that of its secrets" })),
  group: option(v.optional(principal), means("name or number of a group", { otherwise: "that of its secrets" })),
});

export const rotationSchema = v.object({
  reloadOnChange: option(
    v.optional(flag, false),
    means("watch and poll the store; publish and act when a secret changes. Leases are replaced in any case"),
  ),
  pollingInterval: option(
    v.optional(positiveSeconds),
    means("how often the store is asked, ±10 %; polling continues beside a watch", {
      otherwise: "by backend",
      example: 30,
    }),
  ),
  refreshInterval: option(
    v.optional(positiveSeconds),
    means("another name for `pollingInterval`, as in RFC 59; give only one", { otherwise: "none", example: 30 }),
  ),
});

export const outputSchema = object({
  directory: option(
    absolutePath,
    means(
      "where the files go, an absolute path. `/tmp` only if `PrivateTmp=` made it; only root may be able to change it or the directories above it",
    ),
  ),
  links: option(
    v.optional(v.nullable(absolutePath), null),
    means("a directory that gets a symbolic link to each file, by its name; `null`: none"),
  ),
  linksTo: option(
    v.optional(absolutePath),
    means("where a reader of the links sees `directory`", {
      otherwise: "`/tmp/.secrets` if the links are in /tmp, else `output.directory`",
    }),
  ),
  envFile: option(
    v.optional(v.nullable(component), ENV_FILE),
    means("the name of the file with all variables; `null`: none"),
  ),
});

const verifySchema = object({
  command: option(
    argv,
    means(
      "argv, no shell; runs with `$SECRETS_DIRECTORY` and the variables before a changed set is published. Any status but 0 refuses the set. The first set is not verified if nothing is published yet",
      { otherwise: "no verification" },
    ),
  ),
  timeout: option(v.optional(positiveSeconds, 30), means("a command that takes longer refuses the set")),
});

export const onChangeSchema = object({
  action: option(
    v.optional(oneOf(actions), "restart"),
    means(
      "`restart`; `reload` (a restart where the unit cannot reload); `signal`; `none`: the service watches its files itself. A unit that is not running is never started",
    ),
  ),
  signal: option(
    v.optional(
      v.nullable(
        v.pipe(
          v.string('expected the name of a signal, "SIGHUP"'),
          v.regex(SIGNAL, 'expected the name of a signal, "SIGHUP"'),
        ),
      ),
      null,
    ),
    means('for the action `signal`, sent to the main process: `"SIGHUP"`', { example: "SIGHUP" }),
  ),
  settle: option(
    v.optional(seconds, 2),
    means(
      "changes are published together when the store has been quiet for this long, or after 15 times that: one publish and one action",
    ),
  ),
  minInterval: option(
    v.optional(seconds, 3),
    means("the least time between two actions; the unit's own start limit is respected too, with one start in reserve"),
  ),
  splay: option(
    v.optional(seconds, 0),
    means("wait a random time up to this before an action, so that a fleet does not restart at once", { example: 60 }),
  ),
  verify: v.optional(v.nullable(verifySchema), null),
});

/** How a service with generated units gets its secrets. */
export const deliveries = ["env", "credentials", "private-tmp", "files"] as const;
export type Delivery = (typeof deliveries)[number];

export const configSchema = objectAs(elsewhere.root, {
  service: option(
    v.optional(v.union([unit, v.array(unit)], 'expected the name of a service unit, "grafana.service"')),
    means("the unit that gets the action, or an array of them; `.service` may be left out", {
      otherwise: "no action",
    }),
  ),
  backend: option(
    v.optional(text),
    means("where secrets come from: the name of a backend, or the path of an ES module, relative to this file", {
      otherwise: "required, or `--backend`",
    }),
  ),
  config: option(
    v.optional(anything, {}),
    means("the settings of the backend, and how it is asked again: `reloadOnChange`, `pollingInterval`"),
  ),
  secrets: option(
    v.optional(v.custom<Readonly<Record<string, unknown>>>(isRecord, 'expected an object: {"ID": {}}'), {}),
    means("id → the options of this secret, `{}` for none; ids on the command line are added"),
  ),
  templates: option(
    v.optional(anything, {}),
    means(
      "file → a template from which it is rendered, with secrets in it ([templates](templates.md)); published and rotated with the set",
    ),
  ),
  output: v.optional(outputSchema),
  onChange: v.optional(onChangeSchema, {}),
  startTimeout: option(
    v.optional(v.nullable(positiveSeconds), null),
    means("give up (exit status 69) if the store does not answer for this long at the start; `null`: wait for ever"),
  ),
  resident: option(
    v.optional(v.union([v.boolean(), v.literal("on-change")], 'expected true, false or "on-change"'), true),
    means(
      '`false`: end when the first set is published; no process stays to watch, renew or repair. With the unit\'s `no-resident.conf`. `"on-change"`: no process stays either, and systemd starts one for a moment when the store may have changed; needs generated units',
    ),
  ),
  delivery: option(
    v.optional(oneOf(deliveries)),
    means(
      "how generated units hand the secrets over: `files` below /run/NAME-secrets/pub; `env`: these, and all as variables; `credentials`; `private-tmp`. Only in /etc/fetcher, and not with `output`",
      { otherwise: "`files`", since: "0.2.0", example: "env" },
    ),
  ),
  environment: option(
    v.optional(
      v.union([v.boolean(), v.record(v.string(), v.string())], 'expected true, false or {"VARIABLE": "SECRET_ID"}'),
    ),
    means("which secrets are variables of the service: `true` for all, by their ids, or variable → id", {
      otherwise: '`true` with `"delivery": "env"`, else `false`',
      since: "0.2.0",
      example: { DATABASE_PASSWORD: "db_password" },
    }),
  ),
  $schema: option(
    v.optional(v.string("expected a string")),
    means("where an editor finds the schema that `fetcher --print-schema` prints; the program ignores it", {
      otherwise: "none",
    }),
  ),
});

/** Finds those beyond ASCII and line separators too: a terminal obeys them. */
function hasControlCharacter(name: string): boolean {
  return /[\p{Cc}\u2028\u2029]/u.test(name);
}
