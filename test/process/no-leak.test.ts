/** A secret is in the published files and nowhere else, whatever goes wrong, at the most talkative log level. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { needs } from "../requirements.ts";
import { Canaries } from "./canaries.ts";
import { eventually, forHelper, Place } from "./daemon.ts";
import { fakeSystemctl } from "./fake-systemctl.ts";

const TRACE = ["--log-level", "trace"];

/** Fakes, first in $PATH, that note their arguments and environment: systemd-notify(1), getent(1) and a sleeping one. */
function fakeHelpers(place: Place): { readonly bin: string; readonly seen: string } {
  const bin = place.path("fake-helpers");
  const seen = place.path("helpers-seen");
  fs.mkdirSync(bin);
  fs.writeFileSync(seen, "");
  for (const name of ["systemd-notify", "getent"])
    fs.writeFileSync(
      join(bin, name),
      `#!/bin/sh\n{ echo "${name} $*"; tr '\\0' '\\n' </proc/$$/environ; } >>'${seen}'\n`,
      { mode: 0o755 },
    );
  return { bin, seen };
}

test("during a whole life: load, rotation, action, refusal, outage, recovery, crash, adoption, stop", async () => {
  const canaries = new Canaries();
  const place = new Place();
  const values = ["one", "two", "three"].map((name) => canaries.value(name));
  const [one = "", two = "", three = ""] = values;
  const refused = `refuse ${canaries.value("refused")}`;
  const binary = Buffer.concat([Buffer.from([0xff, 0]), Buffer.from(canaries.value("binary"))]);
  place.put({ id: one, binary, owned: one });
  const systemctl = fakeSystemctl(place, "/dev/null");
  const helpers = fakeHelpers(place);
  const env = { PATH: `${helpers.bin}:${systemctl.env.PATH}`, NOTIFY_SOCKET: forHelper };
  const script = 'printf "%s\\n" "$id"; printf "%s\\n" "$id" >&2; case $id in refuse*) exit 1; esac';
  const config = {
    ...place.config(
      { id: {}, binary: {}, owned: { group: "no-group-that-files-know" } },
      { onChange: { settle: 0, minInterval: 0, verify: { command: ["sh", "-c", script] } } },
    ),
    service: "target.service",
  };
  // Asks the fake getent, which knows nothing: one more helper, and one more error.
  const unknown = await place.start(config, { args: TRACE, env }).exit;
  expect(unknown.code).toBe(78);
  canaries.watch("stderr, unknown group", unknown.stderr);

  config.secrets = { id: {}, binary: {}, owned: {} };
  const first = await place.start(config, { args: TRACE, env }).ready();
  canaries.watchProcess(first.pid);
  place.put({ id: two });
  await first.says(/restart done/);
  place.put({ id: refused });
  await first.says(/are not published/);
  fs.renameSync(place.store, place.path("away"));
  await first.says(/the published values stay in use/);
  canaries.watchProcess(first.pid);
  await first.end("SIGKILL");
  canaries.watch("stderr of the first", first.stderr);

  const second = await place.start(config, { args: TRACE, env }).ready();
  expect(second.lines.some(({ message }) => message.includes("published before stays in use"))).toBe(true);
  canaries.watchProcess(second.pid);
  fs.renameSync(place.path("away"), place.store);
  place.put({ id: three, owned: three });
  await eventually("the newest", () => place.read("id") === three && place.read("owned") === three);
  second.signal("SIGHUP");
  await second.says(/nothing has changed/);
  canaries.watch(".fetcher-state", place.read(".fetcher-state") ?? "");
  const exit = await second.end();
  expect(exit.code).toBe(0);
  canaries.watch("stderr of the second", exit.stderr);
  canaries.watch("stdout", `${exit.stdout} `);

  const said = () => fs.readFileSync(helpers.seen, "utf8");
  for (const word of ["--ready", "--status=", "STOPPING=1", "getent group"])
    await eventually(word, () => said().includes(word));
  expect(systemctl.calls()).not.toEqual([]);
  canaries.watchFiles(place.root, [place.store]);
  canaries.expectNoLeak();
});

describe("--once and --check", () => {
  test.each([["--once"], ["--check"], ["--check=config"]])("%s: tables and warnings", async (mode) => {
    const canaries = new Canaries();
    const place = new Place();
    const value = canaries.value("value");
    place.put({ id: value, binary: Buffer.from(`\0${value}`) });
    const path = place.writeConfig(place.config(["id", "binary"]));
    const exit = await place.run(["--config", path, mode, ...TRACE]);
    expect(exit.code).toBe(0);
    canaries.watch("stdout", exit.stdout);
    canaries.watch("stderr", exit.stderr);
    // What --once publishes without --output is there.
    canaries.watchFiles(place.root, [place.store, place.path("runtime")]);
    canaries.expectNoLeak();
    // The harness itself: the search must find the canaries.
    canaries.watchFiles(place.store);
    expect(canaries.found().length).toBeGreaterThan(0);
  });
});

