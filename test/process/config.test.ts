import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { logLines, ordinary, Place } from "./daemon.ts";

/** In the wrong places of a configuration; an error that quotes what it found shows it to everybody. */
const CANARY = "canary-7f3a91c2";

/** What `--check=config` says of a configuration that should be refused. */
async function refusal(config: unknown, args: readonly string[] = []): Promise<string> {
  const place = new Place();
  const path = place.writeConfig(config);
  const { code, stdout, stderr } = await place.run([
    "--config",
    path,
    "--check=config",
    "--log-level",
    "trace",
    ...args,
  ]);
  expect({ code, stdout }).toEqual({ code: 78, stdout: "" });
  const lines = logLines(stderr);
  expect(lines).toHaveLength(1);
  expect(stderr).not.toContain(CANARY);
  return lines[0]?.message ?? "";
}

const good = {
  backend: "folder",
  config: { secretsDir: "/nonexistent" },
  secrets: { id: {} },
  output: { directory: "/not-there/out" },
};

test("--check=config accepts a good configuration without a store, an output or an owner", async () => {
  const place = new Place();
  const path = place.writeConfig({ ...good, secrets: { id: { owner: "no-such-user-here" } } });
  const exit = await place.run(["--config", path, "--check=config"]);
  expect(exit).toMatchObject({ code: 0, stdout: "the configuration is good\n", stderr: "" });
});

describe("names a wrong option by its path, and does not show its value", () => {
  test.each<[string, unknown]>([
    ["secretz", { ...good, secretz: { id: CANARY } }],
    ["secrets.id.modes", { ...good, secrets: { id: { modes: CANARY } } }],
    ["secrets.id.mode", { ...good, secrets: { id: { mode: CANARY } } }],
    ["secrets.id.mode", { ...good, secrets: { id: { mode: 400 } } }],
    ["secrets.id", { ...good, secrets: { id: CANARY } }],
    ["secrets.id.source.file", { ...good, secrets: { id: { source: { file: [CANARY] } } } }],
    ["secrets.id.source.file", { ...good, secrets: { id: { source: { file: `../${CANARY}` } } } }],
    ["secrets.id.source.path", { ...good, secrets: { id: { source: { path: CANARY } } } }],
    ["secrets.id.optional", { ...good, secrets: { id: { optional: CANARY } } }],
    ["secrets.id.env", { ...good, secrets: { id: { env: `1${CANARY}` } } }],
    ["secrets.id.file", { ...good, secrets: { id: { file: `a/${CANARY}` } } }],
    ["secrets.id.file", { ...good, secrets: { id: { file: ".fetcher-state" } } }],
    ['secrets["a/b"]', { ...good, secrets: { "a/b": {} } }],
    ['secrets[".."]', { ...good, secrets: { "..": {} } }],
    ["secrets", { ...good, secrets: {} }],
    ["secrets", { ...good, secrets: CANARY }],
    ["config.secretsDir", { ...good, config: {} }],
    ["config.secretsDir", { ...good, config: { secretsDir: CANARY } }],
    ["config.secretsDirs", { ...good, config: { secretsDir: "/x", secretsDirs: CANARY } }],
    ["config.pollingInterval", { ...good, config: { secretsDir: "/x", pollingInterval: CANARY } }],
    ["config.pollingInterval", { ...good, config: { secretsDir: "/x", pollingInterval: 0 } }],
    ["config.pollingInterval", { ...good, config: { secretsDir: "/x", pollingInterval: -1 } }],
    ["config.refreshInterval", { ...good, config: { secretsDir: "/x", pollingInterval: 5, refreshInterval: 5 } }],
    ["config.reloadOnChange", { ...good, config: { secretsDir: "/x", reloadOnChange: CANARY } }],
    ["config", { ...good, config: CANARY }],
    ["output.directory", { ...good, output: { directory: CANARY } }],
    ["output.directory", { ...good, output: {} }],
    ["output.envFile", { ...good, output: { directory: "/x", envFile: `/${CANARY}` } }],
    ["output.links", { ...good, output: { directory: "/x", links: "/x" } }],
    ["output.linksTo", { ...good, output: { directory: "/x", linksTo: "/y" } }],
    ["onChange.action", { ...good, onChange: { action: CANARY } }],
    ["onChange.signal", { ...good, onChange: { action: "signal" } }],
    ["onChange.signal", { ...good, onChange: { signal: "SIGHUP" } }],
    ["onChange.signal", { ...good, onChange: { action: "signal", signal: CANARY } }],
    ["onChange.settle", { ...good, onChange: { settle: CANARY } }],
    ["onChange.verify.command", { ...good, onChange: { verify: { command: CANARY } } }],
    ["onChange.verify.command", { ...good, onChange: { verify: { command: [] } } }],
    ["onChange.verify.timeout", { ...good, onChange: { verify: { command: ["true"], timeout: CANARY } } }],
    ["startTimeout", { ...good, startTimeout: CANARY }],
    ["service", { ...good, service: `${CANARY}.socket` }],
    ["backend", { ...good, backend: "fodler" }],
    ["backend", { ...good, backend: undefined }],
  ])("%s (%#)", async (path, config) => {
    expect(await refusal(config)).toMatch(new RegExp(`^configuration: ${escape(path)}: `));
  });

  test.each([
    ["an array", [CANARY]],
    ["null", null],
    ["a string", JSON.stringify(CANARY)],
    ["a number", 5],
  ])("refuses %s in place of the whole configuration", async (_, config) => {
    expect(await refusal(config)).toMatch(/^configuration: /);
  });
});

