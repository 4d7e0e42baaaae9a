/** The package and the flake, as far as they can be evaluated without nixpkgs' builders. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";
import { markdownFiles } from "../markdown.ts";
import { needs } from "../requirements.ts";
import { Evaluation, project } from "./evaluation.ts";

test("the dependencies' hashes match this package-lock.json: scripts/npm-deps-hash.sh", () => {
  const lock = createHash("sha256")
    .update(readFileSync(join(project, "package-lock.json")))
    .digest("base64");
  const hashes = JSON.parse(readFileSync(join(project, "nix/npm-deps.json"), "utf8")) as Record<string, string>;
  expect(hashes["package-lock.json"]).toBe(`sha256-${lock}`);
  for (const system of ["x86_64-linux", "aarch64-linux"]) expect(hashes[system]).toMatch(/^sha256-[A-Za-z0-9+/]{43}=$/);
});

function packedPaths(): readonly string[] {
  const flags = ["pack", "--dry-run", "--json", "--ignore-scripts"];
  const { stdout } = spawnSync("npm", flags, { cwd: project, encoding: "utf8" });
  const [packed] = JSON.parse(stdout) as [{ files: { path: string }[] }];
  return packed.files.map(({ path }) => path);
}

test("npm's package contains what the documentation takes from it", () => {
  const paths = packedPaths();
  const taken = markdownFiles().flatMap((file) =>
    [...readFileSync(join(project, file), "utf8").matchAll(/\$\(npm root -g\)\/secrets-sidecar\/([\w./@-]+)/g)].map(
      ([, path = ""]) => path,
    ),
  );
  expect(taken).toContain("dist/fetcher-secrets.sh");
  expect(taken.filter((path) => !paths.some((packed) => packed === path || packed.startsWith(`${path}/`)))).toEqual([]);
  expect(paths).toEqual(expect.arrayContaining(["dist/fetcher.js", "dist/with-secrets", "dist/types/backend.d.ts"]));
});

test("a document in npm's package links only to files in it", () => {
  const paths = packedPaths();
  const isThere = (path: string) => paths.some((packed) => packed === path || packed.startsWith(`${path}/`));
  const links = paths
    .filter((path) => path.endsWith(".md"))
    .flatMap((path) =>
      [...readFileSync(join(project, path), "utf8").matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)/g)].map(
        ([, link = ""]) => normalize(join(dirname(path), link)).replace(/\/$/, ""),
      ),
    );
  expect(links.length).toBeGreaterThan(50);
  expect(links.filter((link) => !isThere(link))).toEqual([]);
});

needs("nix").describe("evaluation", () => {
  const evaluation = new Evaluation();
  /** A stand-in for what nixpkgs calls package.nix with: mkDerivation answers with what it was given. */
  const built = (system: string, arch: string, more = "") => `(import (nix + "/package.nix") {
    inherit lib; ${more}
    stdenv = {
      hostPlatform = { system = "${system}"; node.arch = "${arch}"; };
      mkDerivation = attributes: let
        given = if builtins.isFunction attributes then attributes { finalPackage = "/itself"; } else attributes;
      in given // { outPath = "/built/" + (given.name or given.pname); };
    };
    nodejs_24 = "/node"; nodejs-slim_24 = "/slim";
    testers.testVersion = { package }: "the version of \${package}";
    bun = { version = "99.0.0"; outPath = "/bun"; };
    systemd = "/systemd"; cacert = "/cacert"; makeBinaryWrapper = "/wrapper"; python3 = "/python"; util-linux = "/util-linux";
  })`;

  test("the package is one unstripped executable with nixpkgs' Bun, and refers to no Node", () => {
    const value = evaluation.value(`
      let package = ${built("aarch64-linux", "arm64")}; in {
        inherit (package) pname buildInputs buildPhase installPhase dontStrip dontPatchELF disallowedReferences;
        inherit (package.passthru) isExecutable;
      }`) as Record<string, unknown>;
    expect(value).toMatchObject({
      pname: "secrets-sidecar",
      buildInputs: [],
      buildPhase: expect.stringContaining("\nBUN=/bun/bin/bun node scripts/build-executable.mjs\n") as string,
      installPhase: expect.stringContaining("\nmv $lib/dist/fetcher $out/bin/fetcher\n") as string,
      dontStrip: true,
      dontPatchELF: true,
      disallowedReferences: ["/node", "/slim", "/bun"],
      isExecutable: true,
    });
    expect(value["installPhase"]).not.toMatch(/\/(?:slim|node|bun)\b/);
  });

  test("the links to the project and its changes follow from package.json's repository", () => {
    const metaWith = (repository: string) =>
      evaluation.value(`
        let
          manifest = lib.importJSON (nix + "/../package.json");
          package = ${built("x86_64-linux", "x64", `packageManifest = manifest // { ${repository} };`)};
        in { inherit (package.meta) homepage; changelog = package.meta.changelog or null; }`);
    const { version } = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as { version: string };
    expect(metaWith('repository.url = "https://git.example/secrets-sidecar";')).toEqual({
      homepage: "https://git.example/secrets-sidecar",
      changelog: `https://git.example/secrets-sidecar/blob/v${version}/CHANGELOG.md`,
    });
    expect(metaWith("")).toMatchObject({ changelog: null });
  });

  test("with a Bun older than the tested one, the package uses Node", () => {
    const { devDependencies } = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as {
      devDependencies: { bun: string };
    };
    const withBun = (version: string) =>
      evaluation.value(
        `let package = ${built("x86_64-linux", "x64")}; in {
        inherit (package) pname;
      }`.replace("99.0.0", version),
      );
    expect(withBun("1.2.2")).toEqual({ pname: "secrets-sidecar-node" });
    expect(withBun(devDependencies.bun)).toEqual({ pname: "secrets-sidecar" });
  });

  test("the package on Node builds the addon against systemd, with its own system's dependencies", () => {
    const value = evaluation.value(`
      let package = ${built("aarch64-linux", "arm64", "withNode = true;")}; in {
        inherit (package) pname version buildInputs configurePhase installPhase passthru;
        src = builtins.attrNames (builtins.readDir "\${package.src}");
        inherit (package.meta) mainProgram platforms;
      }`);
    expect(value).toMatchObject({
      pname: "secrets-sidecar-node",
      buildInputs: ["/systemd"],
      src: ["LICENSE", "backends", "man", "package.json", "scripts", "src"],
      mainProgram: "fetcher",
      passthru: { isExecutable: false, tests: { version: "the version of /itself" } },
      platforms: ["aarch64-linux", "x86_64-linux"],
      configurePhase: expect.stringContaining("cp -r /built/secrets-sidecar-node-modules-") as string,
      // The guide to a pair of units says where fetcher-secrets.sh is.
      installPhase: expect.stringMatching(
        /lib=\$out\/lib\/secrets-sidecar\n[^]*cp -r dist package\.json \$lib\/\n/,
      ) as string,
    });
    expect(readFileSync(join(project, "docs/how-to/pair-of-units.md"), "utf8")).toContain(
      "${config.secretsStore.package}/lib/secrets-sidecar/dist/fetcher-secrets.sh",
    );
  });

  const flake = `((import (nix + "/../flake.nix")).outputs {
    self = let self = (import (nix + "/../flake.nix")).outputs { inherit self nixpkgs; } // { outPath = toString (nix + "/.."); }; in self;
    nixpkgs = standIn;
  })`;
  const withStandIn = (expression: string) =>
    evaluation.value(`
      let
        standIn = {
          lib = lib // {
            nixosSystem = { system, modules }: {
              config.networking.hostName = "host";
              config.system.build.vm = "/vm";
            };
          };
          outPath = "/nixpkgs";
          legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: {
            extend = overlay: let final = { callPackage = file: given: { inherit file given; }; } // overlay final { }; in final // {
              testers.runNixOSTest = test: test;
            };
          });
        };
        flake = ${flake.replaceAll("nixpkgs; }", "; nixpkgs = standIn; }")};
      in ${expression}`);

  test("the flake has the outputs that users refer to", () => {
    expect(
      withStandIn(`{
        names = builtins.attrNames flake;
        modules = lib.mapAttrs (_: module: lib.all builtins.pathExists module.imports) (flake.nixosModules // { home = flake.homeModules.default; });
        packages = builtins.attrNames flake.packages.aarch64-linux;
        checks = lib.length (builtins.attrNames flake.checks.aarch64-linux);
        package = flake.checks.x86_64-linux ? package;
        node = flake.packages.x86_64-linux.secrets-sidecar-node.given;
        demo = flake.apps.x86_64-linux.demo.program;
        template = builtins.attrNames (builtins.readDir flake.templates.default.path);
        secrets = builtins.functionArgs flake.lib.secrets;
        contract = builtins.attrNames flake.lib.contract;
      }`),
    ).toEqual({
      names: [
        ...["apps", "checks", "devShells", "formatter", "homeModules", "lib", "nixosModules", "overlays", "packages"],
        "templates",
      ],
      demo: "/vm/bin/run-host-vm",
      template: ["flake.nix"],
      modules: { default: true, "hardcoded-secrets": true, home: true },
      packages: ["default", "secrets-sidecar", "secrets-sidecar-node"],
      // The package, and each of the tests in virtual machines (vm-tests.test.ts).
      checks: 22,
      package: true,
      node: { withNode: true },
      // RFC 59: exactly these.
      secrets: { config: false, lib: false, pkgs: false },
      contract: ["consumer", "provider"],
    });
  });
});
