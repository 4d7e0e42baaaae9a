/**
 * The messages between the daemon and `fetcher reload`, the ExecReload= of its unit. systemd waits for that command, so
 * `systemctl reload` returns with the result when the reload is done, on every version of systemd. The command also has
 * a fresh sandbox, which shows a replaced configuration file: the daemon's sandbox keeps showing the old one.
 *
 * They share a directory beside the output: a request is a file, SIGHUP says that one is there, and the answer is the
 * same file under another name. Both appear by rename(2), so a full disk cannot hold up an answer.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { RESERVED_PREFIX } from "../config/config-schema.ts";
import type { ConfigText } from "../config/running-file.ts";
import { errnoCode, errnoText, ExitCode, FatalError, PublishError } from "../contract/errors.ts";

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
  /** @returns undefined if no caller waits for an answer. */
  take(): ReloadRequest | undefined;
}

/** @param runtimeDirectory of the unit. @returns undefined without one, or if it is not writable. */
export function openReloadDesk(runtimeDirectory: string | undefined): ReloadDesk | undefined {
  if (runtimeDirectory === undefined || runtimeDirectory === "") return undefined;
  const directory = join(runtimeDirectory, DIRECTORY);
  try {
    // A command that waits for an earlier life has seen it end.
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
    fs.renameSync(path, takenIn(directory, written.id));
  } catch {
    return undefined;
  }
  const { id, configuration } = written;
  return {
    configuration:
      "message" in configuration ? new FatalError(configuration.exitCode, configuration.message) : configuration,
    answer: ({ exitCode }) => {
      try {
        fs.renameSync(takenIn(directory, id), join(directory, `answer-${id}-${exitCode}`));
      } catch {
        // The command that asked gives up after a while.
      }
    },
  };
}

function takenIn(directory: string, id: string): string {
  return join(directory, `.taken-${id}`);
}

/** The side of `fetcher reload`. */
export interface ReloadCounter {
  /** @throws PublishError where the request cannot be written, as on a full disk. */
  ask(configuration: Written["configuration"], id: string): void;
  /** @returns undefined without an answer so far. */
  answerTo(id: string): ExitCode | undefined;
}

/** @returns undefined where the daemon takes no requests. */
export function openReloadCounter(runtimeDirectory: string): ReloadCounter | undefined {
  const directory = join(runtimeDirectory, DIRECTORY);
  if (!fs.existsSync(directory)) return undefined;
  return {
    ask: (configuration, id) => {
      ask(directory, { id, configuration });
    },
    answerTo: (id) => answerIn(directory, `answer-${id}-`),
  };
}

function ask(directory: string, content: Written): void {
  const [staged, path] = [join(directory, ".request.new"), join(directory, "request")];
  try {
    fs.writeFileSync(staged, JSON.stringify(content), { mode: 0o600 });
    fs.renameSync(staged, path);
  } catch (error) {
    fs.rmSync(staged, { force: true });
    const why = errnoText(errnoCode(error));
    throw new PublishError(
      ExitCode.ioError,
      `reload: cannot write ${path}: ${why}; the running sidecar continues unchanged`,
    );
  }
}

function answerIn(directory: string, beginning: string): ExitCode | undefined {
  try {
    const name = fs.readdirSync(directory).find((one) => one.startsWith(beginning));
    if (name === undefined) return undefined;
    fs.unlinkSync(join(directory, name));
    return Number(name.slice(beginning.length)) as ExitCode;
  } catch {
    return undefined;
  }
}
