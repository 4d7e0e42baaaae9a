/**
 * What an operator can set, as data: the NixOS modules make their options from it, with their texts, and a unit's
 * sandbox.
 */
import * as config from "../../src/config/config-schema.ts";
import { descriptionOf } from "./json-schema.ts";
import { aboutOf, entriesOf, plain, type Schema, unwrapped } from "./schema.ts";
import { type BackendSection, backendSections } from "./sections.ts";

/** @param pollingIntervals of the backends, by name. */
export function nixTable(pollingIntervals: ReadonlyMap<string, number | null>): unknown {
  const backends = backendSections.map((section) => [
    section.name,
    { ...ofBackend(section), pollingInterval: pollingIntervals.get(section.name) ?? null },
  ]);
  const { startTimeout, resident, onChange } = settingsOf(plain(config.configSchema));
  return {
    program: { startTimeout, resident, onChange },
    secret: settingsOf(plain(config.secretSchema)),
    template: settingsOf(plain(config.templateSchema)),
    rotation: settingsOf(plain(config.rotationSchema)),
    backends: Object.fromEntries(backends) as unknown,
  };
}

function ofBackend({ about, Settings }: BackendSection): object {
  const { name, network = false, home = false } = about;
  return { description: name, network, home, settings: settingsOf(plain(Settings)) };
}

function settingsOf(schema: Schema): Record<string, object> {
  return Object.fromEntries(entriesOf(schema).map(([key, entry]) => [key, settingOf(entry)]));
}

function settingOf(entry: Schema): object {
  const { schema, optional } = unwrapped(entry);
  const about = aboutOf(entry);
  const { path, secret = false, insteadOf, mustBeSet = false, example, forms } = about;
  return {
    ...kindOf(schema, about),
    description: about.text === undefined ? "" : `${descriptionOf(about)}${defaultIn(entry)}`,
    required: !optional || mustBeSet,
    default: entry.default ?? null,
    example: example ?? null,
    ...(path === undefined ? {} : { path, secret }),
    ...(insteadOf === undefined ? {} : { insteadOf }),
    ...(forms === undefined
      ? {}
      : {
          by: forms.by,
          forms: Object.fromEntries(
            Object.entries(forms.schemas).map(([word, form]) => [word, settingsOf(plain(form))]),
          ),
        }),
  };
}

function kindOf(schema: Schema, { path, unit, forms }: ReturnType<typeof aboutOf>): object {
  if (forms !== undefined) return { type: "forms" };
  if (entriesOf(schema).length > 0) return { type: "section", settings: settingsOf(schema) };
  if (path === "replaced" || path === "stays") return { type: "path" };
  if (unit === "seconds") return { type: "seconds" };
  const base = lastOf(schema);
  if (base.type === "picklist") return { type: "enum", values: base.options };
  // An object with keys of any name begins with one of valibot's custom checks (src/contract/settings.ts).
  return { type: { boolean: "boolean", array: "words", custom: "strings" }[base.type] ?? "string" };
}

/** The last schema that a value must fit. */
function lastOf(schema: Schema): Schema & { readonly options?: readonly unknown[] } {
  const last = schema.pipe?.findLast(({ kind }) => kind === "schema");
  return last === undefined || last === schema ? schema : lastOf(last);
}

function defaultIn({ default: value }: Schema): string {
  // In Nix, null and an empty set mean nothing.
  if (value === undefined || value === null || JSON.stringify(value) === "{}") return "";
  return ` The program's default is \`${JSON.stringify(value)}\`.`;
}
