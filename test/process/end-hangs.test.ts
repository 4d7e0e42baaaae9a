/**
 * An end while a thread of the process is blocked: the operator's `systemctl stop` must not wait for a dead DNS server.
 */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { environmentOfExecutable, runsOnNode } from "../program.ts";
import { needs } from "../requirements.ts";
import { type Daemon, eventually, Place } from "./daemon.ts";

/** The executable reads files by as many threads as there are processors, where nothing is said. */
const asInTheUnit = runsOnNode ? {} : environmentOfExecutable;

// Each has a connection of its own.
for (const protocol of ["https", "http"])
  needs("gcc").test(
    `ends a start on SIGTERM or startTimeout while a name look-up for ${protocol} hangs`,
    async () => {
      const place = new Place();
      // A fake of dead DNS: getaddrinfo(3) that never returns.
      const source = place.path("hang.c");
      const library = place.path("hang.so");
      fs.writeFileSync(
        source,
        '#include <unistd.h>\nint getaddrinfo(void) { write(2, "LOOK-UP HANGS\\n", 14); for (;;) pause(); }\n',
      );
      execFileSync("gcc", ["-shared", "-fPIC", "-fno-builtin", "-o", library, source]);
      const token = place.path("token");
      fs.writeFileSync(token, "canary-token-77", { mode: 0o600 });
      const config = { url: `${protocol}://vault.example:8200`, tokenPath: token, path: "hello" };
      const start = (startTimeout: number | null) =>
        place.start(
          { ...place.config(["id"]), backend: "vault", config, startTimeout },
          { env: { LD_PRELOAD: library } },
        );
      const daemon = start(1);
      expect(await daemon.exit).toMatchObject({ code: 69, signal: null });
      expect(daemon.stderr).toContain("gave up after startTimeout");
      expect(daemon.stderr).not.toContain("canary");
      const stopped = start(null);
      await eventually("a first attempt", () => stopped.stderr.includes("LOOK-UP HANGS"));
      stopped.signal("SIGTERM");
      expect(await stopped.exit).toMatchObject({ code: 0, signal: null });
    },
    120_000,
  );

needs("fuse").describe("a sidecar whose file system hangs ends in time", () => {
  const script = join(import.meta.dirname, "hung-file-system.py");
  /** A place with a file system that hangs at `hung`, and a wrapper for programs that must see it. */
  function hangingPlace() {
    const place = new Place();
    const hung = place.path("hung");
    fs.mkdirSync(hung);
    return { place, hung, by: ["unshare", "--mount", "python3", script, hung] };
  }

  const notResident = "a folder, and not resident";
  /** Of each, what hangs: all that is outside of the output's /run. */
  const configs: Readonly<Record<string, (place: Place, hung: string) => object>> = {
    "a folder of secrets": (place, hung) => place.config(["a", "b", "c", "d", "e"], { config: { secretsDir: hung } }),
    "a folder in it": (place, hung) => place.config(["a"], { config: { secretsDir: join(hung, "in") } }),
    [notResident]: (place, hung) =>
      place.config(["a"], { config: { secretsDir: hung, reloadOnChange: false }, resident: false }),
    "a token": (place, hung) => ({
      ...place.config(["a"]),
      ...{ backend: "vault", config: { url: "http://127.0.0.1:1", tokenPath: join(hung, "token"), path: "x" } },
    }),
    "a third party's module": (place, hung) => ({
      ...place.config(["a"]),
      backend: join(hung, "module.mjs"),
      config: {},
    }),
    "a template": (place, hung) => place.config(["a"], { templates: { t: { template: join(hung, "t") } } }),
  };
  const systemCalls = (pid: number) => {
    const tasks = fs.readdirSync(`/proc/${pid}/task`);
    return tasks.map((task) => fs.readFileSync(`/proc/${pid}/task/${task}/wchan`, "utf8"));
  };
  const hangs = (daemon: Daemon) =>
    eventually("a thread that hangs", () => systemCalls(daemon.pid).some((name) => /fuse|request_wait/.test(name)));
  test.each(Object.entries(configs))(
    "on a stop during its start: %s",
    async (name, config) => {
      const { place, hung, by } = hangingPlace();
      const daemon = place.start(config(place, hung), { wrapper: by });
      await hangs(daemon);
      expect(await daemon.end()).toMatchObject({ code: name === notResident ? 143 : 0, signal: null });
      expect(daemon.stderr).toContain('"stopped"');
      expect(place.published()).toEqual({});
    },
    120_000,
  );

  test.each(["a folder of secrets", "a third party's module", "a template"])(
    "after startTimeout: %s",
    async (name) => {
      const { place, hung, by } = hangingPlace();
      const daemon = place.start({ ...configs[name]?.(place, hung), startTimeout: 1 }, { wrapper: by });
      await daemon.says(/gave up after startTimeout, 1 s/);
      expect(await daemon.exit).toMatchObject({ code: 69, signal: null });
      expect(place.published()).toEqual({});
    },
    120_000,
  );

  test.each(["--once", "--check"])(
    "%s, on a stop",
    async (flag) => {
      const { place, hung, by } = hangingPlace();
      const run = place.start(place.config(["a"], { config: { secretsDir: hung } }), {
        wrapper: by,
        args: [flag, "--log-format", "json"],
      });
      await hangs(run);
      run.signal("SIGINT");
      await run.says(/^folder: stopped$/);
      expect(await run.exit).toMatchObject({ code: 69, signal: null });
    },
    120_000,
  );

  /** As if the file of that name had been on it all the time, and it hangs from now on. */
  function hang(file: string, hung: string): void {
    fs.symlinkSync(join(hung, "file"), `${file}.new`);
    fs.renameSync(`${file}.new`, file);
  }

  test("keeps the earlier template when a reload hangs, and still follows rotations and signals", async () => {
    const { place, hung, by } = hangingPlace();
    place.put({ a: "a1" });
    const template = place.path("template");
    fs.writeFileSync(template, "a is {{a}}");
    const config = place.config(["a"], { templates: { t: { template } } });
    const daemon = await place.start(config, { wrapper: by }).ready();
    hang(template, hung);
    // Five threads would be taken, if each took one.
    for (let reload = 0; reload < 5; reload += 1) {
      const { length } = daemon.lines;
      daemon.signal("SIGHUP");
      const line = await daemon.says(/templates read before stay in use|fetched again/, length);
      if (reload === 0) expect(line.message).toContain("template cannot be read: connection timed out (ETIMEDOUT)");
    }
    place.put({ a: "a2" });
    await eventually("the new value", () => place.read("t") === "a is a2" && place.read("a") === "a2");
    fs.rmSync(template);
    fs.writeFileSync(template, "a was {{a}}");
    expect(await daemon.end()).toMatchObject({ code: 0, signal: null });
    expect(place.published()).toEqual({});
  }, 120_000);

  test("publishes the other secrets when one of several hangs", async () => {
    const { place, hung, by } = hangingPlace();
    place.put({ a: "a1", b: "b1" });
    const config = place.config(["a", "b"]);
    await (await place.start(config).ready()).end("SIGKILL");
    hang(join(place.store, "b"), hung);
    place.put({ a: "a2" });
    // It adopts what is there after a while, and asks again for all of it.
    const daemon = await place.start(config, { wrapper: by, env: asInTheUnit }).ready();
    await eventually("the new value", () => place.read("a") === "a2");
    expect(place.read("b")).toBe("b1");
    expect(await daemon.end()).toMatchObject({ code: 0, signal: null });
  }, 120_000);

  test("on a stop while it reads the configuration", async () => {
    const { place, hung, by } = hangingPlace();
    const daemon = place.spawn(["--config", join(hung, "config.json")], { wrapper: by });
    await hangs(daemon);
    expect(await daemon.end()).toMatchObject({ code: null, signal: "SIGTERM" });
  }, 120_000);
});

