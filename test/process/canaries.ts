/** Values that must not be found anywhere, in any encoding. */
import * as fs from "node:fs";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { expect } from "vitest";

export class Canaries {
  readonly #needles = new Map<string, string>();
  readonly #texts = new Map<string, string>();

  /** @returns a new value, whose characters differ in each encoding; `kind` names it in a failure. */
  value(kind: string): string {
    const half = () => `${randomBytes(6).toString("hex")}"é\\/+&%'`;
    const [first, second] = [half(), half()];
    for (const [part, text] of Object.entries({ first, second }))
      for (const [dress, needle] of dresses(text)) this.#needles.set(needle, `${kind}, ${part} half, ${dress}`);
    return first + second;
  }

  /** Adds `text` to what the end checks; `where` names it in a failure. */
  watch(where: string, text: string): void {
    this.#texts.set(where, (this.#texts.get(where) ?? "") + text);
  }

  /** Every file below `directory`, with names and link targets, without the directories in `except`. */
  watchFiles(directory: string, except: readonly string[] = []): void {
    for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (except.includes(path)) continue;
      this.watch("names of files", `${path}\n`);
      if (entry.isDirectory()) this.watchFiles(path, except);
      else if (entry.isSymbolicLink()) this.watch("targets of links", `${fs.readlinkSync(path)}\n`);
      else if (entry.isFile()) this.watch(path, fs.readFileSync(path, "utf8"));
    }
  }

  /** Command line and environment of a process, as far as they may be read. */
  watchProcess(pid: number): void {
    for (const name of ["cmdline", "environ"])
      this.watch(`/proc/${pid}/${name}`, fs.readFileSync(`/proc/${pid}/${name}`, "utf8"));
  }

  /** The parts of values that a text holds, with their encoding and place. */
  found(): string[] {
    return [...this.#texts].flatMap(([where, text]) =>
      [...this.#needles].flatMap(([needle, what]) => (text.includes(needle) ? [`${what}: in ${where}`] : [])),
    );
  }

  expectNoLeak(): void {
    // Without this, a harness that looks at nothing would pass.
    expect(this.#texts.size).toBeGreaterThan(0);
    expect([...this.#texts.values()].join("").length).toBeGreaterThan(0);
    expect(this.found()).toEqual([]);
  }
}

function dresses(text: string): [string, string][] {
  const bytes = Buffer.from(text);
  // A text may begin at any of the three places in a group; the first and the last group also hold its neighbours.
  const base64 = [0, 1, 2].map((shift) => {
    const padded = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString("base64")
      .replace(/=+$/, "");
    return padded.slice(4, -4);
  });
  return [
    ["raw", text],
    ["only its letters", text.slice(0, 12)],
    ["JSON", JSON.stringify(text).slice(1, -1)],
    ["URL", encodeURIComponent(text)],
    ["hex", bytes.toString("hex")],
    ["HEX", bytes.toString("hex").toUpperCase()],
    ["bytes", [...bytes.subarray(0, 8)].join(",")],
    ...base64.map((needle): [string, string] => ["base64", needle]),
    ...base64.map((needle): [string, string] => ["base64url", needle.replaceAll("+", "-").replaceAll("/", "_")]),
  ];
}
