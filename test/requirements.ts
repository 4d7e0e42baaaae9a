/**
 * What a test needs of the machine beyond Node. Where it is missing, the test is skipped under its own name, and the
 * end of the run prints the reason (test/skip-reporter.ts). FETCHER_TEST_REQUIRE=bash,root makes such a skip a failure
 * if it is for one of these; `all,-vault-server` means all but that.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { describe, test, type TestOptions } from "vitest";
import { motoServer } from "./aws/moto.ts";
import { runsOnNode } from "./program.ts";
import { cache, nginxTree, treePath } from "./e2e/boot.ts";
import { programPath } from "./programs.ts";
import { serverBinary } from "./vault/binary.ts";
import { fakeClock } from "./soak/fake-clock.ts";
import { postgresPrograms } from "./vault/postgres.ts";
import { findNixpkgs } from "./nix/nixpkgs.ts";
import { findNixfmt, newerNix } from "./nix/programs.ts";

declare module "vitest" {
  interface TaskMeta {
    /** Why the test cannot run here: `guest-trixie: …`. */
    missing?: string;
  }
}

/** Each says why it is not met, for those who could change that; undefined where it is met. */
const requirements = {
  /** The program under test on Node, for tests of Node's modules and V8. */
  node: () => (runsOnNode ? undefined : "FETCHER_TEST_PROGRAM is an executable of its own"),
  root: notRoot,
  /** The program under test as its own executable. */
  executable: () => (runsOnNode ? "FETCHER_TEST_PROGRAM=dist/fetcher tests it, and builds it" : undefined),
  bash: () => program("bash"),
  zsh: () => program("zsh"),
  fish: () => program("fish"),
  dash: () => program("dash"),
  busybox: () => program("busybox"),
  /** A /tmp of the test's own. */
  "mount-namespace": (): string | undefined =>
    requirements.root() ??
    (spawnSync("unshare", ["--mount", "true"]).status === 0 ? undefined : "unshare --mount is refused here"),
  /** A file system whose server is a test. */
  fuse: (): string | undefined =>
    requirements["mount-namespace"]() ?? (existsSync("/dev/fuse") ? program("python3") : "no /dev/fuse"),
  "systemd-notify": () => program("systemd-notify"),
  script: () => program("script"),
  man: () => program("man"),
  mandoc: () => program("mandoc"),
  python: () => program("python3"),
  jq: () => program("jq"),
  rsync: () => program("rsync"),
  gcc: () => program("gcc"),
  openssl: () => program("openssl"),
  ipv6: () =>
    (networkInterfaces()["lo"] ?? []).some(({ address }) => address === "::1") ? undefined : "lo has no address ::1",
  "systemd-analyze": () => program("systemd-analyze"),
  "systemd-escape": () => program("systemd-escape"),
  nix: () => program("nix-instantiate"),
  "nix-newer": () =>
    newerNix() === undefined ? `none in ${treePath("trixie")}; npm run test:systemd builds that tree` : undefined,
  nixfmt: () =>
    findNixfmt() === undefined ? "none in PATH or the tests' cache; .ci/run installs one with cargo" : undefined,
  "nixpkgs-lib": (): string | undefined => {
    const found = findNixpkgs();
    return found === undefined ? "no nixpkgs in NIXPKGS, <nixpkgs> or the tests' cache" : undefined;
  },
  "user-namespaces": () => {
    const { status } = spawnSync("unshare", ["-Urm", "true"]);
    return status === 0 ? undefined : "unshare -Urm does not work here";
  },
  /** A user namespace's own limits: /proc/sys may be read-only in a container. */
  "inotify-limits": (): string | undefined => {
    const set = "for limit in watches instances; do echo 100 >/proc/sys/user/max_inotify_$limit || exit 1; done";
    const { status } = spawnSync("unshare", ["-Urm", "sh", "-c", set]);
    return status === 0 ? undefined : "the limits of inotify cannot be set in a user namespace here";
  },
  /** The systemd that is PID 1 of this container: FETCHER_E2E=here. */
  "guest-here": () => {
    const init = readFileSync("/proc/1/comm", "utf8").trim();
    return notRoot() ?? (init === "systemd" ? undefined : `PID 1 is ${init}, not systemd`);
  },
  /** A guest that the test boots itself, with its own options. */
  "own-guest": () => (process.env["FETCHER_E2E"] === "here" ? "all tests are in the one system" : undefined),
  "guest-host": () => {
    const systemd = ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"].some((path) => existsSync(path));
    return nspawn() ?? (systemd ? undefined : "systemd is not installed");
  },
  /** Some builds of Node refuse it (io_uring). */
  seteuid: () => {
    const { status } = spawnSync(process.execPath, ["-e", "process.seteuid(process.geteuid())"]);
    return status === 0 ? undefined : "this Node refuses process.seteuid()";
  },
  /** A group of cgroup v1, or of v2 where the guests' systemd gets it. */
  "memory-limits": () => {
    const line = / - cgroup \S+ \S*\bmemory\b/.test(readFileSync("/proc/self/mountinfo", "utf8"));
    const file = "/sys/fs/cgroup/cgroup.subtree_control";
    const isGiven = existsSync(file) && readFileSync(file, "utf8").includes("memory");
    return line || isGiven ? undefined : "this machine gives guests no memory controller";
  },
  /** About this machine's systemd, and so about the guest `host`. */
  "import-credential": () => {
    const { stdout } = spawnSync("systemctl", ["--version"], { encoding: "utf8" });
    const version = Number(/\d+/.exec(stdout)?.[0] ?? 0);
    return version >= 254 ? undefined : `ImportCredential= is of systemd 254, and this is ${version}`;
  },
  tpm2: () =>
    spawnSync("systemd-creds", ["has-tpm2"]).status === 0 ? undefined : "systemd-creds has-tpm2 finds none to use",
  postgresql: () => (postgresPrograms() === undefined ? "not installed" : program("psql")),
  /** The generator of the site, which has its own manifest. */
  site: () =>
    existsSync(join(import.meta.dirname, "../site/node_modules/vitepress"))
      ? undefined
      : "its packages are not there; npm run docs:site installs them",
  chromium: () => program("chromium"),
  age: () => program("age"),
  gpg: () => program("gpg"),
  pass: () => program("pass"),
  sops: () => program("sops"),
  /** A container may refuse its system calls. */
  keyctl: () => program("keyctl") ?? (spawnSync("keyctl", ["show", "@u"]).status === 0 ? undefined : "refused here"),
  "aws-cli": () => program("aws"),
  /** The OpenMetrics parser of Prometheus' client for Python. */
  openmetrics: () =>
    existsSync(join(cache, "openmetrics/prometheus_client"))
      ? undefined
      : "no prometheus_client in the tests' cache; .ci/run installs it",
  "aws-emulator": () => (motoServer() === undefined ? "moto_server is not installed" : undefined),
  /** Debian's nginx, unpacked for the guests. */
  nginx: () => (existsSync(nginxTree) ? undefined : `no ${nginxTree}; npm run test:systemd fetches it on Debian`),
  /** What npm run package needs: a C compiler, and nfpm or Go for it. */
  packages: () => {
    if (!existsSync(join(cache, "nfpm/nfpm"))) return "no nfpm; scripts/nfpm.sh builds it";
    return program(process.env["CC"] ?? "cc") ?? program("dpkg-deb");
  },
  /** lintian and rpm, in their own tree. */
  "package-tools": (): string | undefined =>
    requirements.root() ??
    (existsSync(join(treePath("packages"), "etc/fetcher-packages"))
      ? undefined
      : `no ${treePath("packages")}; scripts/package-tools.sh makes it`),
  "fake-clock": () => (fakeClock() === undefined ? "libfaketime is not installed" : undefined),
  /** Vault or OpenBao; where both exist, tests run against each. */
  "vault-server": () => (serverBinary() === undefined ? "neither bao nor vault is installed" : undefined),
  /** HashiCorp Vault has them with a licence only. */
  "vault-namespaces": () => (serverBinary("bao") === undefined ? "bao is not installed" : undefined),
  /** OpenBao removed it. */
  "vault-file-storage": () => noVault(),
  /** OpenBao has no such login. */
  "vault-aws-login": (): string | undefined => noVault() ?? requirements["aws-emulator"](),
} satisfies Record<string, () => string | undefined>;