describe("refuses two secrets that would overwrite each other, and names both", () => {
  test("one file", async () => {
    const message = await refusal({ ...good, secrets: { a: { file: "same" }, b: { file: "same" } } });
    expect(message).toContain("secrets.b.file");
    expect(message).toContain("secrets.a");
  });
  test("the file of another secret's id", async () => {
    expect(await refusal({ ...good, secrets: { a: {}, b: { file: "a" } } })).toContain("secrets.b.file");
  });
  test("secrets.env", async () => {
    expect(await refusal({ ...good, secrets: { "secrets.env": {} } })).toContain("output.envFile");
  });
  test("one variable", async () => {
    const message = await refusal({ ...good, secrets: { a: { env: "SAME" }, b: { env: "SAME" } } });
    expect(message).toContain("secrets.b.env");
    expect(message).toContain("secrets.a.env");
  });
});

describe("a file that is not JSON", () => {
  const broken = `{\n  "backend": "folder",\n  "config": { "password": "${CANARY}" "secretsDir" }\n}`;

  test("reports line and column, and does not quote the text", async () => {
    expect(await refusal(broken)).toMatch(
      /config\.json is not JSON at line 3, column 4\d: a comma is missing before this$/,
    );
  });
  test.each([
    ["empty", ""],
    ["cut off in a string", `{ "backend": "${CANARY}`],
    ["two values", `{} "${CANARY}"`],
    ["a bare word", CANARY],
    ["control characters", `{ "a": "${CANARY}\u0001" }`],
    ["not UTF-8", Buffer.from([0xff, 0xfe, 0x7b]).toString("latin1")],
  ])("%s", async (_, text) => {
    expect(await refusal(text)).toMatch(/config\.json is not JSON/);
  });
  test("a name in Latin-1: another name would be published without a word", async () => {
    const place = new Place();
    const text = JSON.stringify({ ...good, secrets: { "a\ufffd": {}, xyz: {} } }, undefined, 1);
    const path = place.path("latin1.json");
    const wrong = Buffer.concat(
      text.split("xyz").flatMap((part, index) => [...(index === 0 ? [] : [Buffer.from([0xe9])]), Buffer.from(part)]),
    );
    writeFileSync(path, wrong);
    const line = text.slice(0, text.indexOf("xyz")).split("\n").length;
    const { code, stderr } = await place.run(["--config", path, "--check=config"]);
    expect(stderr).toContain(`latin1.json is not JSON at line ${line}, column 4: save it as UTF-8`);
    expect(code).toBe(78);
  });
  test("reports a missing file or a directory, with its path", async () => {
    const place = new Place();
    for (const [path, code] of [
      [place.path("absent.json"), "no such file or directory (ENOENT)"],
      [place.root, "it is not a regular file"],
    ] as const) {
      const exit = await place.run(["--config", path, "--check=config"]);
      expect(exit.code).toBe(78);
      expect(exit.stderr).toContain(`cannot read ${path}: ${code}`);
    }
  });
});

