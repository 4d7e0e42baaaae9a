/**
 * The messages between a sidecar that may not talk to systemd and the unit that acts for it. They share a directory
 * that systemd makes. The sidecar can write only to its `inbox`.
 *
 * A request is an empty file, and all that it says is its kind and a number in its name: which units get which action
 * is in the configuration, which belongs to root. One system call makes a request, and no name is used twice, so none
 * is lost between the last look of the acting unit and its end: while the inbox is not empty, the path unit starts it
 * (DirectoryNotEmpty=).
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { errnoCode, errnoText, ExitCode, PublishError } from "../contract/errors.ts";
import { isRecord } from "../contract/records.ts";
import type { Memory } from "./one-target.ts";
import type { BrokenTarget } from "./targets.ts";

export const INBOX = "inbox";
const REPORT = "report";

/**
 * `set`: at this time a set was complete that the targets are to use. `look`: which targets did the last action break?
 * `revive`: start those that it broke.
 */
export type Request = "set" | "look" | "revive";
const NAME = /^(set|look|revive)-([1-9]\d{0,15})$/;

/** The time of the newest request of each kind, in µs of CLOCK_MONOTONIC, which also tells requests apart. */
export type Requests = Readonly<Partial<Record<Request, number>>>;

export interface Said {
  readonly number: number;
  readonly level: "info" | "notice" | "warn" | "error";
  readonly message: string;
}

/** What the acting unit reports. Times are µs of CLOCK_MONOTONIC. */
export interface Report {
  /** The newest `set` request that it has seen, and the newest whose work is done; 0: none. */
  readonly seen: number;
  readonly done: number;
  /** Whether every target has that set, or is not running with an older one. */
  readonly told: boolean;
  /** The newest question that it has answered; the answer is `broken` and `isStopping`. */
  readonly answered: number;
  readonly broken: readonly BrokenTarget[];
  readonly isStopping: boolean;
  /** For STATUS=. */
  readonly statuses: readonly string[];
  /** Its last log lines, for the sidecar's journal, where people look. The numbers grow. */
  readonly said: readonly Said[];
  /** What the next process needs to know of each target, by unit. */
  readonly memories: Readonly<Record<string, Memory>>;
}

export const nothingDone: Report = {
  seen: 0,
  done: 0,
  told: true,
  answered: 0,
  broken: [],
  isStopping: false,
  statuses: [],
  said: [],
  memories: {},
};

/** The sidecar's side. */
export class ActionCounter {
  readonly directory: string;

  /** @param directory the one that both share. */
  constructor(directory: string) {
    this.directory = directory;
  }

  /** @throws PublishError where the request cannot be made, as on a full disk. */
  ask(kind: Request, time: number): void {
    const path = join(this.directory, INBOX, `${kind}-${time}`);
    try {
      fs.closeSync(fs.openSync(path, "wx", 0o600));
    } catch (error) {
      const code = errnoCode(error);
      if (code === "EEXIST") return;
      throw new PublishError(ExitCode.ioError, `cannot ask for the action: cannot make ${path}: ${errnoText(code)}`);
    }
  }

  get report(): Report {
    return readReport(this.directory);
  }

  /** @returns what ends it. */
  watch(changed: () => void): () => void {
    return watch(this.directory, changed);
  }
}

/** The acting unit's side. It trusts nothing in the inbox, which an attacker may have written. */
export class ActionDesk {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @param now a request from later than that is ignored. @returns undefined without an inbox: the sidecar is gone. */
  requests(now: number): Requests | undefined {
    const newest: Partial<Record<Request, number>> = {};
    const names = this.#names();
    for (const name of names ?? []) {
      const [, kind, digits] = NAME.exec(name) ?? [];
      const time = Number(digits);
      if (kind === undefined || time > now) continue;
      newest[kind as Request] = Math.max(newest[kind as Request] ?? 0, time);
    }
    return names && newest;
  }

