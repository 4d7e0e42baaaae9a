/**
 * The output directory: complete sets of files, published so that a crash at any instruction leaves each name with its
 * old bytes or its new bytes.
 *
 * A publish stages everything in its own directory, `.fetcher-stage-*` (0700), renames that to
 * `.fetcher-commit-*`, which is the moment of decision, and then renames the files out of it. A crash or a failure may
 * leave such a directory behind, and its name says what comes next: we throw a stage away, and complete a commit.
 */
import * as fs from "node:fs";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { errnoCode, ExitCode, PublishError } from "../contract/errors.ts";
import { isRemoved } from "../contract/unit-sandbox.ts";
import { SeenFiles } from "./seen-files.ts";
import { type PublishedFile, SafeFiles } from "./safe-files.ts";
import { type DirectoryLock, inUse, lockDirectory, type LockFile } from "./directory-lock.ts";
import { OwnedNames } from "./owned-names.ts";
import { type PublishedState, parseState, STATE, type StateFile, stateFile } from "./state-file.ts";
import { isPrivateTmp, tmpDirectoryOf } from "./private-tmp.ts";
import { randomName } from "./random-name.ts";
import { refuseWithoutSpace } from "./free-space.ts";
import { checkDirectory, liesInMemory, onlyOwnersCanReach, removeMade } from "./safe-directory.ts";
import { attempt, cannot, pathIn, problemsOf, ROUNDS } from "./system-calls.ts";

const STAGE = `${RESERVED_PREFIX}stage-`;
const COMMIT = `${RESERVED_PREFIX}commit-`;

/** A complete new set that has no readers yet. */
export interface StagedFiles {
  readonly directory: string;
  /** @throws PublishError; the old set is then still whole, or the next publish or start completes this one. */
  commit(): void;
  discard(): void;
}

export class PublishedDirectory {
  readonly path: string;
  /** Mode of a file for which none is set: 0444 where only the service and its sidecar can look, else 0400. */
  readonly defaultMode: number;
  /** It does not outlive a reboot. */
  readonly isInMemory: boolean;
  readonly #files: SafeFiles;
  readonly #owned: OwnedNames;
  readonly #seen: SeenFiles;
  /** Directories that this process made. */
  readonly made: readonly string[];
  /** Mode and owner of the directory, to create it again if it is removed. */
  readonly #stat: fs.Stats;
  /** Stages that are in use. */
  readonly #live = new Set<string>();
  /** Names that the state on disk lists as no longer published. */
  #obsolete: readonly string[] = [];
  #base: string | undefined;
  #lock: DirectoryLock | undefined;
  #last: PublishedState = { files: [], pending: null, starts: null };
  /** The state on disk is ours, but cannot be understood. */
  #isDamaged = false;
  /** Nothing is half done on disk. */
  #isSettled = false;
  #isUnsynced = false;
  #isHalfDone = false;

  /**
   * Creates the directory if it is missing, and makes sure that no other user can redirect writes in it.
   *
   * @throws PublishError (73), or FatalError 78 for a /tmp that everybody shares.
   */
  constructor(path: string) {
    const { real, made } = checkDirectory(path);
    this.path = real;
    this.made = made;
    this.#stat = attempt("read", real, () => fs.statSync(real), ExitCode.cannotCreate);
    const tmp = tmpDirectoryOf(real);
    const isPrivate = tmp !== undefined && isPrivateTmp(tmp);
    this.defaultMode = isPrivate || onlyOwnersCanReach(real) ? 0o444 : 0o400;
    this.isInMemory = liesInMemory(real);
    this.#files = new SafeFiles(real, tmp !== undefined, !this.isInMemory);
    this.#owned = new OwnedNames(real, isPrivate);
    this.#seen = new SeenFiles(real);
  }

  /** @param base a directory above, which this process must not make again when it is gone. */
  staysBelow(base: string): void {
    this.#base = base;
  }

