/**
 * What a process gets from whatever starts it, and what it may lose while it runs: limits, descriptors, a clock, a
 * directory.
 */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { fakeClock } from "../soak/fake-clock.ts";
import { eventually, logLines, ordinary, Place, type StartOptions } from "./daemon.ts";

const CANARY = "canary-71c3";

function started(place: Place, more?: Parameters<Place["config"]>[1], options?: StartOptions) {
  place.put({ a: `${CANARY}-1`, b: "b" });
  return place.start(place.config(["a", "b"], more), options).ready();
}

/** Sets a limit of prlimit(1). @returns what sets it to all that may be had. */
function limit(pid: number, what: "nofile" | "fsize" | "nproc", soft: string, user = {}): () => void {
  const asks = [`--pid=${pid}`, `--${what}`, "--output=HARD", "--noheadings"];
  const hard = execFileSync("prlimit", asks, { encoding: "utf8", ...user }).trim();
  const set = (value: string) => {
    execFileSync("prlimit", [`--pid=${pid}`, `--${what}=${value}:`], user);
  };
  set(soft);
  return () => {
    set(hard);
  };
}

/** Publishes another value of `a`. */
async function rotates(place: Place, value: string): Promise<void> {
  place.put({ a: value });
  await eventually(value, () => place.read("a") === value);
}

describe("survives a limit reached after READY, and publishes no partial set", () => {
  // Not even the file of /proc by which memory is measured can be opened.
  test("on descriptors", async () => {
    const place = new Place();
    const daemon = await started(place);
    const lift = limit(daemon.pid, "nofile", "0");
    place.put({ a: `${CANARY}-2`, b: "b2" });
    daemon.signal("SIGHUP");
    await daemon.says(/^(fetched again|published)/);
    lift();
    daemon.signal("SIGHUP");
    await eventually("the new set", () => place.read("a") === `${CANARY}-2` && place.read("b") === "b2");
    expect(daemon.stderr).not.toContain(CANARY);
    expect((await daemon.end()).code).toBe(0);
  });

  test("on file size: names the set and its file, and publishes once the file may be as large", async () => {
    const place = new Place();
    const daemon = await started(place);
    const lift = limit(daemon.pid, "fsize", "2048");
    place.put({ a: "long".repeat(1000), b: "b2" });
    await daemon.says(/are not published: output: cannot write .*\/a: file too large \(EFBIG\)/);
    expect([place.read("a"), place.read("b")]).toEqual([`${CANARY}-1`, "b"]);
    expect(place.leftovers()).toEqual([]);
    lift();
    // The first round may have seen one of the two files only.
    await eventually("the new set", () => place.read("a") === "long".repeat(1000) && place.read("b") === "b2");
  });

  needs("root", "node").test(
    "on processes: keeps the old set when verify cannot run, and publishes a later one",
    async () => {
      const place = new Place("/dev/shm", ordinary);
      place.put({ a: "one" });
      const config = place.config(["a"], { onChange: { verify: { command: ["true"] } } });
      const daemon = await place.start(config, ordinary).ready();
      const lift = limit(daemon.pid, "nproc", "0", ordinary);
      place.put({ a: "two" });
      await daemon.says(/are not published: cannot run the verify command: .*\(EAGAIN\)/);
      expect(place.read("a")).toBe("one");
      lift();
      await daemon.says(/^published/);
      expect(place.read("a")).toBe("two");
    },
  );
});

test("exits 74 at the start under a file size limit of 0, with one line, and leaves nothing", async () => {
  const place = new Place();
  place.put({ a: CANARY });
  const exit = await place.start(place.config(["a"]), { wrapper: ["prlimit", "--fsize=0"] }).exit;
  expect(exit.code).toBe(74);
  const [line, ...more] = logLines(exit.stderr);
  expect([line?.message, more]).toEqual([`output: cannot write ${place.output}/a: file too large (EFBIG)`, []]);
  expect(place.published()).toEqual({});
});

needs("node").test("survives an uncaught error of a library after READY", async () => {
  const place = new Place();
  // Stands for a library whose callback throws.
  const hook = place.path("library.cjs");
  fs.writeFileSync(hook, `process.on("SIGWINCH", () => require("node:fs").openSync("${place.path("none")}"));\n`);
  const daemon = await started(place, {}, { env: { NODE_OPTIONS: `--require=${hook}` } });
  daemon.signal("SIGWINCH");
  await daemon.says(/^the system refuses open .*none: no such file or directory \(ENOENT\); the sidecar continues$/);
  await rotates(place, "two");
  expect((await daemon.end()).code).toBe(0);
});