  /**
   * Removes finished requests, and all other files.
   *
   * @param clock read after the names are listed, so that none of them seems to be from the future.
   * @returns whether everything could be removed.
   */
  clear({ done, answered }: Pick<Report, "done" | "answered">, clock: () => number): boolean {
    let isClear = true;
    const names = this.#names() ?? [];
    const now = clock();
    for (const name of names) {
      const [, kind, digits] = NAME.exec(name) ?? [];
      const time = Number(digits);
      if (kind !== undefined && time <= now && time > (kind === "set" ? done : answered)) continue;
      try {
        fs.rmSync(join(this.#directory, INBOX, name), { recursive: true, force: true });
      } catch {
        isClear = false;
      }
    }
    return isClear;
  }

  get report(): Report {
    return readReport(this.#directory);
  }

  /** A full disk costs STATUS= and the pacing of actions; what is due stays due. @returns whether it is written. */
  write(report: Report): boolean {
    const [path, fresh] = [join(this.#directory, REPORT), join(this.#directory, `${REPORT}.new`)];
    try {
      fs.rmSync(fresh, { force: true });
      fs.writeFileSync(fresh, `${JSON.stringify(report)}\n`, { flag: "wx", mode: 0o600 });
      fs.renameSync(fresh, path);
      return true;
    } catch {
      return false;
    }
  }

  /** @returns what ends it. */
  watch(changed: () => void): () => void {
    return watch(join(this.#directory, INBOX), changed);
  }

  #names(): readonly string[] | undefined {
    try {
      return fs.readdirSync(join(this.#directory, INBOX));
    } catch {
      return undefined;
    }
  }
}

/** Events are only hints: each side also looks now and then. */
function watch(directory: string, changed: () => void): () => void {
  try {
    const watcher = fs.watch(directory, { persistent: false }, changed);
    watcher.on("error", () => undefined);
    return () => {
      watcher.close();
    };
  } catch {
    return () => undefined;
  }
}

function readReport(directory: string): Report {
  try {
    const json: unknown = JSON.parse(fs.readFileSync(join(directory, REPORT), "utf8"));
    return isRecord(json) ? reportIn(json) : nothingDone;
  } catch {
    return nothingDone;
  }
}

/** Another version may have written it. */
function reportIn(json: Readonly<Record<string, unknown>>): Report {
  const time = (name: string) => (typeof json[name] === "number" ? json[name] : 0);
  const { told, broken, isStopping, statuses, said, memories } = json;
  return {
    seen: time("seen"),
    done: time("done"),
    told: told === true,
    answered: time("answered"),
    broken: Array.isArray(broken) ? broken.filter(isBroken) : [],
    isStopping: isStopping === true,
    statuses: Array.isArray(statuses) ? statuses.filter((one) => typeof one === "string") : [],
    said: Array.isArray(said) ? said.filter(isSaid) : [],
    memories: isRecord(memories)
      ? Object.fromEntries(Object.entries(memories).flatMap(([unit, one]) => (isMemory(one) ? [[unit, one]] : [])))
      : {},
  };
}

function isBroken(value: unknown): value is BrokenTarget {
  if (!isRecord(value)) return false;
  const { unit, hasNewer, hasJob } = value;
  return typeof unit === "string" && typeof hasNewer === "boolean" && typeof hasJob === "boolean";
}

function isSaid(value: unknown): value is Said {
  if (!isRecord(value)) return false;
  const { number, level, message } = value;
  const isLevel = level === "info" || level === "notice" || level === "warn" || level === "error";
  return isLevel && typeof number === "number" && typeof message === "string";
}

function isMemory(value: unknown): value is Memory {
  if (!isRecord(value)) return false;
  const { starts, restarts, lastAction, hasActed, helped, done, failed } = value;
  const areNumbers = (all: unknown) => Array.isArray(all) && all.every((one) => typeof one === "number");
  return (
    areNumbers(starts) &&
    [restarts, lastAction].every((one) => one === null || typeof one === "number") &&
    typeof hasActed === "boolean" &&
    areNumbers([helped, done, failed])
  );
}
