/** Any program whose output is the secret: sops -d, age -d, gpg -d, pass, op read, keyctl pipe. No shell. */
import { forEachConcurrently } from "../src/contract/concurrency.ts";
import { createHmac, randomBytes } from "node:crypto";
import * as v from "valibot";
import { BackendError, type BackendModule, type Outcome } from "../src/contract/backend.ts";
import { ConfigError, errnoText, printable } from "../src/contract/errors.ts";
import { MAX_VALUE, Room } from "../src/contract/limits.ts";
import { type CommandResult, runForBytes } from "../src/contract/helper-command.ts";
import { aboutBackend, means, option } from "../src/contract/option.ts";
import { hiddenHint } from "../src/contract/unit-sandbox.ts";
import { objectAs, parse, record, requestSeconds, settingsObject } from "../src/contract/settings.ts";

const word = v.pipe(
  v.string("expected a string"),
  v.check((value) => !value.includes("\0"), "must not contain a NUL character"),
);
const argv = v.pipe(
  v.array(word, 'expected an array of strings: ["program", "argument"]'),
  v.check((words) => words.length > 0 && words[0] !== "", "expected at least the name of a program"),
  v.transform((words) => words as [string, ...string[]]),
);
const environment = v.pipe(
  record(word, v.pipe(v.string(), v.regex(/^[A-Za-z_]\w*$/, "expected the name of a variable"))),
  v.check(
    (variables) => !Object.keys(variables).some((name) => name.startsWith("LD_")),
    "must not set variables of the dynamic loader (LD_...)",
  ),
);

export const about = aboutBackend({
  name: "what a command prints: `sops -d`, `pass`, `keyctl pipe`",
  text: "The output of a program, without a shell: `sops -d`, `age -d`, `pass show`, anything. Exit status 66 means that the secret does not exist, 77 that access is refused, 64 and 78 that the command is wrong for good; after any other, fetcher tries again.",
});

/** As other programs call them. */
const elsewhere = { command: "cmd exec program script run argv" };
export const Settings = settingsObject(elsewhere, {
  command: option(
    v.optional(argv),
    means("argv of the program", {
      otherwise: "required, here or in each source",
      example: ["/usr/bin/pass", "show"],
    }),
  ),
  timeout: option(
    v.optional(requestSeconds, 30),
    means("a program that takes longer is killed, and run again later; at most 100"),
  ),
  environment: option(
    v.optional(environment, {}),
    means(
      "variables for the program, which inherits none but `PATH`; none whose name begins with `LD_`. No place for a secret: others may read the configuration, in the Nix store everybody",
      {
        example: { SOPS_AGE_KEY_FILE: "/etc/secrets/age.key" },
      },
    ),
  ),
});
type Settings = v.InferOutput<typeof Settings>;

export const Source = objectAs(elsewhere, {
  command: option(v.optional(argv), means("argv of another program", { otherwise: "`config.command`" })),
  args: option(
    v.optional(v.array(word, "expected an array of strings")),
    means("what is added to argv", { otherwise: "the id; nothing after a `command` of its own" }),
  ),
  timeout: option(
    v.optional(requestSeconds),
    means("a program that takes longer is killed, and run again later; at most 100", {
      otherwise: "`config.timeout`",
    }),
  ),
});
interface Source {
  readonly argv: readonly [string, ...string[]];
  /** Seconds. */
  readonly timeout: number;
}

/** Programs at once: some ask a key agent, which serves one at a time. */
const CONCURRENCY = 4;

const command: BackendModule<Settings, Source> = {
  name: "command",
  defaultPollingInterval: 60,

  parseSettings: (settings) => parse(Settings, settings),

  /** A source without `args` gets its id as the only argument, or none if it has its own command. */
  parseSource(id, input, settings) {
    const source = parse(Source, input);
    const program = source.command ?? settings.command;
    if (program === undefined) throw new ConfigError("command", "is required here or in config.command");
    const args = source.args ?? (source.command === undefined ? [id] : []);
    return { argv: [...program, ...args], timeout: source.timeout ?? settings.timeout };
  },

  describe: ({ argv: words }) => printable(words.join(" ")),

  open(settings) {
    const versions = new Versions();
    return Promise.resolve({
      async fetch(requests, signal) {
        const outcomes = new Map<string, Outcome>();
        const room = new Room();
        await forEachConcurrently(requests, CONCURRENCY, async ({ id, source }) => {
          const outcome = signal.aborted ? stopped() : await run(source, settings, signal);
          outcomes.set(id, versions.add(id, room.admit(outcome, printable(source.argv.join(" ")))));
        });
        return outcomes;
      },
    });
  },
};
export default command;

