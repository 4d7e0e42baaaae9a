/**
 * A JSON Schema of the configuration, for editors: which options there are, what they mean, which values they allow. It
 * refuses nothing that the program accepts. It leaves what it cannot express (such as names of files that clash) to
 * `--check=config`.
 */
import { toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import * as config from "../../src/config/config-schema.ts";
import type { About } from "../../src/contract/option.ts";
import { aboutOf, entriesOf, plain, type Schema, unwrapped } from "./schema.ts";
import { type BackendSection, backendSections } from "./sections.ts";

/** The file's name, wherever it is shipped. */
export const schemaFile = "fetcher.schema.json";

type Json = Record<string, unknown>;
type Properties = Record<string, Json>;

export function configurationSchema(): Json {
  const { properties = {} } = objectOf(plain(config.configSchema)) as { properties?: Properties };
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of fetcher",
    type: "object",
    additionalProperties: false,
    properties: {
      ...properties,
      backend: { ...properties["backend"], examples: backendSections.map(({ name }) => name) },
      secrets: { ...properties["secrets"], additionalProperties: objectOf(plain(config.secretSchema)) },
      templates: { ...properties["templates"], additionalProperties: objectOf(plain(config.templateSchema)) },
    },
    allOf: backendSections.map(ofBackend),
  };
}

/** What `config` and each `source` may have with this backend. */
function ofBackend({ name, Settings, Source }: BackendSection): Json {
  // The command line may give what the schema requires: --set.
  const settings = without("required", objectOf(plain(Settings)));
  const rotation = objectOf(plain(config.rotationSchema));
  return {
    if: { properties: { backend: { const: name } }, required: ["backend"] },
    then: {
      properties: {
        config: {
          ...settings,
          properties: { ...(rotation["properties"] as Properties), ...(settings["properties"] as Properties) },
        },
        secrets: { additionalProperties: { properties: { source: objectOf(plain(Source)) } } },
      },
    },
  };
}

function objectOf(schema: Schema): Json {
  const entries = entriesOf(schema);
  const required = entries.filter(([, entry]) => !unwrapped(entry).optional).map(([key]) => key);
  return {
    type: "object",
    additionalProperties: false,
    properties: Object.fromEntries(entries.map(([key, entry]) => [key, valueOf(entry)])),
    ...(required.length === 0 ? {} : { required }),
  };
}

function valueOf(entry: Schema): Json {
  const { schema } = unwrapped(entry);
  const about = aboutOf(entry);
  const shape = entriesOf(schema).length > 0 ? nullable(entry, objectOf(schema)) : leafOf(entry, about);
  return {
    ...without("default", shape),
    ...(about.text === undefined ? {} : { description: descriptionOf(about) }),
    ...(entry.default === undefined ? {} : { default: entry.default }),
    ...(about.example === undefined ? {} : { examples: [about.example] }),
  };
}

function nullable(entry: Schema, shape: Json): Json {
  for (let schema: Schema | undefined = entry; schema !== undefined; schema = schema.wrapped)
    if (schema.type === "nullable" || schema.type === "nullish") return { anyOf: [shape, { type: "null" }] };
  return shape;
}

/** Leaves out checks that only the program can make: the program itself names what they refuse. */
function leafOf(entry: Schema, { forms }: About): Json {
  if (forms !== undefined) return { oneOf: Object.values(forms.schemas).map((form) => objectOf(plain(form))) };
  const leaf = toJsonSchema(entry as unknown as v.GenericSchema, {
    errorMode: "ignore",
    ignoreActions: ["metadata"],
    // Where a value is checked and then checked again as another type, the latter.
    typeMode: "output",
    overrideSchema: ({ valibotSchema }) => (valibotSchema.type === "custom" ? { type: "object" } : undefined),
  });
  return without("$schema", leaf as Json);
}

function without(left: string, json: Json): Json {
  return Object.fromEntries(Object.entries(json).filter(([key]) => key !== left));
}

/** As plain text: editors show no Markdown here. */
export function descriptionOf({ text = "", unit, otherwise }: About): string {
  const sentence = `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
  const parts = [
    sentence,
    unit === undefined ? "" : `In ${unit}.`,
    otherwise === undefined ? "" : `Default: ${otherwise}.`,
  ];
  return parts
    .filter((part) => part !== "")
    .join(" ")
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1");
}
