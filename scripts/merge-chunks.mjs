// Each file that a start loads costs a part of a millisecond, and esbuild makes a chunk of whatever two parts of a
// program share. This makes one file of all that one part loads at once; the other chunks take from it what they share
// with it.
import { createHash } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, normalize } from "node:path";
import { build } from "esbuild";
import { bundleOptions } from "./bundle-options.mjs";

/**
 * @param root absolute; the paths of the outputs are relative to it.
 * @param outputs of esbuild's metafile, as ES modules with splitting.
 * @param source of the chunk that the others are merged into.
 * @returns the outputs after the merge.
 */
export async function mergeChunks(root, outputs, source) {
  const main = Object.keys(outputs).find((path) => outputs[path].entryPoint === source);
  const merged = [...loadedBy(main, outputs)];
  const others = Object.keys(outputs).filter((path) => !merged.includes(path));
  /** Two chunks may export the same name: `as` gets each exported name, and the name that only that chunk has. */
  const names = (path, as) =>
    outputs[path].exports.flatMap((name) => as(name, `m${merged.indexOf(path)}_${name}`)).join(", ");
  /** What the other chunks take: each name more is one for each start to make. */
  const whole = (used) =>
    merged.map((path) => {
      const taken = names(path, (name, own) => (used.has(own) ? `${name} as ${own}` : []));
      return `export { ${taken} } from "./${path}";`;
    });
  const { platform, target, minifySyntax, minifyWhitespace, legalComments, logLevel } = bundleOptions;
  const bundleEach = (entries) =>
    build({
      ...{ platform, target, minifySyntax, minifyWhitespace, legalComments, logLevel },
      ...{ bundle: true, format: "esm", absWorkingDir: root, outdir: root, allowOverwrite: true },
      entryPoints: Object.fromEntries(entries.map(([path, entry]) => [path.replace(/\.js$/, ""), entry])),
      plugins: [{ name: "merge-chunks", setup }],
    });
  await bundleEach(others.map((path) => [path, `./${path}`]));
  const used = new Set(others.flatMap((path) => usedFrom(main, readFileSync(join(root, path), "utf8"))));
  await bundleEach([[main, "whole"]]);
  for (const path of merged) if (path !== main) rmSync(join(root, path));
  return renamed(root, Object.fromEntries([main, ...others].map((path) => [path, outputs[path]])), main);

  function setup({ onResolve, onLoad }) {
    onResolve({ filter: /.*/ }, ({ path, importer, kind, namespace }) => {
      if (kind === "entry-point") return path === "whole" ? { path, namespace: "whole" } : undefined;
      // A library of Node, or another chunk.
      if (namespace === "shared" || !path.startsWith(".")) return { path, external: true };
      if (namespace === "whole") return undefined;
      const [from, to] = [importer, join(dirname(importer), path)].map((file) => normalize(file).slice(root.length));
      if (kind !== "import-statement" || !merged.includes(to)) return { path, external: true };
      return merged.includes(from) ? undefined : { path: to, namespace: "shared", pluginData: path };
    });
    onLoad({ filter: /.*/, namespace: "whole" }, () => ({
      // Its work first, so that the order stays.
      contents: [`import "./${main}";`, ...whole(used)].join("\n"),
      resolveDir: root,
    }));
    onLoad({ filter: /.*/, namespace: "shared" }, ({ path, pluginData }) => ({
      contents: `export { ${names(path, (name, own) => `${own} as ${name}`)} } from "${dirname(pluginData)}/${basename(main)}";`,
    }));
  }
}

/** @returns the names that an ES module imports from a chunk and uses: esbuild imports others, too. */
function usedFrom(path, text) {
  const imports = /\bimport\s*\{([^{}]*)\}\s*from\s*"([^"]+)"/g;
  const words = new Set(text.replaceAll(imports, "").match(/[\w$]+/g));
  return Array.from(text.matchAll(imports)).flatMap(([, names, from]) =>
    (basename(from) === basename(path) ? names.split(",") : []).flatMap((name) => {
      const [own, local = own] = name.trim().split(/\s+as\s+/);
      return words.has(local) ? own : [];
    }),
  );
}

/** @returns the chunk and everything that it imports at once, not what it imports later. */
function loadedBy(path, outputs, found = new Set()) {
  if (found.has(path)) return found;
  found.add(path);
  for (const { kind, path: imported } of outputs[path].imports)
    if (kind === "import-statement" && imported in outputs) loadedBy(imported, outputs, found);
  return found;
}

/**
 * A chunk's name must depend on its content: a process that is still running looks for its own build's chunks.
 * esbuild's hash is that of the chunk before the merge.
 */
function renamed(root, outputs, main) {
  const build = readFileSync(join(root, main));
  const names = new Map(
    Object.keys(outputs).flatMap((path) => {
      const [name, stem] = /([^/]+)-[A-Z0-9]{8}(?=\.js$)/.exec(path) ?? [];
      if (name === undefined) return [];
      const hash = createHash("sha256").update(name).update(build).digest("hex").slice(0, 8).toUpperCase();
      return [[name, `${stem}-${hash}`]];
    }),
  );
  const rename = (text) => text.replaceAll(/[\w.-]+-[A-Z0-9]{8}(?=\.js\b)/g, (name) => names.get(name) ?? name);
  return Object.fromEntries(
    Object.entries(outputs).map(([path, output]) => {
      writeFileSync(join(root, path), rename(readFileSync(join(root, path), "utf8")));
      renameSync(join(root, path), join(root, rename(path)));
      const imports = output.imports.map((one) => ({ ...one, path: rename(one.path) }));
      return [rename(path), { ...output, imports }];
    }),
  );
}
