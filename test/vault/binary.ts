/** The real server: whichever there is. */
import { accessSync, constants, statSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

/** `bao` or `vault` from $PATH, else the one in the tests' cache; undefined: none. */
export function serverBinary(): string | undefined {
  const directories = (process.env["PATH"] ?? "").split(delimiter).filter((directory) => directory !== "");
  const cache = process.env["FETCHER_TEST_CACHE"] ?? join(homedir(), ".cache/fetcher-tests");
  const candidates = [
    ...["bao", "vault"].flatMap((name) => directories.map((directory) => join(directory, name))),
    join(cache, "bao/bao"),
  ];
  return candidates.find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