/** A program gives no version, so we count its outputs as they change. */
class Versions {
  /** Exists in this process only, so that the digests reveal nothing to others. */
  readonly #key = randomBytes(32);
  readonly #seen = new Map<string, { readonly digest: string; readonly count: number }>();

  add(id: string, outcome: Outcome): Outcome {
    if (!("status" in outcome) || outcome.status !== "value") return outcome;
    const digest = createHmac("sha256", this.#key).update(outcome.value).digest("base64");
    const before = this.#seen.get(id);
    const count = before?.digest === digest ? before.count : (before?.count ?? 0) + 1;
    this.#seen.set(id, { digest, count });
    return { ...outcome, version: `output-${count}` };
  }
}

async function run(source: Source, settings: Settings, signal: AbortSignal): Promise<Outcome> {
  const { timeout, argv: words } = source;
  const name = printable(words[0]);
  const result = await runForBytes(words, MAX_VALUE, { timeout, signal, environment: settings.environment });
  switch (result.end) {
    case "exit":
      if (result.code === 0) return { status: "value", value: result.stdout, version: "" };
      return failed(result, name);
    case "signal":
      result.stdout.fill(0);
      return signal.aborted ? stopped() : new BackendError("unavailable", `${name} was killed by ${result.signal}`);
    case "timeout":
      return new BackendError("unavailable", `${name} took longer than ${timeout} s`);
    case "overflow":
      return new BackendError("invalid", `${name} printed more than ${MAX_VALUE / 1024 / 1024} MiB`);
    case "not-started":
      return notStarted(result.reason, name);
  }
}

/** Errors of the command itself. All others pass: no memory or processes, a program that is just being replaced. */
const lasting = new Set(
  "ENOENT EACCES EPERM ENOEXEC ENOTDIR ELOOP ENAMETOOLONG E2BIG ERR_INVALID_ARG_VALUE".split(" "),
);

function notStarted(reason: string, name: string): BackendError {
  if (reason === "ENOENT")
    return new BackendError(
      "invalid",
      `there is no program ${name} (PATH, or an absolute path in the command)${name.startsWith("/") ? hiddenHint(name) : ""}`,
    );
  // execvp(3) also fails like this where it found no program and could not look into one of the directories.
  if (reason === "EACCES" && !name.includes("/"))
    return new BackendError(
      "invalid",
      `cannot run ${name}: no permission for its file or a directory of PATH (${reason})`,
    );
  return new BackendError(lasting.has(reason) ? "invalid" : "unavailable", `cannot run ${name}: ${errnoText(reason)}`);
}

/** sysexits(3), for programs that keep to it. Any other status has no clear meaning, and time may heal it. */
const kinds: Readonly<Record<number, "missing" | "denied" | "invalid">> = {
  64: "invalid",
  66: "missing",
  77: "denied",
  78: "invalid",
};

function failed({ code, stdout, stderr }: CommandResult<Buffer> & { end: "exit" }, name: string): Outcome {
  const said = redacted(stderr.toString("utf8"), stdout);
  stdout.fill(0);
  const message = `${name} exited with ${code}${said === "" ? "" : `: ${said}`}`;
  const kind = kinds[code] ?? "unavailable";
  return kind === "missing" ? { status: "missing", where: message } : new BackendError(kind, message);
}

/**
 * The last line that a program wrote to stderr, with only plain words and short numbers left: the program may quote
 * what it works on.
 */
function redacted(stderr: string, stdout: Buffer): string {
  const line = stderr.trim().split("\n").at(-1) ?? "";
  const output = stdout.toString("utf8");
  const words = line
    .slice(0, 300)
    .split(/\s+/)
    .map((text) => (isPlain(text) && !(text.length > 3 && output.includes(text)) ? text : "***"));
  return words.join(" ").replaceAll(/(?:\*\*\* )+\*\*\*/g, "***");
}

function isPlain(text: string): boolean {
  return /^["'([]?[A-Za-z]{1,15}(?:[-'][a-z]{1,10})?["')\],.:;!?]{0,2}$/.test(text) || /^\d{1,5}[.,:;]?$/.test(text);
}

function stopped(): BackendError {
  return new BackendError("unavailable", "stopped");
}
