/** JSON as a person writes it: short values stay on one line, and each secret has its own line. */
import { isRecord } from "../contract/records.ts";

/** Characters of a line. */
const WIDTH = 80;
const INDENT = "  ";

export function jsonText(value: unknown): string {
  return `${render(value, "", 0, "")}\n`;
}

/** @param taken characters before it in its line. @param key the key that has this value. */
function render(value: unknown, indent: string, taken: number, key: string): string {
  const flat = onOneLine(value);
  const isList = isRecord(value) && (indent === "" || (indent === INDENT && key === "secrets"));
  if (!isList && taken + flat.length <= WIDTH) return flat;
  const inner = `${indent}${INDENT}`;
  const items = Array.isArray(value)
    ? value.map((item: unknown) => render(item, inner, inner.length, ""))
    : Object.entries(isRecord(value) ? value : {}).map(([name, item]) => {
        const begin = `${JSON.stringify(name)}: `;
        return `${begin}${render(item, inner, inner.length + begin.length, name)}`;
      });
  if (items.length === 0) return flat;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open ?? ""}\n${items.map((item) => `${inner}${item}`).join(",\n")}\n${indent}${close ?? ""}`;
}

function onOneLine(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(onOneLine).join(", ")}]`;
  if (!isRecord(value)) return JSON.stringify(value);
  const items = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${onOneLine(item)}`);
  return items.length === 0 ? "{}" : `{ ${items.join(", ")} }`;
}
