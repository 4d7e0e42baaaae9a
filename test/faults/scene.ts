/** A daemon with every kind of published file, its store, and what must be true of both. */
import { execFile } from "node:child_process";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { type Daemon, isRoot, Place } from "../process/daemon.ts";
import { type Fault, FaultControl } from "./shim.ts";

const OPTIONAL = "opt";
/** Milliseconds. */
const PATIENCE = 5000;
/** Milliseconds without a call, at whose end no thread runs: the daemon waits for something. */
const REST = 10;
const published = ["a", "b", "large", OPTIONAL, "app.conf", "secrets.env"];

export class Scene {
  readonly place = new Place();
  readonly control: FaultControl;
  /** What the store holds. */
  generation = 0;
  /** Whether the store has the optional secret. */
  hasOptional = true;
  daemon: Daemon | undefined;
  readonly links = this.place.path("links");
  /** File → its text with # for the generation; the files that no store holds. */
  readonly #made = new Map<string, string>();

  constructor() {
    const { place } = this;
    fs.mkdirSync(this.links);
    for (const directory of [place.path("out"), this.links]) {
      fs.mkdirSync(directory, { recursive: true });
      fs.writeFileSync(join(directory, "mine"), "stays");
    }
    fs.writeFileSync(place.path("template"), "a is {{a}}\n");
    const counted = [place.store, place.output, this.links, place.path("template"), place.path("runtime")];
    this.control = new FaultControl(place.path("control"), counted);
    this.next();
  }

  /** Changes every secret. */
  next(): void {
    this.generation += 1;
    for (const name of ["a", "b", "large", OPTIONAL]) this.place.put({ [name]: content(name, this.generation) });
    this.hasOptional = true;
  }

  /** Removes the optional secret from the store: the next start publishes without it. */
  drop(): void {
    fs.rmSync(join(this.place.store, OPTIONAL));
    this.hasOptional = false;
  }

  /** Starts the daemon, with the armed fault. */
  start(): Daemon {
    const { place } = this;
    const secrets = {
      a: {},
      b: isRoot ? { owner: 1, env: "B" } : {},
      large: { env: null },
      [OPTIONAL]: { optional: true },
    };
    const config = place.config(secrets, {
      // Only SIGHUP asks for rounds: hints and polls would come between.
      config: { reloadOnChange: false },
      output: { links: this.links },
      templates: { "app.conf": { template: place.path("template") } },
    });
    this.daemon = place.start(config, { env: this.control.env });
    return this.daemon;
  }

  /** A running daemon that has published the newest generation, and has nothing left to do. */
  async running(): Promise<Daemon> {
    this.control.arm();
    let { daemon } = this;
    if (daemon?.running !== true || this.restProblem() !== undefined) {
      await this.end();
      daemon = await this.start().ready();
      await this.reload();
    }
    await this.atRest();
    this.control.disarm();
    return daemon;
  }

  async reload(): Promise<void> {
    const { daemon } = this;
    if (daemon === undefined) throw new Error("nothing was started");
    const lines = daemon.lines.length;
    daemon.signal("SIGHUP");
    await daemon.says(/^(published|fetched again)/, lines);
  }

