/** A secret with `all`: a JSON object, each key of which becomes a file and a variable. */
import { basename } from "node:path";
import * as v from "valibot";
import type { Config, SecretConfig } from "../config/config.ts";
import { component, ENV_FILE } from "../config/config-schema.ts";
import { bytesOf, parseJson } from "../contract/json.ts";
import { isRecord } from "../contract/records.ts";
import type { PublishedFile } from "../output/safe-files.ts";
import type { EnvRequest } from "./env-file.ts";
import type { FilePermissions } from "./permissions.ts";

export interface FilesOfKeys {
  readonly files: readonly PublishedFile[];
  readonly variables: readonly EnvRequest[];
  /** Name → why it cannot be published. */
  readonly refused: ReadonlyMap<string, string>;
}

/**
 * Makes each key its own secret, with the permissions of the whole. No key takes the place of a configured file.
 */
export function filesOfKeys(
  config: Pick<Config, "secrets" | "templates" | "output">,
  values: ReadonlyMap<string, Buffer>,
  permissions: Pick<FilePermissions, "ofSecret" | "isRestricted">,
): FilesOfKeys {
  const files: PublishedFile[] = [];
  const variables: EnvRequest[] = [];
  const refused = new Map<string, string>();
  const wholes = config.secrets.filter(({ all }) => all);
  const taken = wholes.length === 0 ? new Set<string>() : namesIn(config);
  for (const secret of wholes) {
    const restricted = permissions.isRestricted(secret);
    for (const [name, value] of keysOf(secret, values.get(secret.id))) {
      const why = refusalOf(name, value, taken);
      if (why !== undefined) refused.set(name, why);
      if (why !== undefined || value === undefined) continue;
      taken.add(name);
      files.push({ name, content: value, ...permissions.ofSecret(secret) });
      variables.push({ id: name, value, env: secret.env === null ? null : undefined, restricted, isKey: true });
    }
  }
  return { files, variables, refused };
}

/** Name → value; undefined: it has no bytes. null counts as no value, as for a secret that is named. */
function keysOf({ id, prefix }: SecretConfig, whole: Buffer | undefined): ReadonlyMap<string, Buffer | undefined> {
  const parsed = whole === undefined ? undefined : parseJson(whole.toString("utf8"), id);
  const entries = Object.entries(isRecord(parsed) ? parsed : {}).filter(([, value]) => value !== null);
  return new Map(entries.map(([key, value]) => [`${prefix}${key}`, bytesOf(value)]));
}

function refusalOf(name: string, value: Buffer | undefined, taken: ReadonlySet<string>): string | undefined {
  const [issue] = v.safeParse(component, name).issues ?? [];
  if (issue !== undefined) return `its name ${issue.message}`;
  if (taken.has(name)) return "another file has that name";
  return value === undefined ? "it is not valid Unicode text" : undefined;
}

function namesIn({ secrets, templates, output }: Pick<Config, "secrets" | "templates" | "output">): Set<string> {
  const envFile = output === undefined ? ENV_FILE : output.envFile;
  // A link cannot have the name of the mount point next to it.
  const mountPoint = output !== undefined && output.links !== null ? [basename(output.linksTo)] : [];
  return new Set([
    ...[...secrets, ...templates].map(({ file }) => file),
    ...mountPoint,
    ...(envFile === null ? [] : [envFile]),
  ]);
}
