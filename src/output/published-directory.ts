/**
 * The output directory: complete sets of files, published so that a crash at any instruction leaves each name with its
 * old bytes or its new bytes.
 *
 * A publish stages everything in a directory of its own, `.fetcher-stage-*` (0700), renames that to
 * `.fetcher-commit-*`, which is the moment of decision, and then renames the files out of it. What a crash leaves behind
 * says by its name what the next start must do: a stage is thrown away, a commit is carried to its end.
 */
import * as fs from "node:fs";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import { errnoCode, ExitCode, PublishError } from "../contract/errors.ts";
import { inside, type OutputFile, OutputFiles } from "./output-files.ts";
import { checkDirectory, liesInMemory, onlyOwnersCanReach } from "./safe-directory.ts";
import { type OutputState, parseState, type StateFile } from "./output-state.ts";
import { isPrivateTmp, tmpDirectoryOf } from "./private-tmp.ts";
import { randomName } from "./random-name.ts";

const STATE = `${RESERVED_PREFIX}state`;
const STAGE = `${RESERVED_PREFIX}stage-`;
const COMMIT = `${RESERVED_PREFIX}commit-`;

/** A complete new set that nobody reads yet. */
export interface StagedSet {
  readonly directory: string;
  /** @throws PublishError; the old set is then still whole, or the next commit or start completes this one. */
  commit(): void;
  discard(): void;
}

export class OutputDirectory {
  readonly path: string;
  /** Mode of a file that asks for none: 0444 where only the service and its sidecar can look, else 0400. */
  readonly defaultMode: number;
  readonly #files: OutputFiles;
  readonly #created: boolean;
  /** Mode and owner, for a directory that somebody removes. */
  readonly #made: fs.Stats;
  /** Name → what lstat(2) says of it since it was last seen to be right. */
  #prints = new Map<string, string>();
  /** A commit that failed half-way: it comes before any other. */
  #unfinished: string | undefined;

  /**
   * Makes the directory where it is missing, and makes sure that nobody else can lead writes in it elsewhere.
   *
   * @throws PublishError (73), or FatalError 78 for a /tmp that everybody shares.
   */
  constructor(path: string) {
    const { real, created } = checkDirectory(path);
    this.path = real;
    this.#created = created;
    this.#made = fs.statSync(real);
    const tmp = tmpDirectoryOf(real);
    this.defaultMode = (tmp !== undefined && isPrivateTmp(tmp)) || onlyOwnersCanReach(real) ? 0o444 : 0o400;
    this.#files = new OutputFiles(real, tmp !== undefined, !liesInMemory(real));
  }