describe("refuses in one line a file that is not text, at once and without reading it into memory", () => {
  const hostile: Readonly<Record<string, (path: string) => void>> = {
    "a fifo": (path) => execFileSync("mkfifo", [path]),
    "a link to /dev/zero": (path) => {
      symlinkSync("/dev/zero", path);
    },
    "a file of 10 GB": (path) => {
      writeFileSync(path, "");
      truncateSync(path, 10 * 1024 ** 3);
    },
  };
  describe.each(Object.entries(hostile))("%s", (_, make) => {
    test.each(["a configuration", "a configuration of which units are made", "a template"])("as %s", async (what) => {
      const place = new Place();
      const path = place.path("hostile.json");
      make(path);
      const file = place.path("config.json");
      const config = { backend: "folder", config: { secretsDir: place.store }, secrets: { a: {} } };
      writeFileSync(file, JSON.stringify({ ...config, templates: { x: { template: path } } }));
      const words = {
        "a configuration": ["--config", path, "--check=config"],
        "a configuration of which units are made": ["units", path],
        "a template": ["--config", file, "--check=config"],
      }[what];
      const { code, stderr } = await place.run(words ?? [], { wrapper: ["timeout", "-s", "KILL", "60"] });
      expect(code).toBe(78);
      expect(stderr).toContain(path);
      const [line, ...more] = logLines(stderr);
      expect(line?.message).toMatch(/is not a regular file$|is larger than 16 MiB$/);
      expect(more).toEqual([]);
    });
  });

  test("reports a directory that it cannot list without calling it a bug", async () => {
    const place = new Place();
    const directory = place.path("units");
    mkdirSync(directory);
    writeFileSync(`${directory}/app@a.json`, JSON.stringify({ secrets: { a: {} } }), { mode: 0o644 });
    for (const [path, mode] of [
      [place.root, 0o755],
      [directory, 0o111],
    ] as const)
      chmodSync(path, mode);
    const { code, stderr } = await place.run(["units", `${directory}/app@a.json`], ordinary);
    chmodSync(directory, 0o755);
    expect(logLines(stderr).map(({ message }) => message)).toEqual([
      `the system refuses scandir ${directory}: permission denied (EACCES)`,
    ]);
    expect(code).toBe(74);
  });

  test("reads a pipe that a shell makes", async () => {
    const place = new Place();
    const config = { backend: "folder", config: { secretsDir: place.store }, secrets: { a: {} } };
    const shell = ["sh", "-c", `printf %s "$CONFIG" | "$@"`, "sh"];
    const env = { CONFIG: JSON.stringify(config) };
    for (const path of ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
      expect(await place.run(["--config", path, "--check=config"], { wrapper: shell, env })).toMatchObject({ code: 0 });
    const endless = ["sh", "-c", `cat /dev/zero | "$@"`, "sh"];
    const { code, stderr } = await place.run(["--config", "/dev/stdin", "--check=config"], { wrapper: endless });
    expect(code).toBe(78);
    expect(stderr).toContain("cannot read /dev/stdin: it is larger than 16 MiB");
  });
});

describe("flags override the file", () => {
  test("--set takes JSON values as they are, and descends at dots", async () => {
    const module = new Place();
    const backend = module.path("shows.mjs");
    writeFileSync(backend, showingBackend);
    const args = [
      "--backend",
      backend,
      "--set",
      "a.b.c=1",
      "--set",
      "a.b.d=[true]",
      "--set",
      "s=plain",
      "--set",
      "q=a=b",
    ];
    const exit = await module.run([...args, "--check", "id"]);
    expect(exit).toMatchObject({ code: 0, stderr: "" });
    expect(exit.stdout).toContain('{"a":{"b":{"c":1,"d":[true]}},"s":"plain","q":"a=b"}');
  });

  test("--set does not descend into a value that is not an object", async () => {
    expect(await refusal(good, ["--set", "secretsDir.x=1"])).toMatch(/^configuration: config\.secretsDir: /);
  });

  test("--set can break a good file, and the error gives the path", async () => {
    expect(await refusal(good, ["--set", "pollingInterval=soon"])).toMatch(/^configuration: config\.pollingInterval: /);
  });

  test("ids as arguments extend the table, and keep its settings of the same id", async () => {
    const place = new Place();
    place.put({ renamed: "one", second: "two" });
    const config = place.config({ first: { source: { file: "renamed" } } });
    const exit = await place.run([
      "--config",
      place.writeConfig(config),
      "--once",
      "--output",
      place.output,
      "second",
      "first",
      "second",
    ]);
    expect(exit).toMatchObject({ code: 0, stderr: "" });
    expect(place.published()).toMatchObject({ first: "one", second: "two" });
  });

  test("checks an id given as an argument like one in the table", async () => {
    expect(await refusal(good, ["a/b"])).toMatch(/^configuration: secrets\["a\/b"\]: /);
  });

  test("--output overrides the directory, and the file names in it stay the same", async () => {
    const place = new Place();
    place.put({ id: "value" });
    const path = place.writeConfig({
      ...place.config(["id"]),
      output: { directory: "/nonexistent", links: "/nonexistent2" },
    });
    expect(await place.run(["--config", path, "--once", "--output", place.output])).toMatchObject({ code: 0 });
    expect(place.published()).toMatchObject({ id: "value" });
  });
});

/** A third party's backend: its place of a secret is what it was configured with. */
const showingBackend = `export default {
  name: "shows",
  defaultPollingInterval: null,
  parseSettings: (settings) => settings,
  parseSource: (id) => ({ id }),
  describe: (source, settings) => JSON.stringify(settings),
  open: async () => ({
    fetch: async (requests) =>
      new Map(requests.map(({ id }) => [id, { status: "value", value: Buffer.from("value"), version: "1" }])),
  }),
};
`;

function escape(text: string): string {
  return text.replaceAll(/[.[\]]/g, "\\$&");
}
