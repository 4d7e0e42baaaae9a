// npm run docs: writes the documents that are made from the code.
import { build } from "esbuild";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const root = join(import.meta.dirname, "..");
// Inside the project, so that it finds its imports in node_modules.
const bundle = join(root, `dist.docs-${process.pid}.mjs`);
try {
  await build({
    absWorkingDir: root,
    entryPoints: ["scripts/docs/generated.ts"],
    outfile: bundle,
    bundle: true,
    format: "esm",
    platform: "node",
    packages: "external",
    logLevel: "warning",
  });
  const { generatedDocuments } = await import(pathToFileURL(bundle).href);
  for (const [path, text] of await generatedDocuments(root)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    console.log(path);
  }
} finally {
  rmSync(bundle, { force: true });
}
