/**
 * The name of a file in /etc/fetcher tells whose secrets it is about. It supplies the defaults of the file, as in the
 * NixOS module. A file with `output` is wired by hand, and gets no such defaults.
 */
import { basename, dirname, join, resolve } from "node:path";
import type * as v from "valibot";
import { ownScope, type Scope, systemScope, userScope } from "./scope.ts";
import { ConfigError } from "../contract/errors.ts";
import { didYouMean } from "../contract/nearest.ts";
import { isRecord } from "../contract/records.ts";
import { joinPath } from "../contract/settings.ts";
import { type configSchema, type Delivery, ENV_FILE } from "./config-schema.ts";
import { nameProblem } from "./env-names.ts";
import { sidecarOf, unitOf } from "./unit-names.ts";

export const CONFIG_DIRECTORY = systemScope.configDirectory;

type Raw = v.InferOutput<typeof configSchema>;

/**
 * @param json the file's content: a file with `delivery` or `environment` is to go there, and may be tried elsewhere.
 * @returns NAME for /etc/fetcher/NAME.json, or a user's; undefined for any other file.
 */
export function nameOf(file: string, json: unknown): string | undefined {
  const path = resolve(file);
  const isMeant = isRecord(json) && (json["delivery"] !== undefined || json["environment"] !== undefined);
  if (!path.endsWith(".json")) return undefined;
  const directory = dirname(path);
  const isThere = isMeant || directory === CONFIG_DIRECTORY || isOfUser(directory);
  return isThere ? basename(path, ".json") : undefined;
}

/** @returns the scope that the file belongs to. A file elsewhere belongs to the scope of this process. */
export function scopeOf(file: string): Scope {
  const directory = dirname(resolve(file));
  if (directory === CONFIG_DIRECTORY) return systemScope;
  return isOfUser(directory) ? userScope() : ownScope();
}

/** The name comes first: to look for a user's home directory costs each start a part of a millisecond. */
function isOfUser(directory: string): boolean {
  return basename(directory) === "fetcher" && directory === userScope().configDirectory;
}

/** @throws ConfigError for what a user's manager cannot do. */
function refuseForUser({ resident, delivery }: Raw, { isUser }: Scope): void {
  // There the sidecar's process acts itself, and so would have to stay.
  if (isUser && resident === "on-change")
    throw new ConfigError(
      "resident",
      '"on-change" works only for units of the system: use true or false for a user\'s service',
    );
  if (isUser && delivery === "private-tmp")
    throw new ConfigError(
      "delivery",
      "private-tmp works only for units of the system: use env, files or credentials for a user's service",
    );
}

/**
 * @param raw the file with the defaults of its schema; `json` without them.
 * @param runtimeDirectory the one that systemd made for this process; undefined: we are not in the unit.
 */
export function withName(
  raw: Raw,
  json: unknown,
  name: string | undefined,
  runtimeDirectory: string | undefined,
  scopeOfFile: () => Scope,
): Raw {
  const { environment } = raw;
  if (raw.output !== undefined || name === undefined) {
    refuseDelivery(raw, scopeOfFile);
    return raw;
  }
  const scope = scopeOfFile();
  refuseForUser(raw, scope);
  const backend = raw.backend ?? "folder";
  // A file that says what to do about a change also wants to see changes.
  const hasAction = isRecord(json) && json["onChange"] !== undefined;
  const config = {
    ...(backend === "folder" ? { secretsDir: join(scope.configDirectory, name, "secrets") } : {}),
    ...((hasAction && raw.resident === true) || raw.resident === "on-change" ? { reloadOnChange: true } : {}),
    ...raw.config,
  };
  const wanted = environment ?? deliveryOf(raw) === "env";
  return {
    ...raw,
    service: raw.service ?? unitOf(name),
    backend,
    config,
    secrets: typeof wanted === "object" ? withVariables(raw.secrets, wanted) : raw.secrets,
    output: {
      directory: join(runtimeDirectory ?? join(scope.runtimeRoot, sidecarOf(name)), "pub"),
      links: deliveryOf(raw) === "private-tmp" ? "/tmp" : null,
      linksTo: undefined,
      envFile: wanted === false ? null : ENV_FILE,
    },
    // A reload would not renew the copies that systemd made at the start.
    onChange:
      deliveryOf(raw) === "credentials" && raw.onChange.action === "reload"
        ? { ...raw.onChange, action: "restart" }
        : raw.onChange,
  };
}

/** @throws ConfigError for options that only a file with generated units may have. */
function refuseDelivery({ delivery, environment, output }: Raw, scopeOfFile: () => Scope): void {
  const option = delivery === undefined ? (environment === undefined ? undefined : "environment") : "delivery";
  if (option === undefined) return;
  throw new ConfigError(
    option,
    output === undefined
      ? `is for a file in ${scopeOfFile().configDirectory}: its name says whose secrets they are`
      : "does not go together with `output`, which is for units made by hand: leave one of them out",
  );
}

export function deliveryOf(raw: Pick<Raw, "delivery">): Delivery {
  return raw.delivery ?? "files";
}

/** `environment` maps variables to ids of secrets: the other secrets get no variable. */
function withVariables(
  secrets: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string>>,
): Readonly<Record<string, unknown>> {
  const variables = new Map<string, string>();
  for (const [variable, id] of Object.entries(environment)) {
    const problem = nameProblem(variable);
    if (problem !== undefined) throw new ConfigError(joinPath("environment", variable), problem);
    if (!Object.hasOwn(secrets, id))
      throw new ConfigError(
        joinPath("environment", variable),
        `is not an id in \`secrets\`${didYouMean(id, Object.keys(secrets))}`,
      );
    if (variables.has(id))
      throw new ConfigError(joinPath("environment", variable), "names a secret that already has a variable");
    variables.set(id, variable);
  }
  return Object.fromEntries(
    Object.entries(secrets).map(([id, settings]) => [
      id,
      isRecord(settings) ? { ...settings, env: variables.get(id) ?? null } : settings,
    ]),
  );
}
