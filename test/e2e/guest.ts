import { posix } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import { boot, type BootOptions, type System } from "./boot.ts";
import { argv, execute, type Command, type Finished, type RunOptions } from "./command.ts";

export interface UntilOptions {
  /** Seconds. */
  readonly timeout?: number;
}

/** A real systemd to test against: a guest of systemd-nspawn, or the one that runs this container. */
export class Guest {
  /** For test titles: `host`, `trixie`, `here`. */
  readonly name: string;
  readonly #options: BootOptions;
  #system: System | undefined;
  #mounted: string[] = [];

  constructor(options: BootOptions) {
    this.name = options.tree;
    this.#options = options;
  }

  static async boot(options: BootOptions): Promise<Guest> {
    const guest = new Guest(options);
    await guest.boot();
    return guest;
  }

  /** Returns when the guest's own start has ended. */
  async boot(): Promise<void> {
    if (this.#system !== undefined) throw new Error(`guest ${this.name} is booted already`);
    this.#system = await boot(this.#options);
    try {
      await this.until(
        "the guest has started",
        async () => (await this.run(["systemctl", "is-system-running"], { check: false })).stdout.trim(),
        (state) => state === "running" || state === "degraded",
        { timeout: 100 },
      );
    } catch (error) {
      const said = await this.#system.console();
      await this.stop();
      throw new Error(`guest ${this.name} did not start; its console:\n${said}`, { cause: error });
    }
  }

  /** Returns when nothing of the guest is left on the machine. Does nothing if the guest is not booted. */
  async stop(): Promise<void> {
    const system = this.#system;
    if (system === undefined) return;
    // A guest's mounts end with it; mounts made "here" would outlive the tests.
    if (!system.throwAway) for (const path of this.#mounted) await this.run(["umount", path], { check: false });
    this.#mounted = [];
    this.#system = undefined;
    await system.stop();
  }

  get system(): System {
    if (this.#system === undefined) throw new Error(`guest ${this.name} is not booted`);
    return this.#system;
  }

  /** The checkout, as the guest sees it (read-only in a throw-away guest). */
  get project(): string {
    return this.system.project;
  }

  /** Runs a command beside the units: without their namespaces, seccomp filters and control groups. */
  async run(command: Command, options: RunOptions = {}): Promise<Finished> {
    const { stdout, stderr, ...end } = await this.#execute(command, options);
    return { stdout: stdout.toString(), stderr: stderr.toString(), ...end };
  }

  /** The command's output, without the newlines at its end. */
  async text(command: Command, options: RunOptions = {}): Promise<string> {
    return (await this.run(command, options)).stdout.replace(/\n+$/, "");
  }

  async systemctl(...args: string[]): Promise<void> {
    await this.run(["systemctl", ...args], { timeout: 120 });
  }

  /** Runs a command as a transient service with these properties: under seccomp, in namespaces, with `PrivateTmp=`. */
  async runUnit(command: Command, properties: readonly string[], options: RunOptions = {}): Promise<Finished> {
    const set = properties.flatMap((property) => ["-p", property]);
    return await this.run(["systemd-run", "--pipe", "--wait", "--quiet", "--collect", ...set, "--", ...argv(command)], {
      timeout: 120,
      ...options,
    });
  }

  /** Runs a command in the mount namespace of the unit's main process, as root or with that process's own user. */
  async inUnit(unit: string, command: Command, options: RunOptions & { asItsUser?: boolean } = {}): Promise<Finished> {
    const pid = await this.mainPid(unit);
    const { asItsUser = false, ...rest } = options;
    const become: string[] = [];
    if (asItsUser) {
      const [user, group] = (
        await this.text(`sed -n 's/^[UG]id:\\t[0-9]*\\t\\([0-9]*\\).*/\\1/p' /proc/${pid}/status`)
      ).split("\n");
      become.push("setpriv", `--reuid=${user ?? ""}`, `--regid=${group ?? ""}`, "--clear-groups");
    }
    return await this.run(["nsenter", `--target=${pid}`, "--mount", "--", ...become, ...argv(command)], rest);
  }

  /**
   * Waits until the main process is the unit's own program: before that it is systemd's, without the unit's namespaces.
   * @throws where there is none, and no job is about to make one, as between the two halves of a restart.
   */
  async mainPid(unit: string): Promise<number> {
    const end = performance.now() + 60_000;
    for (;;) {
      const { MainPID, ActiveState, Job } = await this.show(unit, "MainPID", "ActiveState", "Job");
      if (MainPID !== "0") {
        const name = (await this.run(["cat", `/proc/${MainPID}/comm`], { check: false })).stdout;
        // `systemd` and, since 255, `systemd-executor` become `(name)`, and then what the unit names.
        if (name !== "" && !/^\(|^systemd$|^systemd-executo/.test(name)) return Number(MainPID);
      }
      const isDown = (ActiveState === "inactive" || ActiveState === "failed") && (Job === "" || Job === "0");
      if (isDown || performance.now() >= end)
        throw new Error(`${unit} has no main process:\n${await this.status(unit)}`);
      await sleep(50);
    }
  }

  /** Overwrites a file in place, and makes missing directories. */
  async write(path: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"';
    await this.run(["sh", "-c", script, "sh", path, mode.toString(8)], { input: content });
  }

  /** Writes a new file beside the old one and renames it over. */
  async replace(path: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
    const beside = posix.join(posix.dirname(path), `.${posix.basename(path)}.new`);
    await this.write(beside, content, mode);
    await this.run(["mv", "-T", beside, path]);
  }

  async read(path: string): Promise<string> {
    return (await this.readBytes(path)).toString();
  }

  async readBytes(path: string): Promise<Buffer> {
    return (await this.#execute(["cat", "--", path], {})).stdout;
  }

  async exists(path: string): Promise<boolean> {
    return (await this.run(["test", "-e", path], { check: false })).code === 0;
  }

  /** Mounts a file system of this size (`16k`) on `path`, to imitate a full disk. */
  async tmpfs(path: string, size: string): Promise<void> {
    await this.run(["mkdir", "-p", path]);
    await this.run(["mount", "-t", "tmpfs", "-o", `size=${size},mode=0755`, "fetcher-test", path]);
    this.#mounted.unshift(path);
  }

  /** Properties of a unit, as `systemctl show` gives them. */
  async show<const Property extends string>(
    unit: string,
    ...properties: readonly Property[]
  ): Promise<Record<Property, string>> {
    const found = Object.fromEntries(properties.map((property) => [property, ""])) as Record<Property, string>;
    const lines = (await this.text(["systemctl", "show", `--property=${properties.join(",")}`, "--", unit])).split(
      "\n",
    );
    for (const line of lines) {
      const equals = line.indexOf("=");
      const key = properties.find((property) => property === line.slice(0, equals));
      if (key !== undefined) found[key] = line.slice(equals + 1);
    }
    return found;
  }

  /** What an operator reads: `systemctl status`, when the journal has all that was said until now. */
  async status(unit: string): Promise<string> {
    await this.run(["journalctl", "--sync"], { check: false });
    return await this.text(["systemctl", "status", "--full", "--lines=20", "--", unit], { check: false });
  }

  /**
   * A position in the journal, for `journal(…, { after })`. Not a cursor: systemd 252 skips a match where the cursor is
   * empty.
   */
  async journalCursor(): Promise<string> {
    await this.run(["journalctl", "--sync"]);
    return await this.text(["date", "+@%s.%6N"]);
  }

  /** Messages of a unit, or of everything; `output` is that of journalctl: `export` has every field. */
  async journal(unit?: string, options: { after?: string; output?: string } = {}): Promise<string> {
    await this.run(["journalctl", "--sync"]);
    const filter = unit === undefined ? [] : [`--unit=${unit}`];
    if (options.after !== undefined) filter.push(`--since=${options.after}`);
    return await this.text(["journalctl", "--quiet", "--boot", `--output=${options.output ?? "cat"}`, ...filter]);
  }

  /**
   * Polls `observe` until `accept` returns true for its result, and returns that. Polls again where `observe` throws.
   *
   * @throws with the last observation.
   */
  async until<Seen>(
    what: string,
    observe: () => Promise<Seen>,
    accept: (seen: Seen) => boolean = Boolean,
    { timeout = 60 }: UntilOptions = {},
  ): Promise<Seen> {
    const end = performance.now() + timeout * 1000;
    // Each look costs a process or two, and many scenarios look at once.
    for (let pause = 20; ; pause = Math.min(pause * 1.4, 350)) {
      let last: unknown;
      try {
        const seen = await observe();
        if (accept(seen)) return seen;
        last = seen;
      } catch (error) {
        last = error;
      }
      if (performance.now() >= end) {
        const seen = typeof last === "string" ? last : inspect(last, { depth: 4 });
        throw new Error(`guest ${this.name}: not within ${timeout} s: ${what}; last seen:\n${seen}`);
      }
      await sleep(pause);
    }
  }

  /** For the message of a failing test: the status of the units and the end of the journal. */
  async diagnosis(...units: string[]): Promise<string> {
    const parts = await Promise.all(units.map(async (unit) => await this.status(unit)));
    const journal = await this.text("journalctl --quiet --boot -o short-precise -n 60", { check: false });
    return [...parts, `journal of guest ${this.name}:\n${journal}`].join("\n\n");
  }

  async #execute(command: Command, options: RunOptions): Promise<Finished<Buffer>> {
    try {
      return await execute([...this.system.enter, ...argv(command)], options);
    } catch (error) {
      throw new Error(
        `guest ${this.name}: ${argv(command).join(" ")}: ${error instanceof Error ? error.message : String(error)}`,
        { cause: error },
      );
    }
  }
}