describe("descriptors closed at the start", () => {
  test.each(["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])(
    "%s: no log line ends up in one of the program's files",
    async (closed) => {
      const place = new Place();
      place.put({ a: `${CANARY}-1`, b: "b" });
      const daemon = place.start(place.config(["a", "b"]), { wrapper: ["sh", "-c", `exec "$@" ${closed}`, "sh"] });
      await eventually("published", () => place.read("a") === `${CANARY}-1`);
      fs.rmSync(join(place.store, "b"));
      // Each of these is said.
      daemon.signal("SIGHUP");
      place.put({ a: `${CANARY}-2` });
      await eventually("published again", () => {
        daemon.signal("SIGHUP");
        // The last of its files.
        return place.read("secrets.env")?.includes(`${CANARY}-2`) === true;
      });
      expect(place.published()).toEqual({ a: `${CANARY}-2`, b: "b", "secrets.env": `a='${CANARY}-2'\nb='b'\n` });
      const state = JSON.parse(fs.readFileSync(join(place.output, ".fetcher-state"), "utf8")) as { files: string[] };
      expect(state.files).toEqual(["a", "b", "secrets.env"]);
      expect(place.read(".fetcher-lock") ?? "").toMatch(/^\{"pid":\d+\}\n$/);
      expect(fs.readdirSync(place.store)).toEqual(["a"]);
    },
  );
});

test("works with a removed working directory, and with variables that lead nowhere", async () => {
  const place = new Place();
  const env = {
    ...{ HOME: undefined, LANG: "xx_YY", LC_ALL: "\n", TZ: "Nowhere/Bad", TMPDIR: place.path("none") },
    ...{ XDG_RUNTIME_DIR: "relative", NOTIFY_SOCKET: place.path("none", "socket"), JOURNAL_STREAM: "x", TERM: "\x1b" },
    ...{ RUNTIME_DIRECTORY: "", WATCHDOG_USEC: "soon", LISTEN_FDS: "9", NO_COLOR: "\n" },
  };
  const daemon = await started(place, {}, { env });
  fs.rmdirSync(place.path("cwd"));
  await rotates(place, "two");
  daemon.signal("SIGHUP");
  await daemon.says(/^fetched again: nothing has changed/);
  expect((await daemon.end()).code).toBe(0);
});

needs("node").test("reports a relative path in a removed working directory in one line", async () => {
  const place = new Place();
  const script = `rmdir "$PWD"; exec "$@"`;
  const { code, stderr } = await place.run(["--config", "app.json"], { wrapper: ["sh", "-c", script, "sh"] });
  expect(code).toBe(74);
  expect(logLines(stderr).map(({ message }) => message)).toEqual([
    "the working directory has been removed: change to another one",
  ]);
});

needs("mount-namespace", "node").test("starts and keeps running without /proc", async () => {
  const place = new Place();
  const script = 'mount -t tmpfs none /proc && exec "$@"';
  const daemon = await started(place, {}, { wrapper: ["unshare", "--mount", "sh", "-c", script, "sh"] });
  await rotates(place, "two");
  daemon.signal("SIGHUP");
  await daemon.says(/^fetched again/);
  expect((await daemon.end()).code).toBe(0);
});

needs("fake-clock").test("keeps publishing when the clock jumps by hours and by decades", async () => {
  const place = new Place();
  const file = place.path("clock");
  fs.writeFileSync(file, "+0\n");
  const env = {
    ...{ LD_PRELOAD: fakeClock() ?? "", FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: "1" },
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
  };
  const daemon = await started(place, { config: { pollingInterval: 1 } }, { env });
  for (const offset of ["-10h", "+10h", "-30y", "-60y", "+300y"]) {
    fs.writeFileSync(file, `${offset}\n`);
    await rotates(place, offset);
  }
  expect(daemon.lines.filter(({ level }) => ["warn", "error"].includes(level))).toEqual([]);
  expect((await daemon.end()).code).toBe(0);
});

describe("a standard output that accepts nothing", () => {
  const commands = ["--version", "--help", "--print-schema", "--once", "--check", "--check-config", "status"];
  test.each(commands)("%s fails with 74, and says why", async (word) => {
    const place = new Place();
    place.put({ a: CANARY });
    const args = ["--once", "--check", "--check-config"].includes(word)
      ? [word, "--config", place.writeConfig(place.config(["a"]))]
      : [word];
    const wrapper = ["sh", "-c", 'exec "$@" >/dev/full', "sh"];
    const { code, stderr } = await place.run(args, { wrapper, env: { FETCHER_LOG_FORMAT: undefined } });
    expect(stderr).toContain("error: cannot write to standard output: no space left on device (ENOSPC)\n");
    expect([code, stderr.includes(CANARY)]).toEqual([74, false]);
  });

  test("accepts a reader that closes early", async () => {
    const place = new Place();
    const script = `{ "$@"; echo "$?" >&2; } | true`;
    const { stderr } = await place.run(["--print-schema"], { wrapper: ["sh", "-c", script, "sh"] });
    expect(stderr).toBe("0\n");
  });
});
