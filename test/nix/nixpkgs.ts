import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cache } from "../e2e/boot.ts";

/** Has our own `lib`, which does all that our modules need, except the documentation of options. */
export const standInNixpkgs = join(import.meta.dirname, "stand-in");

/** For tests that work with any such library. */
export function nixpkgsOrStandIn(): string {
  return findNixpkgs() ?? standInNixpkgs;
}

/**
 * The path of a nixpkgs, or at least of its lib: NIXPKGS, `<nixpkgs>`, the tests' cache; undefined where there is none.
 */
export function findNixpkgs(): string | undefined {
  const candidates = [process.env["NIXPKGS"], inNixPath, join(cache, "nixpkgs")];
  for (const candidate of candidates) {
    const path = typeof candidate === "function" ? candidate() : candidate;
    if (path !== undefined && existsSync(join(path, "lib/default.nix"))) return path;
  }
  return undefined;
}

function inNixPath(): string | undefined {
  const { status, stdout } = spawnSync("nix-instantiate", ["--find-file", "nixpkgs"], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}
