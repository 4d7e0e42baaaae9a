import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadConfig, parseConfig } from "../../../src/config/config.ts";
import { ConfigError, FatalError } from "../../../src/contract/errors.ts";
import { configOf, noFlags } from "../command-line.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

const canary = "canary-c0f1";

/** The message of the refusal, which must show no value that was found. */
function refusal(json: unknown, flags: Parameters<typeof configOf>[1] = {}): string {
  try {
    parseConfig(json, { ...noFlags, ...flags }, "/etc");
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { exitCode, message } = error as ConfigError;
    expect(exitCode).toBe(78);
    expect(message).not.toContain(canary);
    expect(message).not.toContain("\n");
    return message.replace(/^configuration: /, "");
  }
  throw new Error("accepted");
}

const good = { backend: "folder", secrets: { a: {} } };

test("omitted options have their documented defaults", () => {
  expect(parseConfig(good, noFlags, "/etc/fetcher")).toEqual({
    targets: [],
    backend: "folder",
    settings: {},
    baseDirectory: "/etc/fetcher",
    reloadOnChange: false,
    pollingInterval: undefined,
    secrets: [
      {
        id: "a",
        source: {},
        file: "a",
        env: undefined,
        mode: undefined,
        owner: undefined,
        group: undefined,
        optional: false,
        empty: false,
        decode: undefined,
        join: false,
        all: false,
        prefix: "",
      },
    ],
    templates: [],
    output: undefined,
    onChange: { action: "restart", signal: null, settle: 2, minInterval: 3, splay: 0, verify: null },
    startTimeout: null,
    resident: true,
    onDemand: false,
    delivery: "files",
    environment: false,
  });
});

test("every option arrives in its place", () => {
  const config = configOf({
    service: ["app.service", "worker@1", "app"],
    config: { secretsDir: "/s", reloadOnChange: true, refreshInterval: 7 },
    secrets: { tls: { source: { file: "x" }, file: "tls.key", env: null, mode: "0440", owner: 33, group: "ssl-cert" } },
    output: { directory: "/run/x/pub/", links: "/tmp/", envFile: null },
    onChange: { action: "signal", signal: "SIGHUP", settle: 0, minInterval: 0, splay: 9, verify: { command: ["/v"] } },
    templates: { "app.ini": { template: "app.mustache", mode: "0440", owner: 33, group: "ssl-cert" } },
    startTimeout: 60,
  });
  expect(config).toMatchObject({
    targets: ["app.service", "worker@1.service"],
    settings: { secretsDir: "/s" },
    pollingInterval: 7,
    secrets: [{ id: "tls", source: { file: "x" }, file: "tls.key", env: null, mode: 0o440, owner: "33" }],
    templates: [{ file: "app.ini", path: "/etc/fetcher/app.mustache", mode: 0o440, owner: "33", group: "ssl-cert" }],
    output: { directory: "/run/x/pub", links: "/tmp", linksTo: "/tmp/.secrets", envFile: null },
    onChange: { action: "signal", signal: "SIGHUP", verify: { command: ["/v"], timeout: 30 } },
    startTimeout: 60,
  });
  expect(config.settings).toEqual({ secretsDir: "/s" });
});

