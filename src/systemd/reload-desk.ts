/**
 * What the daemon and `fetcher reload`, the ExecReload= of its unit, say to each other. systemd waits for that command, so
 * `systemctl reload` returns when the reload is done, with its result, on every version of systemd. And the command sees in
 * its own, fresh sandbox a configuration file that was replaced: the daemon's shows the old one for ever.
 *
 * They meet in a directory of their own beside the output: a request is a file, SIGHUP says that one is there, and the
 * answer is a file. Both come by rename(2).
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import type { ConfigText } from "../config/running-file.ts";
import { type ExitCode, FatalError } from "../contract/errors.ts";
import { isRecord } from "../contract/records.ts";

const DIRECTORY = `${RESERVED_PREFIX}reload`;

/** How a reload ended. */
export interface ReloadResult {
  readonly exitCode: ExitCode;
  /** For people; "": all went well. */
  readonly message: string;
}

export interface ReloadRequest {
  /** What the configuration file says now; an error where it cannot be read. */
  readonly configuration: ConfigText | FatalError;
  answer(result: ReloadResult): void;
}

/** What is in the file of a request. */
interface Written {
  readonly id: string;
  readonly configuration: ConfigText | { readonly exitCode: ExitCode; readonly message: string };
}

/** The daemon's side. */
export interface ReloadDesk {
  /** @returns undefined where nobody waits for an answer. */
  take(): ReloadRequest | undefined;
}

/** @param runtimeDirectory of the unit. @returns undefined where there is none, or none that can be written to. */
export function openReloadDesk(runtimeDirectory: string | undefined): ReloadDesk | undefined {
  if (runtimeDirectory === undefined || runtimeDirectory === "") return undefined;
  const directory = join(runtimeDirectory, DIRECTORY);
  try {
    // Whoever waits for an earlier life has seen it end.
    fs.rmSync(directory, { recursive: true, force: true });
    fs.mkdirSync(directory, { mode: 0o700 });
  } catch {
    return undefined;
  }
  return { take: () => takeRequest(directory) };
}

function takeRequest(directory: string): ReloadRequest | undefined {
  const path = join(directory, "request");
  let written: Written;
  try {
    written = JSON.parse(fs.readFileSync(path, "utf8")) as Written;
    fs.unlinkSync(path);
  } catch {
    return undefined;
  }
  const { id, configuration } = written;
  return {
    configuration:
      "message" in configuration ? new FatalError(configuration.exitCode, configuration.message) : configuration,
    answer: (result) => {
      try {
        put(directory, `answer-${id}`, result);
      } catch {
        // Who asked gives up after a while.
      }
    },
  };
}

/** The side of `fetcher reload`. */
export interface ReloadCounter {
  ask(configuration: Written["configuration"], id: string): void;
  /** @returns undefined where it is not there yet. */
  answerTo(id: string): ReloadResult | undefined;
}

/** @returns undefined where the daemon is none that answers. */
export function openReloadCounter(runtimeDirectory: string): ReloadCounter | undefined {
  const directory = join(runtimeDirectory, DIRECTORY);
  if (!fs.existsSync(directory)) return undefined;
  return {
    ask: (configuration, id) => {
      put(directory, "request", { id, configuration } satisfies Written);
    },
    answerTo: (id) => {
      const path = join(directory, `answer-${id}`);
      let answer: unknown;
      try {
        answer = JSON.parse(fs.readFileSync(path, "utf8"));
        fs.unlinkSync(path);
      } catch {
        return undefined;
      }
      return isRecord(answer) ? (answer as unknown as ReloadResult) : undefined;
    },
  };
}

function put(directory: string, name: string, content: object): void {
  const staged = join(directory, `.${name}.new`);
  fs.writeFileSync(staged, JSON.stringify(content), { mode: 0o600 });
  fs.renameSync(staged, join(directory, name));
}
