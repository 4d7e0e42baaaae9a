/** Where one secret lives: a key of what is read from, or written to, a path. */
import * as v from "valibot";
import { ConfigError } from "../../src/contract/errors.ts";
import { object, parse, text } from "../../src/contract/settings.ts";
import { pathText, type Settings } from "./settings.ts";

export const Source = object({
  path: v.optional(pathText),
  key: v.optional(text),
  mount: v.optional(pathText),
  version: v.optional(
    v.pipe(v.number("expected a number"), v.integer("expected a whole number"), v.minValue(1, "expected 1 or more")),
  ),
  data: v.optional(
    v.pipe(
      v.custom<object>(
        (input) => typeof input === "object" && input !== null && !Array.isArray(input),
        "expected an object",
      ),
      v.record(v.string(), v.unknown()),
    ),
  ),
});

export interface Source {
  readonly place: Place;
  readonly key: string;
}

/** What one request asks for. */
export interface Place {
  readonly mount: string;
  /** Below the mount. */
  readonly path: string;
  /** Of a KV version 2 secret; undefined: the newest. */
  readonly version: number | undefined;
  /** Then it is a write, whose answer has the secrets: `pki/issue/ROLE`. */
  readonly data: Readonly<Record<string, unknown>> | undefined;
  /** Equal for equal places. */
  readonly identity: string;
}

/** @throws ConfigError */
export function parseSource(id: string, input: Readonly<Record<string, unknown>>, settings: Settings): Source {
  const { path = settings.path, key = id, mount = settings.mount, version, data } = parse(Source, input);
  if (path === undefined) throw new ConfigError("path", "is required, here or in the settings (config.path)");
  if (version !== undefined && data !== undefined)
    throw new ConfigError("version", "does not go together with data: what is written has no version");
  return { key, place: { mount, path, version, data, identity: JSON.stringify([mount, path, version, data]) } };
}

/** `secret/app, key "db_password"`, with `data/` where KV version 2 is configured. */
export function describeSource({ place, key }: Source, settings: Settings): string {
  const isVersion2 = settings.kvVersion === 2 && place.mount === settings.mount && place.data === undefined;
  const version = place.version === undefined ? "" : `, version ${place.version}`;
  return `${place.mount}/${isVersion2 ? "data/" : ""}${place.path}, key ${JSON.stringify(key)}${version}`;
}
