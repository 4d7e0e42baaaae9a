// npm run package [-- --release N] [--out DIR] [--only deb|rpm|tar] [--processor x64|arm64]: makes a .deb, an .rpm and
// a tarball of the executable and what belongs to it, in dist.packages, in place of older ones. N is the release of the
// package, for the same version of the program. It needs what build:executable needs, and Go, once, for nfpm (scripts/nfpm.sh), which makes
// both packages on any machine.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { commandLine } from "./command-line.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const usage = "npm run package [-- --release N] [--out DIR] [--only deb|rpm|tar] [--processor x64|arm64]";
const { values } = commandLine(usage, {
  options: {
    release: { type: "string", default: "1" },
    out: { type: "string", default: `${root}dist.packages` },
    only: { type: "string" },
    processor: { type: "string", default: process.arch },
  },
});
const { name, version, license, devDependencies } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));
const own = { processor: values.processor, release: values.release };
const names = { x64: ["amd64", "x86_64"], arm64: ["arm64", "aarch64"] }[own.processor];
if (process.platform !== "linux" || names === undefined) fail(64, "packages are for Linux on x64 and arm64");
// build:executable gives it this name for another processor than this machine's.
const isForeign = own.processor !== process.arch;
const executable = isForeign ? `dist/fetcher-${own.processor}` : "dist/fetcher";
if (!/^[1-9]\d*$/.test(own.release)) fail(64, "--release: expected a number from 1");

const run = (program, args, options = {}) =>
  execFileSync(program, args, { cwd: root, stdio: ["ignore", "ignore", "inherit"], ...options });
if (!existsSync(`${root}dist/fetcher.js`)) run("node", ["scripts/build.mjs"]);
if (!existsSync(`${root}${executable}`)) run("node", ["scripts/build-executable.mjs", own.processor]);
const nfpm = process.env.NFPM ?? nfpmOfTheProject();
const time =
  process.env.SOURCE_DATE_EPOCH ??
  execFileSync("git", ["log", "-1", "--format=%ct"], { cwd: root, encoding: "utf8" }).trim();

