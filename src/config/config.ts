/** The configuration: a JSON file and flags that win over it, all checked before anything else happens. */
import { dirname, resolve } from "node:path";
import type * as v from "valibot";
import { type ConfigFlags, withoutStore, parseJson, readText, withFlags } from "./config-file.ts";
import {
  component,
  configSchema,
  type Delivery,
  ENV_FILE,
  type onChangeSchema,
  type outputSchema,
  rotationSchema,
  secretSchema,
  templateSchema,
} from "./config-schema.ts";
import { checkEnvNames } from "./env-names.ts";
import { deliveryOf, nameOf, scopeOf, withName } from "./one-file.ts";
import { type Scope, systemScope } from "./scope.ts";
import { ConfigError } from "../contract/errors.ts";
import { isRecord } from "../contract/records.ts";
import { joinPath, parse } from "../contract/settings.ts";

/** One secret: `source` as the backend will parse it. `mode` has permission bits; undefined is the default of the output directory. */
export interface SecretConfig extends Complete<Omit<v.InferOutput<typeof secretSchema>, "file">> {
  readonly id: string;
  readonly file: string;
}

/** A file that is made from a template and the values of secrets. */
export interface TemplateConfig extends Complete<Omit<v.InferOutput<typeof templateSchema>, "template">> {
  readonly file: string;
  /** Of the template, absolute. */
  readonly path: string;
}

/** `linksTo`: where the reader of the links sees `directory`. */
export type OutputConfig = Complete<v.InferOutput<typeof outputSchema>, "linksTo">;

/** `signal` is set exactly where the action is `signal`. */
export type OnChangeConfig = Readonly<v.InferOutput<typeof onChangeSchema>>;

export type VerifyConfig = NonNullable<OnChangeConfig["verify"]>;

/** Every key is present; those in `Known` have a value. */
type Complete<T, Known extends keyof T = never> = {
  readonly [K in keyof T]-?: K extends Known
    ? Exclude<T[K], undefined>
    : undefined extends T[K]
      ? T[K] | undefined
      : T[K];
};

export interface Config {
  /** Units that get the action. */
  readonly targets: readonly string[];
  readonly backend: string;
  /** The backend's own settings, not checked yet. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where relative paths of backend modules and templates start. */
  readonly baseDirectory: string;
  readonly reloadOnChange: boolean;
  /** Seconds; undefined: the backend's default. */
  readonly pollingInterval: number | undefined;
  readonly secrets: readonly SecretConfig[];
  readonly templates: readonly TemplateConfig[];
  readonly output: OutputConfig | undefined;
  readonly onChange: OnChangeConfig;
  /** Seconds until an unreachable store ends the start; null: never. */
  readonly startTimeout: number | null;
  /** false: the process ends when the first set is published. */
  readonly resident: boolean;
  /** No process is resident: systemd starts one for each look at the store. */
  readonly onDemand: boolean;
  /** How generated units hand over the secrets. */
  readonly delivery: Delivery;
  /** Whether generated units give the service its variables. */
  readonly environment: boolean;
}

/**
 * Reads and checks the configuration; only the backend's own part is left for `openStore` to check.
 *
 * @throws ConfigError that names the option.
 */
export async function loadConfig(commandLine: ConfigFlags): Promise<Config> {
  const file = commandLine.configFile;
  if (file === undefined && commandLine.backend === undefined) throw withoutStore(commandLine.ids);
  if (file === undefined) return parseConfig({}, commandLine, process.cwd());
  return await configOf(await readText(file), file, commandLine);
}

/** @param text what is in `file`. @throws ConfigError that names the option. */
export async function configOf(text: string, file: string, commandLine: ConfigFlags): Promise<Config> {
  const json = await parseJson(text, file);
  return parseConfig(json, commandLine, dirname(resolve(file)), nameOf(file, json), () => scopeOf(file));
}

/**
 * @param name of the file in /etc/fetcher or another scope's directory: name and scope supply what it leaves out.
 * @param scopeOfFile asked only where the file is such a one.
 */
