/** Why a text is not JSON. Loaded only where it is not. */
import { isUtf8 } from "node:buffer";
import { parse } from "@humanwhocodes/momoa";
import { placeOf } from "./one-value.ts";

/**
 * JSON.parse's own message quotes the text, which may hold a secret that was put in the wrong place, and often has no
 * position. So another parser finds the position.
 *
 * @returns the end of a sentence.
 */
export function whyNotJson(json: string): string {
  if (json.trim() === "") return ": the file is empty";
  try {
    parse(json, { mode: "json" });
  } catch (error) {
    const { offset } = error as { offset?: unknown };
    return typeof offset === "number" ? ` at ${placeOf(json, offset)}${hintFor(json, offset)}` : "";
  }
  // Other parsers take what JSON.parse() refuses in a string.
  for (const { 0: text, index } of json.matchAll(/"(?:[^"\\]+|\\[^])*"/g)) {
    const at = text.search(CONTROL);
    if (at >= 0) return ` at ${placeOf(json, index + at)}: write \\n for a line break in a text, and \\t for a tab`;
  }
  return "";
}

/** @returns where the first bytes are that no text in UTF-8 has. */
export function whereNotUtf8(bytes: Buffer): string {
  const text = bytes.toString("utf8");
  const begins = (at: number) => bytes.subarray(0, Buffer.byteLength(text.slice(0, at + 1)));
  let at = text.indexOf("\ufffd");
  // The character may stand in the text itself, too.
  while (at >= 0 && isUtf8(begins(at))) at = text.indexOf("\ufffd", at + 1);
  return placeOf(text, Math.max(at, 0));
}

const CONTROL = /[\u0000-\u001f]/;

/** What people write who know other formats, or leave out. */
function hintFor(json: string, offset: number): string {
  const before = json.slice(0, offset).trimEnd();
  const rest = json.slice(offset);
  if (rest.trim() === "") return ": the file ends too early";
  if (/^(?:\/[/*]|#)/.test(rest)) return ": comments are not allowed";
  if (before.endsWith(",") && /^[}\]]/.test(rest)) return ": remove the comma before this";
  if (/["\d}\]el]$/.test(before) && rest.startsWith('"')) return ": a comma is missing before this";
  if (/^(?:['“”‘’]|[A-Za-z_$][\w$-]*\s*:)/.test(rest)) return ': put names and texts into "double quotes"';
  return "";
}
