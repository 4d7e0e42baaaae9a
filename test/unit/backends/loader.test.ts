import { chmod, chown, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { compileFunction, constants } from "node:vm";
import { build, type Metafile } from "esbuild";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type * as table from "../../../backends/index.ts";
import type { Backend, BackendModule } from "../../../src/contract/backend.ts";
import type { ConfigError } from "../../../src/contract/errors.ts";
import { bundleOptions } from "../../../scripts/bundle-options.mjs";
import { needs } from "../../requirements.ts";
import { temporary } from "../../contract/temporary.ts";

const canary = "canary-5a1f60c2";

/** The bundle, loaded by Node itself: vitest would load a third-party module in its own way. */
let backendNames: typeof table.backendNames;
let loadBackend: typeof table.loadBackend;
let bundle: Awaited<ReturnType<typeof temporary>>;
let metafile: Metafile;

beforeAll(async () => {
  bundle = await temporary();
  ({ metafile } = await build({
    ...bundleOptions,
    entryPoints: [join(import.meta.dirname, "../../../backends/index.ts")],
    outdir: bundle.path,
    outExtension: { ".js": ".mjs" },
    metafile: true,
  }));
  const nativeImport = compileFunction("return import(url)", ["url"], {
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  }) as (url: string) => Promise<typeof table>;
  ({ backendNames, loadBackend } = await nativeImport(pathToFileURL(join(bundle.path, "index.mjs")).href));
});
afterAll(() => bundle.dispose());

let root: string;
let dispose: () => Promise<void>;

beforeEach(async () => {
  ({ path: root, dispose } = await temporary());
});
afterEach(() => dispose());

const methods = "parseSettings: (s) => s, parseSource: (id) => id, describe: String";
const minimal = `export default { name: "mine", defaultPollingInterval: 5, ${methods}, open: async () => ({ fetch: async () => new Map() }) };`;

async function module(source: string, name = "mine.mjs"): Promise<string> {
  const path = join(root, name);
  await writeFile(path, source);
  await chmod(path, 0o644);
  return path;
}

async function refusal(name: string): Promise<string> {
  const error: unknown = await loadBackend(name, root).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ name: "ConfigError", exitCode: 78 });
  const { path, message } = error as ConfigError;
  expect(path).toBe("backend");
  expect(message).not.toMatch(/[\r\n]/);
  expect(message).not.toContain(canary);
  return message;
}

describe("the table", () => {
  test("each name loads the backend of that name", async () => {
    for (const name of backendNames) expect((await loadBackend(name, "/")).name).toBe(name);
  });

  test.each(["flolder", "", "constructor", "__proto__", "toString"])(
    "lists the known backends for the unknown name %j",
    async (name) => {
      expect(await refusal(name)).toBe(
        `configuration: backend: unknown: known are ${backendNames.join(", ")}, or the path of an ES module${name === "flolder" ? '; did you mean "folder"?' : ""}`,
      );
    },
  );
});

