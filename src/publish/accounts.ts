/**
 * Turns names of users and groups into numbers: from /etc/passwd and /etc/group, then from getent(1), which asks every
 * other source.
 */
import { readFileSync } from "node:fs";
import { ConfigError, errnoCode, unreadable } from "../contract/errors.ts";
import { runCommand } from "../contract/helper-command.ts";

/**
 * @param path of the option that holds `name`, for the error.
 * @throws ConfigError if there is no such account.
 */
export async function accountId(database: "passwd" | "group", name: string, path: string): Promise<number> {
  if (/^[0-9]+$/.test(name)) {
    // chown(2) reads 2^32 - 1 as "leave it".
    if (Number(name) >= 2 ** 32 - 1) throw new ConfigError(path, "is not the number of an account");
    return Number(name);
  }
  const known = idIn(readDatabase(database), name) ?? (await askGetent(database, name));
  if (known === undefined)
    throw new ConfigError(path, `there is no ${database === "passwd" ? "user" : "group"} ${JSON.stringify(name)}`);
  return known;
}

/**
 * Whether chown(2) lets this process give a file to that account: with CAP_CHOWN to each, without to itself and its groups.
 *
 * @param status the text of /proc/self/status.
 */
export function canGiveTo(database: "passwd" | "group", id: number, status = readStatus()): boolean {
  const own = database === "passwd" ? [process.geteuid?.()] : [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (own.includes(id)) return true;
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  // CAP_CHOWN is the lowest bit (capabilities(7)).
  return capabilities === undefined
    ? process.geteuid?.() === 0
    : (Number.parseInt(capabilities.slice(-1), 16) & 1) === 1;
}

function readStatus(): string {
  try {
    return readFileSync("/proc/self/status", "utf8");
  } catch {
    return "";
  }
}

/** Empty without one. @throws FatalError if it cannot be read. */
function readDatabase(database: string): string {
  try {
    return readFileSync(`/etc/${database}`, "utf8");
  } catch (error) {
    if (errnoCode(error) === "ENOENT") return "";
    throw unreadable(`cannot read /etc/${database}`, error);
  }
}

async function askGetent(database: string, name: string): Promise<number | undefined> {
  const result = await runCommand(["getent", database, "--", name], { timeout: 10 });
  return result.end === "exit" && result.code === 0 ? idIn(result.stdout, name) : undefined;
}

function idIn(lines: string, name: string): number | undefined {
  // A colon would match fields beyond the name.
  if (name.includes(":")) return undefined;
  const line = lines.split("\n").find((entry) => entry.startsWith(`${name}:`));
  const id = line?.split(":")[2];
  return id === undefined || !/^[0-9]+$/.test(id) ? undefined : Number(id);
}
