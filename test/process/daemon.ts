/** The built program as a child process, in directories of the test's own. */
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, onTestFinished } from "vitest";
import { programCommand, programFile, runsOnNode } from "../program.ts";

/** Seconds after which a test gives up. Far beyond what a busy machine needs. */
const LIMIT = 100;

export const isRoot = process.geteuid?.() === 0;
/** A user who is not root: nobody where the tests are root, else the tests' own user. */
export const ordinary = isRoot ? { uid: 65_534, gid: 65_534 } : {};

export interface StartOptions {
  readonly args?: readonly string[];
  /** undefined: not set. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly uid?: number;
  readonly gid?: number;
  /** A descriptor that replaces the pipe from which `lines` reads. */
  readonly stderr?: number;
  /** A command that runs the program. */
  readonly wrapper?: readonly string[];
}

/** A test's changes to the usual configuration; other options of the top level go in as they are. */
interface ConfigParts {
  readonly config?: object;
  readonly output?: object;
  readonly onChange?: object;
  readonly [option: string]: unknown;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface LogLine {
  readonly priority: number;
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/**
 * The environment of a program on Node that cannot load any of its libraries, as on another processor or below a mount
 * with noexec.
 */
export function withoutLibraries(place: Place): Readonly<Record<string, string>> {
  const hook = place.path("no-libraries.cjs");
  fs.writeFileSync(hook, 'process.dlopen = () => { throw new Error("noexec"); };\n');
  return { NODE_OPTIONS: `--require=${hook}` };
}

/** A $NOTIFY_SOCKET of a kind that the program leaves to systemd-notify(1): a test sees a fake of that run. */
export const forHelper = "vsock:2:9999";

/** Waits until `condition` holds; fails with `what` if it does not within so many seconds. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  seconds = LIMIT,
): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`never came: ${what}`);
    await delay(5);
  }
}

/** A running fetcher. */
export class Daemon {
  readonly exit: Promise<Exit>;
  readonly #child: ChildProcess;
  #stdout = "";
  #stderr = "";
  /** Its complete lines so far: a long life has thousands, and tests look at them every few milliseconds. */
  readonly #lines: LogLine[] = [];
  #parsed = 0;
  #ended = false;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.exit = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        this.#ended = true;
        resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error("it was not started");
    return this.#child.pid;
  }

  get running(): boolean {
    return !this.#ended;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Every complete line of its log, in order. */
  get lines(): readonly LogLine[] {
    const end = this.#stderr.lastIndexOf("\n") + 1;
    if (end > this.#parsed) this.#lines.push(...logLines(this.#stderr.slice(this.#parsed, end)));
    this.#parsed = Math.max(end, this.#parsed);
    return [...this.#lines];
  }

  /**
   * Waits for a log line. Fails at once if the program ends without it.
   *
   * @param from the number of lines to skip: an earlier `lines.length`, for news.
   */
  async says(message: RegExp, from = 0): Promise<LogLine> {
    const find = () => this.lines.slice(from).find((line) => message.test(line.message));
    await eventually(`${message.source}\n${this.#stderr}`, () => find() !== undefined || this.#ended);
    const line = find();
    if (line === undefined) throw new Error(`it ended without saying ${message.source}:\n${this.#stderr}`);
    return line;
  }

  async ready(): Promise<this> {
    await this.says(/^ready:/);
    return this;
  }

  /** Stops reading its log, which is a socket. */
  hangUp(): void {
    this.#child.stderr?.destroy();
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<Exit> {
    this.signal(signal);
    return this.exit;
  }
}

/** The numbers of syslog(3); only the journal's lines have them. */
const priorities: Readonly<Record<string, number>> = { error: 3, warn: 4, notice: 5, info: 6, debug: 7, trace: 7 };

export function logLines(stderr: string): LogLine[] {
  return stderr
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      if (!/^\{.*\}$/.test(line)) throw new Error(`no line of the log: ${line}`);
      const object = JSON.parse(line) as { level: string };
      return { ...object, priority: priorities[object.level] } as unknown as LogLine;
    });
}

/** Directories of one test, with a folder of secrets and an output. The end of the test removes them. */
export class Place {
  readonly root: string;
  readonly store: string;
  readonly output: string;
  readonly #directories: Readonly<Record<"tmp" | "runtime" | "cwd", string>>;

  /** @param parent the directory to make it in; /dev/shm is memory. */
  constructor(parent = fs.realpathSync(tmpdir()), owner: { readonly uid?: number; readonly gid?: number } = {}) {
    this.root = fs.mkdtempSync(join(parent, "fetcher-process-"));
    this.store = join(this.root, "store");
    this.output = join(this.root, "out");
    this.#directories = {
      tmp: join(this.root, "tmp"),
      runtime: join(this.root, "runtime"),
      cwd: join(this.root, "cwd"),
    };
    for (const directory of [this.store, ...Object.values(this.#directories)]) fs.mkdirSync(directory);
    for (const path of [this.root, this.store, ...Object.values(this.#directories)])
      if (owner.uid !== undefined) fs.chownSync(path, owner.uid, owner.gid ?? owner.uid);
    onTestFinished(() => {
      fs.rmSync(this.root, { recursive: true, force: true });
    });
  }

  path(...names: readonly string[]): string {
    return join(this.root, ...names);
  }

  /** Writes secrets into the store. Each appears whole under its name, and all of them as close together as can be. */
  put(secrets: Readonly<Record<string, string | Buffer>>): void {
    const temporary = (id: string) => this.path(`put-${id}`);
    for (const [id, value] of Object.entries(secrets)) fs.writeFileSync(temporary(id), value, { mode: 0o644 });
    for (const id of Object.keys(secrets)) fs.renameSync(temporary(id), join(this.store, id));
  }

  /** Makes the store look as if no file had come or gone for so many seconds, so no missing file is being written. */
  age(seconds = 3600): void {
    const time = Date.now() / 1000 - seconds;
    fs.utimesSync(this.store, time, time);
  }

  /** A configuration of the folder backend on the store. Only the watch sees changes: no poll comes within a test. */
  config(ids: readonly string[] | Readonly<Record<string, object>>, more: ConfigParts = {}) {
    const { config, output, onChange, ...rest } = more;
    return {
      backend: "folder",
      config: { secretsDir: this.store, reloadOnChange: true, pollingInterval: 600, ...config },
      secrets: Array.isArray(ids) ? Object.fromEntries(ids.map((id: string) => [id, {}])) : ids,
      output: { directory: this.output, ...output },
      onChange: { settle: 0.1, ...onChange },
      ...rest,
    };
  }

  /** @returns the path of a configuration file. */
  writeConfig(config: unknown, name = "config.json"): string {
    const path = this.path(name);
    fs.writeFileSync(path, typeof config === "string" ? config : JSON.stringify(config));
    return path;
  }

  /** Starts a daemon. The end of the test kills it. */
  start(config: unknown, options: StartOptions = {}): Daemon {
    return this.spawn(["--config", this.writeConfig(config), ...(options.args ?? [])], options);
  }

  /** Runs the program to its end. */
  run(args: readonly string[], options: StartOptions = {}): Promise<Exit> {
    return this.spawn(args, options).exit;
  }

  spawn(args: readonly string[], { env = {}, uid, gid, stderr, wrapper = [] }: StartOptions = {}): Daemon {
    const { tmp, runtime, cwd } = this.#directories;
    const stdio: StdioOptions = ["ignore", "pipe", "pipe", stderr ?? "ignore"];
    const command = [...wrapper, ...programCommand(builtProgram()), ...args];
    // Uses another number: Node clears O_NONBLOCK on the first three, for this process's end too.
    const [program = "", ...words] =
      stderr === undefined ? command : ["sh", "-c", 'exec "$@" 2>&3 3>&-', "sh", ...command];
    const child = spawn(program, words, {
      // Without $INVOCATION_ID and $NOTIFY_SOCKET, which exist where the tests themselves run in a unit.
      env: {
        PATH: process.env["PATH"] ?? "",
        TMPDIR: tmp,
        XDG_RUNTIME_DIR: runtime,
        // Tests read fields; text is for people, who use these two.
        FETCHER_LOG_FORMAT: args.includes("--once") || args.includes("--check") ? undefined : "json",
        ...env,
      },
      cwd,
      stdio,
      ...(uid === undefined ? {} : { uid, gid: gid ?? uid }),
    });
    const daemon = new Daemon(child);
    onTestFinished(async () => {
      if (daemon.running) await daemon.end("SIGKILL");
    });
    return daemon;
  }

  /** The files that a reader sees: name → bytes as text. Names that begin with a dot are the program's own. */
  published(): Record<string, string> {
    const names = fs.existsSync(this.output) ? fs.readdirSync(this.output).sort() : [];
    return Object.fromEntries(
      names
        .filter((name) => !name.startsWith("."))
        .map((name) => [name, fs.readFileSync(join(this.output, name), "utf8")]),
    );
  }

  /** The published bytes of one name, as text; undefined where there are none. */
  read(name: string): string | undefined {
    try {
      return fs.readFileSync(join(this.output, name), "utf8");
    } catch {
      return undefined;
    }
  }

  /** Leftovers of a crash, which a start must remove. */
  leftovers(directory = this.output): string[] {
    return fs.readdirSync(directory).filter((name) => /^\.fetcher-(stage|commit|link)-/.test(name));
  }
}

let built: string | undefined;

/**
 * A copy: another build does not disturb it, every user can read it, and it cannot reach the sd-notify addon, so it uses
 * systemd-notify(1).
 */
function builtProgram(): string {
  if (built === undefined) {
    built = fs.mkdtempSync(join(fs.realpathSync(tmpdir()), "fetcher-dist-"));
    fs.chmodSync(built, 0o755);
    if (runsOnNode) fs.cpSync(dirname(programFile), join(built, "dist"), { recursive: true });
    else fs.cpSync(programFile, join(built, "dist", basename(programFile)), { mode: fs.constants.COPYFILE_FICLONE });
  }
  return join(built, "dist", basename(programFile));
}

afterAll(() => {
  if (built !== undefined) fs.rmSync(built, { recursive: true, force: true });
});
