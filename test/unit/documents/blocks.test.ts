/**
 * What people copy out of the documents has been run. Every configuration, part of a unit and program on any page goes
 * through test/process/documents.test.ts; every block of commands or Nix is in one of the tables here, with the test
 * that runs it, or with the reason why none can.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Block, blocksOf, markdownFiles, project } from "../../markdown.ts";

/** The test that runs a block, below test/; `as`: the page that has the same block; `not`: why none runs it. */
type Run = string | { readonly as: string } | { readonly not: string };
/** A part that only one block of the page has → its run. `*`: how many others there are, and the run of all of them. */
type Runs = Readonly<Record<string, Run | readonly [count: number, run: Run]>>;

const booted = { not: "needs a host of NixOS: evaluation tries what it switches to" };
const engine = { not: "needs Docker or Podman: test/process/run.test.ts runs the image's words as PID 1" };
const release = { not: "takes minutes: .ci/run does it, and its other tests use what comes out" };

const commands: Readonly<Record<string, Runs>> = {
  "bench/consul-template/README.md": { "go mod tidy": { not: "needs a network" } },
  "test/vault/server/README.md": { "go mod tidy": { not: "needs a network" } },
  "README.md": {
    "fetcher add hello": "e2e/plain-systemd.test.ts",
    "npm start": "process/readme.test.ts",
    "npm pack": "process/install.test.ts",
  },
  "CONTRIBUTING.md": {
    ".ci/run": { not: "runs all tests, this one too" },
    "npm run typecheck": { not: "runs all tests, this one too" },
    "npx vitest run --project process": { not: "runs tests" },
    "FETCHER_E2E_UNITS=generated": { not: "runs tests" },
    "nix build": { not: "needs nixpkgs' builders" },
    "npm run mutation": { not: "runs tests for hours" },
  },
  "docs/how-to/alerts.md": { "*": [2, "e2e/plain-systemd.test.ts"] },
  "docs/how-to/aws.md": {
    "pip install": "unit/documents/documents.test.ts",
    "# 1.": "e2e/docs.test.ts",
  },
  "docs/how-to/commands.md": { "*": [6, "e2e/docs.test.ts"] },
  "docs/how-to/containers.md": {
    "fetcher run --backend": "process/run.test.ts",
    "fetcher run --config": "process/run.test.ts",
    "fetcher run --watch": "process/run.test.ts",
    "docker run": engine,
    "podman run": engine,
  },
  "docs/how-to/credentials.md": { "*": [2, "e2e/docs.test.ts"] },
  "docs/how-to/deliveries.md": { "files.conf": "e2e/files.test.ts" },
  "docs/how-to/executable.md": {
    "npm run build:executable\n": release,
    "executable.conf": "e2e/docs.test.ts",
    "-- arm64": release,
  },
  "docs/how-to/folder.md": { "mv -T": "process/folder-docs.test.ts" },
  "docs/how-to/nixos.md": { "nixos-rebuild": booted },
  "docs/how-to/one-file.md": { "system-generators": "e2e/operations.test.ts" },
  "docs/how-to/packages.md": {
    "npm run package": release,
    "sudo apt install": { not: "test/e2e/packages.test.ts installs with dpkg and rpm: guests have no network" },
  },
  "docs/how-to/pair-of-units.md": { "*": [3, "e2e/docs.test.ts"] },
  "docs/how-to/plain-systemd.md": {
    "fetcher add nginx": "e2e/plain-systemd.test.ts",
    "--backend vault": "e2e/plain-systemd.test.ts",
    "--import": "e2e/plain-systemd.test.ts",
    "fetcher units": "e2e/operations.test.ts",
    "fetcher remove": "e2e/plain-systemd.test.ts",
    SIGUSR2: "e2e/plain-systemd.test.ts",
    "npm uninstall": "e2e/plain-systemd.test.ts",
  },
  "docs/how-to/postgresql.md": { "*": [6, "e2e/tutorial.test.ts"] },
  "docs/how-to/reload.md": {
    "--once": "e2e/operations.test.ts",
    "daemon-reload": "e2e/operations.test.ts",
    "*": [1, "e2e/operations.test.ts"],
  },
  "docs/how-to/sops.md": { "*": [5, "e2e/docs.test.ts"] },
  "docs/how-to/status-and-journal.md": { "*": [4, "e2e/operations.test.ts"] },
  "docs/how-to/templates.md": { "--check": "process/templates.test.ts" },
  "docs/how-to/tls.md": { "*": [7, "e2e/plain-systemd.test.ts"] },
  "docs/how-to/troubleshooting.md": { "fetcher status": "e2e/operations.test.ts" },
  "docs/how-to/user-units.md": { "*": [5, "e2e/user-units.test.ts"] },
  "docs/how-to/vault.md": { "*": [3, "vault/docs.test.ts"] },
  "docs/how-to/writing-a-backend.md": { "npx vitest": { not: "runs the test that takes the page's code" } },
  "docs/reference/configuration.md": { "*": [2, "process/readme.test.ts"] },
  "docs/tutorial/nixos.md": {
    "cd /etc/nixos": booted,
    "second-one": booted,
    "install -d -m 0700 /etc/fetcher/shop": booted,
    "--follow": booted,
    "DROP ROLE": booted,
    "*": [4, { as: "docs/tutorial/plain-systemd.md" }],
  },
  "docs/tutorial/plain-systemd.md": {
    "apt-get install -y nodejs": { not: "needs a network" },
    "npm ci": "process/install.test.ts",
    "--follow": { not: "does not end; the test reads the same lines of the journal" },
    "*": [17, "e2e/tutorial.test.ts"],
  },
};

