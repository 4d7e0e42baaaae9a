// node scripts/release.mjs [--no-tag]: makes a release of what is committed, in dist.release/, and tags it. Nothing
// leaves this machine: the last lines say what a maintainer types to publish it.
//
// The version is that of package.json, and CHANGELOG.md has a section for it with a date: `## 0.2.0 - 2026-12-01`.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { commandLine } from "./command-line.mjs";

const { values: flags } = commandLine("node scripts/release.mjs [--no-tag]", {
  options: { "no-tag": { type: "boolean" } },
});
const out = "dist.release";
const { name, version, scripts = {} } = JSON.parse(readFileSync("package.json", "utf8"));
const tag = `v${version}`;

const notes = changes();
if (run("git", "status", "--porcelain") !== "") refuse("there are changes that are not committed");
const commit = run("git", "rev-parse", "HEAD");
if (!flags["no-tag"] && run("git", "tag", "--list", tag) !== "") refuse(`the tag ${tag} is there already`);

rmSync(out, { recursive: true, force: true });
mkdirSync(out);
run("npm", "pack", "--silent", "--pack-destination", out);
run(
  "git",
  "archive",
  "--format=tar.gz",
  `--prefix=${name}-${version}/`,
  "--output",
  `${out}/${name}-${version}-source.tar.gz`,
  commit,
);
// The packages of distributions, where there is a script for them. dist.packages may have older ones.
if ("package" in scripts) run("npm", "run", "--silent", "package", "--", "--out", out);

const files = readdirSync(out).sort();
const digests = files.map((file) => [
  file,
  createHash("sha256")
    .update(readFileSync(`${out}/${file}`))
    .digest("hex"),
]);
writeFileSync(`${out}/SHA256SUMS`, digests.map(([file, digest]) => `${digest}  ${file}\n`).join(""));
writeFileSync(`${out}/provenance.json`, `${JSON.stringify(provenance(), undefined, 2)}\n`);
writeFileSync(`${out}/NOTES.md`, notes);
if (!flags["no-tag"]) run("git", "tag", "--annotate", tag, "--message", `${name} ${version}`, commit);

console.log(digests.map(([file]) => `${out}/${file}`).join("\n"));
console.log(`\nTo publish it:\n  git push origin ${tag}\n  npm publish ${out}/${name}-${version}.tgz`);

/** The section of the changelog, without its title. */
function changes() {
  const text = existsSync("CHANGELOG.md") ? readFileSync("CHANGELOG.md", "utf8") : "";
  const section = text.split(/^(?=## )/m).find((part) => part.startsWith(`## ${version} `));
  if (section === undefined) refuse(`CHANGELOG.md has no section for ${version}`);
  if (!/^## \S+ - \d{4}-\d\d-\d\d$/m.test(section))
    refuse(`the section for ${version} in CHANGELOG.md has no date: "## ${version} - YYYY-MM-DD"`);
  return `${section.split("\n").slice(1).join("\n").trim()}\n`;
}

/** What was built from what, in the format of in-toto (https://in-toto.io/Statement/v1, SLSA provenance 1). */
function provenance() {
  return {
    _type: "https://in-toto.io/Statement/v1",
    subject: digests.map(([file, sha256]) => ({ name: file, digest: { sha256 } })),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "scripts/release.mjs",
        externalParameters: { version },
        resolvedDependencies: [{ name, digest: { gitCommit: commit } }],
      },
      runDetails: { builder: { id: `node ${process.version}, ${process.platform}-${process.arch}` } },
    },
  };
}

function run(program, ...args) {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }).trim();
}

function refuse(why) {
  console.error(`release: ${why}`);
  process.exit(1);
}
