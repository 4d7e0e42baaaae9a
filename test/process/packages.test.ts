/** What Debian's lintian and rpm say about the packages, and what the packages contain. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { treePath } from "../e2e/boot.ts";
import { project } from "../markdown.ts";
import { needs } from "../requirements.ts";

const { version } = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as { version: string };

/** Each file of an installation, below its prefix; of the manual and the examples some. */
const files = [
  ...["bin/fetcher", "bin/with-secrets", "share/secrets-sidecar/fetcher-secrets.sh"],
  ...["share/secrets-sidecar/fetcher.schema.json", "share/bash-completion/completions/fetcher"],
  ...["share/fish/vendor_completions.d/fetcher.fish", "lib/systemd/system-generators/fetcher"],
  ...["lib/systemd/user-generators/fetcher", "share/man/man8/fetcher.8.gz", "share/man/man5/fetcher.json.5.gz"],
  ...["share/man/man1/with-secrets.1.gz", "share/doc/secrets-sidecar/examples/systemd/hello.json"],
  ...["share/doc/secrets-sidecar/examples/monitoring/fetcher.rules.yml"],
];

/** rpm in a chroot has no private mounts, and says so. */
const withoutMounts = (text: string) => text.replaceAll("warning: private mounts in chroot not implemented\n", "");

