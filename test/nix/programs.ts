import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { cache, treePath } from "../e2e/boot.ts";

/** This machine's Nix. */
export const nix: readonly string[] = ["nix-instantiate"];

/** For a Nix that must not touch this machine's own, which an ordinary user may not: all is below `directory`. */
export function nixEnvironment(directory: string): NodeJS.ProcessEnv {
  const own = (name: string) => join(directory, name);
  const places = { NIX_STORE_DIR: own("store"), NIX_STATE_DIR: own("state"), NIX_LOG_DIR: own("log"), HOME: directory };
  return { ...process.env, ...places, NIX_PATH: "" };
}

/** A newer Nix from the guest tree. That tree's own loader starts it, so this needs neither a boot nor root. */
export function newerNix(): readonly string[] | undefined {
  const tree = treePath("trixie");
  const program = join(tree, "usr/bin/nix-instantiate");
  if (!existsSync(program)) return undefined;
  const libraries = join(tree, "usr/lib", `${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`);
  const loader = readdirSync(libraries).find((name) => /^ld-linux-.*\.so\.\d$/.test(name)) ?? "";
  return [join(libraries, loader), "--library-path", libraries, "--argv0", "nix-instantiate", program];
}

/** `nixfmt` from PATH or the tests' cache, by any author, if it formats as RFC 166 says. */
export function findNixfmt(): string | undefined {
  const directories = [...(process.env["PATH"] ?? "").split(delimiter), join(cache, "nixfmt/bin")];
  return directories.map((directory) => join(directory, "nixfmt")).find(isOfToday);
}

/** Versions from before the RFC leave a short list on one line. */
function isOfToday(nixfmt: string): boolean {
  if (!existsSync(nixfmt)) return false;
  return spawnSync(nixfmt, ["-"], { input: "[ 1 2 3 ]" }).stdout.toString() === "[\n  1\n  2\n  3\n]\n";
}
