/**
 * What documents say about an option, beside its allowed values. Documents, manual pages, the JSON Schema and the
 * options of the NixOS modules are made from it (`npm run docs`). The bundle has none of it: scripts/bundle-options.mjs
 * leaves it out.
 */
import * as v from "valibot";

export interface About {
  /** What it means: a phrase, without a full stop at its end. */
  readonly text?: string;
  /** What applies without it, if that is not a fixed value. */
  readonly otherwise?: string;
  /** The version that it came with, where that is not the first one, 0.1.0. */
  readonly since?: string;
  /** For a number. */
  readonly unit?: "seconds";
  /** It names a file, a directory or a socket of this machine, which the sandbox of a unit must show to the sidecar. */
  readonly path?: PathKind;
  /** What it names is secret, or holds secrets: a place that everybody may read is refused. */
  readonly secret?: boolean;
  /** Of several options with the same word here, one replaces the others. */
  readonly insteadOf?: string;
  /** It must be given, though the schema has a default: only one value is accepted. */
  readonly mustBeSet?: boolean;
  readonly example?: unknown;
  /** For an object that can have one of several forms: the schemas by the word in `by`. */
  readonly forms?: { readonly by: string; readonly schemas: Readonly<Record<string, v.GenericSchema>> };
}

/**
 * `replaced`: the operator may replace it at any time, so the sandbox must show the directory above it
 * too. `stays`: a mount, or a directory that is always the same. `url`: a path only where it begins with `unix:`.
 */
export type PathKind = "replaced" | "stays" | "url";

/** What documents say about a backend as a whole. */
export interface AboutBackend {
  /** What it is, for a list of backends: a phrase. */
  readonly name: string;
  /** More about it: sentences. */
  readonly text: string;
  /** It talks to other hosts. */
  readonly network?: boolean;
  /** It reads files below the caller's home. */
  readonly home?: boolean;
}

/** @returns the schema, with `about` in its metadata. */
export function option<Schema extends v.GenericSchema>(schema: Schema, about: About | undefined): Schema {
  if (about === undefined) return schema;
  return v.pipe(schema, v.metadata({ ...about })) as unknown as Schema;
}

/** The bundle replaces only this function, and so contains none of its arguments. */
export function means(text: string, more: About = {}): About | undefined {
  return text === "" ? more : { text, ...more };
}

export function aboutBackend(about: AboutBackend): AboutBackend | undefined {
  return about;
}