needs("packages", "package-tools").describe("the packages", () => {
  let directory = "";
  const file = (end: string) => join(directory, readdirSync(directory).find((name) => name.endsWith(end)) ?? "");
  /** Runs a program of the tree, which finds the packages in /mnt. */
  const inTree = (...command: readonly string[]) => {
    const script = 'mount --bind "$1" "$2/mnt" && mount -t proc proc "$2/proc" && shift && exec chroot "$@"';
    const argv = ["--mount", "sh", "-c", script, "sh", directory, treePath("packages"), ...command];
    return spawnSync("unshare", argv, { encoding: "utf8", env: { PATH: process.env["PATH"], LC_ALL: "C.UTF-8" } });
  };
  const rpm = (...args: readonly string[]) => {
    const { status, stdout, stderr } = inTree("rpm", ...args, `/mnt/${file(".rpm").slice(directory.length + 1)}`);
    expect({ status, stderr: withoutMounts(stderr) }).toEqual({ status: 0, stderr: "" });
    return stdout;
  };

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "fetcher-packages-"));
    execFileSync("node", ["scripts/package.mjs", "--out", directory], {
      cwd: project,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }, 600_000);
  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  test("are built for the other processor too, from that processor's files", () => {
    const other = process.arch === "x64" ? "arm64" : "x64";
    const [deb, rpm] = { arm64: ["arm64", "aarch64"], x64: ["amd64", "x86_64"] }[other];
    const executable = join(project, `dist/fetcher-${other}`);
    const isMade = !existsSync(executable);
    // A library for that processor stands in: the tests have neither a compiler for it nor its Bun.
    if (isMade) copyFileSync(join(project, `dist/end-${other}.node`), executable);
    const out = mkdtempSync(join(tmpdir(), "fetcher-packages-"));
    // `apt install ./dist.packages/*.deb` must not mean two.
    for (const older of [`_0.1.0-1_${deb}.deb`, `-${version}-9.${rpm}.rpm`, `-0.1.0-linux-${other}.tar.gz`])
      writeFileSync(join(out, `secrets-sidecar${older}`), "");
    try {
      execFileSync("node", ["scripts/package.mjs", "--out", out, "--processor", other], {
        cwd: project,
        stdio: ["ignore", "ignore", "inherit"],
      });
      expect(readdirSync(out).sort()).toEqual([
        `secrets-sidecar-${version}-1.${rpm}.rpm`,
        `secrets-sidecar-${version}-linux-${other}.tar.gz`,
        `secrets-sidecar_${version}-1_${deb}.deb`,
      ]);
      const file = join(out, `secrets-sidecar_${version}-1_${deb}.deb`);
      expect(execFileSync("dpkg-deb", ["--field", file, "Architecture"], { encoding: "utf8" })).toBe(`${deb}\n`);
      execFileSync("dpkg-deb", ["--extract", file, out]);
      expect(readFileSync(join(out, "usr/bin/fetcher")).equals(readFileSync(executable))).toBe(true);
    } finally {
      rmSync(out, { recursive: true });
      if (isMade) rmSync(executable);
    }
  });

  test("lintian finds no error in the .deb", () => {
    const name = file(".deb").slice(directory.length + 1);
    const { stdout, stderr } = inTree(
      "lintian",
      "--no-cfg",
      "--allow-root",
      "--display-level",
      "warning",
      `/mnt/${name}`,
    );
    expect(stderr.split("\n").filter((line) => /error|died/i.test(line))).toEqual([]);
    expect(stdout.split("\n").filter((line) => line.startsWith("E:"))).toEqual([]);
    // It has looked: the maintainer of a package from a checkout has no address.
    expect(stdout).toMatch(/^W: /m);
  }, 300_000);

  test("the .deb has all files, none of them writable for others, and fits its processor", () => {
    const list = execFileSync("dpkg-deb", ["-c", file(".deb")], { encoding: "utf8" });
    for (const path of [...files, "share/zsh/vendor-completions/_fetcher", "share/doc/secrets-sidecar/copyright"])
      expect(list).toContain(`./usr/${path}`);
    for (const line of list.trim().split("\n")) expect(line).toMatch(/^[-d](?:rwx|rw-)r-[-x]r-[-x] root\/root |^l/);
    expect(execFileSync("dpkg-deb", ["-f", file(".deb"), "Package", "Version"], { encoding: "utf8" })).toBe(
      `Package: secrets-sidecar\nVersion: ${version}-1\n`,
    );
  });

  test("the .rpm has them too, owned by root, with the same scripts", () => {
    const list = rpm(
      "-qp",
      "--nosignature",
      "--qf",
      "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\\n]",
    );
    for (const path of [...files, "share/zsh/site-functions/_fetcher", "share/licenses/secrets-sidecar/copyright"])
      expect(list).toContain(` root root /usr/${path}\n`);
    expect(rpm("-qp", "--nosignature", "--qf", "%{NAME} %{VERSION} %{RELEASE} %{LICENSE}")).toBe(
      `secrets-sidecar ${version} 1 MIT`,
    );
    const script = (name: string) => readFileSync(join(project, "scripts/package", name), "utf8").trim();
    const scripts = rpm("-qp", "--nosignature", "--scripts");
    for (const name of ["after-install.sh", "before-remove.sh", "after-remove.sh"])
      expect(scripts).toContain(script(name));
    expect(rpm("-qp", "--nosignature", "--requires")).toContain("glibc >= 2.17");
    rpm("-K", "--nosignature");
  });

  test("rpm installs, upgrades and removes it in a tree without systemd, and leaves nothing", () => {
    const root = join(directory, "root");
    mkdirSync(root);
    const flags = ["--root", "/mnt/root", "--nosignature", "--nodeps", "--noscripts"];
    rpm("-i", ...flags);
    expect(execFileSync(join(root, "usr/bin/fetcher"), ["--version"], { encoding: "utf8" })).toBe(
      `fetcher ${version}\n`,
    );
    rpm("-U", "--force", ...flags);
    const { status, stderr } = inTree("rpm", "-e", ...flags, "secrets-sidecar");
    expect({ status, stderr: withoutMounts(stderr) }).toEqual({ status: 0, stderr: "" });
    expect(
      execFileSync("find", [root, "-name", "*fetcher*", "-o", "-name", "*with-secrets*"], { encoding: "utf8" }),
    ).toBe("");
  });

  test("the tarball runs from any prefix", () => {
    const prefix = join(directory, "prefix");
    mkdirSync(prefix);
    execFileSync("tar", ["-C", prefix, "--strip-components=1", "-xzf", file(".tar.gz")]);
    for (const path of files)
      expect(execFileSync("stat", ["-c", "%u", join(prefix, path)], { encoding: "utf8" })).toBe("0\n");
    expect(execFileSync(join(prefix, "bin/fetcher"), ["--version"], { encoding: "utf8" })).toBe(`fetcher ${version}\n`);
  });

  test("include the licences of everything in the executable", () => {
    const prefix = join(directory, "licences");
    mkdirSync(prefix);
    copyFileSync(file(".tar.gz"), join(prefix, "x.tar.gz"));
    execFileSync("tar", ["-C", prefix, "--strip-components=1", "-xzf", "x.tar.gz"], { cwd: prefix });
    const text = readFileSync(join(prefix, "share/doc/secrets-sidecar/copyright"), "utf8");
    for (const part of [
      "JavaScriptCore",
      "GNU LIBRARY GENERAL PUBLIC LICENSE",
      "GNU LESSER GENERAL PUBLIC LICENSE",
      "BUN=/path/of/your/bun",
      "pino 10",
      "valibot ",
    ])
      expect(text).toContain(part);
    expect(text).not.toContain("@VERSION@");
  });
});
