/** Where one secret lives: a key of what is read from, or written to, a path. */
import * as v from "valibot";
import { ConfigError } from "../../src/contract/errors.ts";
import { means, option } from "../../src/contract/option.ts";
import { objectAs, parse, record, text } from "../../src/contract/settings.ts";
import type { Settings } from "./settings.ts";
import { pathText } from "./setting-types.ts";

/** As other programs call them. */
const sourceElsewhere = { path: "secretpath secret name", key: "field property", mount: "mountpath engine backend" };
export const Source = objectAs(sourceElsewhere, {
  path: option(v.optional(pathText), means("the path of the secret, below `mount`", { otherwise: "`config.path`" })),
  key: option(v.optional(text), means("the key of what is at the path", { otherwise: "the id" })),
  mount: option(
    v.optional(pathText),
    means("where the secrets engine of this secret is mounted", { otherwise: "`config.mount`" }),
  ),
  version: option(
    v.optional(
      v.pipe(v.number("expected a number"), v.integer("expected a whole number"), v.minValue(1, "expected 1 or more")),
    ),
    means("of a secret of KV version 2", { otherwise: "the newest" }),
  ),
  data: option(
    v.optional(record(v.unknown())),
    means("written to the path, and the secrets are in the answer: `pki/issue/ROLE`", {
      otherwise: "the path is read",
    }),
  ),
});

export interface Source {
  readonly place: Place;
  /** undefined: all keys, as one JSON object. */
  readonly key: string | undefined;
}

/** What one request asks for. */
export interface Place {
  readonly mount: string;
  /** Below the mount. */
  readonly path: string;
  /** Of a KV version 2 secret; undefined: the newest. */
  readonly version: number | undefined;
  /** Makes it a write, whose answer has the secrets: `pki/issue/ROLE`. */
  readonly data: Readonly<Record<string, unknown>> | undefined;
  /** Equal for equal places. */
  readonly identity: string;
}

/** @throws ConfigError */
export function parseSource(id: string, input: Readonly<Record<string, unknown>>, settings: Settings): Source {
  const { path = settings.path, key = id, mount = settings.mount, version, data } = parse(Source, input);
  if (path === undefined) throw new ConfigError("path", "is required, here or in the settings (config.path)");
  if (version !== undefined && data !== undefined)
    throw new ConfigError("version", "does not go together with data: a write has no version");
  return { key, place: { mount, path, version, data, identity: JSON.stringify([mount, path, version, data]) } };
}

/** All keys of a path. @throws ConfigError */
export function parseWhole(id: string, input: Readonly<Record<string, unknown>>, settings: Settings): Source {
  if (input["key"] !== undefined) throw new ConfigError("key", 'does not go together with "all": true');
  return { ...parseSource(id, input, settings), key: undefined };
}

/** `secret/app, key "db_password"`, with `data/` where KV version 2 is configured. */
export function describeSource({ place, key }: Source, settings: Settings): string {
  const isVersion2 = settings.kvVersion === 2 && place.mount === settings.mount && place.data === undefined;
  const version = place.version === undefined ? "" : `, version ${place.version}`;
  return `${place.mount}/${isVersion2 ? "data/" : ""}${place.path}${key === undefined ? "" : `, key ${JSON.stringify(key)}`}${version}`;
}