/** `guest-SUITE`: a tree that scripts/guest-tree.sh built. */
export type Requirement = keyof typeof requirements | `guest-${string}`;

/** Why some of these are not met: `bash: not installed`; undefined where all are. */
export function missing(...names: readonly Requirement[]): string | undefined {
  for (const name of names) {
    const why = isKnown(name) ? requirements[name]() : guestTree(name.slice("guest-".length));
    if (why !== undefined) return `${name}: ${why}`;
  }
  return undefined;
}

/**
 * `needs("bash").test(…)` and `needs("guest-trixie").describe(…)`: like vitest's own where the machine has all of it.
 */
export function needs(...names: readonly Requirement[]) {
  const why = missing(...names);
  const required = names.some((name) => isRequired(name) && missing(name) !== undefined);
  const options: TestOptions = why === undefined ? {} : { skip: true, meta: { missing: why } };
  const refuse = (title: string) => {
    test(title, () => {
      throw new Error(`FETCHER_TEST_REQUIRE asks for this test, and it cannot run here: ${why ?? ""}`);
    });
  };
  return {
    describe: (title: string, body: () => void) => {
      if (required) refuse(title);
      else describe(title, options, body);
    },
    test: (title: string, body: () => void | Promise<void>, timeout?: number) => {
      if (required) refuse(title);
      else test(title, timeout === undefined ? options : { ...options, timeout }, body);
    },
  };
}

