// Bundles src/start.ts to fetcher.js. Backends and the watcher become chunks of their own, which the program loads only
// when it uses them: time from exec to READY is mostly the time it takes to load JavaScript. Both runtimes get the same
// bundle.
import { build, transform } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { bundleOptions } from "./bundle-options.mjs";
import { mergeChunks } from "./merge-chunks.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

/**
 * @param outdir absolute, below the root.
 * @param native the addon of the executable, compiled and in base64; none for Node.
 * @returns esbuild's metafile.
 */
export async function bundle(outdir, native = "") {
  const options = {
    ...bundleOptions,
    banner: {},
    metafile: true,
    absWorkingDir: root,
    outdir,
    define: { FETCHER_VERSION: JSON.stringify(version), FETCHER_NATIVE: JSON.stringify(native) },
  };
  // systemd waits for its generators: as a generator the program loads its own files, and shares none with the rest.
  const generator = await build({ ...options, entryPoints: { "chunks/generator": "src/cli/as-generator.ts" } });
  const apart = await mergeChunks(root, generator.metafile.outputs, "src/cli/as-generator.ts");
  const plugins = [...bundleOptions.plugins, generatorApart];
  const program = await build({ ...options, plugins, entryPoints: { fetcher: "src/start.ts" } });
  const inputs = { ...generator.metafile.inputs, ...program.metafile.inputs };
  const merged = await mergeChunks(root, program.metafile.outputs, "src/main.ts");
  const outputs = { ...apart, ...merged };
  for (const [path, output] of Object.entries(outputs)) await makeCommonJs(path, output);
  shortenNames(Object.keys(merged));
  return { inputs, outputs };
}

const generatorApart = {
  name: "generator-apart",
  setup({ onResolve }) {
    onResolve({ filter: /\/as-generator\.ts$/ }, () => ({ path: "./chunks/generator.js", external: true }));
  },
};

/**
 * Node starts CommonJS sooner than ES modules, but esbuild splits only the latter. A third party's backend stays an ES
 * module, which the program imports.
 */
async function makeCommonJs(path, { inputs, imports }) {
  const importsOthers = "backends/foreign.ts" in inputs;
  if (importsOthers && imports.some(({ kind }) => kind === "dynamic-import"))
    throw new Error(`${path}: a chunk that imports others' modules cannot have chunks of its own`);
  const { platform, target, minifySyntax, minifyWhitespace } = bundleOptions;
  const { code } = await transform(withOneImportEach(readFileSync(`${root}${path}`, "utf8")), {
    format: "cjs",
    platform,
    target,
    minifySyntax,
    minifyWhitespace,
    define: { "import.meta.url": "__filename" },
    supported: importsOthers ? {} : { "dynamic-import": false },
  });
  writeFileSync(`${root}${path}`, withPlainExports(withoutWrappers(code)));
}

/**
 * esbuild exports names before it runs the chunk, so it needs a function for each. No chunk asks for another one that is
 * still running, so one object at the end does: a start makes 139 functions less for the main file. Modules that run late
 * (`__esm`) set what they export only then: their chunks keep the functions.
 */
function withPlainExports(code) {
  const begin =
    /__export\(stdin_exports,(\{(?:[\w$]+:\(\)=>[\w$]+,?)*\})\);module\.exports=__defProp\(stdin_exports,"__esModule",\{value:!0\}\);/;
  const names = begin.exec(code)?.[1];
  if (names === undefined || /__esm\)?\(/.test(code)) return code;
  const rest = code.replace(begin, "").replace(/0&&\(module\.exports=\{[^}]*\}\);?\s*$/, "");
  return `${rest.trimEnd().replace(/;$/, "")};module.exports=${names.replaceAll("()=>", "").replace("{", "{__esModule:!0,")};\n`;
}

/** `{name:name}` → `{name}` */
const withoutDoubles = (list) => list.replaceAll(/(?<=[{,])([\w$]+):\1(?=[,}])/g, "$1");

/**
 * mergeChunks() puts its chunk before each name that others take from the main file. Where a name is there only once, it can
 * do without: a few thousand bytes.
 */
function shortenNames(paths) {
  const texts = new Map(paths.map((path) => [path, readFileSync(`${root}${path}`, "utf8")]));
  const long = /(?<=[{,.])m\d+_([\w$]+)/g;
  const [, list] = [...texts.values()].flatMap(
    (text) => /;module\.exports=(\{[^{}]*\bm\d+_[^{}]*\});/.exec(text) ?? [],
  );
  const names = Array.from(list.matchAll(long), ([, name]) => name);
  const isAlone = (name) => names.indexOf(name) === names.lastIndexOf(name);
  for (const [path, text] of texts) {
    const short = text.replaceAll(long, (own, name) => (names.includes(name) && isAlone(name) ? name : own));
    writeFileSync(`${root}${path}`, short.replace(/(?<=;module\.exports=)\{[^{}]*\}(?=;\s*$)/, withoutDoubles));
  }
}

/**
 * esbuild cannot know of which kind an external module is, so it wraps each one in another object with all its names.
 * The chunks need no wrapper: they were ES modules.
 */
function withoutWrappers(code) {
  return code
    .replaceAll(/__toESM\((require\("\.[^"]+"\))\)/g, "$1")
    .replace(/\bmodule\.exports=__toCommonJS\((\w+)\);/, 'module.exports=__defProp($1,"__esModule",{value:!0});');
}

/**
 * Many source files import the same libraries of Node. As CommonJS each of these imports would ask for the library, and
 * wrap all of its names, once more: a tenth of the executable's work until it is ready (measured).
 *
 * @param text an ES module as esbuild writes it.
 */
function withOneImportEach(text) {
  const [, firstLine, body] = /^(#!.*\n)?([^]*)$/.exec(text);
  /** For each library: the names in `{ … }`, and the names of the whole. */
  const imports = new Map();
  const rest = body.replaceAll(
    /(?<=^|[;}\n])import\s*(?:\*\s*as\s+([\w$]+)|([\w$]+)?\s*,?\s*(?:\{([^{}]*)\})?)\s*from\s*"(node:[\w/]+)";?/g,
    (_, whole, standard, names, library) => {
      const known = imports.get(library) ?? { names: [], wholes: [] };
      imports.set(library, known);
      for (const name of [whole, standard]) if (name !== undefined) known.wholes.push(name);
      if (names !== undefined) known.names.push(names.trim().replace(/,$/, ""));
      return "";
    },
  );
  const head = Array.from(
    imports,
    ([
      library,
      {
        names,
        wholes: [first, ...others],
      },
    ]) => {
      const parts = names.length === 0 ? "" : `import{${names.join(",")}}from"${library}";`;
      // `import` of a whole library would make an object with each of its names again, and a function for each.
      const whole = first === undefined ? "" : `const ${first}=require("${library}");`;
      return `${parts}${whole}${others.map((other) => `const ${other}=${first};`).join("")}`;
    },
  );
  return `${firstLine ?? ""}${head.join("")}${rest}`;
}
