// Makes dist/: the program for Node, what authors of backends import, the scripts of the service's side, the licences.
import { build } from "esbuild";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import ts from "typescript";
import { fileURLToPath } from "node:url";
import { bundle } from "./bundle.mjs";
import { bundleOptions } from "./bundle-options.mjs";
import { nativeLibraries } from "./native-libraries.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

// Built aside and swapped in, so that a daemon that is starting finds all chunks of one build.
const [fresh, old] = [`${root}dist.new-${process.pid}`, `${root}dist.old-${process.pid}`];
const metafile = await bundle(fresh);
await makeContract();
writeFileSync(`${fresh}/package.json`, '{ "type": "commonjs" }\n');
copyFileSync(`${root}src/service-side/with-secrets.sh`, `${fresh}/with-secrets`);
chmodSync(`${fresh}/with-secrets`, 0o755);
copyFileSync(`${root}src/cli/fetcher.schema.json`, `${fresh}/fetcher.schema.json`);
copyFileSync(`${root}src/service-side/fetcher-secrets.sh`, `${fresh}/fetcher-secrets.sh`);
for (const [name, bytes] of nativeLibraries()) writeFileSync(`${fresh}/${name}`, bytes);
chmodSync(`${fresh}/fetcher.js`, 0o755);
writeFileSync(`${fresh}/THIRD-PARTY-LICENSES.txt`, licences());
if (existsSync(`${root}dist`)) setAside(`${root}dist`);
renameSync(fresh, `${root}dist`);
rmSync(old, { recursive: true, force: true });

function setAside(path) {
  try {
    renameSync(path, old);
  } catch (error) {
    // overlayfs does not rename a directory of a lower layer, such as one from an image that was built with it (EXDEV).
    if (error.code !== "EXDEV") throw error;
    rmSync(path, { recursive: true });
  }
}

/** For authors of backends: the errors they throw, and the types of what they write. */
async function makeContract() {
  const entryPoints = { backend: "src/contract/authors.ts" };
  const { platform, target } = bundleOptions;
  await build({ entryPoints, platform, target, bundle: true, format: "cjs", absWorkingDir: root, outdir: fresh });
  mkdirSync(`${fresh}/types`);
  for (const name of ["authors", "backend", "errors"]) {
    const source = readFileSync(`${root}src/contract/${name}.ts`, "utf8");
    const { outputText, diagnostics } = ts.transpileDeclaration(source, {
      fileName: `${name}.ts`,
      reportDiagnostics: true,
    });
    if (diagnostics.length > 0)
      throw new Error(
        `src/contract/${name}.ts: ${diagnostics.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n")).join("; ")}`,
      );
    writeFileSync(`${fresh}/types/${name}.d.ts`, outputText.replace(/from "(\.\/[\w-]+)\.ts"/g, 'from "$1.js"'));
  }
}

/** The licence texts of all packages that are in the bundle: each licence asks for its text to go with it. */
function licences() {
  const folders = new Set(
    Object.keys(metafile.inputs).flatMap((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []),
  );
  const texts = [...folders].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(`${root}${folder}/package.json`, "utf8"));
    const file = readdirSync(`${root}${folder}`).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file === undefined ? "" : `\n${readFileSync(`${root}${folder}/${file}`, "utf8").trim()}\n`;
    return `${name} ${version} (${license ?? "see below"})\n${text}`;
  });
  return texts.join(`\n${"-".repeat(80)}\n`);
}
