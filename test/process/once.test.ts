import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { ordinary, Place } from "./daemon.ts";

const VALUE = "canary-once-51c0";

test("--once publishes into a new private directory, prints its path, and leaves it there", async () => {
  const place = new Place(undefined, ordinary);
  place.put({ db_password: VALUE, "with space": `${VALUE}\n` });
  const exit = await place.run(["--once", ...folder(place), "db_password", "with space"], ordinary);
  expect(exit).toMatchObject({ code: 0, stderr: "" });
  const directory = /stay in (\S+) until you remove them/.exec(exit.stdout)?.[1] ?? "";
  expect(directory.startsWith(place.path("runtime", "fetcher-"))).toBe(true);
  expect(fs.statSync(directory).mode & 0o777).toBe(0o700);
  expect(fs.readFileSync(join(directory, "db_password"), "utf8")).toBe(VALUE);
  expect(fs.readFileSync(join(directory, "with space"), "utf8")).toBe(`${VALUE}\n`);
  expect(fs.readFileSync(join(directory, "secrets.env"), "utf8")).toContain(`with_space='${VALUE}'\n`);
});

test.each([
  ["not set", undefined],
  ["empty", ""],
])(
  "--once: each run creates its own directory, in $TMPDIR where $XDG_RUNTIME_DIR is %s",
  async (_, XDG_RUNTIME_DIR) => {
    const place = new Place();
    place.put({ id: VALUE });
    const args = ["--once", ...folder(place), "id"];
    const runs = await Promise.all([1, 2].map(() => place.run(args, { env: { XDG_RUNTIME_DIR } })));
    expect(runs.map(({ code }) => code)).toEqual([0, 0]);
    const directories = runs.map(({ stdout }) => /stay in (\S+) until/.exec(stdout)?.[1] ?? "");
    expect(new Set(directories).size).toBe(2);
    for (const directory of directories) expect(directory.startsWith(place.path("tmp", "fetcher-"))).toBe(true);
  },
);

needs("root").test("--once puts no secrets into another user's $XDG_RUNTIME_DIR (as after su)", async () => {
  const place = new Place();
  place.put({ id: VALUE });
  const others = place.path("others");
  fs.mkdirSync(others, { mode: 0o700 });
  fs.chownSync(others, 4711, 4711);
  const exit = await place.run(["--once", ...folder(place), "id"], { env: { XDG_RUNTIME_DIR: others } });
  expect(exit.code).toBe(0);
  expect(exit.stdout).toContain(place.path("tmp", "fetcher-"));
  expect(fs.readdirSync(others)).toEqual([]);
});

test("--once exits 73 with one line when $XDG_RUNTIME_DIR does not exist (as after su)", async () => {
  const place = new Place();
  place.put({ id: VALUE });
  const exit = await place.run(["--once", ...folder(place), "id"], { env: { XDG_RUNTIME_DIR: place.path("absent") } });
  expect(exit.code).toBe(73);
  expect(exit.stderr).toContain(place.path("absent"));
});

test("--once does not write to the configured output, where a sidecar may be at work", async () => {
  const place = new Place();
  place.put({ id: "one" });
  await place.start(place.config(["id"], { config: { reloadOnChange: false } })).ready();
  const before = fs.statSync(place.output).mtimeMs;
  place.put({ id: VALUE });
  const exit = await place.run(["--config", place.path("config.json"), "--once"]);
  expect(exit.stdout).toContain(`stay in ${place.path("runtime", "fetcher-")}`);
  expect(place.read("id")).toBe("one");
  expect(fs.statSync(place.output).mtimeMs).toBe(before);
});

test("--once shows id, file, variable, size, version and origin of every secret, and no value", async () => {
  const place = new Place();
  place.put({ plain: VALUE, mapped: VALUE, hidden: VALUE });
  const secrets = {
    plain: {},
    other: { source: { file: "mapped" }, file: "other.key", env: "OTHER_KEY" },
    hidden: { env: null },
    absent: { optional: true },
  };
  const exit = await place.run(["--config", place.writeConfig(place.config(secrets)), "--once"]);
  expect(exit).toMatchObject({ code: 0, stderr: "" });
  const rows = exit.stdout.split("\n").map((line) => line.split(/ {2,}/));
  expect(rows[0]).toEqual(["ID", "FILE", "VARIABLE", "BYTES", "VERSION", "FROM"]);
  const size = String(VALUE.length);
  expect(rows[1]).toEqual(["plain", "plain", "plain", size, expect.stringMatching(/^20/), join(place.store, "plain")]);
  expect(rows[2]).toMatchObject([
    "other",
    "other.key",
    "OTHER_KEY",
    size,
    expect.anything(),
    join(place.store, "mapped"),
  ]);
  expect(rows[3]?.slice(0, 4)).toEqual(["hidden", "hidden", "-", size]);
  expect(rows[4]?.slice(0, 5)).toEqual(["absent", "-", "-", "-", "missing (optional)"]);
  expect(exit.stdout + exit.stderr).not.toContain(VALUE);
});

test.each(["--once", "--check"])(
  "%s continues without a bad optional secret, as the daemon does, and says so",
  async (flag) => {
    const place = new Place();
    place.put({ plain: VALUE });
    fs.mkdirSync(join(place.store, "spoilt"));
    const config = place.config({ plain: {}, spoilt: { optional: true } });
    const args = [
      "--config",
      place.writeConfig(config),
      flag,
      ...(flag === "--once" ? ["--output", place.output] : []),
    ];
    const exit = await place.run(args);
    expect(exit.code).toBe(0);
    expect(exit.stdout).toMatch(/^spoilt .*\binvalid \(optional\) /m);
    expect(exit.stderr).toContain('secret "spoilt"');
    expect(exit.stderr).toContain("is not a regular file");
    expect(place.published()).toEqual(flag === "--once" ? { plain: VALUE, "secrets.env": `plain='${VALUE}'\n` } : {});
  },
);

