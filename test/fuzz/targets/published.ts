import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect } from "vitest";
import { EnvError } from "../../../src/publish/env-file.ts";
import { Publisher } from "../../../src/publish/publisher.ts";
import { configOf } from "../../unit/command-line.ts";
import { json, mutated, text } from "../arbitraries.ts";
import { expectConfigError, expectOurs } from "../invariants.ts";
import { target } from "../target.ts";

const secret = fc.record(
  {
    file: fc.oneof(text, fc.constantFrom("a", "b", "secrets.env", ".fetcher-state", ".a")),
    env: fc.oneof(fc.constantFrom("A", "B", null), text),
    mode: fc.constantFrom("0400", "0444", "0000", "0777"),
  },
  { requiredKeys: [] },
);
const values = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
const set = fc.array(fc.tuple(fc.oneof(text, fc.constantFrom("a", "b", "c")), secret, values), { maxLength: 6 });

export const publishedSets = target({
  title: "a set with any ids and file names is published to the byte under these names, or an option is named",
  weight: 3,
  input: fc.tuple(set, set),
  // A control character that JSON does not escape.
  found: [[[["\u0085", { env: "" }, Buffer.alloc(0)]], []]],
  check: ([first, second]) =>
    inPlace(async (place) => {
      for (const secrets of [first, second]) await publish(join(place, "out"), secrets);
      // Nothing was written anywhere else.
      for (const name of readdirSync(place)) expect(["out"]).toContain(name);
    }),
});

const state = {
  files: ["a", "b", "secrets.env"],
  obsolete: ["c"],
  pending: { publishedAt: 5, bootId: "x" },
  starts: { bootId: "x", units: { "a.service": [5] } },
};

/** The output directory when a sidecar starts: files of another version, of a crash, of somebody else. */
const left = fc.record({
  state: fc.oneof(
    mutated(state, json("files", "obsolete", "pending", "starts", "units")).map((value) => JSON.stringify(value)),
    text,
  ),
  entries: fc.array(
    fc.tuple(
      fc.oneof(
        fc.constantFrom("a", "b", "c", ".fetcher-stage-1", ".fetcher-commit", ".fetcher-link-x", "secrets.env"),
        text,
      ),
      fc.constantFrom("file", "directory", "link"),
    ),
    { maxLength: 4 },
  ),
});

export const staleStates = target({
  title: "whatever lies in the output directory, the next start publishes over it or says what is in its way",
  weight: 2,
  input: left,
  // Names that no system call takes.
  found: ["c\0", "x".repeat(256)].flatMap((name) => [
    { state: JSON.stringify({ ...state, files: [name] }), entries: [] },
    { state: JSON.stringify({ ...state, obsolete: [name] }), entries: [] },
  ]),
  check: ({ state: written, entries }) =>
    inPlace(async (place) => {
      const out = join(place, "out");
      mkdirSync(out);
      writeFileSync(join(place, "elsewhere"), "not ours");
      for (const [name, kind] of entries) {
        try {
          if (kind === "file") writeFileSync(join(out, name), "left", { flag: "wx" });
          else if (kind === "directory") mkdirSync(join(out, name));
          else symlinkSync(join(place, "elsewhere"), join(out, name));
        } catch {
          // Not a name for a file, or it exists already.
        }
      }
      if (!readdirSync(out).includes(".fetcher-state")) writeFileSync(join(out, ".fetcher-state"), written);
      await publish(out, [
        ["a", {}, Buffer.from("one")],
        ["b", {}, Buffer.from("two")],
      ]);
      expect(readFileSync(join(place, "elsewhere"), "utf8")).toBe("not ours");
      expect(readdirSync(place).sort()).toEqual(["elsewhere", "out"]);
    }),
});

async function publish(out: string, secrets: readonly (readonly [string, object, Buffer])[]): Promise<void> {
  let config;
  try {
    config = configOf({
      secrets: Object.fromEntries(secrets.map(([id, options]) => [id, options])),
      output: { directory: out },
    });
  } catch (error) {
    expectConfigError(error, ["secrets"]);
    return;
  }
  const bytes = new Map(secrets.map(([id, , value]) => [id, value]));
  try {
    if (config.output === undefined) throw new TypeError("no output");
    const publisher = await Publisher.open(config, config.output);
    publisher.recover();
    publisher.stage(bytes, false).commit();
  } catch (error) {
    expectOurs(error);
    if (error instanceof EnvError) expect([...bytes.keys()]).toContain(error.id);
    return;
  }
  const published = readdirSync(out).filter((name) => !name.startsWith(".fetcher-"));
  for (const { id, file } of config.secrets) {
    expect(lstatSync(join(out, file)).isFile()).toBe(true);
    // Its mode may keep its own owner out.
    if (process.getuid?.() !== 0) chmodSync(join(out, file), 0o600);
    expect(readFileSync(join(out, file)).equals(bytes.get(id) ?? Buffer.alloc(0))).toBe(true);
    expect(published).toContain(file);
  }
}

async function inPlace(work: (place: string) => Promise<void>): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), "fuzz-publish-"));
  try {
    await work(place);
  } finally {
    rmSync(place, { recursive: true });
  }
}
