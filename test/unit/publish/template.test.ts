import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../../src/contract/errors.ts";
import { FilePermissions } from "../../../src/publish/permissions.ts";
import type { Template } from "../../../src/publish/one-template.ts";
import { loadTemplates } from "../../../src/publish/templates.ts";
import { ValueError } from "../../../src/publish/value.ts";
import { needs } from "../../requirements.ts";
import { configOf } from "../command-line.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

const canary = "canary-9d2e";

async function load(text: string | Buffer, secrets: object = { a: {}, b: {}, spare: { optional: true } }) {
  const path = join(freshDirectory(), "app.mustache");
  writeFileSync(path, text);
  const config = configOf({ secrets, templates: { "app.ini": { template: path } } });
  const template = (await loadTemplates(config)).get("app.ini");
  if (template === undefined) throw new Error("no template");
  return { template, path };
}

function render(template: Template, values: Readonly<Record<string, string | Buffer>>): string {
  return template
    .render(new Map(Object.entries(values).map(([id, value]) => [id, Buffer.from(value)])))
    .toString("utf8");
}

/** Why the template is refused, without the path of its file. */
async function refusal(text: string | Buffer): Promise<string> {
  const path = join(freshDirectory(), "app.mustache");
  writeFileSync(path, text);
  const config = configOf({
    secrets: { a: {}, spare: { optional: true } },
    templates: { "app.ini": { template: path } },
  });
  const error: unknown = await loadTemplates(config).then(
    () => "accepted",
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ConfigError);
  const { message, exitCode } = error as ConfigError;
  expect(exitCode).toBe(78);
  expect(message).not.toContain("\n");
  expect(message.startsWith(`configuration: templates["app.ini"].template: ${path}`)).toBe(true);
  return message.slice(message.indexOf(path) + path.length + 1);
}

describe("a rendered file", () => {
  test.each<[string, string, string, Readonly<Record<string, string>>]>([
    [
      "drops an editor's byte order mark, and keeps a value's",
      "\ufeff[x]\np={{a}}",
      "[x]\np=\ufeff1",
      { a: "\ufeff1" },
    ],
    [
      "has a value as its filter writes it",
      '{"p": {{ a | json }}, "{{#spare}}{{.|url}}{{/spare}}"}',
      '{"p": "\\"x", "%2F"}',
      { a: '"x', spare: "/" },
    ],
    ["has the bytes of the value, not HTML", "p={{a}}", `p=<&>"'/\`=`, { a: `<&>"'/\`=` }],
    ["has the same with three braces and &", "{{{a}}} {{& a }}", "<&> <&>", { a: "<&>" }],
    ["keeps a value that looks like a tag", "{{a}}", "{{b}}", { a: "{{b}}", b: "x" }],
    ["keeps UTF-8 of template and value", "é {{a}} 🔑", "é ü🔑 🔑", { a: "ü🔑" }],
    ["lacks the newline at the end of a secret's file", "p={{a}};\n", "p=1\n2;\n", { a: "1\n2\n\n" }],
    ["drops comments, and supports other delimiters", "{{! x }}{{=<% %>=}}<% a %>{{a}}", "1{{a}}", { a: "1" }],
    ["includes a section for a value", "{{#spare}}s={{spare}}\n{{/spare}}end", "s=1\nend", { spare: "1" }],
    ["drops a section without a value", "{{#spare}}\ns={{spare}}\n{{/spare}}\nend", "end", {}],
    ["drops a section for an empty value", "{{#a}}x{{/a}}{{^a}}y{{/a}}", "y", { a: "\n" }],
    ["includes an inverted section without a value", "{{^spare}}plain{{/spare}}", "plain", {}],
    ["drops an inverted section for a value", "{{^spare}}plain{{/spare}}", "", { spare: "1" }],
    ["takes a dot for the section's own value", "{{#spare}}<{{.}}>{{/spare}}", "<1>", { spare: "1" }],
    ["supports nested sections", "{{#a}}{{#spare}}{{a}}{{spare}}{{/spare}}{{/a}}", "12", { a: "1", spare: "2" }],
    ["may be empty", "", "", { a: "1" }],
  ])("%s", async (_, text, expected, values) => {
    expect(render((await load(text)).template, values)).toBe(expected);
  });

  test.each(["db.password", "db-password", "db password", "constructor", "__proto__", "toString", "é🔑"])(
    "has the whole value of the id %j",
    async (id) => {
      const secrets = JSON.parse(`{"db":{},${JSON.stringify(id)}:{}}`) as object;
      const { template } = await load(`{{${id}}}{{#${id}}}+{{ ${id} }}{{/${id}}}`, secrets);
      const values = new Map([
        ["db", Buffer.from("wrong")],
        [id, Buffer.from("right")],
      ]);
      expect(template.render(values).toString()).toBe("right+right");
      expect(() => render(template, {})).not.toThrow();
    },
  );
});