describe("a third-party module", () => {
  test("is found by an absolute path, from the configuration's directory, and through a link", async () => {
    const path = await module(minimal);
    await symlink(path, join(root, "link.js"));
    for (const name of [path, "mine.mjs", "./mine.mjs", "link.js"])
      expect((await loadBackend(name, root)).name).toBe("mine");
  });

  test("may be a CommonJS file", async () => {
    const path = await module(minimal.replace("export default", "module.exports ="), "mine.js");
    expect((await loadBackend(path, root)).name).toBe("mine");
  });

  const broken: [string, string, string][] = [
    [
      "a module with a syntax error",
      `export default { ${canary}`,
      "has a syntax error; to see it, run: node --check PATH",
    ],
    [
      "a module that throws when loaded",
      `throw new Error("${canary}")`,
      "fails to load (Error); to see why, run: node PATH",
    ],
    [
      "a module that calls an undefined name",
      `undefined.${canary}()`.replaceAll("-", "_"),
      "fails to load (TypeError)",
    ],
    [
      "a module that imports a missing file",
      `import "./nothing.mjs"`,
      "imports something that does not exist; to see what, run: node PATH",
    ],
    [
      "a module without a default export",
      "export const open = 1",
      "the default export of PATH is not a backend: there is none",
    ],
    ["a module that exports a string", `export default "${canary}"`, "not a backend: it is not an object"],
    ["a module that exports null", "export default null", "not a backend: it is not an object"],
    [
      "a module that exports an empty object",
      "export default {}",
      "not a backend: name must be a string of letters, digits and ._-; defaultPollingInterval must be a number of seconds or null; " +
        "parseSettings must be a function; parseSource must be a function; describe must be a function; open must be a function",
    ],
    [
      "a module without open()",
      `export default { name: "mine", defaultPollingInterval: null, ${methods} }`,
      "not a backend: open must be a function",
    ],
    ["a module with a name of two lines", minimal.replace('"mine"', '"a\\nb"'), "not a backend: name must be"],
    [
      "a module with a polling interval of 0",
      minimal.replace(": 5", ": 0"),
      "not a backend: defaultPollingInterval must be",
    ],
  ];
  test.each(broken)("refuses %s in one line that says so", async (_, source, expected) => {
    const path = await module(source);
    expect(await refusal(path)).toContain(expected.replace("PATH", path));
  });

  test("refuses a file that does not exist, is a directory or is not JavaScript", async () => {
    expect(await refusal("./nothing.mjs")).toBe(`configuration: backend: no file ${join(root, "nothing.mjs")}`);
    await mkdir(join(root, "directory.mjs"));
    expect(await refusal("./directory.mjs")).toContain("directory.mjs is not a file");
    await module("", "text.txt");
    expect(await refusal("./text.txt")).toContain("text.txt is not an ES module: its name must end in .js or .mjs");
    expect(await refusal("mine.mjs/x")).toContain("no file");
  });

  describe("refuses a module that others can change, because it would run their code as root", () => {
    test.each(["664", "646"])("a file of mode %s", async (mode) => {
      const path = await module(minimal);
      await chmod(path, Number.parseInt(mode, 8));
      expect(await refusal(path)).toContain(`not only its owner can write to ${path}: run chmod go-w on it`);
    });

    test("a file in a directory that others can write to, also behind a link; a sticky one is fine", async () => {
      const directory = join(root, "open");
      await mkdir(directory);
      await module(minimal, "open/mine.mjs");
      await symlink("open/mine.mjs", join(root, "link.mjs"));
      await chmod(directory, 0o777);
      expect(await refusal("./link.mjs")).toContain(`not only its owner can write to ${directory}`);
      await chmod(directory, 0o1777);
      expect((await loadBackend("./link.mjs", root)).name).toBe("mine");
    });

    needs("root").test("a file of another user", async () => {
      const path = await module(minimal);
      await chown(path, 65534, 65534);
      expect(await refusal(path)).toContain("belongs to another user (uid 65534)");
    });
  });
});

