/**
 * Parses JSON from a store. Refuses it first where it would take much memory or is too deep for a recursion, and keeps
 * each number as the store wrote it. JSON.parse() alone turns 0.10 into 0.1; its `context.source` is not in Node 20.
 * Why no library: docs/explanation/dependencies.md.
 */
import { BackendError } from "./backend.ts";
import { atOnce, type Sliced, withoutStack } from "./slices.ts";
import { encoded } from "./text.ts";

/** How many objects and arrays may be inside each other. */
export const MAX_DEPTH = 128;
/** Members and elements: 16 MiB of `{},` would otherwise be some hundred MiB of objects. */
export const MAX_PARTS = 100_000;
/** Characters of one number. */
export const MAX_NUMBER = 1000;

/** The beginning of a string that stands for a number. Nobody outside of this process knows it. */
let secretMark: string | undefined;
/** Made on first use: most sidecars read no JSON, and would load Node's crypto at their start. */
const mark = () => (secretMark ??= crypto.getRandomValues(Buffer.alloc(16)).toString("hex"));
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** A number that JavaScript would write differently from the store. */
export class Literal {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

/**
 * @param place goes before the reason of a refusal.
 * @returns undefined if it is not JSON: the parser's own error would quote it.
 * @throws BackendError where it is over the limits.
 */
export function parseJson(text: string, place: string): unknown {
  return atOnce(parsing(text, place));
}

/** parseJson() for a text that a store may have made as large as it can. */
export function* parsing(text: string, place: string): Sliced<unknown> {
  // A parser may ignore a byte order mark (RFC 8259, 8.1): some editors write one.
  const { json, hasLiterals } = yield* scan(text.startsWith("\ufeff") ? text.slice(1) : text, place);
  try {
    return hasLiterals ? (JSON.parse(json, revive) as unknown) : (JSON.parse(json) as unknown);
  } catch {
    return undefined;
  }
}

/** For JSON that another program parses. @throws BackendError where it is over the limits. */
export function* checking(text: string, place: string): Sliced<void> {
  yield* scan(text, place);
}

/** Writes the result of parseJson() as JSON without white space, with the store's own numbers. */
export function stringifyJson(value: unknown): string {
  if (value instanceof Literal) return value.toString();
  if (Array.isArray(value)) return `[${value.map(stringifyJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, inner]) => `${JSON.stringify(key)}:${stringifyJson(inner)}`)
    .join(",")}}`;
}

/** The number as JavaScript reads it; undefined if it is not a number. */
export function numberOf(value: unknown): number | undefined {
  return typeof value === "number" ? value : value instanceof Literal ? Number(value.toString()) : undefined;
}

/**
 * The bytes of a value: a string's own, anything else as JSON.
 *
 * @returns undefined for half of a surrogate pair, for which UTF-8 has no bytes.
 */
export function bytesOf(value: unknown): Buffer | undefined {
  const text = typeof value === "string" ? value : stringifyJson(value);
  // Native and at once in both runtimes; TypeScript's library has it since ES2024.
  const { isWellFormed } = String.prototype as unknown as { isWellFormed: () => boolean };
  return isWellFormed.call(text) ? encoded(text) : undefined;
}

function revive(_: string, value: unknown): unknown {
  return typeof value === "string" && value.startsWith(mark()) ? new Literal(value.slice(mark().length)) : value;
}

/** What the scan steps over at once: without a compiler for JavaScript, character by character takes thirty times as long. */
const INERT = /[^"{}[\],\-0-9]{1,65536}/y;
/** Of a number, with one character more than it may have. */
const DIGITS = new RegExp(`[-+.\\deE]{1,${MAX_NUMBER + 1}}`, "y");

/** Characters that are looked at in a few milliseconds: in an executable without that compiler, 300 ns each at worst. */
const PART = 65_536;
/** Runs of them before a quote, long ones first: a store may send millions in one, or thousands before each quote. */
const BACKSLASHES = [4096, 64, 1].map((count) => "\\".repeat(count));

/** Replaces each number that JavaScript would alter by a marked string. Ends early where it cannot be JSON. */
function* scan(text: string, place: string): Sliced<{ json: string; hasLiterals: boolean }> {
  const pieces: string[] = [];
  let [copied, depth, parts, values, pause] = [0, 0, 0, 0, PART];
  for (let at = 0; at < text.length; at += 1) {
    if (at >= pause) {
      pause = at + PART;
      yield;
    }
    const character = text.charAt(at);
    if (character === '"') {
      while (!isClosing(text, (at = nextQuote(text, at)))) {
        if (at < pause) continue;
        pause = at + PART;
        yield;
      }
      values += 1;
    } else if (character === "{" || character === "[") depth += 1;
    else if (character === "}" || character === "]") depth -= 1;
    else if (character === "-" || (character >= "0" && character <= "9")) {
      const end = endOf(DIGITS, text, at);
      if (end - at > MAX_NUMBER) throw refused(place, `a number of more than ${MAX_NUMBER} characters`);
      const literal = text.slice(at, end);
      if (String(Number(literal)) !== literal && NUMBER.test(literal)) {
        pieces.push(text.slice(copied, at), `"${mark()}${literal}"`);
        copied = end;
      }
      at = end - 1;
      values += 1;
    } else if (character !== ",") at = endOf(INERT, text, at) - 1;
    if (character === "," || character === "{" || character === "[") parts += 1;
    if (depth > MAX_DEPTH) throw refused(place, `JSON of more than ${MAX_DEPTH} levels`);
    if (parts > MAX_PARTS) throw refused(place, `JSON of more than ${MAX_PARTS} members`);
    // Each comma or bracket makes room for a key and a value. The parser fails here at the latest.
    if (depth < 0 || values > 2 * (parts + 1)) break;
  }
  if (pieces.length === 0) return { json: text, hasLiterals: false };
  return { json: pieces.join("") + text.slice(copied), hasLiterals: true };
}

/** @returns the end of the text where there is none. */
function nextQuote(text: string, at: number): number {
  const next = text.indexOf('"', at + 1);
  return next < 0 ? text.length : next;
}

/** Whether a string ends there: the quote is not escaped, or it is the end of the text. */
function isClosing(text: string, quote: number): boolean {
  if (quote === text.length || text[quote - 1] !== "\\") return true;
  let before = quote;
  for (const some of BACKSLASHES) while (text.endsWith(some, before)) before -= some.length;
  return (quote - before) % 2 === 0;
}

/** @param pattern sticky; it matches at `start`. @returns where its match ends. */
function endOf(pattern: RegExp, text: string, start: number): number {
  pattern.lastIndex = start;
  pattern.test(text);
  return pattern.lastIndex;
}

function refused(place: string, what: string): BackendError {
  return withoutStack(new BackendError("invalid", `${place}: ${what}`));
}

/**
 * Whether bytes that are not UTF-8 may still be the JSON of an object that contains such a text. If not, they have
 * nothing to do with a secret.
 */
export function beginsAsObject(body: Buffer): boolean {
  return /^\s*\{/.test(body.toString("latin1", 0, 1000));
}