test("--once keeps the earlier value of an optional secret, unless the store says that it is gone", async () => {
  const place = new Place();
  place.put({ plain: "one", spare: VALUE });
  const config = place.writeConfig(place.config({ plain: {}, spare: { optional: true } }));
  const args = ["--config", config, "--once", "--output", place.output];
  expect((await place.run(args)).code).toBe(0);
  place.put({ plain: "two" });
  fs.rmSync(join(place.store, "spare"));
  fs.mkdirSync(join(place.store, "spare"));
  const spoilt = await place.run(args);
  expect(spoilt.code).toBe(0);
  expect(spoilt.stdout).toMatch(/^spare .*\bpublished before /m);
  expect(place.published()).toMatchObject({ plain: "two", spare: VALUE });
  fs.rmdirSync(join(place.store, "spare"));
  expect((await place.run(args)).code).toBe(0);
  expect(Object.keys(place.published())).toEqual(["plain", "secrets.env"]);
});

test("--once keeps the earlier value of a secret that is empty now, and says so", async () => {
  const place = new Place();
  place.put({ plain: "one", spare: "one" });
  const config = place.writeConfig(place.config({ plain: {}, spare: { empty: true } }));
  const args = ["--config", config, "--once", "--output", place.output];
  expect((await place.run(args)).code).toBe(0);
  place.put({ plain: "", spare: "" });
  const emptied = await place.run(args);
  expect(emptied.code).toBe(0);
  expect(emptied.stderr).toBe(
    `secret "plain": ${join(place.store, "plain")} is empty; the published values stay in use\n`,
  );
  expect(place.published()).toMatchObject({ plain: "one", spare: "" });
});

test("--once names a secret that a shell could not read, and still publishes its file", async () => {
  const place = new Place();
  place.put({ binary: Buffer.from([0, 1, 2]), text: VALUE });
  const exit = await place.run([
    "--config",
    place.writeConfig(place.config(["binary", "text"])),
    "--once",
    "--output",
    place.output,
  ]);
  expect(exit.code).toBe(0);
  expect(exit.stderr).toContain('secret "binary" is not in secrets.env');
  expect(fs.readFileSync(join(place.output, "binary"))).toEqual(Buffer.from([0, 1, 2]));
});

test("--once exits 78 and publishes nothing when a value does not fit its explicit variable", async () => {
  const place = new Place();
  place.put({ binary: Buffer.concat([Buffer.from(VALUE), Buffer.from([0])]) });
  const exit = await place.run([
    "--config",
    place.writeConfig(place.config({ binary: { env: "BINARY" } })),
    "--once",
    "--output",
    place.output,
  ]);
  expect(exit.code).toBe(78);
  expect(exit.stderr).toContain('secret "binary"');
  expect(exit.stderr).not.toContain(VALUE);
  expect(place.published()).toEqual({});
});

test("--once keeps an existing set whole when the store fails", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const args = ["--once", ...folder(place), "--output", place.output, "id"];
  expect((await place.run(args)).code).toBe(0);
  const before = place.published();
  fs.rmSync(join(place.store, "id"));
  expect((await place.run(args)).code).toBe(66);
  expect(place.published()).toEqual(before);
  place.put({ id: "two" });
  expect((await place.run(args)).code).toBe(0);
  expect(place.read("id")).toBe("two");
});

test("--check reports for every secret whether it is there, prints no value and writes nothing", async () => {
  const place = new Place();
  place.put({ there: VALUE });
  const config = place.config({ there: {}, absent: {}, spare: { optional: true } });
  const exit = await place.run(["--config", place.writeConfig(config), "--check"]);
  expect(exit.code).toBe(66);
  const rows = exit.stdout.split("\n").map((line) => line.split(/ {2,}/).slice(0, 2));
  expect(rows.slice(0, 4)).toEqual([
    ["ID", "STATE"],
    ["there", "there"],
    ["absent", "missing"],
    ["spare", "missing (optional)"],
  ]);
  expect(exit.stdout + exit.stderr).not.toContain(VALUE);
  expect(fs.existsSync(place.output)).toBe(false);
  for (const directory of ["tmp", "runtime", "cwd"]) expect(fs.readdirSync(place.path(directory))).toEqual([]);
});

test("--check exits 0 when all secrets are there", async () => {
  const place = new Place();
  place.put({ id: VALUE });
  expect(await place.run(["--check", ...folder(place), "id"])).toMatchObject({ code: 0, stderr: "" });
});

test("--check finds an owner that does not exist", async () => {
  const place = new Place();
  place.put({ id: VALUE });
  const config = place.config({ id: { owner: "no-such-user-here" } });
  const exit = await place.run(["--config", place.writeConfig(config), "--check"]);
  expect(exit.code).toBe(78);
  expect(exit.stderr).toContain("secrets.id.owner");
});

test("refuses an id that would move the cursor, and does not print it raw", async () => {
  const place = new Place();
  place.put({ "\u009b31mred": VALUE });
  const exit = await place.run(["--check", ...folder(place), "\u009b31mred"]);
  expect(exit).toMatchObject({ code: 78, stdout: "" });
  expect(exit.stderr).toContain("must not contain control characters");
  expect(exit.stderr).not.toContain("\u009b");
});

function folder(place: Place): string[] {
  return ["--backend", "folder", "--set", `secretsDir=${place.store}`];
}
