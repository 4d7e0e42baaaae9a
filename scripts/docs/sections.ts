/** The sections of the reference, each from a schema of the code, which says what its options mean. */
import type * as v from "valibot";
import * as aws from "../../backends/aws/source.ts";
import * as command from "../../backends/command.ts";
import * as credentials from "../../backends/files/credentials.ts";
import * as folder from "../../backends/files/folder.ts";
import * as nixops from "../../backends/files/nixops.ts";
import * as fixed from "../../backends/static.ts";
import { methods } from "../../backends/vault/logins/index.ts";
import * as vaultOptions from "../../backends/vault/options.ts";
import * as vaultSource from "../../backends/vault/source.ts";
import * as config from "../../src/config/config-schema.ts";
import type { AboutBackend } from "../../src/contract/option.ts";
import { type Option, optionsIn } from "./schema.ts";

export interface Section {
  readonly title: string;
  readonly options: readonly Option[];
}

export interface BackendSection extends Section {
  readonly name: string;
  readonly about: AboutBackend;
  readonly Settings: v.GenericSchema;
  readonly Source: v.GenericSchema;
  /** Parts of it, each for one case: the logins of `vault`. */
  readonly cases: readonly Section[];
}

const programSchemas: readonly (readonly [title: string, prefix: string, schema: v.GenericSchema])[] = [
  ["The scope", "", config.configSchema],
  ["Rotation", "config", config.rotationSchema],
  ["A secret", "secrets.ID", config.secretSchema],
  ["A template", "templates.FILE", config.templateSchema],
  ["Output", "output", config.outputSchema],
  ["Change", "onChange", config.onChangeSchema],
];
/** Every schema that has a section. */
export const described: ReadonlySet<unknown> = new Set(programSchemas.map(([, , schema]) => schema));

export const programSections: readonly Section[] = programSchemas.map(([title, prefix, schema]) => ({
  title,
  options: optionsIn(schema, prefix, described),
}));

const logins: readonly Section[] = Object.entries(methods).map(([method, schema]) => ({
  title: `login \`${method}\``,
  options: optionsIn(schema, "config.auth", new Set()),
}));

export const backendSections: readonly BackendSection[] = [
  backend("folder", folder),
  backend("vault", { ...vaultOptions, ...vaultSource }, logins),
  backend("aws", aws),
  backend("credentials", credentials),
  backend("command", command),
  backend("nixops", nixops),
  backend("static", fixed),
];

function backend(
  name: string,
  { about, Settings, Source }: Pick<BackendSection, "Settings" | "Source"> & { readonly about: unknown },
  cases: readonly Section[] = [],
): BackendSection {
  const options = [...optionsIn(Settings, "config", new Set()), ...optionsIn(Source, "secrets.ID.source", new Set())];
  return { name, title: `\`${name}\``, about: about as AboutBackend, Settings, Source, options, cases };
}

/** For people: the fixed default, or what applies without one. */
export function defaultOf({ default: value, required, about }: Option): string {
  if (value === undefined) return about.otherwise ?? (required ? "required" : "none");
  return `\`${JSON.stringify(value)}\`${about.unit === "seconds" && typeof value === "number" ? " s" : ""}`;
}
