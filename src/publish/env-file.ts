/**
 * secrets.env: lines NAME='value' that a POSIX shell (`set -a; . file`), systemd's EnvironmentFile= and a person read
 * alike. A value that one of them would misread stays out of the file.
 */
import { isAscii, isUtf8 } from "node:buffer";
import { deriveName, isSpecialName, nameProblem } from "../config/env-names.ts";
import { ValueError, withoutTrailingNewlines } from "./value.ts";
import { encoded } from "../contract/text.ts";

/** How one secret wants to appear in secrets.env. */
export interface EnvRequest {
  readonly id: string;
  /** undefined: no value now, and no line; its name is still taken. */
  readonly value: Buffer | undefined;
  /** The variable's explicit name; undefined: derived from the id; null: not in the file. */
  readonly env: string | null | undefined;
  /** The secret has its own owner or a strict mode: only an explicit `env` puts it into the file. */
  readonly restricted: boolean;
  /** It is a key of a secret with `all`, which has no `env` of its own. */
  readonly isKey?: boolean;
}

/** The file, and what became of each secret. */
export interface EnvFile {
  /** The bytes, which hold values. Unlike the values themselves, these bytes are not overwritten, only collected. */
  readonly content: Buffer;
  /** By id: the variable of each secret that is in the file. */
  readonly names: ReadonlyMap<string, string>;
  /** By id: why the secret is not in the file, for the operator; without those that have `env: null`. */
  readonly leftOut: ReadonlyMap<string, string>;
}

/** A secret whose explicit variable cannot carry its value. */
export class EnvError extends ValueError {
  override readonly name = "EnvError";
}

/** Bytes of NAME=value that execve(2) takes (MAX_ARG_STRLEN, 32 pages of 4 KiB, without the final NUL). */
export const MAX_VARIABLE_BYTES = 131_071;

/** Bytes of the whole file: half of what execve(2) takes for arguments and environment by default. */
export const MAX_FILE_BYTES = 1_048_576;

/**
 * Encodes the values, without their trailing newlines, in the order of `requests`. Explicit names get room in the file
 * first. Whether two names collide does not depend on the values, nor on whether there are any: so no rotation gives a
 * name to another secret.
 *
 * @param requests all configured secrets.
 * @throws EnvError for the first secret whose explicit name is unusable or cannot carry its value.
 */
export function encodeEnvFile(requests: readonly EnvRequest[]): EnvFile {
  const leftOut = new Map<string, string>();
  const chosen = new Map<EnvRequest, Line>();
  let room = MAX_FILE_BYTES;
  const add = (request: EnvRequest, name: string): string | undefined => {
    if (request.value === undefined) return undefined;
    const value = withoutTrailingNewlines(request.value);
    const problem = valueProblem(name, value);
    if (problem !== undefined) return problem;
    // Looks at each quote: only where a variable can hold the value, which may have 16 MiB.
    const size = lineBytes(name, value);
    if (size > room) return "secrets.env would be over 1 MiB";
    room -= size;
    chosen.set(request, { name, value, size });
    return undefined;
  };

  const explicit = new Map<string, string>();
  for (const request of requests) {
    const { id, env } = request;
    if (typeof env !== "string") continue;
    const other = explicit.get(env);
    const taken = other === undefined ? undefined : `its variable is also that of secret ${JSON.stringify(other)}`;
    const problem = nameProblem(env) ?? taken ?? add(request, env);
    if (problem !== undefined) throw new EnvError(id, problem);
    explicit.set(env, id);
  }

  const derived = derivedNames(requests);
  for (const request of requests) {
    if (request.env !== undefined || request.value === undefined) continue;
    const name = deriveName(request.id);
    const problem = derivedProblem(request, name, explicit.get(name), derived.get(name) ?? []) ?? add(request, name);
    if (problem !== undefined) leftOut.set(request.id, problem);
  }

  const lines: Line[] = [];
  const names = new Map<string, string>();
  for (const request of requests) {
    const line = chosen.get(request);
    if (line === undefined) continue;
    lines.push(line);
    names.set(request.id, line.name);
  }
  return { content: joinLines(lines), names, leftOut };
}

interface Line {
  readonly name: string;
  readonly value: Buffer;
  /** Bytes of the encoded line with its newline. */
  readonly size: number;
}

/** The ids that share each derived name. A restricted secret takes no derived name. */
function derivedNames(requests: readonly EnvRequest[]): Map<string, string[]> {
  const ids = new Map<string, string[]>();
  for (const { id, env, restricted } of requests) {
    if (env !== undefined || restricted) continue;
    const name = deriveName(id);
    ids.set(name, [...(ids.get(name) ?? []), id]);
  }
  return ids;
}

