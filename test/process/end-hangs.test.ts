/** An end while a thread of the process is blocked: the operator's `systemctl stop` must not wait for dead DNS. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runsOnNode } from "../program.ts";
import { needs } from "../requirements.ts";
import { type Daemon, eventually, Place } from "./daemon.ts";

/** Node before 22.15 has none to end with a failure's status while a thread hangs: see src/runtime/end.ts. */
const hasAWay = "execve" in process || !runsOnNode;

needs("gcc").test(
  "a start that is given up, or stopped, ends while a name look-up hangs",
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
    const config = { url: "https://vault.example:8200", tokenPath: token, path: "hello" };
    const start = (startTimeout: number | null) =>
      place.start(
        { ...place.config(["id"]), backend: "vault", config, startTimeout },
        { env: { LD_PRELOAD: library } },
      );
    if (hasAWay) {
      const daemon = start(1);
      expect(await daemon.exit).toMatchObject({ code: 69, signal: null });
      expect(daemon.stderr).toContain("given up after startTimeout");
      expect(daemon.stderr).not.toContain("canary");
    }
    const stopped = start(null);
    await eventually("a first attempt", () => stopped.stderr.includes("LOOK-UP HANGS"));
    stopped.signal("SIGTERM");
    const end = await stopped.exit;
    if (hasAWay) expect(end).toMatchObject({ code: 0, signal: null });
    else expect(end).toMatchObject({ code: null, signal: "SIGTERM" });
  },
  20_000,
);

needs("fuse").describe("while a file system hangs, an end does not", () => {
  const script = join(import.meta.dirname, "hung-file-system.py");
  /** A place with a file system that hangs at `hung`, and what a program is run by that sees it. */
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
    "a template": (place, hung) => place.config(["a"], { templates: { t: { template: join(hung, "t") } } }),
  };
  const systemCalls = (pid: number) => {
    const tasks = fs.readdirSync(`/proc/${pid}/task`);
    return tasks.map((task) => fs.readFileSync(`/proc/${pid}/task/${task}/wchan`, "utf8"));
  };
  const hangs = (daemon: Daemon) =>
    eventually("a thread that hangs", () => systemCalls(daemon.pid).some((name) => /fuse|request_wait/.test(name)));
  test.each(Object.entries(configs))(
    "a start that is stopped: %s",
    async (name, config) => {
      const { place, hung, by } = hangingPlace();
      const daemon = place.start(config(place, hung), { wrapper: by });
      await hangs(daemon);
      const end = await daemon.end();
      if (hasAWay) expect(end).toMatchObject({ code: name === notResident ? 143 : 0, signal: null });
      else expect(end).toMatchObject({ code: null, signal: "SIGTERM" });
      expect(daemon.stderr).toContain('"stopped"');
      expect(place.published()).toEqual({});
    },
    20_000,
  );

  test.each(["a folder of secrets", "a template"])(
    "a start that is given up after startTimeout: %s",
    async (name) => {
      const { place, hung, by } = hangingPlace();
      const daemon = place.start({ ...configs[name]?.(place, hung), startTimeout: 1 }, { wrapper: by });
      await daemon.says(/given up after startTimeout, 1 s/);
      if (hasAWay) expect(await daemon.exit).toMatchObject({ code: 69, signal: null });
      expect(place.published()).toEqual({});
    },
    20_000,
  );

  test.each(["--once", "--check"])(
    "%s, stopped",
    async (flag) => {
      const { place, hung, by } = hangingPlace();
      const run = place.start(place.config(["a"], { config: { secretsDir: hung } }), { wrapper: by, args: [flag] });
      await hangs(run);
      run.signal("SIGINT");
      await run.says(/^folder: stopped$/);
      if (hasAWay) expect(await run.exit).toMatchObject({ code: 69, signal: null });
    },
    20_000,
  );

  test("a configuration that cannot be read, stopped", async () => {
    const { place, hung, by } = hangingPlace();
    const daemon = place.spawn(["--config", join(hung, "config.json")], { wrapper: by });
    await hangs(daemon);
    expect(await daemon.end()).toMatchObject({ code: null, signal: "SIGTERM" });
  }, 20_000);
});

describe("a third party's store that never opens", () => {
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

  test("a stop is a stop", async () => {
    const daemon = start(null);
    await eventually("open()", () => daemon.stderr.includes("OPENING"));
    const { code, stderr } = await daemon.end();
    expect(stderr).toContain('"stopped"');
    expect(code).toBe(0);
  });

  test("a start that is given up says so", async () => {
    const { code, stderr } = await start(0.5).exit;
    expect(stderr).toContain("the store or a template does not open (given up after startTimeout, 0.5 s)");
    expect(code).toBe(69);
  });
});
