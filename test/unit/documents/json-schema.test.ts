/** The schema for editors: a valid configuration has no red line there, and a mistyped option has one. */
import { Ajv } from "ajv";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { configurationSchema } from "../../../scripts/docs/json-schema.ts";
import { parseConfig } from "../../../src/config/config.ts";
import { ConfigError } from "../../../src/contract/errors.ts";
import { blocksOf, markdownFiles, project } from "../../markdown.ts";
import { noFlags } from "../command-line.ts";

const validate = new Ajv({ strict: true, strictTypes: false, strictRequired: false, allErrors: true }).compile(
  configurationSchema(),
);
/** Where it is wrong, and why. */
function complaints(json: unknown): string[] {
  validate(json);
  return (validate.errors ?? []).map(({ instancePath, message, params }) =>
    `${instancePath} ${message ?? ""} ${Object.values(params).join()}`.trim(),
  );
}

/** Configurations of the program among the JSON of a document, and parts of such. */
function configurationsIn(file: string): unknown[] {
  return blocksOf(file, "json").flatMap(({ code }) => {
    const json = JSON.parse(code.startsWith("{") ? code : `{${code}}`) as Record<string, unknown>;
    return ["backend", "config", "secrets", "onChange"].some((key) => Object.hasOwn(json, key)) ? [json] : [];
  });
}

describe("the schema accepts", () => {
  const examples = join(project, "examples/systemd");
  test.each(readdirSync(examples).filter((name) => name.endsWith(".json")))("examples/systemd/%s", (name) => {
    expect(complaints(JSON.parse(readFileSync(join(examples, name), "utf8")))).toEqual([]);
  });

  test("every configuration of the documents", () => {
    const found = markdownFiles().flatMap(configurationsIn);
    expect(found.length).toBeGreaterThan(3);
    for (const json of found) expect(complaints(json), JSON.stringify(json)).toEqual([]);
  });

  test.each([
    { $schema: "./fetcher.schema.json", backend: "folder", config: { secretsDir: "/x" }, secrets: { a: {} } },
    // The command line says the rest.
    {},
    { backend: "folder" },
    { backend: "/etc/fetcher/mine.mjs", config: { any: [1] }, secrets: { a: { source: { any: 1 } } } },
    { backend: "vault", config: { path: "a", auth: { method: "kubernetes", role: "r" }, tls: { caFile: "/ca" } } },
    { service: ["a", "b.service"], onChange: { verify: null, signal: null, settle: 0 }, startTimeout: null },
    { secrets: { a: { owner: 0, mode: "0440", env: null, source: {} }, "a b": { owner: "x" } } },
  ])("%j", (json) => {
    expect(complaints(json)).toEqual([]);
  });
});

describe("the schema refuses, in the place that the program names,", () => {
  const base = { backend: "folder", config: { secretsDir: "/x" }, secrets: { a: {} } };
  test.each<[string, object]>([
    [" must NOT have additional properties secret", { secret: {} }],
    ["/secrets/a must NOT have additional properties fiel", { secrets: { a: { fiel: "x" } } }],
    ["/secrets/a/mode must match pattern", { secrets: { a: { mode: "999" } } }],
    ["/secrets/a/source must NOT have additional properties path", { secrets: { a: { source: { path: "x" } } } }],
    ["/config must NOT have additional properties secretDir", { config: { secretDir: "/x" } }],
    ["/config/secretsDir must match pattern", { config: { secretsDir: "x" } }],
    ["/config/pollingInterval must be >= 0.05", { config: { pollingInterval: 0 } }],
    ["/onChange/action must be equal to one of the allowed values", { onChange: { action: "restrat" } }],
    ["/onChange/verify/timeout must be number", { onChange: { verify: { command: ["true"], timeout: "1" } } }],
    ["/output must have required property 'directory'", { output: { links: "/tmp" } }],
    ["/templates/x must have required property 'template'", { templates: { x: {} } }],
    ["/config/tls must NOT have additional properties ca", { backend: "vault", config: { tls: { ca: "/x" } } }],
    ["/config/auth must have required property 'jwtPath'", { backend: "vault", config: { auth: { method: "jwt" } } }],
    ["/config/kvVersion must be equal to one of the allowed values", { backend: "vault", config: { kvVersion: 3 } }],
  ])("%s", (complaint, change) => {
    expect(complaints({ ...base, ...change }).join("\n")).toContain(complaint.trim());
    expect(complaints(base)).toEqual([]);
  });
});

test("`$schema` is only for the editor: it changes nothing, and must be a string", () => {
  const json = { backend: "folder", secrets: { a: {} } };
  const named = { $schema: "/usr/share/fetcher.schema.json", ...json };
  expect(parseConfig(named, noFlags, "/")).toEqual(parseConfig(json, noFlags, "/"));
  expect(() => parseConfig({ ...json, $schema: 1 }, noFlags, "/")).toThrow(ConfigError);
});
