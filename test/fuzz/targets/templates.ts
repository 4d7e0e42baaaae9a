import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import mustache from "mustache";
import { afterAll, expect } from "vitest";
import { loadTemplates } from "../../../src/publish/templates.ts";
import { ValueError, withoutTrailingNewlines } from "../../../src/publish/value.ts";
import { awkward, corrupted, text } from "../arbitraries.ts";
import { CANARY, expectConfigError, expectFitToSay } from "../invariants.ts";
import { target } from "../target.ts";

/** None has a dot or is a property of strings: Mustache itself reads these in another way. */
const ids = ["a", "b c", "d-e", "opt", "other"];
const secrets = ids.map((id) => ({
  id,
  source: {},
  file: id,
  env: null,
  mode: undefined,
  owner: undefined,
  group: undefined,
  optional: id.startsWith("o"),
  empty: false,
  decode: undefined,
  join: false,
  all: false,
  prefix: "",
}));

const piece: fc.Arbitrary<string> = fc.letrec<{ piece: string }>((tie) => {
  const id = fc.constantFrom(...ids);
  const inner = fc.array(tie("piece"), { maxLength: 4 }).map((pieces) => pieces.join(""));
  return {
    piece: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.constantFrom("\n", "  ", "x = ", "{", "}", "<b>&\"'"),
      id.map((name) => `{{${name}}}`),
      id.map((name) => `{{{ ${name} }}}`),
      id.map((name) => `{{& ${name}}}`),
      fc.constantFrom("{{.}}", "{{! a comment }}", "{{=<% %>=}}", "<%={{ }}=%>", "{{>part}}", "{{", "}}", "{{nobody}}"),
      text,
      awkward.map((name) => `{{${name}}}`),
      fc.tuple(id, inner).map(([name, within]) => `{{#${name}}}${within}{{${name}}}{{/${name}}}`),
      fc.tuple(id, inner).map(([name, within]) => `{{#${name}}}\n${within}\n{{/${name}}}\n`),
      fc.tuple(id, inner).map(([name, within]) => `{{^${name}}}${within}{{/${name}}}`),
    ),
  };
}).piece;
const whole = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));

const file = fc.oneof(
  { weight: 8, arbitrary: whole.map((value) => Buffer.from(value)) },
  { weight: 2, arbitrary: whole.chain((value) => corrupted(value)).map((value) => Buffer.from(value)) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes)) },
);
const value = fc.oneof(
  { weight: 6, arbitrary: text.map((rest) => Buffer.from(`${CANARY}${rest}`)) },
  {
    weight: 2,
    arbitrary: fc.constantFrom("", "\n", "\n\n", "0", "{{a}}", "$&", "a\n").map((rest) => Buffer.from(rest)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.concat([Buffer.from(CANARY), bytes])) },
);

let place: string | undefined;
afterAll(() => {
  if (place !== undefined) rmSync(place, { recursive: true });
});

export const templates = target({
  title: "a template gives what Mustache gives without escaping, or one line says where in it what is wrong",
  weight: 2,
  input: fc.tuple(file, fc.tuple(...ids.map(() => value))),
  async check([bytes, values]) {
    place ??= mkdtempSync(join(tmpdir(), "fuzz-template-"));
    const path = join(place, "app.ini");
    writeFileSync(path, bytes);
    // Mustache remembers every template that it has seen.
    mustache.clearCache();
    const template = { file: "app.ini", path, mode: 0o400, owner: undefined, group: undefined };
    let loaded;
    try {
      loaded = (await loadTemplates({ templates: [template], secrets })).get("app.ini");
    } catch (error) {
      expectConfigError(error, ["templates"]);
      return;
    }
    const given = new Map(ids.map((id, at) => [id, values[at] ?? Buffer.alloc(0)]));
    for (const id of loaded?.ids ?? []) expect(ids).toContain(id);
    let content;
    try {
      content = loaded?.render(given);
    } catch (error) {
      expect(error).toBeInstanceOf(ValueError);
      expectFitToSay((error as ValueError).message);
      const refused = given.get((error as ValueError).id) ?? Buffer.alloc(0);
      expect(refused.includes(0) || !isText(refused)).toBe(true);
      return;
    }
    // A value that no template can show is present only in a section that is not written.
    const view = Object.fromEntries([...given].map(([id, one]) => [id, withoutTrailingNewlines(one).toString()]));
    expect(content?.toString()).toBe(mustache.render(bytes.toString(), view, {}, { escape: String }));
  },
});

function isText(bytes: Buffer): boolean {
  return Buffer.from(bytes.toString("utf8")).equals(bytes);
}