function derivedProblem(
  { id, restricted, isKey = false }: EnvRequest,
  name: string,
  explicitOwner: string | undefined,
  sharers: readonly string[],
): string | undefined {
  const advice = isKey ? "list that key as a secret of its own, with an env" : "give it an explicit env";
  if (restricted) return `it has an owner or a mode of its own: ${advice}`;
  const orPrefix = isKey ? `set another prefix, or ${advice}` : advice;
  if (isSpecialName(name)) return `the name ${name} has a meaning to shells or other programs: ${orPrefix}`;
  const other = explicitOwner ?? sharers.find((sharer) => sharer !== id);
  if (other === undefined) return undefined;
  return `its variable ${name} is also that of secret ${JSON.stringify(other)}: ${orPrefix}`;
}

const NEWLINE = 0x0a;
const EQUALS = 0x3d;
const QUOTE = 0x27;
/** An embedded quote: for systemd 252 to 262 the only special byte inside '…'. None reads '\'' as a shell does. */
const EMBEDDED_QUOTE = encoded(`'"'"'`);

function lineBytes(name: string, value: Buffer): number {
  return name.length + "=''\n".length + value.length + quotesIn(value) * (EMBEDDED_QUOTE.length - 1);
}

/** Sorts a copy: of 60 MiB of quotes, a look at each would keep the executable busy for seconds (measured). */
function quotesIn(value: Buffer): number {
  const first = value.indexOf(QUOTE);
  if (first === -1) return 0;
  const sorted = new Uint8Array(value.subarray(first)).sort();
  const quotes = sorted.lastIndexOf(QUOTE) - sorted.indexOf(QUOTE) + 1;
  sorted.fill(0);
  return quotes;
}

function valueProblem(name: string, value: Buffer): string | undefined {
  if (value.includes(0)) return "a variable cannot hold its NUL bytes";
  const size = name.length + 1 + value.length;
  if (size > MAX_VARIABLE_BYTES) {
    return `${name}=value would be ${size} bytes, and a variable can have at most ${MAX_VARIABLE_BYTES}`;
  }
  return utf8Problem(value);
}

/**
 * systemd refuses a whole EnvironmentFile= for one value that is not UTF-8, or that holds a surrogate or a noncharacter
 * (252 to 262). Everything else in Unicode passes, control characters and U+FEFF included.
 */
function utf8Problem(value: Buffer): string | undefined {
  // Most values are, and a look at each byte would cost a publish of 1,000 secrets a tenth of its time (measured).
  if (isAscii(value)) return undefined;
  if (!isUtf8(value)) return "it is not UTF-8 text, and systemd refuses other variables";
  return hasNoncharacter(value) ? "systemd refuses the Unicode noncharacter in it" : undefined;
}

/** U+FDD0 to U+FDEF, and the last two of each plane. Made for the first value that is not ASCII. */
let noncharacters: readonly Buffer[] | undefined;

/**
 * Searches bytes, because a string could not be overwritten, and by the engine's own search: without a compiler for
 * JavaScript, a look at each byte of 240 large values kept the executable deaf to a stop for six seconds (measured).
 */
function hasNoncharacter(value: Buffer): boolean {
  noncharacters ??= [
    ...Array.from({ length: 32 }, (_, at) => 0xfdd0 + at),
    ...Array.from({ length: 17 }, (_, plane) => [0xfffe, 0xffff].map((last) => plane * 0x10000 + last)).flat(),
  ].map((code) => encoded(String.fromCodePoint(code)));
  return noncharacters.some((character) => value.includes(character));
}

/** @returns how many bytes it took. */
function copyQuoted(value: Buffer, content: Buffer, start: number): number {
  let at = start;
  let from = 0;
  for (let quote = value.indexOf(QUOTE); quote !== -1; quote = value.indexOf(QUOTE, from)) {
    at += value.copy(content, at, from, quote);
    at += EMBEDDED_QUOTE.copy(content, at);
    from = quote + 1;
  }
  return at + value.copy(content, at, from) - start;
}

/** Makes its own allocation: no value stays in Node's shared pool, which serves other buffers too. */
function joinLines(lines: readonly Line[]): Buffer {
  let length = 0;
  for (const { size } of lines) length += size;
  const content = Buffer.alloc(length);
  let at = 0;
  for (const { name, value } of lines) {
    at += content.write(name, at, "latin1");
    content[at++] = EQUALS;
    content[at++] = QUOTE;
    at += copyQuoted(value, content, at);
    content[at++] = QUOTE;
    content[at++] = NEWLINE;
  }
  return content;
}