describe("each error names the line and the problem", () => {
  test.each([
    ["\n\n{{b}}", 'line 3: there is no secret "b": declare it in "secrets"'],
    ["{{a.b}}", 'line 1: there is no secret "a.b": declare it in "secrets"'],
    ["{{#b}}{{/b}}", 'line 1: there is no secret "b": declare it in "secrets"'],
    ["\n{{^b}}{{/b}}", 'line 2: there is no secret "b": declare it in "secrets"'],
    ["{{.}}", 'line 1: there is no secret ".": declare it in "secrets"'],
    ["{{}}", 'line 1: there is no secret "": declare it in "secrets"'],
    [`{{ ${"x\ny".repeat(99)} }}`, /^line 1: there is no secret "x yx.{20,40}…": declare it in "secrets"$/],
    ["a\n{{spare}}", 'line 2: "spare" is optional: write it between {{#spare}} and {{/spare}}'],
    ["{{^spare}}\n{{spare}}{{/spare}}", 'line 2: "spare" is optional: write it between {{#spare}} and {{/spare}}'],
    ["{{> other}}", "line 1: {{>other}}: partials do not exist here: write their text instead"],
    ["{{a}}\n{{a\nmore", "line 2: a tag has no end: }} is missing"],
    ["{{#a}}\n\n", 'line 3: the section "a" is not closed by then: {{/a}} is missing'],
    ["{{#a}}\n{{/b}}", 'line 2: the section "a" is not closed by then: {{/a}} is missing'],
    ["\n{{/a}}", "line 2: {{/a}} closes a section that is not open"],
    ["{{=x=}}", "expected two delimiters, as in {{=<% %>=}}"],
    [Buffer.from([0x61, 0xff]), "is not UTF-8 text"],
  ])("%j", async (text, message) => {
    if (typeof message === "string") expect(await refusal(text)).toBe(message);
    else expect(await refusal(text)).toMatch(message);
  });

  test.each([
    ["/no/such/file", "/no/such/file cannot be read: no such file or directory (ENOENT)"],
    ["/", "/ is not a regular file"],
    ["/dev/null", "/dev/null is not a regular file"],
  ])("a template at %s", async (template, message) => {
    const config = configOf({ secrets: { a: {} }, templates: { x: { template } } });
    await expect(loadTemplates(config)).rejects.toThrow(`configuration: templates.x.template: ${message}`);
  });
});

test.each([
  ["has NUL bytes", Buffer.from(`${canary}\0`)],
  ["is not UTF-8 text", Buffer.concat([Buffer.from(canary), Buffer.from([0xff])])],
])("a value that %s: the error names the secret, the template and the line, not the value", async (problem, value) => {
  const { template, path } = await load("{{#b}}x{{/b}}\n{{a}}");
  expect(() => render(template, { a: value })).toThrow(ValueError);
  expect(() => render(template, { a: value })).toThrow(
    `secret "a": it ${problem}, which template ${path} needs at line 2`,
  );
  // Asking whether it is there needs no text.
  expect(render(template, { a: "1", b: value })).toBe("x\n1");
});