describe("a third-party module's errors stop at the border", () => {
  let modules = 0;
  async function load(fields: string): Promise<BackendModule> {
    return await loadBackend(
      await module(minimal.replace(/open: .*\}\) \}/, `${fields} }`), `mine-${modules++}.mjs`),
      root,
    );
  }
  const context = { log: () => undefined, random: Math.random };
  async function open(opened: string): Promise<Backend<unknown>> {
    return await (await load(`open: async () => (${opened})`)).open({}, context);
  }
  const requests = [{ id: "one", source: {} }];
  const fetchOne = async (outcomes: string) => {
    const backend = await open(`{ fetch: async () => ${outcomes} }`);
    return (await backend.fetch(requests, new AbortController().signal)).get("one");
  };

  test("converts its errors to ours, with kind and retryAfter, and without attached data", async () => {
    const thrown = `Object.assign(new Error("away\\nsecond line"), { name: "BackendError", kind: "unavailable", retryAfter: 7, token: "${canary}" })`;
    const outcome = await fetchOne(`new Map([["one", ${thrown}]])`);
    expect(outcome).toEqual(
      expect.objectContaining({ kind: "unavailable", retryAfter: 7, message: "away\\nsecond line" }),
    );
    expect(JSON.stringify(outcome)).not.toContain(canary);
    const backend = await open(`{ fetch: async () => { throw ${thrown} } }`);
    await expect(backend.fetch(requests, new AbortController().signal)).rejects.toMatchObject({ kind: "unavailable" });
  });

  test("drops the text of an error outside the contract, which may hold a token", async () => {
    const backend = await open(`{ fetch: async () => { throw new TypeError("${canary}") } }`);
    await expect(backend.fetch(requests, new AbortController().signal)).rejects.toThrow(
      /^backend mine failed with an unexpected error \(TypeError\)$/,
    );
  });

  test.each([
    ["one value of 17 MiB", 'new Map([["one", large(17)]])', /^secret "one": the value is larger than 16 MiB$/],
    [
      "five of 16 MiB",
      'new Map([..."abcd"].map((id) => [id, large(16)]).concat([["one", large(16)]]))',
      /^secret "one": with it, all secrets together are larger than 64 MiB$/,
    ],
  ])("refuses too much data before copying it: %s", async (_, outcomes, message) => {
    const large = 'const large = (mib) => ({ status: "value", value: new Uint8Array(mib * 1048576), version: "1" });';
    const backend = await open(`{ fetch: async () => { ${large} return ${outcomes} } }`);
    const asked = ["a", "b", "c", "d"].map((id) => ({ id, source: {} }));
    const all = await backend.fetch([...asked, ...requests], new AbortController().signal);
    expect(all.get("one")).toMatchObject({ kind: "invalid", message: expect.stringMatching(message) as string });
  });

  test.each([
    "undefined",
    "new Map()",
    "[]",
    'new Map([["one", null]])',
    `new Map([["one", { status: "value", value: "${canary}", version: "1" }]])`,
    'new Map([["one", { status: "value", value: new Uint8Array(1), version: "" }]])',
    'new Map([["one", { status: "missing" }]])',
    'new Map([["one", new Error("no BackendError")]])',
  ])("treats a malformed outcome as that secret's error: case %#", async (outcomes) => {
    expect(await fetchOne(outcomes)).toMatchObject({
      kind: "invalid",
      message: "mine: its fetch() returned something that is not an outcome",
    });
  });

  test("reads a Uint8Array as the bytes it shows", async () => {
    const outcome = await fetchOne(
      'new Map([["one", { status: "value", value: new Uint8Array([1, 2, 3, 4]).subarray(1, 3), version: "1" }]])',
    );
    expect(outcome).toEqual({ status: "value", value: Buffer.from([2, 3]), version: "1" });
  });

  test("reports open() without a fetch as an error", async () => {
    await expect(open("{}")).rejects.toMatchObject({ name: "BackendError", kind: "invalid" });
  });

  test("keeps `this` for methods", async () => {
    const backend = await open(
      "new (class { n = 1; async fetch() { return new Map([['one', { status: 'missing', where: String(this.n) }]]) } async close() { this.n++ } })()",
    );
    await backend.close?.();
    expect((await backend.fetch(requests, new AbortController().signal)).get("one")).toMatchObject({ where: "2" });
  });
});

describe("static", () => {
  test("refuses it without allowInsecure, and says why", async () => {
    const fixed = await loadBackend("static", "/");
    for (const settings of [{ values: {} }, { values: {}, allowInsecure: false }]) {
      expect(() => fixed.parseSettings(settings)).toThrow(
        /^configuration: allowInsecure: must be true: .*which anyone can read .*for tests only$/,
      );
    }
  });
});

test("bundles each backend as its own chunk, and the watcher as another, so start-up loads only what it needs", () => {
  const outputOf = (file: string) =>
    Object.entries(metafile.outputs).find(([, { inputs }]) =>
      Object.keys(inputs).some((input) => input.endsWith(file)),
    );
  const chunks = [
    "backends/index.ts",
    ...["files/folder", "files/nixops", "files/credentials", "aws/index", "vault/index", "command", "static"].map(
      (file) => `backends/${file}.ts`,
    ),
    "backends/foreign.ts",
    "chokidar/index.js",
  ];
  expect(chunks).toHaveLength(backendNames.length + 3);
  expect(chunks.filter((file) => outputOf(file) === undefined)).toEqual([]);
  expect(new Set(chunks.map((file) => outputOf(file)?.[0])).size).toBe(chunks.length);
  const [, folder] = outputOf("backends/files/folder.ts") ?? [];
  const watcher = outputOf("chokidar/index.js")?.[0];
  expect(folder?.imports.filter(({ kind }) => kind === "import-statement").map(({ path }) => path)).not.toContain(
    watcher,
  );
});