describe("failures", () => {
  /** Runs what must fail, and looks everywhere. */
  async function fails(
    code: number,
    prepare: (place: Place, value: string) => unknown,
    args: (place: Place) => readonly string[] = () => [],
  ) {
    const canaries = new Canaries();
    const place = new Place();
    const value = canaries.value("value");
    const path = place.writeConfig(prepare(place, value));
    const exit = await place.run(["--config", path, ...args(place), ...TRACE]);
    expect(exit.code).toBe(code);
    canaries.watch("stdout", `${exit.stdout} `);
    canaries.watch("stderr", exit.stderr);
    canaries.watchFiles(place.root, [place.store, path, place.path("backend.mjs")]);
    canaries.expectNoLeak();
  }

  test.each([[[]], [["--once"]]])("a value that its variable cannot carry %j", (args) =>
    fails(
      78,
      (place, value) => {
        place.put({ id: `${value}\0` });
        return place.config({ id: { env: "ID" } });
      },
      () => args,
    ),
  );

  test.each([[[]], [["--once"]]])("a directory at a file's name %j", (args) =>
    fails(
      73,
      (place, value) => {
        place.put({ id: value, other: value });
        fs.mkdirSync(join(place.output, "id"), { recursive: true });
        return place.config(["other", "id"]);
      },
      (place) => [...args, "--output", place.output],
    ),
  );

  test("a missing required secret beside an existing one", () =>
    fails(66, (place, value) => {
      place.put({ id: value });
      return place.config(["id", "absent"]);
    }));

  test("a configuration that is not JSON", () =>
    fails(78, (_, value) => `${JSON.stringify({ values: { id: value } }).slice(0, -1)} "${value}"`));

  test.each<[string, (value: string) => object]>([
    ["without allowInsecure", (value) => ({ config: { values: { id: value } } })],
    ["of a wrong type", (value) => ({ config: { values: { id: [value] }, allowInsecure: true } })],
    ["one level too deep", (value) => ({ config: { values: { id: { value } }, allowInsecure: true } })],
    ["in the place of a flag", (value) => ({ config: { values: {}, allowInsecure: value } })],
    ["in the place of an object", (value) => ({ secrets: { id: value } })],
    ["in the place of a duration", (value) => ({ startTimeout: value })],
  ])("a secret in the configuration itself, %s", (_, wrong) =>
    fails(78, (place, value) => ({ ...place.config(["id"]), backend: "static", ...wrong(value) })),
  );

  describe("a third party's backend that puts values into its errors", () => {
    const backend = (place: Place, value: string, body: string, startTimeout: number | null = null) => {
      fs.writeFileSync(
        place.path("backend.mjs"),
        `const value = ${JSON.stringify(value)};
class Odd extends Error { constructor() { super(value); this.name = value; this.code = value; this.response = value; } }
export default {
  name: "odd",
  defaultPollingInterval: 1,
  parseSettings: () => ({}),
  parseSource: () => ({}),
  describe: () => "odd",
  open: async () => ({ fetch: async () => { ${body} } }),
};`,
      );
      return { ...place.config(["id"]), backend: place.path("backend.mjs"), config: {}, startTimeout };
    };
    test("thrown from fetch", () => fails(69, (place, value) => backend(place, value, "throw new Odd()", 1)));
    test("the backend throws something that is no error", () =>
      fails(69, (place, value) => backend(place, value, "throw value", 1)));
    test("thrown outside the call: a bug, 70", () =>
      fails(70, (place, value) =>
        backend(place, value, "setImmediate(() => { throw new Odd(); }); await new Promise(() => {})"),
      ));
    test("rejected outside the call: a bug, 70", () =>
      fails(70, (place, value) =>
        backend(place, value, "void Promise.reject(new Odd()); await new Promise(() => {})"),
      ));
    test("the backend returns an outcome of an unknown shape", () =>
      fails(78, (place, value) => backend(place, value, 'return new Map([["id", { value }]])')));
  });

  needs("mount-namespace").test("a full output", async () => {
    const canaries = new Canaries();
    const place = new Place();
    const value = canaries.value("value");
    fs.mkdirSync(place.path("small"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "mode=0700,size=64k", "tmpfs", place.path("small")]);
    onTestFinished(() => {
      execFileSync("umount", ["--lazy", place.path("small")]);
    });
    place.put({ small: value, large: value.repeat(5000) });
    const exit = await place.start(
      place.config(["small", "large"], { output: { directory: place.path("small", "out") } }),
      {
        args: TRACE,
      },
    ).exit;
    expect(exit.code).toBe(74);
    canaries.watch("stderr", exit.stderr);
    canaries.watchFiles(place.root, [place.store]);
    canaries.expectNoLeak();
  });
});