test("a value that is named many times makes no file that fills the memory: the error names its secret", async () => {
  const { template, path } = await load("{{a}}{{a}}{{a}}");
  const values = new Map([["a", Buffer.alloc(30 << 20, "x")]]);
  expect(() => template.render(values)).toThrow(
    new ValueError("a", `with it, template ${path} makes a file larger than 64 MiB`),
  );
  expect(render(template, { a: "x" })).toBe("xxx");
});

test("a large value keeps no filter busy for minutes: the error names its secret", async () => {
  const { template, path } = await load("\n{{ a | json }}");
  const values = new Map([["a", Buffer.alloc(16 << 20, 0x01)]]);
  expect(() => template.render(values)).toThrow(
    new ValueError("a", `it is larger than 1 MiB, the most that the filter in template ${path} takes, line 2`),
  );
  expect(render(template, { a: "\x01".repeat(1 << 20) })).toHaveLength(6 * (1 << 20) + 3);
});

describe("permissions of a rendered file", () => {
  /** Octal mode, and the owner's numbers if it has any. */
  async function permissions(template: object, ids: string[], defaultMode = 0o444) {
    const secrets = Object.fromEntries(ids.map((id) => [id, all[id]]));
    const config = configOf({ secrets, templates: { x: { template: "/t", ...template } } });
    const [first] = config.templates;
    if (first === undefined) throw new Error("no template");
    const { mode, uid, gid } = (await FilePermissions.of(config, defaultMode)).ofTemplate(first, new Set(ids));
    return [mode.toString(8), uid, gid];
  }
  // An ordinary user can give a file to no other user, and only to one of their own groups.
  const isRoot = process.geteuid?.() === 0;
  const me = isRoot ? 5 : process.geteuid?.();
  const group = isRoot ? 7 : process.getegid?.();
  const all: Record<string, object> = {
    open: {},
    strict: { mode: "0400" },
    group: { mode: "0440", group },
    mine: { owner: me },
    mineToo: { owner: me, mode: "0440" },
    yours: { owner: 6 },
  };

  test.each<[string, object, string[], unknown[]]>([
    ["allow every user who can enter the directory, like its secrets", {}, ["open"], ["444", undefined, undefined]],
    ["allow no other user if one secret is strict", {}, ["open", "strict"], ["400", undefined, undefined]],
    ["allow its secret's owner", {}, ["open", "mine"], ["400", me, undefined]],
    ["allow its secrets' owner, with the strictest mode", {}, ["mineToo", "mine"], ["400", me, undefined]],
    ["allow its secret's group, with a mode of its own", { mode: "0440" }, ["group"], ["440", undefined, group]],
    ["allow no other user with a strict secret's own mode", {}, ["group"], ["400", undefined, group]],
    ["follow its own mode", { owner: me, mode: "0444" }, ["strict"], ["444", me, undefined]],
    ["follow its own mode, with its secret's owner", { mode: "0444" }, ["mine"], ["444", me, undefined]],
  ])("%s", async (_, template, ids, expected) => {
    expect(await permissions(template, ids)).toEqual(expected);
  });

  test("are root's alone if they are so for secrets without settings", async () => {
    expect(await permissions({}, ["open"], 0o400)).toEqual(["400", undefined, undefined]);
  });

  needs("root").test("follow its own settings", async () => {
    expect(await permissions({ owner: 9, group: 8 }, ["mine", "yours"])).toEqual(["400", 9, 8]);
  });

  needs("root").test("must be configured for two secrets with different owners", async () => {
    await expectOwnerIsRequired(["mine", "yours"], 0o444);
  });

  test.each([
    [["mine", "strict"], 0o444],
    [["group", "strict"], 0o444],
    [["mine", "open"], 0o400],
  ])("must be configured when %j differ (%#)", expectOwnerIsRequired);

  async function expectOwnerIsRequired(ids: string[], defaultMode: number) {
    await expect(permissions({}, ids, defaultMode)).rejects.toThrow(
      new RegExp(`^configuration: templates.x.owner: is required: secrets.${ids[0] ?? ""} and secrets.${ids[1] ?? ""}`),
    );
  }
});