const nix: Readonly<Record<string, Runs>> = {
  "README.md": { "*": [1, "nix/docs.test.ts"] },
  "docs/how-to/nixos-containers.md": { "*": [1, "nix/docs.test.ts"] },
  "docs/how-to/nixos-files.md": { "*": [1, "nix/docs.test.ts"] },
  "docs/how-to/nixos-modules.md": { "*": [2, "nix/docs.test.ts"] },
  "docs/how-to/nixos-stores.md": { "*": [3, "nix/docs.test.ts"] },
  "docs/how-to/nixos.md": { "*": [5, "nix/docs.test.ts"] },
  "docs/how-to/sops.md": { "*": [1, "nix/docs.test.ts"] },
  "docs/how-to/user-units.md": { "*": [1, "nix/home-manager.test.ts"] },
  "docs/reference/options.md": { "*": [12, "nix/options-reference.test.ts"] },
  "docs/tutorial/nixos.md": { "*": [4, "nix/docs.test.ts"] },
};

describe.each([
  ["commands", ["sh", "bash"], commands],
  ["Nix", ["nix"], nix],
])("a block of %s", (_, languages, table) => {
  const pages = markdownFiles().filter((page) => of(page, languages).length > 0);

  test.each(pages)("%s: each is run by a test, or cannot be", (page) => {
    const { "*": others = [0, ""] as const, ...named } = table[page] ?? {};
    const left = of(page, languages).filter(({ code }) => {
      const parts = Object.keys(named).filter((part) => code.includes(part));
      expect(parts.length, `${code}\nhas more than one of ${parts.join(", ")}`).toBeLessThanOrEqual(1);
      return parts.length === 0;
    });
    for (const part of Object.keys(named))
      expect(
        of(page, languages).filter(({ code }) => code.includes(part)),
        part,
      ).toHaveLength(1);
    const [count, run] = others as readonly [number, Run];
    expect(left.map(({ line, code }) => `${page}:${line}\n${code}`)).toHaveLength(count);
    if (typeof run === "object" && "as" in run) {
      const known = of(run.as, languages).map(({ code }) => code);
      for (const { code } of left) expect(known).toContain(code);
    }
  });

  test("every test that the table names reads the page", () => {
    for (const [page, runs] of Object.entries(table))
      for (const run of Object.values(runs).map((value) =>
        Array.isArray(value) ? (value[1] as Run) : (value as Run),
      )) {
        if (typeof run !== "string") continue;
        const path = join(project, "test", run);
        expect(existsSync(path), run).toBe(true);
        // A test of several pages of one folder may have only their names.
        const name = /([^/]+)\.md$/.exec(page)?.[1] ?? "";
        expect(readFileSync(path, "utf8"), `${run} does not name ${page}`).toMatch(
          new RegExp(`${page.replaceAll(".", "\\.")}|"${name}"`),
        );
      }
  });

  test("the table has no other page", () => {
    expect(Object.keys(table).filter((page) => !pages.includes(page))).toEqual([]);
  });
});

test("few blocks are not run", () => {
  const not = Object.values(commands).flatMap((runs) =>
    Object.values(runs).map((run) => (Array.isArray(run) ? (run as [number, Run]) : ([1, run as Run] as const))),
  );
  const count = not.reduce((sum, [blocks, run]) => sum + (typeof run === "object" && "not" in run ? blocks : 0), 0);
  expect(count).toBeLessThanOrEqual(23);
});

function of(page: string, languages: readonly string[]): Block[] {
  return blocksOf(page).filter(({ language }) => languages.includes(language));
}
