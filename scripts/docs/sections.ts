/** The sections of the reference: each a schema of the code with the texts about its options. */
import type * as v from "valibot";
import * as awsSource from "../../backends/aws/source.ts";
import * as command from "../../backends/command.ts";
import * as credentials from "../../backends/files/credentials.ts";
import * as folder from "../../backends/files/folder.ts";
import * as nixops from "../../backends/files/nixops.ts";
import * as fixed from "../../backends/static.ts";
import * as vaultSettings from "../../backends/vault/settings.ts";
import * as vaultSource from "../../backends/vault/source.ts";
import * as config from "../../src/config/config-schema.ts";
import * as backendTexts from "./backend-texts.ts";
import { type Option, optionsIn } from "./schema.ts";
import * as texts from "./texts.ts";
import type { OptionTexts } from "./texts.ts";

export interface Section {
  readonly title: string;
  readonly options: readonly Option[];
  readonly texts: OptionTexts;
}

export interface BackendSection extends Section {
  readonly name: string;
  readonly about: string;
  /** Parts of it, each for one case: the logins of `vault`. */
  readonly cases: readonly Section[];
}

const programSchemas: readonly [title: string, prefix: string, schema: v.GenericSchema, texts: OptionTexts][] = [
  ["The scope", "", config.configSchema, texts.scope],
  ["Rotation", "config", config.rotationSchema, texts.rotation],
  ["A secret", "secrets.ID", config.secretSchema, texts.secret],
  ["A template", "templates.FILE", config.templateSchema, texts.template],
  ["Output", "output", config.outputSchema, texts.output],
  ["Change", "onChange", config.onChangeSchema, texts.onChange],
];
/** Every schema that has a section. */
export const described: ReadonlySet<unknown> = new Set(programSchemas.map(([, , schema]) => schema));

export const programSections: readonly Section[] = programSchemas.map(([title, prefix, schema, about]) => ({
  title,
  options: optionsIn(schema, prefix, described),
  texts: about,
}));

const logins: readonly Section[] = Object.entries(vaultSettings.methods).map(([method, schema]) => ({
  title: `vault: login \`${method}\``,
  options: optionsIn(schema, "config.auth", new Set()),
  texts: backendTexts.vaultLogins[method] ?? {},
}));

export const backendSections: readonly BackendSection[] = [
  backend("folder", folder, backendTexts.folder),
  backend("vault", { ...vaultSettings, ...vaultSource }, backendTexts.vault, logins),
  backend("aws", awsSource, backendTexts.aws),
  backend("credentials", credentials, backendTexts.credentials),
  backend("command", command, backendTexts.command),
  backend("nixops", nixops, backendTexts.nixops),
  backend("static", fixed, backendTexts.fixed),
];

function backend(
  name: string,
  schemas: { readonly Settings: v.GenericSchema; readonly Source: v.GenericSchema },
  optionTexts: OptionTexts,
  cases: readonly Section[] = [],
): BackendSection {
  const options = [
    ...optionsIn(schemas.Settings, "config", new Set()),
    ...optionsIn(schemas.Source, "secrets.ID.source", new Set()),
  ];
  return { name, title: `\`${name}\``, about: backendTexts.about[name] ?? "", options, texts: optionTexts, cases };
}

/** For people: the fixed default, or what holds in its place. */
export function defaultOf(option: Option, { otherwise }: texts.OptionText): string {
  if (option.default !== undefined) return `\`${JSON.stringify(option.default)}\``;
  return otherwise ?? (option.required ? "required" : "none");
}