export function parseConfig(
  json: unknown,
  commandLine: ConfigFlags,
  baseDirectory: string,
  name?: string,
  scopeOfFile: () => Scope = () => systemScope,
): Config {
  // systemd may make several directories for a unit.
  const runtimeDirectory = process.env["RUNTIME_DIRECTORY"]?.split(":")[0];
  const runtime = runtimeDirectory === "" ? undefined : runtimeDirectory;
  const raw = withName(parse(configSchema, json), json, name, runtime, scopeOfFile);
  const backend = commandLine.backend ?? raw.backend;
  if (backend === undefined) throw new ConfigError("backend", "is required (or --backend NAME)");

  const settings = withFlags(raw.config, commandLine.set);
  const rotation = parse(rotationSchema, settings, "config");
  if (rotation.pollingInterval !== undefined && rotation.refreshInterval !== undefined)
    throw new ConfigError("config.refreshInterval", "is another name of pollingInterval: give one of them");
  const ownSettings = withoutRotation(settings);

  checkResident(raw, rotation);
  const secrets = parseSecrets(raw.secrets, commandLine.ids);
  const output = parseOutput(raw.output, commandLine.output);
  const templates = parseTemplates(raw.templates, baseDirectory);
  checkFiles(secrets, templates, output);
  checkEnvNames(secrets);
  checkTogether(raw, secrets);

  return {
    targets: raw.service === undefined ? [] : [...new Set([raw.service].flat())],
    backend,
    settings: ownSettings,
    baseDirectory,
    reloadOnChange: rotation.reloadOnChange,
    pollingInterval: rotation.pollingInterval ?? rotation.refreshInterval,
    secrets,
    templates,
    output,
    onChange: raw.onChange,
    startTimeout: raw.startTimeout,
    resident: raw.resident === true,
    onDemand: raw.resident === "on-change",
    delivery: deliveryOf(raw),
    environment: name !== undefined && raw.output !== undefined && raw.output.envFile !== null,
  };
}

/** @returns the settings that the backend itself checks. */
function withoutRotation(settings: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const own = { ...settings };
  delete own["reloadOnChange"];
  delete own["pollingInterval"];
  delete own["refreshInterval"];
  return own;
}

/** @throws ConfigError */
function checkResident(
  { resident }: v.InferOutput<typeof configSchema>,
  rotation: v.InferOutput<typeof rotationSchema>,
): void {
  if (resident === false && rotation.reloadOnChange)
    throw new ConfigError(
      "resident",
      "false means that nothing watches for changes: remove it or config.reloadOnChange",
    );
  if (resident === "on-change" && !rotation.reloadOnChange)
    throw new ConfigError(
      "resident",
      '"on-change" needs config.reloadOnChange: set that to true, or resident to false',
    );
}

/** @throws ConfigError for options that do not go together. */
function checkTogether(
  { delivery, onChange }: v.InferOutput<typeof configSchema>,
  secrets: readonly SecretConfig[],
): void {
  const all = secrets.find((secret) => secret.all);
  if (all !== undefined && delivery === "credentials")
    throw new ConfigError(
      `${joinPath("secrets", all.id)}.all`,
      'does not go together with "delivery": "credentials", where the unit names each file',
    );
  if (onChange.action === "signal" && onChange.signal === null)
    throw new ConfigError("onChange.signal", 'is required by the action "signal"');
  if (onChange.action !== "signal" && onChange.signal !== null)
    throw new ConfigError("onChange.signal", 'needs "action": "signal"');
}

let usualSecret: Readonly<v.InferOutput<typeof secretSchema>> | undefined;

/** A secret that sets nothing. */
function usual() {
  return (usualSecret ??= parse(secretSchema, {}));
}

function isEmptyObject(value: unknown): boolean {
  return isRecord(value) && Object.keys(value).length === 0;
}

function parseSecrets(table: Readonly<Record<string, unknown>>, ids: readonly string[]): SecretConfig[] {
  const secrets = new Map<string, SecretConfig>();
  // Not valibot's record(): it silently ignores ids like "constructor".
  for (const [id, settings] of [...Object.entries(table), ...ids.map((id) => [id, {}] as const)]) {
    if (secrets.has(id)) continue;
    const path = joinPath("secrets", id);
    parse(component, id, path);
    // Of a thousand secrets most say nothing about themselves: a tenth of the time that reading them takes.
    const secret = isEmptyObject(settings) ? usual() : parse(secretSchema, settings, path);
    secrets.set(id, {
      id,
      source: secret.source,
      file: secret.file ?? id,
      env: secret.env,
      mode: secret.mode,
      owner: secret.owner,
      group: secret.group,
      optional: secret.optional,
      empty: secret.empty,
      decode: secret.decode,
      join: secret.join,
      all: secret.all,
      prefix: secret.prefix,
    });
    checkShape(path, secret);
  }
  if (secrets.size === 0)
    throw new ConfigError("secrets", "at least one secret is required, here or on the command line");
  return [...secrets.values()];
}

