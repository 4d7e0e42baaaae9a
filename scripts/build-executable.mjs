// npm run build:executable [-- x64|arm64]: makes dist/fetcher, the program and its runtime (Bun) in one file, which needs no
// Node. The name of another processor than this machine's makes dist/fetcher-PROCESSOR. Nothing is downloaded: the runtime is
// the package `bun` of node_modules, or the program that $BUN names; that of another processor is $BUN_TARGET's.
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundle } from "./bundle.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
let work;
const processor = process.argv[2] ?? process.arch;
const packages = { x64: "@oven/bun-linux-x64", arm64: "@oven/bun-linux-aarch64" };
if (process.platform !== "linux" || !Object.hasOwn(packages, processor))
  fail(64, "usage: npm run build:executable [-- x64 | arm64], on Linux");
const isForeign = processor !== process.arch;
const compilers = { x64: "x86_64-linux-gnu-gcc", arm64: "aarch64-linux-gnu-gcc" };
const name = isForeign ? `fetcher-${processor}` : "fetcher";

// Inside the checkout: the bundle is named by relative paths.
work = mkdtempSync(`${root}dist.executable-`);
try {
  mkdirSync(`${root}dist`, { recursive: true });
  await bundle(work, compileAddon().toString("base64"));
  compile();
  chmodSync(`${work}/fetcher`, 0o755);
  renameSync(`${work}/fetcher`, `${root}dist/${name}`);
  console.log(`dist/${name}: ${(statSync(`${root}dist/${name}`).size / 1e6).toFixed(1)} MB`);
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** src/runtime/native.c, as an N-API addon. */
function compileAddon() {
  const compiler = process.env.CC ?? (isForeign ? compilers[processor] : "cc");
  const headers = dirname(createRequire(import.meta.url).resolve("node-api-headers/include/node_api.h"));
  const { error, status } = spawnSync(
    compiler,
    ["-Os", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-s", "-I", headers].concat(
      "-o",
      `${work}/native.node`,
      "src/runtime/native.c",
    ),
    { cwd: root, stdio: "inherit" },
  );
  if (error) fail(69, `${compiler}, a C compiler for ${processor}, is needed: ${error.message}`);
  if (status !== 0) fail(70, "src/runtime/native.c could not be compiled");
  return readFileSync(`${work}/native.node`);
}

function compile() {
  const [bun, target] = [runtime(process.arch, "BUN"), isForeign ? runtime(processor, "BUN_TARGET") : undefined];
  const compiled = join(work, "fetcher");
  execFileSync(
    bun,
    [
      ...["build", "--compile", "--bytecode", "--minify-syntax", "--minify-whitespace", "--external", "sd-notify"],
      // What lies in a working directory is not ours to read.
      ...["dotenv", "bunfig", "tsconfig", "package-json"].map((file) => `--no-compile-autoload-${file}`),
      ...(target === undefined ? [] : [`--target=bun-linux-${processor}`, `--compile-executable-path=${target}`]),
      ...["--outfile", compiled, join(work, "fetcher.js")],
    ],
    { cwd: work, stdio: ["ignore", "ignore", "inherit"], env: { PATH: process.env.PATH, HOME: work, TMPDIR: work } },
  );
}

/** The package's own install script moves its program; with scripts switched off it stays where it was. */
function runtime(wanted, variable) {
  const own = process.env[variable];
  if (own) return own;
  const modules = join(root, "node_modules");
  const paths = [join(modules, packages[wanted], "bin/bun")];
  if (wanted === process.arch) paths.push(join(modules, "bun/bin/bun.exe"));
  const found = paths.find((path) => existsSync(path));
  return found ?? fail(69, `${packages[wanted]} is not in node_modules: run \`npm ci\`, or set $${variable}`);
}

function fail(status, message) {
  console.error(`build-executable: ${message}`);
  if (work !== undefined) rmSync(work, { recursive: true, force: true });
  process.exit(status);
}