  /** Waits until the daemon makes no more calls; it is counting them. */
  async atRest(): Promise<void> {
    for (let before = -1, { calls } = this.control.look(); ; { calls } = this.control.look()) {
      if (calls === before && this.#isAsleep()) return;
      before = calls;
      await delay(REST);
    }
  }

  /** Ends the fault when the daemon is at rest, or is gone where it was killed. */
  async rested(fault: Fault) {
    await this.atRest();
    const seen = this.control.disarm();
    if (fault.how === "kill" && seen.injected > 0) await this.daemon?.exit;
    return seen;
  }

  /** Whether no thread of the daemon runs, or would if there were a processor for it. */
  #isAsleep(): boolean {
    if (this.daemon?.running !== true) return true;
    const tasks = `/proc/${this.daemon.pid}/task`;
    try {
      return fs
        .readdirSync(tasks)
        .every((task) => /\) [SZX] /.test(fs.readFileSync(join(tasks, task, "stat"), "utf8")));
    } catch {
      // A thread, or all of them, have ended meanwhile.
      return false;
    }
  }

  async end(): Promise<void> {
    if (this.daemon?.running === true) await this.daemon.end("SIGKILL");
  }

  /**
   * Restores the state before the first start.
   *
   * @param directory whether the output exists, with a stranger's file.
   */
  async clear(directory: boolean): Promise<void> {
    await this.end();
    fs.rmSync(this.place.output, { recursive: true, force: true });
    for (const name of fs.readdirSync(this.links)) if (name !== "mine") fs.rmSync(join(this.links, name));
    if (!directory) return;
    fs.mkdirSync(this.place.output);
    fs.writeFileSync(join(this.place.output, "mine"), "stays");
  }

  /**
   * Damages a published set.
   *
   * @param keepsState without the state, another life does not know which files are ours.
   */
  damage(keepsState: boolean): void {
    const { output } = this.place;
    fs.rmSync(join(output, "a"));
    fs.writeFileSync(join(output, "large"), "another");
    fs.chmodSync(join(output, "app.conf"), 0o777);
    if (keepsState) fs.writeFileSync(join(output, ".fetcher-state"), "{");
    else fs.rmSync(join(output, ".fetcher-state"));
    fs.rmSync(join(this.links, "b"));
  }

  /**
   * Ends the daemon, and restores the output and the links that `make` left the first time.
   *
   * @returns whether this is the first time.
   */
  async beginFrom(name: string, make: () => Promise<unknown>): Promise<boolean> {
    const { root, output } = this.place;
    const kept = this.place.path(name);
    const isFirst = !fs.existsSync(kept);
    if (isFirst) await make();
    await this.end();
    if (isFirst) {
      fs.mkdirSync(kept);
      await copy([output, this.links], kept);
      return true;
    }
    for (const directory of [output, this.links]) fs.rmSync(directory, { recursive: true, force: true });
    await copy([join(kept, basename(output)), join(kept, basename(this.links))], root);
    return false;
  }

  /**
   * undefined: each published name has all of its old bytes or all of its new ones, and files that are not ours are
   * untouched.
   */
  consistencyProblem(old: number | undefined): string | undefined {
    const allowed = [old, this.generation];
    for (const name of published) {
      const bytes = read(join(this.place.output, name));
      if (bytes === undefined) {
        if (old === undefined || (name === OPTIONAL && !this.hasOptional)) continue;
        return `${name} is gone`;
      }
      // An unreadable secret keeps its old value next to the new ones of others, in secrets.env too.
      const of = (bytes.match(/\d{8}/g) ?? []).map(Number);
      const other = of.find((generation) => !allowed.includes(generation));
      if (other !== undefined) return `${name} is of generation ${other}, not ${allowed.join(" or ")}`;
      if (!name.includes(".") && new Set(of).size !== 1) return `${name} is of several generations`;
      const pattern = bytes.replaceAll(/\d{8}/g, "#");
      const isWhole = (optional: boolean) => pattern === this.#expected(name, 0, optional)?.replaceAll(/\d{8}/g, "#");
      if (!isWhole(true) && !isWhole(false)) return `${name} is not whole`;
    }
    return this.#foreignProblem();
  }

  /** undefined: the newest generation is published, whole, with its links, and no attempt has left anything behind. */
  restProblem(): string | undefined {
    const { output } = this.place;
    for (const name of published) {
      const expected = this.#expected(name, this.generation, this.hasOptional);
      if (read(join(output, name)) !== expected) return `${name} is not that of generation ${this.generation}`;
      if (read(join(this.links, name)) !== expected) return `the link ${name} does not show it`;
      const isLink = fs.lstatSync(join(this.links, name), { throwIfNoEntry: false }) !== undefined;
      if (isLink && expected === undefined) return `the link ${name} is left`;
    }
    if (isRoot && fs.statSync(join(output, "b")).uid !== 1) return "b has lost its owner";
    for (const directory of [output, this.links]) {
      const left = this.place.leftovers(directory);
      if (left.length > 0) return `${left.join()} is left in ${directory}`;
    }
    if (read(join(output, ".fetcher-state")) === undefined) return "there is no state";
    return this.#foreignProblem();
  }

  /** Like `restProblem`, but waits a while: the log line comes before the last step. */
  async restProblemSoon(): Promise<string | undefined> {
    const end = Date.now() + PATIENCE;
    let problem = this.restProblem();
    for (; problem !== undefined && Date.now() < end; problem = this.restProblem()) await delay(5);
    return problem;
  }

  /** Our names that exist, in the output or as links. */
  get remains(): readonly string[] {
    return [this.place.output, this.links].flatMap((directory) =>
      (fs.existsSync(directory) ? fs.readdirSync(directory) : []).filter((name) => name !== "mine"),
    );
  }

  #foreignProblem(): string | undefined {
    const directories = [this.links, ...(this.#hadForeign ? [this.place.output] : [])];
    const changed = directories.find((directory) => read(join(directory, "mine")) !== "stays");
    return changed === undefined ? undefined : `somebody else's file in ${changed} is changed`;
  }

  /** Phases that begin without an output have no stranger's file in it. */
  #hadForeign = true;
  withoutForeign(): void {
    this.#hadForeign = false;
  }

  /** Records the files that the program makes in healthy publishes, with and without the optional secret. */
  async learn(): Promise<void> {
    for (const optional of [false, true]) {
      if (!optional) this.drop();
      await this.clear(this.#hadForeign);
      await this.start().ready();
      for (const name of ["app.conf", "secrets.env"]) {
        const text = read(join(this.place.output, name)) ?? "";
        this.#made.set(`${name} ${optional}`, text.replaceAll(/\d{8}/g, "#"));
      }
      this.next();
    }
    await this.clear(this.#hadForeign);
  }

  #expected(name: string, generation: number, optional: boolean): string | undefined {
    if (name === OPTIONAL && !optional) return undefined;
    const made = this.#made.get(`${name} ${optional}`);
    return made?.replaceAll("#", padded(generation)) ?? content(name, generation);
  }
}

/** Keeps owners, modes and times. */
async function copy(paths: readonly string[], directory: string): Promise<void> {
  await promisify(execFile)("cp", ["-a", ...paths, directory]);
}

function content(name: string, generation: number): string {
  return `${name} ${padded(generation)}`.repeat(name === "large" ? 10_000 : 1);
}

function padded(generation: number): string {
  return String(generation).padStart(8, "0");
}

function read(path: string): string | undefined {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
