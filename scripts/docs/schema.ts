/** Which options a valibot schema knows, so that the reference cannot forget one, nor tell another default. */
import type * as v from "valibot";

export interface Option {
  /** From the root of the configuration: `config.tls.caFile`. */
  readonly path: string;
  /** undefined: there is none. */
  readonly default: unknown;
  readonly required: boolean;
}

/** What valibot's schemas have in common here: those of objects have entries, those that allow nothing wrap another. */
interface Schema {
  readonly type: string;
  readonly entries?: Readonly<Record<string, Schema>>;
  readonly wrapped?: Schema;
  readonly default?: unknown;
  readonly pipe?: readonly Schema[];
}

/**
 * @param prefix of its options: `secrets.ID`.
 * @param elsewhere schemas that are described in a place of their own.
 * @returns what an operator can set, objects by what is in them.
 */
export function optionsIn(schema: v.GenericSchema, prefix: string, elsewhere: ReadonlySet<unknown>): Option[] {
  return entriesOf(schema as unknown as Schema).flatMap(([key, entry]) =>
    inside(entry, prefix === "" ? key : `${prefix}.${key}`, elsewhere),
  );
}

function inside(entry: Schema, path: string, elsewhere: ReadonlySet<unknown>): Option[] {
  let schema = entry;
  let optional = false;
  while (schema.wrapped !== undefined) {
    optional ||= schema.type !== "nullable";
    schema = schema.wrapped;
  }
  if (elsewhere.has(schema)) return [];
  const entries = entriesOf(schema);
  if (entries.length > 0) return entries.flatMap(([key, inner]) => inside(inner, `${path}.${key}`, elsewhere));
  return [{ path, default: entry.default, required: !optional }];
}

function entriesOf(schema: Schema): [string, Schema][] {
  const object = [schema, ...(schema.pipe ?? [])].find(({ entries }) => entries !== undefined);
  return Object.entries(object?.entries ?? {});
}
