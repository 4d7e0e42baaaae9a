import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { logLines, ordinary, Place } from "./daemon.ts";

const { version } = JSON.parse(fs.readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")) as {
  version: string;
};

/** The one line that `systemctl status` will show. */
function onlyLine(stderr: string): string {
  const lines = logLines(stderr);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatchObject({ level: "error" });
  return lines[0]?.message ?? "";
}

describe("help", () => {
  test("--help shows every option and exit code on stdout", async () => {
    const { code, stdout, stderr } = await new Place().run(["--help"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const word of ["--config", "--once", "--check=config", "--log-level", "64", "66", "69", "77", "78"])
      expect(stdout).toContain(word);
  });

  test("--version prints the package's version", async () => {
    expect(await new Place().run(["--version"])).toMatchObject({ code: 0, stdout: `fetcher ${version}\n`, stderr: "" });
  });
});

describe("a wrong command line exits 64, and one line names the option", () => {
  test.each([
    [["--frobnicate"], "--frobnicate"],
    [["--once", "--check"], "only one of --once, --check"],
    [["--check=all"], "--check=config"],
    [["--log-level", "loud"], "--log-level"],
    [["--set", "secretsDir"], "--set"],
    [["--set", "=x"], "--set"],
    [["--set", "a..b=x"], "--set"],
    [["--config"], "--config"],
    [["--once"], "expected --config FILE, or --backend NAME with --set KEY=VALUE (see --help)"],
    [["--check", "web.json"], '"web.json": a configuration file is given as --config FILE'],
    [["--check=config", "./web.json"], '"./web.json": a configuration file is given as --config FILE'],
    [["web.json"], '"web.json": a configuration file is given as --config FILE'],
    [["run", "web.json", "--", "true"], '"web.json": a configuration file is given as --config FILE'],
    [["run", "--", "true"], "expected --config FILE"],
    [["check", "./web.json"], 'check: "./web.json": expected the NAME of a service; for a file, --check --config FILE'],
  ])("%j", async (args, named) => {
    const { code, stdout, stderr } = await new Place().run(args, { env: { FETCHER_LOG_FORMAT: "json" } });
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(onlyLine(stderr)).toContain(named);
  });
});

needs("root").test("add --user with the home of another user, as sudo and su leave it, is 77 and says so", async () => {
  const place = new Place(undefined, ordinary);
  fs.mkdirSync(place.path("closed"), { mode: 0o700 });
  const env = { HOME: place.path("closed"), XDG_CONFIG_HOME: undefined, FETCHER_LOG_FORMAT: undefined };
  for (const command of ["add", "remove"])
    expect(
      await place.run([command, "--user", "web", ...(command === "add" ? ["a"] : [])], { ...ordinary, env }),
    ).toMatchObject({
      code: 77,
      stderr: `error: ${command}: ${place.path("closed")}/.config/fetcher is in a directory of another user: run it as that user, without sudo or su\n`,
    });
});

describe("an exit code tells systemd whether to retry when the folder does not deliver", () => {
  const modes = [["--once"], ["--check"]] as const;

  test.each(modes)("%s: a missing secret exits 66 with its id and path, and publishes nothing", async (mode) => {
    const place = new Place();
    place.put({ there: "value" });
    const { code, stderr } = await place.run([
      mode,
      ...folder(place),
      "--output",
      place.output,
      "there",
      "db_password",
    ]);
    expect(code).toBe(66);
    expect(stderr).toContain(`folder: secret "db_password": no file ${place.store}/db_password`);
    expect(fs.existsSync(place.output)).toBe(false);
  });

  test.each(modes)("%s: a missing directory exits 69", async (mode) => {
    const place = new Place();
    fs.rmdirSync(place.store);
    const { code, stderr } = await place.run([mode, ...folder(place), "id"]);
    expect(code).toBe(69);
    expect(stderr).toContain(place.store);
  });

  test.each(modes)("%s: an unreadable file exits 77", async (mode) => {
    const place = new Place(undefined, ordinary);
    place.put({ id: "value" });
    fs.chmodSync(join(place.store, "id"), 0);
    const { code, stderr } = await place.run([mode, ...folder(place), "id"], ordinary);
    expect(code).toBe(77);
    expect(stderr).toContain('secret "id"');
  });

  test("the most serious failure decides: the one a person must fix", async () => {
    const place = new Place(undefined, ordinary);
    place.put({ refused: "value" });
    fs.chmodSync(join(place.store, "refused"), 0);
    const { code, stderr } = await place.run(["--check", ...folder(place), "absent", "refused"], ordinary);
    expect(code).toBe(77);
    expect(stderr).toContain('"absent"');
    expect(stderr).toContain('"refused"');
  });
});

describe("a place where secrets must not go", () => {
  test.each([
    ["--output /tmp", ["--output", "/tmp"]],
    ["--output /tmp/", ["--output", "/tmp/"]],
    ["--output /var/tmp", ["--output", "/var/tmp"]],
  ])("%s: refuses the shared temporary directory with 78, for --once too", async (_, args) => {
    const place = new Place();
    const id = `fetcher-test-${process.pid}`;
    place.put({ [id]: "value" });
    for (const mode of [[], ["--once"]]) {
      const { code, stderr } = await place.run([...mode, ...folder(place), ...args, id, "--log-format=json"]);
      expect(code).toBe(78);
      expect(onlyLine(stderr)).toMatch(/refusing to write to the shared \/(?:var\/)?tmp/);
    }
    expect(fs.existsSync(`/tmp/${id}`)).toBe(false);
    expect(fs.existsSync(`/var/tmp/${id}`)).toBe(false);
  });

  test("refuses links in the shared /tmp too", async () => {
    const place = new Place();
    place.put({ id: "value" });
    const exit = await place.start(place.config(["id"], { output: { links: "/tmp" } })).exit;
    expect(exit.code).toBe(78);
    expect(onlyLine(exit.stderr)).toContain("/tmp");
  });

  test("refuses a daemon without an output with 78, and points to --once", async () => {
    const place = new Place();
    place.put({ id: "value" });
    const { code, stderr } = await place.run([...folder(place), "id"]);
    expect(code).toBe(78);
    expect(onlyLine(stderr)).toMatch(/output: .*--once/);
  });

  test("exits 73 for an output below a file", async () => {
    const place = new Place();
    place.put({ id: "value" });
    fs.writeFileSync(place.path("file"), "");
    for (const output of [place.path("file"), place.path("file/below")]) {
      const { code, stderr } = await place.run([...folder(place), "--output", output, "id"]);
      expect(code).toBe(73);
      expect(onlyLine(stderr)).toContain(output);
    }
  });

  test("exits 73 for an output in a directory that it may not write to", async () => {
    const place = new Place(undefined, ordinary);
    place.put({ id: "value" });
    fs.mkdirSync(place.path("closed"), { mode: 0o555 });
    for (const output of [place.path("closed"), place.path("closed/below")]) {
      const { code, stderr } = await place.run([...folder(place), "--output", output, "id"], ordinary);
      expect(code).toBe(73);
      expect(onlyLine(stderr)).toContain(output);
    }
  });
});

function folder(place: Place): string[] {
  return ["--backend", "folder", "--set", `secretsDir=${place.store}`];
}
