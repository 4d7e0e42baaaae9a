/** `nix flake check --no-build` by the real one, with a stand-in for nixpkgs: all outputs are what their names promise. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { project } from "./evaluation.ts";
import { nixpkgsOrStandIn } from "./nixpkgs.ts";
import { newerNix, nix } from "./programs.ts";

needs("nix", "nix-newer").describe("nix flake check", () => {
  let place = "";
  beforeAll(() => {
    place = mkdtempSync(join(tmpdir(), "fetcher-flake-"));
    const parts = [
      "flake.nix",
      "default.nix",
      "nix",
      "package.json",
      "package-lock.json",
      "LICENSE",
      "src",
      "backends",
      "scripts",
    ];
    for (const part of parts) cpSync(join(project, part), join(place, "source", part), { recursive: true });
    cpSync(join(nixpkgsOrStandIn(), "lib"), join(place, "nixpkgs/lib"), { recursive: true });
    cpSync(join(import.meta.dirname, "stand-in/flake.nix"), join(place, "nixpkgs/flake.nix"));
  });
  afterAll(() => {
    spawnSync("chmod", ["-R", "u+w", place]);
    rmSync(place, { recursive: true });
  });

  /** `nix` is the same program as nix-instantiate, by another name. */
  function check(command: readonly string[], ...flags: readonly string[]) {
    const [program = "", ...given] = command.map((word) => word.replace(/nix-instantiate$/, "nix"));
    const features = ["--extra-experimental-features", "nix-command flakes", "--store", join(place, "store")];
    const input = ["--override-input", "nixpkgs", `path:${place}/nixpkgs`, "--no-write-lock-file"];
    const what = ["flake", "check", `path:${place}/source`, "--no-build", ...input, ...flags];
    const { status, stderr } = spawnSync(program, [...given, ...features, ...what], {
      encoding: "utf8",
      env: { ...process.env, HOME: place, NIX_PATH: "" },
    });
    return { status, errors: stderr.split("\n").filter((line) => line.includes("error")), stderr };
  }

  test("accepts the flake, by an older Nix", () => {
    const { errors } = check(nix);
    // It comes last. 2.8 looks for the template in the host's own store, not in the one that it is given.
    expect(errors.filter((error) => error !== "error: template '%s' has a bad 'path' attribute")).toEqual([]);
  });

  test("accepts the flake, by a newer one, for every system", () => {
    const { stderr, ...outcome } = check(newerNix() ?? [], "--all-systems");
    expect(outcome).toEqual({ status: 0, errors: [] });
    for (const system of ["x86_64-linux", "aarch64-linux"])
      for (const output of [`packages.${system}.default`, `checks.${system}.rotation`, `devShells.${system}.default`])
        expect(stderr).toContain(output);
  });
});
