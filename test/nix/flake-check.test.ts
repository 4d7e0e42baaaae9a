/** The real `nix flake check --no-build`, with a stand-in for nixpkgs: all outputs are what their names promise. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
  function run(command: readonly string[], words: readonly string[], cwd = place) {
    const [program = "", ...given] = command.map((word) => word.replace(/nix-instantiate$/, "nix"));
    const features = ["--extra-experimental-features", "nix-command flakes", "--store", join(place, "store")];
    const { status, stderr } = spawnSync(program, [...given, ...features, ...words], {
      cwd,
      encoding: "utf8",
      env: { ...process.env, HOME: place, NIX_PATH: "" },
    });
    return { status, errors: stderr.split("\n").filter((line) => line.includes("error")), stderr };
  }

  function check(command: readonly string[], ...flags: readonly string[]) {
    const input = ["--override-input", "nixpkgs", `path:${place}/nixpkgs`, "--no-write-lock-file"];
    return run(command, ["flake", "check", `path:${place}/source`, "--no-build", ...input, ...flags]);
  }

  test("accepts the flake, with an older Nix", () => {
    const { errors } = check(nix);
    // It comes last. 2.8 looks for the template in the host's own store, not in the one that it is given.
    expect(errors.filter((error) => error !== "error: template '%s' has a bad 'path' attribute")).toEqual([]);
  });

  test("accepts the flake, with a newer one, for every system", () => {
    const { stderr, ...outcome } = check(newerNix() ?? [], "--all-systems");
    expect(outcome).toEqual({ status: 0, errors: [] });
    for (const system of ["x86_64-linux", "aarch64-linux"])
      for (const output of [`packages.${system}.default`, `checks.${system}.rotation`, `devShells.${system}.default`])
        expect(stderr).toContain(output);
  });

  test("`nix flake init -t` writes its template, and both use the same nixpkgs", () => {
    const newer = newerNix() ?? [];
    // A lock as a user has it, with nixpkgs' place on this machine: nothing is fetched.
    const lock = join(place, "source/flake.lock");
    const inputs = ["--override-input", "nixpkgs", `path:${place}/nixpkgs`];
    expect(run(newer, ["flake", "lock", `path:${place}/source`, ...inputs]).errors).toEqual([]);
    const locked = JSON.parse(readFileSync(lock, "utf8")) as { nodes: { nixpkgs: { original: object } } };
    locked.nodes.nixpkgs.original = { type: "github", owner: "NixOS", repo: "nixpkgs", ref: "nixos-unstable" };
    writeFileSync(lock, JSON.stringify(locked));

    const host = join(place, "host");
    mkdirSync(host);
    expect(run(newer, ["flake", "init", "-t", `path:${place}/source`], host)).toMatchObject({ status: 0, errors: [] });
    rmSync(lock);
    const written = readFileSync(join(host, "flake.nix"), "utf8");
    expect(written).toBe(readFileSync(join(project, "nix/template/flake.nix"), "utf8"));

    writeFileSync(join(host, "flake.nix"), written.replace("/path/to/this/repository", `${place}/source`));
    expect(run(newer, ["flake", "lock", `path:${host}`, ...inputs]).errors).toEqual([]);
    const { nodes } = JSON.parse(readFileSync(join(host, "flake.lock"), "utf8")) as {
      nodes: Record<string, { inputs?: object }>;
    };
    expect(Object.keys(nodes).sort()).toEqual(["nixpkgs", "root", "secrets-sidecar"]);
    expect(nodes["secrets-sidecar"]?.inputs).toEqual({ nixpkgs: ["nixpkgs"] });
  });
});
