/** Publishes the values of a scope: files, secrets.env, links, and the mark of an action that is due. */
import type { Config, OutputConfig } from "../config/config.ts";
import { ExitCode, PublishError } from "../contract/errors.ts";
import type { EnvFile } from "./env-file.ts";
import { LinkDirectory } from "../output/links.ts";
import type { PublishedState, PendingAction, SeenStarts } from "../output/state-file.ts";
import type { DirectoryLock, LockFile } from "../output/directory-lock.ts";
import { PublishedDirectory } from "../output/published-directory.ts";
import type { PublishedFile } from "../output/safe-files.ts";
import { removeMade } from "../output/safe-directory.ts";
import { randomName } from "../output/random-name.ts";
import { attemptUnlessMissing, problemsOf, readShort } from "../output/system-calls.ts";
import { SetLayout } from "./layout.ts";
import { ValueError } from "./value.ts";

/** The remains of a sidecar's own earlier work at its start. */
export interface Found {
  /** id → bytes; undefined where the set is not complete. */
  readonly values: ReadonlyMap<string, Buffer> | undefined;
  /** Somebody removed a part of what was published: a running target may have read it, and its bytes are unknown. */
  readonly isTorn: boolean;
  /** An action that a crash prevented. Its time is null where it is unknown or from another boot. */
  readonly pending: { readonly publishedAt: number | null } | undefined;
  /** Unit → when it was seen to start, in µs of CLOCK_MONOTONIC of this boot. */
  readonly starts: ReadonlyMap<string, readonly number[]>;
}

/** Damage to a published file. */
export type Damage = "missing" | "altered" | "permissions";

/** A complete new set that has no readers yet. */
export interface StagedSet {
  readonly directory: string;
  readonly env: EnvFile | undefined;
  /** id → why it is not in secrets.env, where that may surprise. */
  readonly warnings: ReadonlyMap<string, string>;
  /** Keys of a secret with `all` → why they cannot be published. */
  readonly refused: ReadonlyMap<string, string>;
  /** @throws PublishError */
  commit(): void;
  discard(): void;
}

export class Publisher {
  readonly #directory: PublishedDirectory;
  readonly #links: LinkDirectory | undefined;
  #layout: SetLayout;
  #config: Config;
  readonly #warn: (message: string) => void;
  /** Published files without a link, and leftovers that should be gone. */
  #problems: readonly string[] = [];
  #lock: DirectoryLock | undefined;
  /** What is on disk. */
  #state: PublishedState = { files: [], pending: null, starts: null };

  private constructor(
    config: Config,
    output: OutputConfig,
    directory: PublishedDirectory,
    layout: SetLayout,
    warn: (message: string) => void,
  ) {
    this.#config = config;
    this.#directory = directory;
    this.#links = output.links === null ? undefined : new LinkDirectory(output.links, output.linksTo);
    this.#layout = layout;
    this.#warn = warn;
  }

