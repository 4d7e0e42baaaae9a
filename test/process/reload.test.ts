/** `fetcher reload` and SIGHUP: the running process takes over a changed configuration. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { needs } from "../requirements.ts";
import { type Daemon, eventually, Place } from "./daemon.ts";

async function started(prepare: (runtime: string) => void = () => undefined) {
  const place = new Place();
  place.put({ a: "a1", b: "b1-canary" });
  const runtime = place.path("runtime");
  prepare(runtime);
  const env = { RUNTIME_DIRECTORY: runtime };
  const daemon = await place.start(place.config(["a"]), { env }).ready();
  const file = place.path("config.json");
  const configure = (config: unknown) => {
    fs.writeFileSync(`${file}.new`, typeof config === "string" ? config : JSON.stringify(config));
    fs.renameSync(`${file}.new`, file);
  };
  const reload = (to: Daemon, words = ["--config", file]) =>
    place.run(["reload", ...words], { env: { ...env, MAINPID: String(to.pid) } });
  return { place, daemon, configure, reload, file, runtime };
}

describe("fetcher reload", () => {
  test("returns once the new set is published; the process stays the same, and no value is in its log", async () => {
    const { place, daemon, configure, reload } = await started();
    configure(place.config({ b: { file: "b.key" } }));
    expect(await reload(daemon)).toMatchObject({ code: 0, stdout: "", stderr: "" });
    expect(place.published()).toEqual({ "b.key": "b1-canary", "secrets.env": "b='b1-canary'\n" });
    const line = await daemon.says(/took over the changed configuration .*config\.json/);
    expect(line).toMatchObject({ level: "notice", added: ["b"], removed: ["a"] });
    expect(daemon.stderr).not.toContain("canary");
    expect(daemon.lines[0]).toMatchObject({
      message: "ready: 1 secret from folder",
      version: expect.any(String) as string,
    });
    place.put({ b: "b2" });
    await eventually("the new secret is followed", () => place.read("b.key") === "b2");
    expect((await daemon.end()).code).toBe(0);
  });

  test.each([
    ["no JSON", "{", 78, /config\.json is not JSON/],
    ["an unknown owner", { secrets: { a: { owner: "nobody-here-7" } } }, 78, /secrets\.a\.owner/],
    ["an unknown backend", { backend: "/nowhere.mjs" }, 78, /backend/],
    ["an output among the sources", undefined, 78, /output\.directory/],
  ])("%s: exits with its status; the daemon says why, once, and keeps running", async (_, change, code, message) => {
    const { place, daemon, configure, reload } = await started();
    const wrong =
      typeof change === "string"
        ? change
        : change === undefined
          ? place.config(["a"], { config: { secretsDir: place.output } })
          : { ...place.config(["a"]), ...change };
    configure(wrong);
    expect((await reload(daemon)).code).toBe(code);
    // Of the two, the end of the command may be seen before the line.
    await daemon.says(message);
    const errors = daemon.lines.filter(({ level }) => level === "error");
    expect(errors.map((line) => line.message)).toEqual([expect.stringMatching(message)]);
    expect(errors[0]?.message).toMatch(/not taken over: the old configuration stays in force$/);
    place.put({ a: "a2" });
    await eventually("the store is followed", () => place.read("a") === "a2");
  });

  test("reports a missing file, and still fetches", async () => {
    const { place, daemon, reload, file } = await started();
    fs.rmSync(file);
    expect((await reload(daemon)).code).toBe(78);
    await daemon.says(/cannot read .*config\.json.*not taken over/);
    await daemon.says(/^fetched again/);
    expect(place.read("a")).toBe("a1");
  });

  test("exits 69 during an outage, and the published set stays", async () => {
    const { place, daemon, reload, configure } = await started();
    fs.writeFileSync(place.path("token"), "t");
    const config = { url: "http://127.0.0.1:1", mount: "secret", path: "app", tokenPath: place.path("token") };
    configure({ ...place.config(["a"]), backend: "vault", config });
    expect((await reload(daemon)).code).toBe(69);
    expect(place.read("a")).toBe("a1");
  });

  test("signals a daemon of an earlier version, and warns that it takes nothing over", async () => {
    const { daemon, reload, runtime } = await started();
    fs.rmSync(`${runtime}/.fetcher-reload`, { recursive: true });
    const { code, stderr } = await reload(daemon);
    expect([code, stderr]).toEqual([0, expect.stringContaining("is another version: it fetches now")]);
    await daemon.says(/^fetched again/);
  });

  test("exits 69 with a reason when the daemon has ended", async () => {
    const { daemon, reload } = await started();
    await daemon.end("SIGKILL");
    const { code, stderr } = await reload(daemon);
    expect([code, stderr]).toEqual([69, expect.stringContaining("the sidecar ended during the reload")]);
  });

  test.each([
    ["without a daemon", {}, ["--config", "x"], "systemctl reload"],
    ["without a file", { MAINPID: "2" }, [], "expected --config FILE"],
  ])("%s: exits 64 and says what to do", async (_, env, words, says) => {
    const { code, stderr } = await new Place().run(["reload", ...words], { env });
    expect([code, stderr]).toEqual([64, expect.stringContaining(says)]);
  });
});

test("SIGHUP alone takes over a visible file, even one at a relative path", async () => {
  const { place, daemon, configure } = await started();
  configure(place.config(["a", "b"]));
  daemon.signal("SIGHUP");
  await eventually("b is published", () => place.read("b") === "b1-canary");
  await daemon.end();
  expect(fs.existsSync(place.path("runtime", ".fetcher-reload"))).toBe(true);
});

needs("mount-namespace").describe("fetcher reload on a full disk", () => {
  const small = (runtime: string) => {
    fs.mkdirSync(runtime, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", "mode=0700,size=256k", "tmpfs", runtime]);
    onTestFinished(() => {
      execFileSync("umount", ["--lazy", runtime]);
    });
  };
  const fill = (runtime: string) => {
    const filler = join(runtime, "filler");
    const file = fs.openSync(filler, "w");
    expect(() => {
      for (;;) fs.writeSync(file, Buffer.alloc(4096));
    }).toThrow("ENOSPC");
    fs.closeSync(file);
    return () => {
      fs.rmSync(filler);
    };
  };

  test("reports that nothing is reloaded, and works once there is room", async () => {
    const { place, daemon, configure, reload, runtime } = await started(small);
    configure(place.config(["b"]));
    const empty = fill(runtime);
    const refused = await reload(daemon);
    expect(refused.code).toBe(74);
    expect(refused.stderr).toMatch(
      /reload: cannot write .*request: .*\(ENOSPC\); the running sidecar continues unchanged/,
    );
    expect(refused.stderr.trim().split("\n")).toHaveLength(1);
    empty();
    expect((await reload(daemon)).code).toBe(0);
    expect(place.read("b")).toBe("b1-canary");
  });

  test("returns its result even if the disk fills after the request", async () => {
    const { place, daemon, configure, reload, runtime } = await started(small);
    configure(place.config(["b"]));
    daemon.signal("SIGSTOP");
    const result = reload(daemon);
    const request = join(runtime, ".fetcher-reload/request");
    await eventually("the request", () => fs.existsSync(request));
    fill(runtime);
    daemon.signal("SIGCONT");
    expect((await result).code).toBe(0);
    expect(fs.readdirSync(join(runtime, ".fetcher-reload"))).toEqual([]);
  });
});