  /** Keeps other daemons out of the directory until this process ends. @throws PublishError (73) that names the other. */
  async lock(lockFile: LockFile): Promise<DirectoryLock> {
    return (this.#lock = await lockDirectory(this.path, lockFile));
  }

  /** @throws PublishError (73) where somebody has removed the lock, and another process has the directory now. */
  keep(): void {
    const other = this.#lock?.keep();
    if (other !== undefined) throw inUse(this.path, other);
  }

  /** Completes or discards a crashed publish. @returns the published set; undefined: nothing of ours. */
  recover(): StateFile | undefined {
    this.#settle();
    this.#isHalfDone = false;
    const state = this.#readState();
    this.tidy(false);
    return state;
  }

  /** The state beside the files is damaged: we only know that there was an earlier life. */
  get isDamaged(): boolean {
    return this.#isDamaged;
  }

  /**
   * Reads a published set of ours.
   *
   * @returns name → bytes; undefined where a name is missing, or is not a regular file of ours (`owners`: who else may
   *   own which file).
   * @throws PublishError
   */
  read(names: readonly string[], owners: ReadonlyMap<string, number>): Map<string, Buffer> | undefined {
    const files = new Map<string, Buffer>();
    for (const name of names) {
      const content = this.#files.readOwn(name, owners.get(name));
      if (content === undefined) return undefined;
      files.set(name, content);
    }
    return files;
  }

  /** Whether this file is published as it should be: bytes, mode and owner. @throws PublishError */
  has(file: PublishedFile): boolean {
    const content = this.#files.readOwn(file.name, file.uid);
    if (content?.equals(file.content) !== true) return false;
    const stat = this.#files.look(file.name);
    return (
      stat !== undefined &&
      (stat.mode & 0o7777) === this.#files.finalMode(file.mode) &&
      stat.gid === this.#files.finalGroup(file)
    );
  }

  /** Damage to one of our files; undefined: none. @throws PublishError */
  damageOf(file: PublishedFile): "missing" | "altered" | "permissions" | undefined {
    const stat = this.#files.look(file.name);
    // A directory has no bytes that a reader could have seen.
    if (stat === undefined || stat.isDirectory()) return "missing";
    if (this.has(file)) return undefined;
    return this.#files.readOwn(file.name, stat.uid)?.equals(file.content) === true ? "permissions" : "altered";
  }

  /** Whether lstat(2) alone says of each of these files what it said when `remember` was called. */
  looksUntouched(names: readonly string[]): boolean {
    return this.#seen.areSame([...names, STATE]);
  }

  /** Paths of all that a look at these files looks at. */
  pathsOf(names: readonly string[]): readonly string[] {
    const own = [...names, STATE].map((name) => pathIn(this.path, name));
    return this.#lock === undefined ? own : [...own, this.#lock.path];
  }

  /** Notes that these files are right at this moment. */
  remember(names: readonly string[]): void {
    this.#seen.take([...names, STATE]);
  }

  /** A commit failed half-way: some names may have their new bytes already, until a whole set is published. */
  get unfinished(): boolean {
    return this.#isHalfDone;
  }

  /** Completes what failed half-way, as the disk shows it. @throws PublishError where it fails again. */
  finish(): void {
    this.#restore();
    this.keep();
    this.#settle();
  }

  /**
   * Writes `files` where no reader looks; `state` is published with them.
   *
   * @throws PublishError (73, 74); nothing is left of the attempt.
   */
  stage(files: readonly PublishedFile[], state: PublishedState): StagedFiles {
    return this.#stage(files, state, true);
  }

  /** Publishes a new state without touching a secret. The disk says which files there are. */
  writeState({ pending, starts }: PublishedState): void {
    this.finish();
    const { files } = this.#readState() ?? this.#last;
    this.#stage([], { files, pending, starts }, false).commit();
  }

  /** Names that the state on disk lists as no longer published. */
  get obsolete(): readonly string[] {
    return this.#obsolete;
  }

  /** Removes files no longer published. @param forget also takes them out of the state. @returns the obstacles. */
  tidy(forget: boolean): readonly string[] {
    const problems = this.#removeAll(this.#obsolete.filter((name) => this.#owned.has(name)));
    if (problems.length > 0 || !forget || this.#obsolete.length === 0) return problems;
    return problemsOf([
      () => {
        this.writeState(this.#readState() ?? this.#last);
      },
    ]);
  }

  /**
   * Removes everything that is ours, for a daemon without systemd.
   *
   * @returns the names that were published, and what could not be removed.
   * @throws PublishError (73) where another process has the directory now.
   */
  remove(): { readonly names: readonly string[]; readonly problems: readonly string[] } {
    let other: string | undefined;
    const problems = problemsOf([() => void (other = this.#lock?.keep())]);
    if (other !== undefined)
      throw new PublishError(ExitCode.cannotCreate, `output: ${this.path} is in use by ${other}: its files stay`);
    problems.push(
      ...problemsOf([
        () => this.#lock?.remove(),
        () => {
          this.#settle();
        },
        () => {
          this.#readState();
        },
      ]),
    );
    const names = this.#owned.all;
    problems.push(...this.#removeAll(names));
    // The state stays: it tells the next start that the rest is ours.
    if (problems.length > 0) return { names, problems };
    problems.push(
      ...problemsOf([
        () => {
          this.#files.unlink(STATE);
        },
      ]),
      ...removeMade(this.made),
    );
    return { names, problems };
  }

  #stage(files: readonly PublishedFile[], state: PublishedState, isSet: boolean): StagedFiles {
    this.finish();
    const isDamaged = this.#readState() === undefined && this.#isDamaged;
    const current = new Set(state.files);
    const complete: StateFile = {
      ...state,
      obsolete: this.#owned.all.filter((name) => !current.has(name)),
      fresh: isSet && !isDamaged ? this.#owned.freshOf(state.files) : [],
    };
    this.#refuseTaken(files, isDamaged);
    const directory = this.#write([...files, stateFile(complete)]);
    const discard = () => {
      this.#discard(directory);
    };
    const commit = () => {
      const decided = pathIn(this.path, COMMIT + directory.slice(-12));
      try {
        this.keep();
        this.#refuseTaken(files, isDamaged);
        this.#settle();
        attempt("write", this.path, () => {
          fs.renameSync(directory, decided);
        });
      } catch (error) {
        discard();
        throw error;
      }
      this.#live.delete(directory);
      this.#isHalfDone ||= isSet;
      this.#isSettled = false;
      this.#carryOut(decided);
      this.#isSettled = true;
      this.#isDamaged = false;
      this.#last = state;
      if (isSet) this.#isHalfDone = false;
      this.tidy(false);
    };
    return { directory, commit, discard };
  }

  /** @returns the directory of the stage. */
  #write(files: readonly PublishedFile[]): string {
    refuseWithoutSpace(
      this.path,
      files.map(({ content }) => content.length),
    );
    const directory = this.#makeDirectory();
    try {
      for (const file of files) this.#files.write(pathIn(directory, file.name), file);
      return directory;
    } catch (error) {
      this.#discard(directory);
      throw error;
    }
  }

  #refuseTaken(files: readonly PublishedFile[], isDamaged: boolean): void {
    this.#owned.refuseTaken([STATE], true);
    this.#owned.refuseTaken(
      files.map(({ name }) => name),
      isDamaged,
    );
  }

  #makeDirectory(): string {
    for (;;) {
      const path = pathIn(this.path, STAGE + randomName());
      try {
        fs.mkdirSync(path, { mode: 0o700 });
        this.#live.add(path);
        return path;
      } catch (error) {
        // Somebody who guessed the name only makes us take another.
        if (errnoCode(error) !== "EEXIST") throw cannot("write", this.path, error, ExitCode.cannotCreate);
      }
    }
  }

  #discard(directory: string): void {
    this.#live.delete(directory);
    // The next publish checks that it is really gone.
    this.#isSettled = false;
    try {
      fs.rmSync(directory, { recursive: true, force: true });
    } catch {
      // The error that led here is reported; the next publish or the next start removes the directory.
    }
  }

  /** Creates the directory again if it was removed. */
  #restore(): void {
    if (attempt("read", this.path, () => fs.lstatSync(this.path, { throwIfNoEntry: false })) !== undefined) return;
    const base = this.#base;
    if (base !== undefined && attempt("read", base, () => isRemoved(base)))
      throw new PublishError(
        ExitCode.cannotCreate,
        `output: ${base} is gone: restart the sidecar, and systemd makes it again`,
      );
    checkDirectory(this.path);
    const { mode, uid, gid } = this.#stat;
    this.#files.io("", () => {
      const now = fs.statSync(this.path);
      if (now.uid !== uid || now.gid !== gid) fs.chownSync(this.path, uid, gid);
      fs.chmodSync(this.path, mode & 0o7777);
    });
  }

  /** Completes or removes partial work. The disk shows it, whatever failed or was removed. */
  #settle(): void {
    if (!this.#isSettled) {
      // A file system may list something and report it as missing: only an empty list is the end.
      for (let round = 1, found = this.#settleListed(); found !== undefined; round++, found = this.#settleListed())
        if (round === ROUNDS)
          throw new PublishError(
            ExitCode.ioError,
            `output: cannot remove ${found}: the file system lists it, but cannot find it`,
          );
      this.#isSettled = true;
    }
    if (this.#isUnsynced) this.#sync();
  }

  /** @returns a directory that was half done; undefined: there was none. */
  #settleListed(): string | undefined {
    let found: string | undefined;
    for (const name of attempt("read", this.path, () => fs.readdirSync(this.path))) {
      const directory = pathIn(this.path, name);
      if ((!name.startsWith(STAGE) && !name.startsWith(COMMIT)) || this.#live.has(directory)) continue;
      const stat = this.#files.look(name);
      if (stat !== undefined && !this.#files.isOurs(stat, "directory")) continue;
      found = directory;
      if (stat === undefined) continue;
      if (name.startsWith(COMMIT)) this.#carryOut(directory);
      else
        attempt("remove", directory, () => {
          fs.rmSync(directory, { recursive: true, force: true });
        });
    }
    return found;
  }

  #sync(): void {
    this.#files.sync();
    this.#isUnsynced = false;
  }

  /** The state goes first, so that a pending action is known before the first new byte; secrets.env goes last. */
  #carryOut(directory: string): void {
    const staged = attempt("read", directory, () => fs.readdirSync(directory));
    // After a crash between two renames the state is already where it belongs.
    const state = this.#stateIn(directory) ?? this.#readState();
    const ranks = new Map((state?.files ?? []).map((name, index) => [name, index]));
    const rank = (name: string) => ranks.get(name) ?? -1;
    const fresh = new Set(state?.fresh ?? []);
    this.#seen.forget();
    for (const name of staged.sort((a, b) => rank(a) - rank(b))) {
      // Our file cannot be at this name since the decision: it would not be staged any more.
      if (fresh.has(name)) {
        this.#owned.forget(name);
        this.#owned.refuseTaken([name]);
      }
      this.#files.io(name, () => {
        fs.renameSync(pathIn(directory, name), pathIn(this.path, name));
      });
      this.#isUnsynced = true;
      if (name !== STATE) this.#owned.add(name);
    }
    if (state !== undefined) this.#know(state);
    attempt("remove", directory, () => {
      fs.rmdirSync(directory);
    });
    this.#sync();
  }

  /** @returns what is in the way. */
  #removeAll(names: readonly string[]): readonly string[] {
    return problemsOf(
      names.map((name) => () => {
        this.#removeOwn(name);
      }),
    );
  }

  /** Removes only our own files: a stranger's file at such a name stays. @throws PublishError */
  #removeOwn(name: string): void {
    const stat = this.#files.look(name);
    if (stat === undefined || (stat.isFile() && this.#seen.mayBe(name, stat))) this.#files.unlink(name);
    this.#owned.forget(name);
  }

  /** @throws PublishError for an unreadable state. */
  #readState(): StateFile | undefined {
    const json = this.#files.readOwn(STATE, undefined);
    const state = json === undefined ? undefined : parseState(json.toString());
    this.#isDamaged = json !== undefined && state === undefined;
    if (state !== undefined) this.#know(state);
    return state;
  }

  #stateIn(directory: string): StateFile | undefined {
    const json = this.#files.readOwn(STATE, undefined, directory);
    return json === undefined ? undefined : parseState(json.toString());
  }

  #know(state: StateFile): void {
    this.#owned.note(state);
    this.#obsolete = state.obsolete;
  }
}