function isKnown(name: Requirement): name is keyof typeof requirements {
  return Object.hasOwn(requirements, name);
}

function isRequired(name: Requirement): boolean {
  const required = (process.env["FETCHER_TEST_REQUIRE"] ?? "").split(",");
  return required.includes(name) || (required.includes("all") && !required.includes(`-${name}`));
}

function notRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "not root";
}

function noVault(): string | undefined {
  return serverBinary("vault") === undefined ? "vault is not installed; scripts/vault-server.sh builds it" : undefined;
}

function program(name: string): string | undefined {
  return programPath(name) === undefined ? "not installed" : undefined;
}

function guestTree(suite: string): string | undefined {
  const built = existsSync(join(treePath(suite), "etc/fetcher-guest-packages"));
  return nspawn() ?? (built ? undefined : `no tree at ${treePath(suite)}; npm run test:systemd builds it`);
}

function nspawn(): string | undefined {
  const capabilities = BigInt(`0x${/^CapEff:\s*(\w+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0"}`);
  const CAP_SYS_ADMIN = 21n;
  if (process.getuid?.() !== 0) return "systemd-nspawn wants root";
  if (((capabilities >> CAP_SYS_ADMIN) & 1n) === 0n)
    return "systemd-nspawn wants CAP_SYS_ADMIN, which this root has not";
  if (program("systemd-nspawn") !== undefined)
    return "systemd-nspawn is not installed; npm run test:systemd installs it";
  const hierarchy = / (\/\S*) \S+( \S+)* - cgroup2 /.exec(readFileSync("/proc/self/mountinfo", "utf8"))?.[1];
  if (hierarchy === undefined) return "no cgroup v2 hierarchy is mounted";
  try {
    accessSync(hierarchy, constants.W_OK);
  } catch {
    return `${hierarchy} is mounted read-only`;
  }
  return undefined;
}
