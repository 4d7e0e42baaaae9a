/** What a start loads: loading takes most of the time from exec to READY. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect } from "vitest";
import { backendSections, programSections } from "../../scripts/docs/sections.ts";
import { project } from "../markdown.ts";
import { programFile } from "../program.ts";
import { needs } from "../requirements.ts";
import { Place } from "./daemon.ts";

const costly = ["net", "tls", "http", "https", "http2", "dns", "crypto", "zlib", "worker_threads", "child_process"];

/** Tells `$LOADED` at the end what require() has loaded, and which of Node's own modules are there. */
const hook = `process.on("exit", () => {
  const files = Object.keys(require.cache);
  require("node:fs").writeFileSync(process.env.LOADED, JSON.stringify({ files, builtins: process.moduleLoadList }));
});
`;

interface Loaded {
  /** Of the bundle, by name without the hash; what several chunks share is `chunk`. */
  readonly files: readonly string[];
  readonly bytes: number;
  readonly builtins: readonly string[];
}

function watched(place: Place) {
  const [script, result] = [place.path("hook.cjs"), place.path("loaded.json")];
  fs.writeFileSync(script, hook);
  return {
    env: { NODE_OPTIONS: `--require=${script}`, LOADED: result },
    loaded: (): Loaded => {
      const { files, builtins } = JSON.parse(fs.readFileSync(result, "utf8")) as Record<"files" | "builtins", string[]>;
      const bundle = files.filter((file) => file !== fs.realpathSync(script));
      return {
        files: [...new Set(bundle.map((file) => basename(file).replace(/(-[A-Z0-9]{8})?\.js$/, "")))].sort(),
        bytes: bundle.reduce((sum, file) => sum + fs.statSync(file).size, 0),
        builtins: builtins.flatMap((entry) => /^NativeModule ((?!internal\/)\S+)$/.exec(entry)?.[1] ?? []),
      };
    },
  };
}

needs("node").test("a folder's sidecar loads no other backend, and none of Node's network modules", async () => {
  const place = new Place();
  place.put({ token: "good" });
  const { env, loaded } = watched(place);
  const daemon = await place.start(place.config(["token"]), { env }).ready();
  await daemon.end();
  const { files, bytes, builtins } = loaded();
  // They are in require.cache, so that the bundle is CommonJS: Node starts ES modules later.
  expect(files).toEqual(["chunk", "fetcher", "folder", "main", "watch"]);
  // With the taking over of another configuration: by the time of a reload an upgrade may have removed its chunk; lines
  // of text as people read them, the places of a user, and directories where others write a lot.
  expect(bytes).toBeLessThan(352 * 1024);
  expect(builtins).toContain("fs");
  expect(builtins.filter((name) => costly.includes(name))).toEqual([]);
});

needs("node").test("--once loads no watcher either", async () => {
  const place = new Place();
  place.put({ token: "good" });
  const { env, loaded } = watched(place);
  const args = ["--once", "--backend", "folder", "--set", `secretsDir=${place.store}`, "token"];
  expect(await place.run(args, { env })).toMatchObject({ code: 0 });
  expect(loaded().files).toEqual(["chunk", "debug", "fetcher", "folder", "main"]);
});

needs("node").test("the generator loads only what it needs to write units, because each boot waits for it", () => {
  const place = new Place();
  const { env, loaded } = watched(place);
  const generator = place.path("system-generators/fetcher");
  fs.mkdirSync(place.path("system-generators"));
  fs.symlinkSync(join(project, "dist/fetcher.js"), generator);
  execFileSync(process.execPath, [generator, place.path("a"), place.path("b"), place.path("c")], {
    env: { ...process.env, ...env },
  });
  const { files, bytes, builtins } = loaded();
  expect(files).toEqual(["fetcher", "generator"]);
  expect(bytes).toBeLessThan(100 * 1024);
  expect(builtins.filter((name) => costly.includes(name))).toEqual([]);
});

const chunks = join(dirname(programFile), "chunks");

function mainFile(): string {
  const name = fs.readdirSync(chunks).find((one) => one.startsWith("main-")) ?? "main";
  return fs.readFileSync(join(chunks, name), "utf8");
}

needs("node").test("each file of the program requires a Node module only once", () => {
  const files = fs.readdirSync(chunks).map((name) => fs.readFileSync(join(chunks, name), "utf8"));
  const asked = files.map((text) => [...text.matchAll(/\brequire\("(node:[^"]+)"\)/g)].map(([, name]) => name));
  expect(asked.flat().length).toBeGreaterThan(8);
  // One of its names, and one of the whole.
  for (const names of asked)
    for (const name of names) expect(names.filter((other) => other === name).length).toBeLessThan(3);
});

needs("node").test("what each start loads asks for no library of Node that costs the executable a millisecond", () => {
  const loaded = fs.readdirSync(chunks).filter((name) => /^(?:main|folder|vault|store)-/.test(name));
  expect(loaded).toHaveLength(4);
  const texts = loaded.map((name) => fs.readFileSync(join(chunks, name), "utf8"));
  expect(texts.filter((text) => text.includes('require("node:fs")'))).not.toEqual([]);
  // node-vault asks for one of them without "node:".
  const costly = /require\("(?:node:)?(?:util|fs\/promises|events|stream|url|os|crypto|child_process)"\)/g;
  expect(texts.flatMap((text) => text.match(costly) ?? [])).toEqual([]);
});

needs("node").test("the main file exports what other files take from it, and nothing else", () => {
  const list = /;module\.exports=\{__esModule:!0,([^{}]*)\};\s*$/.exec(mainFile())?.[1] ?? "";
  const exported = list.split(",").map((name) => name.replace(/:.*/, ""));
  const others = fs.readdirSync(chunks).filter((name) => !name.startsWith("main-"));
  const texts = others
    .map((name) => fs.readFileSync(join(chunks, name), "utf8"))
    .filter((text) => text.includes("main-"));
  const taken = texts.flatMap((text) => [...text.matchAll(/\bimport_main_\w+\.([\w$]+)/g)].map(([, name]) => name));
  expect(exported.length).toBeGreaterThan(50);
  expect([...new Set(taken)].sort()).toEqual(exported.sort());
});

needs("node").test("a chunk with modules that run late does not export what they have not set yet", () => {
  const names = fs.readdirSync(chunks);
  const texts = new Map(names.map((name) => [name, fs.readFileSync(join(chunks, name), "utf8")]));
  const late = names.filter((name) => texts.get(name)?.includes("__esm)("));
  expect(late.length).toBeGreaterThan(1);
  expect(late.filter((name) => texts.get(name)?.includes(";module.exports={__esModule"))).toEqual([]);
});

needs("node").test("the program carries no option texts, which only the documentation needs", () => {
  const options = [...programSections, ...backendSections, ...backendSections.flatMap(({ cases }) => cases)];
  const texts = options.flatMap((section) => section.options.map(({ about }) => about.text ?? ""));
  const files = fs.readdirSync(join(project, "dist"), { recursive: true, encoding: "utf8" });
  const code = files
    .filter((file) => file.endsWith(".js") && !file.includes("schema"))
    .map((file) => fs.readFileSync(join(project, "dist", file), "utf8"));
  expect(texts.length).toBeGreaterThan(80);
  expect(code.length).toBeGreaterThan(10);
  expect(texts.filter((text) => code.some((one) => one.includes(text)))).toEqual([]);
});
