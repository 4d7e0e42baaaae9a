/** Reads valibot schemas: which options there are, with their defaults and texts from the schema. */
import type * as v from "valibot";
import type { About } from "../../src/contract/option.ts";

export interface Option {
  /** From the root of the configuration: `config.tls.caFile`. */
  readonly path: string;
  /** undefined: none. */
  readonly default: unknown;
  readonly required: boolean;
  readonly about: About;
}

/**
 * The parts of valibot's schemas that matter here: those of objects have entries, those that allow nothing wrap
 * another.
 */
export interface Schema {
  readonly type: string;
  readonly kind?: string;
  readonly entries?: Readonly<Record<string, Schema>>;
  readonly wrapped?: Schema;
  readonly default?: unknown;
  readonly pipe?: readonly Schema[];
  readonly metadata?: About;
}

/**
 * @param prefix of its options: `secrets.ID`.
 * @param elsewhere schemas that are described in their own place.
 * @returns what an operator can set, with the parts of each object in its place.
 */
export function optionsIn(schema: v.GenericSchema, prefix: string, elsewhere: ReadonlySet<unknown>): Option[] {
  return entriesOf(plain(schema)).flatMap(([key, entry]) =>
    optionsOf(entry, prefix === "" ? key : `${prefix}.${key}`, elsewhere),
  );
}

function optionsOf(entry: Schema, path: string, elsewhere: ReadonlySet<unknown>): Option[] {
  const { schema, optional } = unwrapped(entry);
  if (elsewhere.has(schema)) return [];
  const entries = entriesOf(schema);
  if (entries.length > 0) return entries.flatMap(([key, inner]) => optionsOf(inner, `${path}.${key}`, elsewhere));
  return [{ path, default: entry.default, required: !optional, about: aboutOf(entry) }];
}

/** valibot's own types do not tell what may be inside. */
export function plain(schema: v.GenericSchema): Schema {
  return schema;
}

/** The schema of the value itself; `optional`: it may be left out. */
export function unwrapped(entry: Schema): { readonly schema: Schema; readonly optional: boolean } {
  let schema = entry;
  let optional = false;
  while (schema.wrapped !== undefined) {
    optional ||= schema.type !== "nullable";
    schema = schema.wrapped;
  }
  return { schema, optional };
}

export function entriesOf(schema: Schema): [string, Schema][] {
  const object = flat(schema).find(({ entries }) => entries !== undefined);
  return Object.entries(object?.entries ?? {});
}

/** What the schema says about itself; the outer text replaces the inner one. */
export function aboutOf(schema: Schema): About {
  const inner = schema.wrapped === undefined ? {} : aboutOf(schema.wrapped);
  return Object.assign({}, inner, ...flat(schema).map(({ metadata }) => metadata ?? {})) as About;
}

function flat(schema: Schema): Schema[] {
  if (schema.pipe === undefined) return [schema];
  const [first, ...rest] = schema.pipe;
  // The first part of a pipe is the schema that it extends, which may have its own pipe.
  return [...(first === undefined ? [] : flat(first)), ...rest.flatMap(flat)];
}
