// npm run build:executable [-- x64|arm64]: makes dist/fetcher, the program and its runtime (Bun) in one file, which
// needs no Node. With the name of another processor than this machine's it makes dist/fetcher-PROCESSOR. It downloads
// nothing: the runtime is the package `bun` of node_modules, or the program that $BUN names; $BUN_TARGET names that of
// another processor.
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
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

/** Variables that Bun 1.4.5 reads and that change what runs, where it connects to, whom it trusts or what it writes. */
const groups =
  "BYTECODE CONFIG CRASH DEBUG DESTRUCT DISABLE ENABLE FEATURE GARBAGE GC IDLE INOTIFY INTERNAL NEEDS TCC THREADPOOL WATCHER";
const variables = new RegExp(
  `BUN_(?:BE_BUN|OPTIONS|INSPECT|TMPDIR|TRACE|(?:${groups.replaceAll(" ", "|")})_(?!TIMER_DISABLE))|SSL_CERT_(?:FILE|DIR)`,
  "g",
);

/** Fewer pages and segments of the addon: each start writes it to a file, and loads it from there. A third of the bytes. */
const small = ["-nostartfiles", "-fno-asynchronous-unwind-tables", "-fvisibility=hidden"].concat(
  ["-z,noseparate-code", "-z,norelro", "--build-id=none", "--hash-style=gnu"].map((option) => `-Wl,${option}`),
);

// Inside the checkout, because relative paths name the bundle.
work = mkdtempSync(`${root}dist.executable-`);
try {
  mkdirSync(`${root}dist`, { recursive: true });
  await bundle(work, compileAddon().toString("base64"));
  compile();
  chmodSync(`${work}/fetcher`, 0o755);
  if (!isForeign) tryAsInUnits(`${work}/fetcher`);
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
    ["-Os", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-s", ...small, "-I", headers].concat(
      "-o",
      `${work}/native.node`,
      "src/runtime/native.c",
      "src/runtime/lookout.c",
    ),
    { cwd: root, stdio: "inherit" },
  );
  if (error) fail(69, `${compiler}, a C compiler for ${processor}, is needed: ${error.message}`);
  if (status !== 0) fail(70, "src/runtime/native.c could not be compiled");
  return readFileSync(`${work}/native.node`);
}

function compile() {
  const compiled = join(work, "fetcher");
  execFileSync(
    runtime(process.arch, "BUN"),
    [
      ...["build", "--compile", "--bytecode", "--minify-syntax", "--minify-whitespace", "--external", "sd-notify"],
      ...[`--target=bun-linux-${processor}`, `--compile-executable-path=${deafRuntime()}`],
      // The program must not read what lies in a working directory.
      ...["dotenv", "bunfig", "tsconfig"].map((file) => `--no-compile-autoload-${file}`),
      // The package.json files of what a third party's backend imports: without this, Bun finds none of its packages.
      "--compile-autoload-package-json",
      ...["--outfile", compiled, join(work, "fetcher.js")],
    ],
    { cwd: work, stdio: ["ignore", "ignore", "inherit"], env: { PATH: process.env.PATH, HOME: work, TMPDIR: work } },
  );
}

/**
 * A copy of the runtime that the environment cannot turn into another program: Bun has no option for that. BUN_BE_BUN=1
 * would make the executable act as `bun`, BUN_OPTIONS would make it load any module, BUN_INSPECT would open a
 * debugger's port. This gives these variables names that no variable can have, so Bun always finds them unset. It
 * leaves BUN_JSC_* (the engine's own switches; the units may want BUN_JSC_useJIT=0), BUN_GC_TIMER_DISABLE (for the same
 * reason), BUN_ENV (a name that is also a word of the language that it transpiles), and the switch for its cache.
 */
function deafRuntime() {
  const bytes = readFileSync(runtime(processor, isForeign ? "BUN_TARGET" : "BUN"));
  const [start, end] = readOnlyData(bytes);
  // latin1 has one character for each byte.
  const text = bytes.subarray(start, end).toString("latin1");
  const found = new Set();
  for (const { 0: name, index } of text.matchAll(variables)) {
    found.add(name);
    bytes[start + index] = 0;
  }
  for (const name of ["BUN_BE_BUN", "BUN_OPTIONS", "BUN_INSPECT", "SSL_CERT_FILE"])
    if (!found.has(name)) fail(70, `this version of Bun has no ${name}: look what it reads of its environment`);
  writeFileSync(`${work}/runtime`, bytes, { mode: 0o755 });
  return `${work}/runtime`;
}

/** Where .rodata lies in an ELF file of 64 bits (elf(5)). */
function readOnlyData(bytes) {
  const [sections, size, count, names] = [
    Number(bytes.readBigUInt64LE(0x28)),
    ...[0x3a, 0x3c, 0x3e].map((offset) => bytes.readUInt16LE(offset)),
  ];
  const place = (index) => {
    const header = sections + index * size;
    return [header, Number(bytes.readBigUInt64LE(header + 0x18)), Number(bytes.readBigUInt64LE(header + 0x20))];
  };
  const [, nameTable] = place(names);
  for (let index = 0; index < count; index++) {
    const [header, offset, length] = place(index);
    const name = nameTable + bytes.readUInt32LE(header);
    if (bytes.toString("latin1", name, name + 8) === ".rodata\0") return [offset, offset + length];
  }
  fail(70, "the runtime has no .rodata");
}

/** The engine ends the program where it does not know the name of a switch: that must show here, and not on a host. */
function tryAsInUnits(program) {
  const lines = readFileSync(`${root}src/units/executable.ts`, "utf8").matchAll(/\["Environment", "(\w+)=(.*)"\]/g);
  const env = Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
  if (env.BUN_JSC_useJIT !== "0") fail(70, "src/units/executable.ts: no environment is found in it");
  const { status, stderr } = spawnSync(program, ["--version"], { env, encoding: "utf8" });
  if (status !== 0) fail(70, `does not start with the environment of its units (src/units/executable.ts):\n${stderr}`);
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