mkdirSync(values.out, { recursive: true });
const work = mkdtempSync(join(values.out, "work-"));
try {
  const tree = join(work, `${name}-${version}`);
  fill(tree);
  const config = join(work, "nfpm.json");
  const packages = {
    deb: `${name}_${version}-${own.release}_${names[0]}.deb`,
    rpm: `${name}-${version}-${own.release}.${names[1]}.rpm`,
    tar: `${name}-${version}-linux-${own.processor}.tar.gz`,
  };
  for (const [kind, file] of Object.entries(packages)) {
    if (values.only !== undefined && values.only !== kind) continue;
    if (kind === "tar") makeTarball(join(work, file));
    else {
      writeFileSync(config, JSON.stringify(nfpmConfig(tree, kind)));
      run(nfpm, ["package", "--config", config, "--packager", kind, "--target", join(work, file)], {
        env: { ...process.env, SOURCE_DATE_EPOCH: time },
      });
    }
    removeOlder(file);
    renameSync(join(work, file), join(values.out, file));
    console.log(join(values.out, file));
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** Another version of the same package: commands that name `*.deb` would mean both. */
function removeOlder(file) {
  const [before, after] = file.split(
    file.includes(`${version}-${own.release}`) ? `${version}-${own.release}` : version,
  );
  for (const other of readdirSync(values.out))
    if (other.startsWith(before) && other.endsWith(after) && /^\d/.test(other.slice(before.length)))
      rmSync(join(values.out, other));
}

/** Makes the same bytes for the same commit. */
function makeTarball(file) {
  const owner = ["--owner=0", "--group=0", "--numeric-owner"];
  const times = [`--mtime=@${time}`, "--format=posix", "--pax-option=delete=atime,delete=ctime"];
  run("tar", ["-C", work, "--sort=name", ...owner, ...times, "-czf", file, `${name}-${version}`]);
}

/** Puts into `tree` what is installed below a prefix. */
function fill(tree) {
  const put = (path, content, mode = 0o644) => {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    if (Buffer.isBuffer(content)) writeFileSync(join(tree, path), content);
    else cpSync(join(root, content), join(tree, path));
    chmodSync(join(tree, path), mode);
  };
  const zipped = (text) => {
    const bytes = gzipSync(text, { level: 9 });
    // gzipSync() writes no name and no time into the header; byte 9 names the system (3: Unix).
    bytes[9] = 3;
    return bytes;
  };
  put("bin/fetcher", executable, 0o755);
  put("bin/with-secrets", "dist/with-secrets", 0o755);
  for (const kind of ["system", "user"]) {
    mkdirSync(join(tree, `lib/systemd/${kind}-generators`), { recursive: true });
    symlinkSync("../../../bin/fetcher", join(tree, `lib/systemd/${kind}-generators/fetcher`));
  }
  put(`share/${name}/fetcher-secrets.sh`, "dist/fetcher-secrets.sh");
  put(`share/${name}/fetcher.schema.json`, "dist/fetcher.schema.json");
  for (const page of readdirSync(join(root, "man")))
    put(`share/man/man${page.at(-1)}/${page}.gz`, zipped(readFileSync(join(root, "man", page))));
  put("share/bash-completion/completions/fetcher", "completions/fetcher.bash");
  put("share/zsh/vendor-completions/_fetcher", "completions/_fetcher");
  put("share/fish/vendor_completions.d/fetcher.fish", "completions/fetcher.fish");
  const documents = `share/doc/${name}`;
  put(`${documents}/copyright`, Buffer.from(copyright()));
  put(`${documents}/changelog.gz`, zipped(readFileSync(join(root, "CHANGELOG.md"))));
  put(`${documents}/changelog.Debian.gz`, zipped(debianChangelog()));
  cpSync(join(root, "examples"), join(tree, documents, "examples"), { recursive: true });
  for (const path of readdirSync(join(tree, documents, "examples"), { recursive: true, withFileTypes: true }))
    chmodSync(join(path.parentPath, path.name), path.isDirectory() ? 0o755 : 0o644);
}

/** The copyright of everything in the executable. */
function copyright() {
  const read = (path) => readFileSync(join(root, path), "utf8").trim();
  const line = "-".repeat(80);
  const bun = read("scripts/package/bun.txt").replaceAll("@VERSION@", devDependencies.bun);
  return `${[
    `${name} is under this licence (${license}):\n\n${read("LICENSE")}`,
    `The program has these libraries in it:\n\n${read("dist/THIRD-PARTY-LICENSES.txt")}`,
    bun,
    read("scripts/package/LGPL-2.txt"),
    read("scripts/package/LGPL-2.1.txt"),
  ].join(`\n\n${line}\n${line}\n\n`)}\n`;
}

function debianChangelog() {
  const date = new Date(Number(time) * 1000).toUTCString().replace("GMT", "+0000");
  return `${name} (${version}-${own.release}) unstable; urgency=medium\n\n  * ${version}: see changelog.gz.\n\n -- ${maintainer()}  ${date}\n`;
}

function maintainer() {
  return "The authors of secrets-sidecar <secrets-sidecar@localhost.localdomain>";
}

function nfpmConfig(tree, packager) {
  const isDeb = packager === "deb";
  const overrides = join(dirname(tree), "overrides");
  writeFileSync(overrides, readFileSync(join(root, "scripts/package/lintian-overrides")));
  const files = readdirSync(tree, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) return [];
    const path = join(entry.parentPath, entry.name).slice(tree.length + 1);
    if (!isDeb && path.endsWith("changelog.Debian.gz")) return [];
    // Each kind of system looks in another place.
    const place = isDeb
      ? path
      : path
          .replace("zsh/vendor-completions", "zsh/site-functions")
          .replace(`doc/${name}/copyright`, `licenses/${name}/copyright`);
    const type = entry.isSymbolicLink() ? { type: "symlink", src: "../../../bin/fetcher" } : { src: join(tree, path) };
    return [{ ...type, dst: `/usr/${place}`, file_info: { owner: "root", group: "root" } }];
  });
  if (isDeb) files.push({ src: overrides, dst: `/usr/share/lintian/overrides/${name}`, file_info: { mode: 0o644 } });
  const script = (file) => join(root, "scripts/package", file);
  return {
    name,
    arch: names[0],
    platform: "linux",
    version,
    version_schema: "none",
    release: own.release,
    section: "admin",
    priority: "optional",
    maintainer: maintainer(),
    description:
      "secrets sidecar for systemd services\nFetches the secrets of a service from Vault, OpenBao, AWS Secrets Manager, a folder,\nsystemd credentials or any command, publishes them as files and variables, and\nrestarts or reloads the service when they change. One file for each service:\na generator makes the units.",
    license,
    homepage: "https://github.com/NixOS/rfcs/pull/59",
    depends: isDeb ? ["libc6 (>= 2.17)"] : ["glibc >= 2.17"],
    suggests: ["systemd"],
    umask: 0o022,
    mtime: new Date(Number(time) * 1000).toISOString(),
    contents: files,
    scripts: {
      postinstall: script("after-install.sh"),
      preremove: script("before-remove.sh"),
      postremove: script("after-remove.sh"),
    },
    // xz would take minutes for a tenth less.
    deb: { compression: "gzip" },
    rpm: { summary: "secrets sidecar for systemd services", compression: "zstd" },
  };
}

function nfpmOfTheProject() {
  run("sh", ["scripts/nfpm.sh"]);
  return join(process.env.FETCHER_TEST_CACHE ?? join(homedir(), ".cache/fetcher-tests"), "nfpm/nfpm");
}

function fail(status, message) {
  console.error(`package: ${message}`);
  process.exit(status);
}