  /**
   * @param warn called once for each problem beside the published files.
   * @param begun called with a function that removes the directories that were made, for a caller that does not wait.
   * @throws PublishError, ConfigError
   */
  static async open(
    config: Config,
    output: OutputConfig,
    warn: (message: string) => void = () => undefined,
    begun: (giveBack: () => void) => void = () => undefined,
  ): Promise<Publisher> {
    const directory = new PublishedDirectory(output.directory);
    const giveBack = () => {
      removeMade(directory.made);
    };
    begun(giveBack);
    try {
      return new Publisher(config, output, directory, await SetLayout.of(config, directory.defaultMode), warn);
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  get directory(): string {
    return this.#directory.path;
  }

  /** For a publisher whose directory goes when its service stops. @param base is not made again once it is gone. */
  staysBelow(base: string): void {
    this.#directory.staysBelow(base);
  }

  /**
   * Checks all of another configuration that can be checked without values. Changes nothing.
   *
   * @throws ConfigError where an owner or a group does not exist, or a template is wrong.
   */
  async layoutOf(config: Config): Promise<SetLayout> {
    return await SetLayout.of(config, this.#directory.defaultMode);
  }

  /** The next publish uses this configuration, whose output is the same directory. @param layout from `layoutOf`. */
  take(config: Config, layout: SetLayout): void {
    this.#config = config;
    this.#layout = layout;
  }

  /**
   * Whether these values make other files than the published ones. The publish itself reports files that it cannot
   * make.
   */
  differs(values: ReadonlyMap<string, Buffer>): boolean {
    try {
      const { files } = this.#layout.layOut(values);
      const published = new Set(this.#state.files);
      return files.length !== published.size || !files.every((file) => published.has(file.name) && this.#isThere(file));
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      return true;
    }
  }

  /** Keeps other daemons out of the directory until this process ends. @throws PublishError (73) that names the other. */
  async lock(lockFile: LockFile): Promise<DirectoryLock> {
    return (this.#lock = await this.#directory.lock(lockFile));
  }

  /** Removes all that is ours after a start that published nothing. */
  releaseUnused(): void {
    if (this.#state.files.length > 0) return;
    // What cannot be removed does no harm.
    problemsOf([() => this.#lock?.remove()]);
    removeMade(this.#made);
  }

  /**
   * The last commit failed after readers could see new bytes: publish again, even if the values are the old ones again.
   */
  get halfDone(): boolean {
    return this.#directory.unfinished;
  }

  /** Repairs what a crash left, and reads what is published. */
  recover(): Found {
    const state = this.#directory.recover();
    if (this.#directory.isDamaged)
      this.#warn(`output: the state in ${this.directory} is damaged, so what was published before is unknown`);
    if (state === undefined) return { values: undefined, isTorn: false, pending: undefined, starts: new Map() };
    this.#state = state;
    this.maintain();
    const { pending, starts } = state;
    const values = this.#readValues(state);
    return {
      values,
      isTorn: values === undefined && this.#isTorn(state),
      pending:
        pending === null ? undefined : { publishedAt: pending.bootId === this.#bootId ? pending.publishedAt : null },
      starts: new Map(starts?.bootId === this.#bootId ? Object.entries(starts.units) : []),
    };
  }

  /**
   * Stages the differences from the published set, where no reader looks.
   *
   * @param actionDue the target must hear of this set.
   * @throws PublishError, ValueError
   */
  stage(values: ReadonlyMap<string, Buffer>, actionDue: boolean): StagedSet {
    const { files, env, warnings, refused } = this.#layout.layOut(values);
    const state: PublishedState = {
      files: files.map(({ name }) => name),
      pending: actionDue ? { publishedAt: null, bootId: this.#bootId } : this.#state.pending,
      starts: this.#state.starts,
    };
    // A verify command wants to see the whole set; without one, only what differs is written.
    const whole = this.#config.onChange.verify !== null;
    const published = new Set(this.#state.files);
    this.#directory.finish();
    const differing = files.filter((file) => whole || !published.has(file.name) || !this.#isThere(file));
    const staged = this.#directory.stage(differing, state);
    return {
      directory: staged.directory,
      env,
      warnings,
      refused,
      discard: () => {
        staged.discard();
      },
      commit: () => {
        try {
          // At a first publish nothing is lost yet: a name that cannot have its link ends the start.
          if (this.#state.files.length === 0) this.#links?.refuseTaken(state.files);
        } catch (error) {
          staged.discard();
          throw error;
        }
        staged.commit();
        this.#state = state;
        this.#directory.remember(state.files);
        this.maintain();
      },
    };
  }

  /** A file that cannot be read is written again. */
  #isThere(file: PublishedFile): boolean {
    try {
      return this.#directory.has(file);
    } catch (error) {
      if (error instanceof PublishError) return false;
      throw error;
    }
  }

  /**
   * Restores removed or altered files of the published set, with its mode and owner.
   *
   * @param values what is published.
   * @param whole look at the bytes too, not only where lstat(2) sees a difference.
   * @param act the target must hear of it where it may have read other bytes.
   * @returns name → what was wrong.
   * @throws PublishError
   */
  repair(values: ReadonlyMap<string, Buffer>, whole: boolean, act: boolean): ReadonlyMap<string, Damage> {
    const damaged = new Map<string, Damage>();
    const names = this.#state.files;
    this.#directory.keep();
    if (this.halfDone || (!whole && this.#directory.looksUntouched(names))) return damaged;
    const published = new Set(names);
    try {
      for (const file of this.#layout.layOut(values).files) {
        const damage = published.has(file.name) ? this.#directory.damageOf(file) : undefined;
        if (damage !== undefined) damaged.set(file.name, damage);
      }
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      return damaged;
    }
    if (damaged.size > 0) this.stage(values, act && [...damaged.values()].includes("altered")).commit();
    else {
      // Perhaps only the state is gone.
      if (!this.#directory.looksUntouched([])) this.#directory.writeState(this.#state);
      this.#directory.remember(names);
    }
    return damaged;
  }

  /** Paths of what repair() looks at. */
  get watched(): readonly string[] {
    return this.#directory.pathsOf(this.#state.files);
  }

  /** The files that templates make of these values. @throws ValueError */
  render(values: ReadonlyMap<string, Buffer>): readonly PublishedFile[] {
    return this.#layout.render(values);
  }

  /**
   * Names of the files whose template makes something else of these values than is published. The publish reports what
   * cannot be rendered.
   */
  outdated(values: ReadonlyMap<string, Buffer>): readonly string[] {
    try {
      return this.render(values).flatMap((file) => (this.#directory.has(file) ? [] : [file.name]));
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      return [];
    }
  }

  /**
   * Reads the templates again. If this fails, those read before stay.
   *
   * @throws ConfigError; ValueError where they cannot take these values; FatalError 74 where one cannot be read for
   *   now.
   */
  async reloadTemplates(values: ReadonlyMap<string, Buffer>, stop: AbortSignal): Promise<void> {
    await this.#layout.reload(values, stop);
  }

  /**
   * Notes when the set that is waiting for its action was complete; null: the action is done.
   *
   * @param seen unit → when it was seen to start; without it, what was noted before.
   */
  setPending(publishedAt: number | null, seen?: ReadonlyMap<string, readonly number[]>): void {
    const pending: PendingAction | null = publishedAt === null ? null : { publishedAt, bootId: this.#bootId };
    if (pending === null && this.#state.pending === null) return;
    const starts: SeenStarts | null =
      seen === undefined ? this.#state.starts : { bootId: this.#bootId, units: Object.fromEntries(seen) };
    const state = { ...this.#state, pending, starts };
    const untouched = this.#directory.looksUntouched(state.files);
    this.#directory.writeState(state);
    this.#state = state;
    if (untouched) this.#directory.remember(state.files);
  }

  /**
   * Repairs the links, and removes files that are no longer published. Failures concern only the
   * service: they are reported and tried again later.
   */
  maintain(): void {
    const links = [
      ...(this.#links?.remove(this.#directory.obsolete) ?? []),
      ...(this.#links?.ensure(this.#state.files) ?? []),
    ];
    const problems = [...links, ...this.#directory.tidy(links.length === 0)];
    for (const problem of problems) if (!this.#problems.includes(problem)) this.#warn(problem);
    this.#problems = problems;
  }

  /** For STATUS=: what `maintain` could not do. */
  get problem(): string | undefined {
    const [first, ...others] = this.#problems;
    return first === undefined || others.length === 0 ? first : `${first} (and ${others.length} more)`;
  }

  /** Whether `maintain` has something to look at. */
  get needsCare(): boolean {
    return this.#links !== undefined || this.#problems.length > 0;
  }

  /** id → name of its file. */
  fileOf(id: string): string | undefined {
    return this.#layout.fileOf(id);
  }

  /** For a daemon that systemd did not start: nothing else removes the files. @throws PublishError if some stay. */
  remove(): void {
    const { names, problems } = this.#directory.remove();
    const all = [...problems, ...(this.#links?.remove(names) ?? [])];
    if (all.length === 0) all.push(...removeMade(this.#made));
    const [first, ...others] = all;
    if (first !== undefined)
      throw new PublishError(ExitCode.ioError, others.length === 0 ? first : `${first} (and ${others.length} more)`);
  }

  get #made(): readonly string[] {
    return [...this.#directory.made, ...(this.#links?.made ?? [])];
  }

  get #bootId(): string {
    return bootId(this.#directory.isInMemory);
  }

  #isTorn({ files }: PublishedState): boolean {
    const published = new Set(files);
    const names = this.#config.secrets.flatMap(({ file }) => (published.has(file) ? [file] : []));
    return this.#directory.read(names, this.#layout.owners) === undefined;
  }

  #readValues(state: PublishedState): ReadonlyMap<string, Buffer> | undefined {
    const published = new Set(state.files);
    // An optional secret that was missing at the publish has no file in the set.
    const expected = this.#config.secrets.filter(({ file, optional }) => !optional || published.has(file));
    const names = expected.map(({ file }) => file);
    const files = this.#directory.read(names, this.#layout.owners);
    if (files === undefined || !names.every((name) => published.has(name))) return undefined;
    return new Map(
      expected.flatMap(({ id, file }) => {
        const content = files.get(file);
        return content === undefined ? [] : [[id, content] as const];
      }),
    );
  }
}

let boot: string | undefined;
/**
 * CLOCK_MONOTONIC starts again at each boot. A unit with `ProcSubset=pid` cannot see the boot's id: then what lies in
 * memory is of this boot, and elsewhere an earlier life counts as another boot's.
 */
function bootId(isInMemory: boolean): string {
  const path = "/proc/sys/kernel/random/boot_id";
  const seen = () => attemptUnlessMissing("read", path, () => readShort(path));
  boot ??= (seen() ?? (isInMemory ? "in memory" : randomName())).trim();
  return boot;
}