describe("a third party's store whose open() hangs", () => {
  const start = (startTimeout: number | null) => {
    const place = new Place();
    const module = place.path("never.mjs");
    const text = `export default {
      name: "never", defaultPollingInterval: 1,
      parseSettings: () => ({}), parseSource: () => ({}), describe: () => "",
      open: () => { console.error("OPENING"); return new Promise(() => setInterval(() => undefined, 1000)); },
    };`;
    fs.writeFileSync(module, text, { mode: 0o644 });
    return place.start({ ...place.config(["a"]), backend: module, config: {}, startTimeout });
  };

  test("does not delay a stop", async () => {
    const daemon = start(null);
    await eventually("open()", () => daemon.stderr.includes("OPENING"));
    const { code, stderr } = await daemon.end();
    expect(stderr).toContain('"stopped"');
    expect(code).toBe(0);
  });

  test.each(["SIGHUP", "SIGUSR2", "SIGUSR1", "SIGWINCH", "SIGPIPE", "SIGTSTP"] as const)(
    "keeps the start alive on %s, which it does not use yet",
    async (signal) => {
      const daemon = start(null);
      await eventually("open()", () => daemon.stderr.includes("OPENING"));
      daemon.signal(signal);
      if (signal === "SIGTSTP") daemon.signal("SIGCONT");
      // It may continue as another program in the same process.
      if (signal === "SIGUSR2")
        await eventually(
          "an answer",
          () => /cannot change to|OPENING[^]*OPENING/.test(daemon.stderr) || !daemon.running,
        );
      const { code, stderr } = await daemon.end();
      expect(stderr).toContain('"stopped"');
      expect(code).toBe(0);
    },
  );

  test("does not delay a stop by a close() that hangs", async () => {
    const place = new Place();
    const module = place.path("open.mjs");
    const text = `export default {
      name: "open", defaultPollingInterval: 600,
      parseSettings: () => ({}), parseSource: () => ({}), describe: () => "",
      open: () => ({
        fetch: async (requests) => new Map(requests.map(({ id }) => [id, { status: "value", value: Buffer.from("v"), version: "1" }])),
        close: () => new Promise(() => setInterval(() => undefined, 1000)),
      }),
    };`;
    fs.writeFileSync(module, text, { mode: 0o644 });
    const daemon = await place.start({ ...place.config(["a"]), backend: module, config: {} }).ready();
    const { code, stderr } = await daemon.end();
    expect(stderr).toContain("open: did not close within 0.5 s");
    expect(code).toBe(0);
    expect(place.published()).toEqual({});
  });

  test("ends the start after startTimeout, and the error says so", async () => {
    const { code, stderr } = await start(2).exit;
    expect(stderr).toContain("the store or a template does not open (gave up after startTimeout, 2 s)");
    expect(code).toBe(69);
  });
});