describe("each error names its option, and never shows its value", () => {
  const seconds = "expected a number of seconds";
  const rootOptions =
    "service, backend, config, secrets, templates, output, onChange, startTimeout, resident, delivery, environment, $schema";
  const secretOptions = "source, file, env, mode, owner, group, optional, empty, decode, join, all, prefix";
  test.each<[string, unknown]>([
    [`expected an object: known here are ${rootOptions}`, []],
    [`expected an object: known here are ${rootOptions}`, null],
    [`expected an object: known here are ${rootOptions}`, canary],
    [`bakend: unknown option: known here are ${rootOptions}; did you mean "backend"?`, { bakend: canary }],
    ["backend: is required (or --backend NAME)", { secrets: { a: {} } }],
    ["backend: must not be empty", { ...good, backend: "" }],
    ["backend: expected a string", { ...good, backend: [canary] }],
    ["secrets: at least one secret is required, here or on the command line", { backend: "folder" }],
    ['secrets: expected an object: {"ID": {}}', { ...good, secrets: [canary] }],
    [
      'onChange.verify.command: expected an array of strings: ["program", "argument"]',
      { ...good, onChange: { verify: { command: canary } } },
    ],
    [`secrets.a: expected an object: known here are ${secretOptions}`, { ...good, secrets: { a: canary } }],
    ['secrets.a.mode: expected an octal string such as "0400"', { ...good, secrets: { a: { mode: 400 } } }],
    ['secrets.a.mode: expected an octal string such as "0400"', { ...good, secrets: { a: { mode: "4755" } } }],
    [
      'secrets.a.mdoe: unknown option: known here are source, file, env, mode, owner, group, optional, empty, decode, join, all, prefix; did you mean "mode"?',
      { ...good, secrets: { a: { mdoe: canary } } },
    ],
    [
      "secrets.a.constructor: unknown option: known here are source, file, env, mode, owner, group, optional, empty, decode, join, all, prefix",
      { ...good, secrets: { a: { constructor: 1 } } },
    ],
    ["secrets.a.source: expected an object", { ...good, secrets: { a: { source: canary } } }],
    ["secrets.a.file: must not contain a slash", { ...good, secrets: { a: { file: `../${canary}` } } }],
    ["secrets.a.file: must not be . or ..", { ...good, secrets: { a: { file: ".." } } }],
    ["secrets.a.file: must not begin with .fetcher-", { ...good, secrets: { a: { file: ".fetcher-state" } } }],
    ["secrets.a.file: must not be longer than 255 bytes", { ...good, secrets: { a: { file: "é".repeat(128) } } }],
    ["secrets.a.file: must not contain a NUL character", { ...good, secrets: { a: { file: "a\0b" } } }],
    ["secrets.a.file: must not contain control characters", { ...good, secrets: { a: { file: "a\nb" } } }],
    ["secrets.a.file: must be Unicode text", { ...good, secrets: { a: { file: "\ud800" } } }],
    [
      "secrets.b.file: is already the file of secrets.a",
      { ...good, secrets: { a: { file: canary }, b: { file: canary } } },
    ],
    ['secrets["secrets.env"].file: is already the file of output.envFile', { ...good, secrets: { "secrets.env": {} } }],
    [
      "templates.x: is already the file of secrets.a",
      { ...good, secrets: { a: { file: "x" } }, templates: { x: { template: "/t" } } },
    ],
    [
      'templates["secrets.env"]: is already the file of output.envFile',
      { ...good, templates: { "secrets.env": { template: "/t" } } },
    ],
    ['templates["a/b"]: must not contain a slash', { ...good, templates: { "a/b": { template: "/t" } } }],
    [
      'templates[".fetcher-x"]: must not begin with .fetcher-',
      { ...good, templates: { ".fetcher-x": { template: "/t" } } },
    ],
    ["templates.x.template: is required", { ...good, templates: { x: {} } }],
    [
      "templates.x: expected an object: known here are template, mode, owner, group",
      { ...good, templates: { x: canary } },
    ],
    [
      "templates.x.optional: unknown option: known here are template, mode, owner, group",
      { ...good, templates: { x: { template: "/t", optional: true } } },
    ],
    [
      "secrets.a.env: expected a variable name: letters, digits and _, not beginning with a digit",
      { ...good, secrets: { a: { env: `1${canary}` } } },
    ],
    ["secrets.b.env: is the same as secrets.a.env", { ...good, secrets: { a: { env: "X" }, b: { env: "X" } } }],
    ["secrets.a.owner: expected a name or a number", { ...good, secrets: { a: { owner: -1 } } }],
    ["secrets.a.optional: expected true or false", { ...good, secrets: { a: { optional: "yes" } } }],
    ['secrets["a/b"]: must not contain a slash', { ...good, secrets: { "a/b": {} } }],
    ['secrets[""]: must not be empty', { ...good, secrets: { "": {} } }],
    ['secrets[".."]: must not be . or ..', { ...good, secrets: { "..": {} } }],
    ["config.reloadOnChange: expected true or false", { ...good, config: { reloadOnChange: canary } }],
    [`config.pollingInterval: ${seconds}`, { ...good, config: { pollingInterval: "30" } }],
    ["config.pollingInterval: expected at least 0.05 seconds", { ...good, config: { pollingInterval: 0 } }],
    [
      "config.pollingInterval: expected at most 2147483 seconds (24 days)",
      { ...good, config: { pollingInterval: 1e10 } },
    ],
    [
      "config.refreshInterval: is another name of pollingInterval: give one of them",
      { ...good, config: { pollingInterval: 1, refreshInterval: 1 } },
    ],
    ['service: expected the name of a service unit, "grafana.service"', { ...good, service: "x.timer" }],
    ['service: expected the name of a service unit, "grafana.service"', { ...good, service: "--force.service" }],
    ['service[0]: expected the name of a service unit, "grafana.service"', { ...good, service: [`${canary} x`] }],
    ["output.directory: is required", { ...good, output: {} }],
    ["output.directory: expected an absolute path", { ...good, output: { directory: canary } }],
    [
      "output.links: is the same directory as output.directory: leave it out",
      { ...good, output: { directory: "/x", links: "/x/" } },
    ],
    ["output.linksTo: needs output.links", { ...good, output: { directory: "/x", linksTo: "/y" } }],
    [
      'onChange.action: expected "restart" or "reload" or "signal" or "none"',
      { ...good, onChange: { action: canary } },
    ],
    ['onChange.signal: is required by the action "signal"', { ...good, onChange: { action: "signal" } }],
    ['onChange.signal: needs "action": "signal"', { ...good, onChange: { signal: "SIGHUP" } }],
    [
      'onChange.signal: expected the name of a signal, "SIGHUP"',
      { ...good, onChange: { action: "signal", signal: "hup; x" } },
    ],
    ...["SIGHUPP", "USR3", "RTMIN+31", "SIG1", "0", "65"].map((signal): [string, unknown] => [
      'onChange.signal: expected the name of a signal, "SIGHUP"',
      { ...good, onChange: { action: "signal", signal } },
    ]),
    ["onChange.settle: expected a number of seconds, 0 or more", { ...good, onChange: { settle: -1 } }],
    [
      "onChange.verify.command: expected at least the name of a command",
      { ...good, onChange: { verify: { command: [] } } },
    ],
    ["onChange.verify.command[1]: expected a string", { ...good, onChange: { verify: { command: ["x", 1] } } }],
    ["output: expected an object: known here are directory, links, linksTo, envFile", { ...good, output: "/run/x" }],
    [
      "onChange: expected an object: known here are action, signal, settle, minInterval, splay, verify",
      { ...good, onChange: "reload" },
    ],
    ["onChange.verify: expected an object: known here are command, timeout", { ...good, onChange: { verify: canary } }],
    [
      "resident: false means that nothing watches for changes: remove it or config.reloadOnChange",
      { ...good, resident: false, config: { reloadOnChange: true } },
    ],
    [
      'resident: "on-change" needs config.reloadOnChange: set that to true, or resident to false',
      { ...good, resident: "on-change", config: { reloadOnChange: false } },
    ],
    ['resident: expected true, false or "on-change"', { ...good, resident: canary }],
    ["startTimeout: expected at least 0.05 seconds", { ...good, startTimeout: 0 }],
  ])("%s", (message, json) => {
    expect(refusal(json)).toBe(message);
  });
});

