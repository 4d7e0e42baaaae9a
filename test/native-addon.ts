/** The addon that only the executable carries, for tests on Node of what it does. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { readInOneGoBy } from "../src/contract/whole-files.ts";
import { inOneGo, type NativeRead, type ReadWhole, wholeBy } from "../src/runtime/whole-files.ts";

/** Needs `gcc`. @returns its way to read files. */
export function nativeWay(): ReadWhole {
  const { read } = loadAddon() as { read: NativeRead };
  return wholeBy(() => read);
}

/** Needs `gcc`. @returns what it exports. */
export function loadAddon(): unknown {
  const headers = dirname(createRequire(import.meta.url).resolve("node-api-headers/include/node_api.h"));
  const directory = mkdtempSync(join(tmpdir(), "fetcher-addon-"));
  try {
    const file = join(directory, "native.node");
    const sources = ["native", "lookout"].map((name) => join(import.meta.dirname, `../src/runtime/${name}.c`));
    execFileSync("gcc", ["-shared", "-fPIC", "-I", headers, "-o", file, ...sources]);
    const module = { exports: {} };
    process.dlopen(module, file);
    return module.exports;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/**
 * From here on this file's tests read as the executable does, in memory, where it reads whole directories at once.
 *
 * @returns how often it has read everything so.
 */
export function readAsExecutable(): () => number {
  process.env["TMPDIR"] = "/dev/shm";
  const way = nativeWay();
  let count = 0;
  const counted: ReadWhole = async (directory, paths) => {
    const files = await way(directory, paths);
    if (files !== undefined) count += 1;
    return files;
  };
  readInOneGoBy(inOneGo(counted));
  return () => count;
}
