/** Where a configuration comes from: a JSON file, and flags that win over its backend settings. */
import { isUtf8 } from "node:buffer";
import { resolve } from "node:path";
import { isRecord } from "../contract/records.ts";
import { ConfigError, ExitCode, FatalError, unreadable, UsageError } from "../contract/errors.ts";
import { readPlainSeen, type Seen } from "../contract/plain-file.ts";
import { joinPath } from "../contract/settings.ts";
import { parseOnce, TwiceInJson } from "./one-value.ts";
import { hiddenHint } from "../contract/unit-sandbox.ts";
import { utf16Hint, withoutByteOrderMark } from "../contract/text.ts";

/** The command line's part of the configuration. Flags win over the file. */
export interface ConfigFlags {
  readonly configFile: string | undefined;
  readonly backend: string | undefined;
  /** Backend settings: a path into `config`, and the value. */
  readonly set: readonly { readonly path: readonly string[]; readonly value: unknown }[];
  readonly output: string | undefined;
  /** Secrets in addition to those of the file. */
  readonly ids: readonly string[];
}

/** Without a configuration there are no secrets whose ids these words could be. */
export function withoutStore(words: readonly string[]): UsageError {
  const file = words.find(isPath);
  return new UsageError(
    file === undefined
      ? "expected --config FILE, or --backend NAME with --set KEY=VALUE (see --help)"
      : `${JSON.stringify(file)}: a configuration file is given as --config FILE (see --help)`,
  );
}

export function isPath(word: string): boolean {
  return word.includes("/") || word.endsWith(".json");
}

/** @throws FatalError (78, or 74 for an error of the machine) if the file cannot be read, or is not JSON text. */
export async function readText(file: string): Promise<string> {
  return (await readTextSeen(file)).text;
}

/**
 * The same, with what fstat(2) says before the first byte is read. Not in the process's own thread: Node takes SIGTERM
 * itself, and would not end while the file system hangs.
 */
export async function readTextSeen(file: string): Promise<{ readonly text: string; readonly stats: Seen["stats"] }> {
  let read: Seen;
  try {
    read = await readPlainSeen(file);
  } catch (error) {
    throw unreadable(`configuration: cannot read ${file}`, error, hiddenHint(resolve(file)));
  }
  return { text: await textOf(read.bytes, file), stats: read.stats };
}

/** @throws FatalError (78) where it is no UTF-8. */
async function textOf(bytes: Buffer, file: string): Promise<string> {
  const why = utf16Hint(bytes);
  if (why !== "") throw new FatalError(ExitCode.config, `configuration: ${file} is not JSON${why}`);
  if (!isUtf8(bytes)) {
    const { whereNotUtf8 } = await import("./not-json.ts");
    throw new FatalError(
      ExitCode.config,
      `configuration: ${file} is not JSON at ${whereNotUtf8(bytes)}: save it as UTF-8`,
    );
  }
  return withoutByteOrderMark(bytes).toString("utf8");
}

/** @param file the source of the text. @throws FatalError (78) where it is not JSON, or has a key twice. */
export async function parseJson(json: string, file: string): Promise<unknown> {
  try {
    return parseOnce(json);
  } catch (error) {
    if (error instanceof TwiceInJson)
      throw new FatalError(
        ExitCode.config,
        `configuration: ${file} has ${error.key} twice in one object, the second time at ${error.place}: keep one of them`,
      );
    const { whyNotJson } = await import("./not-json.ts");
    throw new FatalError(ExitCode.config, `configuration: ${file} is not JSON${whyNotJson(json)}`);
  }
}

/** @returns the settings, replaced or extended by those of `--set`. @throws ConfigError */
export function withFlags(
  settings: Readonly<Record<string, unknown>>,
  flags: ConfigFlags["set"],
): Readonly<Record<string, unknown>> {
  const merged = { ...settings };
  for (const { path, value } of flags) {
    let at: Record<string, unknown> = merged;
    for (const [index, key] of path.entries()) {
      if (index === path.length - 1) {
        setOwn(at, key, value);
        break;
      }
      const next = Object.hasOwn(at, key) ? at[key] : {};
      if (!isRecord(next))
        throw new ConfigError(
          joinPath("config", ...path.slice(0, index + 1)),
          "is not an object, so --set cannot descend into it",
        );
      at = setOwn(at, key, { ...next });
    }
  }
  return merged;
}

/** An assignment to `__proto__` would vanish. In JSON it is a key like any other, and here an unknown one. */
function setOwn<T>(object: Record<string, unknown>, key: string, value: T): T {
  Object.defineProperty(object, key, { value, enumerable: true, writable: true, configurable: true });
  return value;
}
