/** scripts/release.mjs, in its own small repository: every released file is what was committed. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, afterEach, expect, test } from "vitest";
import { project } from "../markdown.ts";

let place: string;
const git = (...args: readonly string[]) =>
  execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.org", ...args], {
    cwd: place,
    encoding: "utf8",
  });
const release = (...args: readonly string[]) => {
  const who = { GIT_COMMITTER_NAME: "t", GIT_COMMITTER_EMAIL: "t@example.org" };
  return spawnSync(process.execPath, [join(project, "scripts/release.mjs"), ...args], {
    cwd: place,
    encoding: "utf8",
    env: { ...process.env, ...who },
  });
};
const write = (name: string, text: string) => {
  writeFileSync(join(place, name), text);
};

beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), "fetcher-release-"));
  git("init", "--quiet");
  write(".gitignore", "dist.*/\n");
  write(
    "package.json",
    JSON.stringify({
      name: "small",
      version: "1.2.0",
      files: ["a.txt"],
      // As scripts/package.mjs: --out DIRECTORY, in place of dist.packages.
      scripts: { package: `pack() { mkdir -p "\${2-dist.packages}"; echo x >"\${2-dist.packages}/small.deb"; }; pack` },
    }),
  );
  write("a.txt", "a\n");
  write("CHANGELOG.md", "# Changelog\n\n## 1.2.0 - 2026-12-01\n\n### Added\n\n- A.\n\n## 1.1.0 - 2026-11-01\n\n- B.\n");
  git("add", "--all");
  git("commit", "--quiet", "--message", "a");
});
afterEach(() => {
  rmSync(place, { recursive: true });
});

test("creates tarballs, checksums, provenance, notes and a tag", () => {
  // An older package of another processor.
  mkdirSync(join(place, "dist.packages"));
  write("dist.packages/small-arm64.deb", "old\n");
  const { status, stdout, stderr } = release();
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toContain("git push origin v1.2.0");
  const out = join(place, "dist.release");
  const files = ["small-1.2.0-source.tar.gz", "small-1.2.0.tgz", "small.deb"];
  expect(readdirSync(out).sort()).toEqual(["NOTES.md", "SHA256SUMS", "provenance.json", ...files].sort());
  expect(readFileSync(join(out, "NOTES.md"), "utf8")).toBe("### Added\n\n- A.\n");
  execFileSync("sha256sum", ["--check", "--quiet", "SHA256SUMS"], { cwd: out });
  const { subject, predicate } = JSON.parse(readFileSync(join(out, "provenance.json"), "utf8")) as {
    subject: { name: string; digest: { sha256: string } }[];
    predicate: { buildDefinition: { resolvedDependencies: unknown } };
  };
  const digest = (name: string) =>
    createHash("sha256")
      .update(readFileSync(join(out, name)))
      .digest("hex");
  expect(subject).toEqual(files.map((name) => ({ name, digest: { sha256: digest(name) } })));
  const commit = git("rev-parse", "HEAD").trim();
  expect(predicate.buildDefinition.resolvedDependencies).toEqual([{ name: "small", digest: { gitCommit: commit } }]);
  expect(git("rev-parse", "v1.2.0^{commit}").trim()).toBe(commit);
  const again = release();
  expect({ status: again.status, stderr: again.stderr }).toEqual({
    status: 1,
    stderr: "release: the tag v1.2.0 is there already\n",
  });
});

test.each([
  [
    "uncommitted changes",
    () => {
      write("a.txt", "b\n");
    },
    "there are changes that are not committed",
  ],
  [
    "no section",
    () => {
      write("CHANGELOG.md", "# Changelog\n");
    },
    "CHANGELOG.md has no section for 1.2.0",
  ],
  [
    "no date",
    () => {
      write("CHANGELOG.md", "## 1.2.0 (not released)\n");
    },
    'the section for 1.2.0 in CHANGELOG.md has no date: "## 1.2.0 - YYYY-MM-DD"',
  ],
])("refuses %s, and creates nothing", (_, change, why) => {
  change();
  const { status, stderr } = release();
  expect({ status, stderr }).toEqual({ status: 1, stderr: `release: ${why}\n` });
  expect(readdirSync(place)).not.toContain("dist.release");
  expect(git("tag", "--list")).toBe("");
});
