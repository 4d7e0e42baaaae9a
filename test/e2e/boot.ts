import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { readFile, symlink, unlink } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { programFile } from "../program.ts";

export interface BootOptions {
  /**
   * `here`: the systemd that is PID 1. `host`: this machine's own tree. Any other suite: a tree that
   * scripts/guest-tree.sh built.
   */
  readonly tree: string;
  /**
   * What the guest's /tmp lies on. `disk`, the default, is what NixOS has, and its bytes survive a power cut; `image`
   * is its own disk: an ext4 in /var/tmp/NAME/tmp.img.
   */
  readonly tmp?: "disk" | "memory" | "image";
  /** The Node binary that the guest gets as /usr/local/bin/node. */
  readonly node?: string;
  /** Further options of systemd-nspawn: `--set-credential=ID:VALUE`. */
  readonly nspawn?: readonly string[];
}

/** A systemd that is running, as Guest uses it. */
export interface System {
  /** The words before a command that run it there. */
  readonly enter: readonly string[];
  readonly project: string;
  readonly throwAway: boolean;
  /**
   * The name of the guest's directory in /var/tmp, its control group and its machine; undefined where it is not a
   * guest.
   */
  readonly name: string | undefined;
  /** What the guest has written to its console. */
  console(): Promise<string>;
  stop(): Promise<void>;
}

const checkout = join(import.meta.dirname, "../..");

/** The directory that keeps trees and binaries between runs. */
export const cache = process.env["FETCHER_TEST_CACHE"] ?? join(homedir(), ".cache/fetcher-tests");

/** The files of Debian's nginx, which scripts/setup-systemd-tests.sh unpacks. */
export const nginxTree = join(cache, "nginx");

/** The root of a guest's files; for a suite, it exists only when scripts/guest-tree.sh has built it to the end. */
export function treePath(tree: string): string {
  return tree === "host" ? "/" : join(cache, `tree-${tree}`);
}

/** The guest that is this machine runs the machine's Node; the others try the newer one, where it was fetched. */
export function nodeFor(tree: string): string {
  const newer = join(cache, `node24/node_modules/node-linux-${process.arch}/bin/node`);
  return tree !== "host" && tree !== "here" && existsSync(newer) ? newer : process.execPath;
}

export async function boot(options: BootOptions): Promise<System> {
  return options.tree === "here" ? await takeThisSystem() : await bootGuest(options);
}

/** The name of a new guest, and the command that boots it and ends it with its standard input. */
export function guestCommand({
  tree,
  tmp = "disk",
  node = nodeFor(tree),
  nspawn = [],
}: BootOptions): [name: string, argv: string[]] {
  const name = `fetcher-${tree}-${randomBytes(4).toString("hex")}`;
  const script = join(import.meta.dirname, "guest.sh");
  return [name, [script, name, treePath(tree), checkout, basename(programFile), realpathSync(node), tmp, ...nspawn]];
}

async function bootGuest(options: BootOptions): Promise<System> {
  const [name, [script = "", ...args]] = guestCommand(options);
  // Its own session, so that Ctrl-C in the terminal reaches only the tests; the guest ends when they end.
  const watchdog = spawn(script, args, { detached: true, stdio: "pipe" });
  const ended = new Promise<void>((resolve) => {
    watchdog.on("close", () => {
      resolve();
    });
  });
  let complaint = "";
  watchdog.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
  const nspawn = await nspawnOf(watchdog);
  const system = {
    project: "/opt/fetcher",
    throwAway: true,
    name,
    async console() {
      return `${complaint}${await readFile(`/var/tmp/${name}/console.log`, "utf8").catch(() => "")}`;
    },
    async stop() {
      watchdog.stdin.end();
      await ended;
    },
  };
  const end = performance.now() + 90_000;
  for (;;) {
    const init = Number.isNaN(nspawn) ? undefined : initOf(nspawn);
    if (init !== undefined) return { ...system, enter: enterGuest(init) };
    if (watchdog.exitCode === null && existsSync(`/proc/${nspawn}/root`) && performance.now() < end) {
      await sleep(20);
      continue;
    }
    const why = await system.console();
    await system.stop();
    throw new Error(`guest ${name} did not boot:\n${why}`);
  }
}

/** The process that guest.sh names; NaN where guest.sh ended before. */
async function nspawnOf(watchdog: ChildProcessWithoutNullStreams): Promise<number> {
  for await (const line of createInterface(watchdog.stdout)) {
    if (line.startsWith("nspawn ")) return Number(line.slice("nspawn ".length));
  }
  return NaN;
}

/** The child of nspawn that is PID 1 in its own namespace; undefined where there is none yet. */
function initOf(nspawn: number): number | undefined {
  try {
    const children = readdirSync(`/proc/${nspawn}/task`).flatMap((task) =>
      readFileSync(`/proc/${nspawn}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
    );
    return children.find((pid) => /^NSpid:.*\s1$/m.test(readFileSync(`/proc/${pid}/status`, "utf8")));
  } catch {
    return undefined;
  }
}

function enterGuest(init: number): readonly string[] {
  return [
    "nsenter",
    `--target=${init}`,
    ..."mount uts ipc net pid cgroup root wd".split(" ").map((ns) => `--${ns}`),
    "--",
  ];
}

/** The units call programs in /usr/local/bin. This links the missing ones there, and unlinks them in the end. */
async function takeThisSystem(): Promise<System> {
  const dist = realpathSync(join(checkout, "dist"));
  const programs = {
    fetcher: realpathSync(programFile),
    "with-secrets": `${dist}/with-secrets`,
    node: process.execPath,
  };
  const made: string[] = [];
  for (const [name, program] of Object.entries(programs)) {
    const path = `/usr/local/bin/${name}`;
    if (!existsSync(path)) {
      await symlink(program, path);
      made.push(path);
    } else if (name !== "node" && realpathSync(path) !== program) {
      throw new Error(`${path} is there, and is not the program under test: ${program}`);
    }
  }
  return {
    enter: [],
    project: checkout,
    throwAway: false,
    name: undefined,
    console: () => Promise.resolve(""),
    async stop() {
      for (const path of made) await unlink(path);
    },
  };
}