test.each(["constructor", "__proto__", "toString", "hasOwnProperty", "a b", "🔑", "-x", "$HOME", "é"])(
  "accepts %j as an ordinary id",
  (id) => {
    const json = JSON.parse(`{"backend":"folder","secrets":{${JSON.stringify(id)}:{"optional":true}}}`) as unknown;
    expect(parseConfig(json, noFlags, "/").secrets).toMatchObject([{ id, file: id, optional: true }]);
    expect(configOf({}, { ids: [id] }).secrets).toMatchObject([{ id, file: id, optional: false }]);
  },
);

describe("flags", () => {
  test("override the file; ids are added, and keep their settings in the file", () => {
    const config = configOf(
      { config: { url: "a", tls: { ca: "/x" } }, secrets: { a: { optional: true } } },
      {
        backend: "./mine.mjs",
        ids: ["a", "b"],
        set: [
          { path: ["url"], value: "b" },
          { path: ["tls", "key"], value: "/y" },
          { path: ["new", "deep"], value: 1 },
          { path: ["pollingInterval"], value: 2 },
        ],
      },
    );
    expect(config.backend).toBe("./mine.mjs");
    expect(config.settings).toEqual({ url: "b", tls: { ca: "/x", key: "/y" }, new: { deep: 1 } });
    expect(config.pollingInterval).toBe(2);
    expect(config.secrets.map(({ id, optional }) => [id, optional])).toEqual([
      ["a", true],
      ["b", false],
    ]);
  });

  test("--set changes neither the file's own objects nor a prototype", () => {
    const json = { ...good, config: { tls: { ca: "/x" } } };
    const before = JSON.stringify(json);
    const flags = {
      set: [
        { path: ["tls", "ca"], value: "/y" },
        { path: ["__proto__", "polluted"], value: 1 },
        { path: ["constructor", "prototype", "polluted"], value: 1 },
      ],
    };
    const { settings } = configOf(json, flags);
    expect(JSON.stringify(json)).toBe(before);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    // It is there to be refused by the backend as an unknown setting.
    expect(Object.keys(settings)).toEqual(["tls", "__proto__", "constructor"]);
  });

  test("--set does not descend into a value that is not an object", () => {
    const json = { ...good, config: { url: canary } };
    expect(refusal(json, { set: [{ path: ["url", "x"], value: 1 }] })).toBe(
      "config.url: is not an object, so --set cannot descend into it",
    );
  });

  test("--output replaces the directory and drops the links, but keeps `envFile: null`", () => {
    const output = { directory: "/run/x", links: "/tmp", envFile: null };
    expect(configOf({ ...good, output }, { output: "/o/" }).output).toEqual({
      directory: "/o",
      links: null,
      linksTo: "/o",
      envFile: null,
    });
    expect(configOf(good, { output: "/o" }).output?.envFile).toBe("secrets.env");
  });
});