  /** Completes or throws away what a crashed publish left. @returns what is published; undefined: nothing of ours. */
  recover(): StateFile | undefined {
    return this.#files.io("", () => {
      for (const name of fs.readdirSync(this.path)) {
        if (!name.startsWith(STAGE) && !name.startsWith(COMMIT)) continue;
        const directory = inside(this.path, name);
        if (!this.#files.isOurs(fs.lstatSync(directory), "directory")) continue;
        if (name.startsWith(COMMIT)) this.#carryOut(directory);
        else fs.rmSync(directory, { recursive: true });
      }
      const state = this.#readState();
      this.#removeObsolete(state);
      return state;
    });
  }

  /**
   * Reads a published set of our own making.
   *
   * @returns name → bytes; undefined where a name is missing, or is no regular file of ours (`owners`: who else may own
   *   which file).
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

  /** Whether this file is published as it should be: bytes, mode and owner. */
  has(file: OutputFile): boolean {
    const content = this.#files.readOwn(file.name, file.uid);
    if (content?.equals(file.content) !== true) return false;
    const stat = fs.lstatSync(inside(this.path, file.name));
    return (stat.mode & 0o7777) === this.#files.finalMode(file.mode) && stat.gid === this.#files.finalGroup(file);
  }

  /** What somebody did to a file of ours; undefined: nothing. */
  damageOf(file: OutputFile): "missing" | "altered" | "permissions" | undefined {
    return this.#files.io(file.name, () => {
      const stat = fs.lstatSync(inside(this.path, file.name), { throwIfNoEntry: false });
      // A directory has no bytes that anybody could have read.
      if (stat === undefined || stat.isDirectory()) return "missing";
      if (this.has(file)) return undefined;
      return this.#files.readOwn(file.name, stat.uid)?.equals(file.content) === true ? "permissions" : "altered";
    });
  }

  /** Whether each of these files is, by lstat(2) alone, as it was when `remember` was told of it. */
  looksUntouched(names: readonly string[]): boolean {
    return [...names, STATE].every((name) => this.#prints.get(name) === this.#print(name));
  }

  /** These files are right now. */
  remember(names: readonly string[]): void {
    this.#prints = new Map([...names, STATE].map((name) => [name, this.#print(name)]));
  }

  #print(name: string): string {
    const path = inside(this.path, name);
    const stat = this.#files.io(name, () => fs.lstatSync(path, { bigint: true, throwIfNoEntry: false }));
    return stat === undefined ? "" : [stat.ino, stat.size, stat.ctimeNs, stat.mode, stat.uid, stat.gid].join();
  }

  /** Makes the directory again where somebody has removed it. */
  #restore(): void {
    if (fs.existsSync(this.path)) return;
    checkDirectory(this.path);
    const { mode, uid, gid } = this.#made;
    const now = fs.statSync(this.path);
    this.#files.io("", () => {
      if (now.uid !== uid || now.gid !== gid) fs.chownSync(this.path, uid, gid);
      fs.chmodSync(this.path, mode & 0o7777);
    });
    // What was half done there is gone with it.
    this.#unfinished = undefined;
  }

  /** A commit failed half-way: some names may have their new bytes already. */
  get unfinished(): boolean {
    return this.#unfinished !== undefined;
  }

  /** Carries a commit that failed half-way to its end. @throws PublishError where it fails again. */
  finish(): void {
    if (this.#unfinished === undefined) return;
    this.#carryOut(this.#unfinished);
    this.#unfinished = undefined;
  }

  /**
   * Writes `files` where nobody looks; `state` is published with them.
   *
   * @throws PublishError (73, 74); nothing is left of the attempt.
   */
  stage(files: readonly OutputFile[], state: OutputState): StagedSet {
    this.#restore();
    const directory = this.#makeDirectory();
    const discard = () => {
      try {
        fs.rmSync(directory, { recursive: true, force: true });
      } catch {
        // What is read-only now is removed by the next start.
      }
    };
    const before = this.#readState();
    const current = new Set(state.files);
    const obsolete = [...(before?.files ?? []), ...(before?.obsolete ?? [])].filter((name) => !current.has(name));
    const complete: StateFile = { ...state, obsolete };
    try {
      for (const file of [...files, stateFile(complete)]) this.#files.write(inside(directory, file.name), file);
    } catch (error) {
      discard();
      throw error;
    }
    const commit = () => {
      const decided = inside(this.path, COMMIT + directory.slice(-12));
      try {
        for (const name of [STATE, ...files.map((file) => file.name)]) this.#refuseDirectoryAt(name);
        this.finish();
        this.#files.io("", () => {
          fs.renameSync(directory, decided);
        });
      } catch (error) {
        discard();
        throw error;
      }
      this.#unfinished = decided;
      this.finish();
      this.#removeObsolete(complete);
    };
    return { directory, commit, discard };
  }

  /** Publishes a new state without touching a secret. */
  writeState(state: OutputState): void {
    this.stage([], state).commit();
  }

  /** Removes every published file, for a daemon without systemd. @returns the names that were published. */
  remove(): readonly string[] {
    const names = this.#readState()?.files ?? [];
    for (const name of [...names, STATE]) this.#files.unlink(name);
    if (this.#created) {
      try {
        fs.rmdirSync(this.path);
      } catch {
        // Somebody put other files there: they are not ours to remove.
      }
    }
    return names;
  }

  #makeDirectory(): string {
    for (;;) {
      const path = inside(this.path, STAGE + randomName());
      try {
        fs.mkdirSync(path, { mode: 0o700 });
        return path;
      } catch (error) {
        // Somebody who guessed the name only makes us take another.
        if (errnoCode(error) !== "EEXIST") throw this.#files.explain(error, "", ExitCode.cannotCreate);
      }
    }
  }

  /** The state goes first, so that a pending action is known before the first new byte; secrets.env goes last. */
  #carryOut(directory: string): void {
    const staged = this.#files.io("", () => fs.readdirSync(directory));
    // After a crash between two renames the state is already where it belongs.
    const files = (this.#stateIn(directory) ?? this.#readState())?.files ?? [];
    const ranks = new Map(files.map((name, index) => [name, index]));
    const rank = (name: string) => ranks.get(name) ?? -1;
    for (const name of staged.sort((a, b) => rank(a) - rank(b)))
      this.#files.io(name, () => {
        fs.renameSync(inside(directory, name), inside(this.path, name));
      });
    this.#files.io("", () => {
      fs.rmdirSync(directory);
      this.#files.sync();
    });
  }

  #removeObsolete(state: StateFile | undefined): void {
    for (const name of state?.obsolete ?? []) this.#files.unlink(name);
  }

  /** rename(2) replaces files, links and fifos, whoever made them, but no directory. */
  #refuseDirectoryAt(name: string): void {
    const path = inside(this.path, name);
    if (this.#files.io(name, () => fs.lstatSync(path, { throwIfNoEntry: false }))?.isDirectory() === true)
      throw new PublishError(ExitCode.cannotCreate, `output: ${path} is a directory, remove it`);
  }

  #readState(): StateFile | undefined {
    return this.#stateIn(this.path);
  }

  #stateIn(directory: string): StateFile | undefined {
    const json = this.#files.readOwn(STATE, undefined, directory);
    return json === undefined ? undefined : parseState(json.toString());
  }
}

function stateFile(state: StateFile): OutputFile {
  return {
    name: STATE,
    content: Buffer.from(`${JSON.stringify(state)}\n`),
    mode: 0o600,
    uid: undefined,
    gid: undefined,
  };
}