/** @throws ConfigError for options that do not go together. */
function checkShape(path: string, { decode, join, all, prefix, env }: v.InferOutput<typeof secretSchema>): void {
  if (join && decode !== undefined) throw new ConfigError(`${path}.join`, "does not go together with decode");
  if (!all && prefix !== "") throw new ConfigError(`${path}.prefix`, 'needs "all": true');
  if (!all) return;
  if (join || decode !== undefined)
    throw new ConfigError(`${path}.all`, "does not go together with decode and join: name those secrets on their own");
  // No key could be published.
  if (prefix !== "") parse(component, `${prefix}a`, `${path}.prefix`);
  if (typeof env === "string")
    throw new ConfigError(
      `${path}.env`,
      "names one variable, and all makes one for each key: give prefix, or null for none",
    );
}

function parseTemplates(table: Readonly<Record<string, unknown>>, baseDirectory: string): TemplateConfig[] {
  return Object.entries(table).map(([file, settings]) => {
    const path = joinPath("templates", file);
    parse(component, file, path);
    const { template, mode, owner, group } = parse(templateSchema, settings, path);
    return { file, path: resolve(baseDirectory, template), mode, owner, group };
  });
}

function parseOutput(
  output: v.InferOutput<typeof outputSchema> | undefined,
  flag: string | undefined,
): OutputConfig | undefined {
  if (flag !== undefined) {
    const directory = resolve(flag);
    return {
      directory,
      links: null,
      linksTo: directory,
      envFile: output === undefined ? ENV_FILE : output.envFile,
    };
  }
  if (output === undefined) return undefined;
  const { envFile } = output;
  const directory = resolve(output.directory);
  const links = output.links === null ? null : resolve(output.links);
  if (links === null && output.linksTo !== undefined) throw new ConfigError("output.linksTo", "needs output.links");
  if (links === directory)
    throw new ConfigError("output.links", "is the same directory as output.directory: leave it out");
  // In /tmp the reader is the target, which has the directory bound at /tmp/.secrets.
  const linksTo = output.linksTo ?? (links === "/tmp" ? "/tmp/.secrets" : directory);
  return { directory, links, linksTo, envFile };
}

/** Names that neither a file nor a link can have, because a directory lies there. @returns name → the option. */
function placesIn(output: OutputConfig | undefined): readonly (readonly [name: string, option: string])[] {
  if (output === undefined || output.links === null) return [];
  const { directory, links, linksTo } = output;
  const places = [
    // The mount point in the reader's name space.
    [firstBelow(links, linksTo), "output.linksTo"],
    [firstBelow(links, directory), "output.directory"],
    [firstBelow(directory, links), "output.links"],
  ] as const;
  return places.flatMap(([name, option]) => (name === undefined ? [] : [[name, option] as const]));
}

/** The name in `directory` of what `path` is, or lies in. */
function firstBelow(directory: string, path: string): string | undefined {
  const start = directory === "/" ? "/" : `${directory}/`;
  return path.startsWith(start) && path !== start ? path.slice(start.length).split("/", 1)[0] : undefined;
}

/** @throws ConfigError where two have the same file. */
function checkFiles(
  secrets: readonly SecretConfig[],
  templates: readonly TemplateConfig[],
  output: OutputConfig | undefined,
): void {
  const envFile = output === undefined ? ENV_FILE : output.envFile;
  const taken = new Map<string, string>();
  const places = new Map(placesIn(output));
  const take = (file: string, owner: string, option: string) => {
    const place = places.get(file);
    if (place !== undefined) throw new ConfigError(option, `is where ${place} lies: choose another name`);
    const other = taken.get(file);
    if (other !== undefined) throw new ConfigError(option, `is already the file of ${other}`);
    taken.set(file, owner);
  };
  if (envFile !== null) take(envFile, "output.envFile", "output.envFile");
  for (const { id, file } of secrets) take(file, joinPath("secrets", id), `${joinPath("secrets", id)}.file`);
  for (const { file } of templates) take(file, joinPath("templates", file), joinPath("templates", file));
}