describe("the file", () => {
  const load = (configFile: string) =>
    loadConfig({ ...noFlags, configFile }).then(
      () => "accepted",
      (error: unknown) => {
        expect(error).toBeInstanceOf(FatalError);
        expect((error as FatalError).exitCode).toBe(78);
        return (error as FatalError).message;
      },
    );

  test("is the base of relative paths", async () => {
    const directory = freshDirectory();
    writeFileSync(join(directory, "c.json"), JSON.stringify(good));
    const config = await loadConfig({ ...noFlags, configFile: join(directory, "c.json") });
    expect(config.baseDirectory).toBe(directory);
  });

  test("a missing file, or a directory in its place, is named", async () => {
    expect(await load("/no/such/file.json")).toBe(
      "configuration: cannot read /no/such/file.json: no such file or directory (ENOENT)",
    );
    const directory = freshDirectory();
    expect(await load(directory)).toBe(`configuration: cannot read ${directory}: it is not a regular file`);
  });

  test("may start with a byte order mark; UTF-16 is reported", async () => {
    const file = join(freshDirectory(), "c.json");
    writeFileSync(file, '\ufeff{"backend": "folder", "bakend": 1}');
    expect(await load(file)).toContain("configuration: bakend: unknown option");
    writeFileSync(file, Buffer.from('\ufeff{"backend": "folder"}', "utf16le"));
    expect(await load(file)).toBe(`configuration: ${file} is not JSON: it is UTF-16; save it as UTF-8`);
  });

  test.each([
    [`{"backend": "folder",\n  "secrets": {"a": ${canary}}}`, " at line 2, column "],
    [`{"backend": "${canary}`, " at line 1, column "],
    ["", ": the file is empty"],
    [" \n", ": the file is empty"],
    ['{"a": 1} trailing', " at line 1, column "],
    ['// the backend\n{"a": 1}', " at line 1, column 1: comments are not allowed"],
    ['{"a": /* one */ 1}', " at line 1, column 7: comments are not allowed"],
    ['{"a": 1}\n# end', " at line 2, column 1: comments are not allowed"],
    ['{"a": [1,\n]}', " at line 2, column 1: remove the comma before this"],
    [`{"a": "${canary}",\n}`, " at line 2, column 1: remove the comma before this"],
    [`{"a": "${canary}"\n "b": 1}`, " at line 2, column 2: a comma is missing before this"],
    [`{"a": true\n "b": 1}`, " at line 2, column 2: a comma is missing before this"],
    [`{'a': '${canary}'}`, ' at line 1, column 2: put names and texts into "double quotes"'],
    [`backend: ${canary}\n`, ' at line 1, column 1: put names and texts into "double quotes"'],
    [`{"a": "${canary}"`, " at line 1, column 20: the file ends too early"],
    [`{"a": "${canary}\nb"}`, " at line 1, column 19: write \\n for a line break in a text, and \\t for a tab"],
  ])("a file that is not JSON is refused with the place, without the text: case %#", async (json, place) => {
    const file = join(freshDirectory(), "c.json");
    writeFileSync(file, json);
    chmodSync(file, 0o600);
    const message = await load(file);
    expect(message).toContain(`configuration: ${file} is not JSON${place}`);
    expect(message).not.toContain(canary);
  });

  test.each([
    [`{"secrets": {"a": {}},\n "secrets": {"${canary}": {}}}`, '"secrets"', "line 2, column 2"],
    [`{"secrets": {"a": {"mode": "0400",\n  "mode": "${canary}"}}}`, '"mode"', "line 2, column 3"],
    [`{"a": [{"b": 1}, {"b": "}", "\\u0062": "${canary}"}]}`, '"\\u0062"', "line 1, column 29"],
  ])(
    "that says one thing twice is refused with the name, because the first would not count: case %#",
    async (json, key, place) => {
      const file = join(freshDirectory(), "c.json");
      writeFileSync(file, json);
      expect(await load(file)).toBe(
        `configuration: ${file} has ${key} twice in one object, the second time at ${place}: keep one of them`,
      );
    },
  );

  test("a file may use one name in several objects", async () => {
    const file = join(freshDirectory(), "c.json");
    writeFileSync(
      file,
      '{"backend": "static", "secrets": {"a": {"mode": "0400"}, "b": {"mode": "0400", "file": "\\":{\\"mode"}}}',
    );
    expect(await load(file)).toBe("accepted");
  });
});

test("a file of other units asks neither for the user's home directory nor for the service manager; one for generated units does", () => {
  const scopeOfFile = () => {
    throw new Error("asked");
  };
  expect(
    parseConfig({ ...good, output: { directory: "/run/x" } }, noFlags, "/", undefined, scopeOfFile).output,
  ).toBeDefined();
  expect(() => parseConfig({ ...good, delivery: "env" }, noFlags, "/", undefined, scopeOfFile)).toThrow("asked");
  expect(() => parseConfig(good, noFlags, "/", "app", scopeOfFile)).toThrow("asked");
});
