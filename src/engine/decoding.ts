/**
 * Decodes a store's bytes as the configuration says, before they are compared or published: `decode`, `join`,
 * `all`.
 */
import { isUtf8 } from "node:buffer";
import { BackendError, type Outcome } from "../contract/backend.ts";
import type { SecretConfig } from "../config/config.ts";
import { bytesOf, parsing } from "../contract/json.ts";
import { isRecord } from "../contract/records.ts";
import { type Sliced, withoutStack } from "../contract/slices.ts";

type Shape = Pick<SecretConfig, "decode" | "join" | "all">;

/** Keys of one secret with `all`: each is a file. */
export const MOST_KEYS = 1000;

/**
 * @param describe where it comes from, for people.
 * @returns `invalid` for a value that does not have the shape; the value is then overwritten.
 */
export function* shaping(outcome: Outcome, shape: Shape, describe: () => string): Sliced<Outcome> {
  if (!("value" in outcome) || (shape.decode === undefined && !shape.join && !shape.all)) return outcome;
  const { value } = outcome;
  const place = describe();
  try {
    if (shape.all) {
      if ((yield* keysIn(value, place)) > 0) return outcome;
      value.fill(0);
      // All keys would vanish at once, which is more likely a mistake, as with a secret that became empty.
      return { status: "missing", where: `no key in ${place}` };
    }
    const made = yield* shape.join ? joining(value, place) : decoding(value);
    if (made === undefined) throw new BackendError("invalid", `${place}: is not base64, which \`decode\` expects`);
    value.fill(0);
    return { ...outcome, value: made };
  } catch (error) {
    value.fill(0);
    return withoutStack(
      error instanceof BackendError ? error : new BackendError("invalid", `${place}: cannot be read`),
    );
  }
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const [FOREIGN, BLANK, PADDING] = [0xff, 0xfe, 0xfd];
/** Byte → its six bits, or one of the above. Made when something is decoded: most starts need none. */
let known: Uint8Array | undefined;
/** Bytes in a few milliseconds. */
const PART = 16_384;

/**
 * Base64 as in RFC 4648, section 4, with its padding. It ignores line ends, spaces and tabs, which base64(1) and
 * editors write, and no other byte. It works byte by byte: a string could not be overwritten.
 *
 * @returns undefined where it is not base64.
 */
export function* decoding(text: Buffer): Sliced<Buffer | undefined> {
  const values = (known ??= valuesOfBytes());
  const bytes = Buffer.alloc(Math.ceil(text.length / 4) * 3);
  let [bits, held, length, digits, padding] = [0, 0, 0, 0, 0];
  for (let at = 0; at < text.length; at += 1) {
    if (at % PART === PART - 1) yield;
    const digit = values[text[at] ?? 0] ?? FOREIGN;
    if (digit === BLANK) continue;
    if (digit === PADDING) padding += 1;
    else if (digit === FOREIGN || padding > 0) return refused(bytes);
    else {
      digits += 1;
      held = ((held << 6) | digit) & 0xffff;
      bits += 6;
      if (bits < 8) continue;
      bits -= 8;
      bytes[length++] = (held >> bits) & 0xff;
    }
  }
  const isWhole = (digits + padding) % 4 === 0 && padding <= 2 && (padding === 0 || digits % 4 === 4 - padding);
  // Left-over bits must be 0: else two texts would mean one value.
  if (!isWhole || (held & ((1 << bits) - 1)) !== 0) return refused(bytes);
  const whole = Buffer.alloc(length);
  bytes.copy(whole);
  bytes.fill(0);
  return whole;
}

function valuesOfBytes(): Uint8Array {
  const values = new Uint8Array(256).fill(FOREIGN);
  for (const [digit, character] of Array.from(ALPHABET).entries()) values[character.charCodeAt(0)] = digit;
  for (const character of "\n\r \t") values[character.charCodeAt(0)] = BLANK;
  values["=".charCodeAt(0)] = PADDING;
  return values;
}

function refused(bytes: Buffer): Buffer | undefined {
  bytes.fill(0);
  return undefined;
}

/** `ca_chain` of a PKI: a JSON array of PEM blocks, as a file that holds one after the other. */
function* joining(value: Buffer, place: string): Sliced<Buffer> {
  const list = isUtf8(value) ? yield* parsing(value.toString("utf8"), place) : undefined;
  if (!Array.isArray(list) || !list.every((item) => typeof item === "string"))
    throw new BackendError("invalid", `${place}: is not an array of strings, which \`join\` expects`);
  const text = bytesOf(list.map((item: string) => (item.endsWith("\n") ? item : `${item}\n`)).join(""));
  if (text === undefined)
    throw new BackendError("invalid", `${place}: is not valid Unicode text (half of a surrogate pair)`);
  return text;
}

function* keysIn(value: Buffer, place: string): Sliced<number> {
  const keys = isUtf8(value) ? yield* parsing(value.toString("utf8"), place) : undefined;
  if (!isRecord(keys)) throw new BackendError("invalid", `${place}: is not a JSON object, which \`all\` expects`);
  if (Object.keys(keys).length > MOST_KEYS)
    throw new BackendError("invalid", `${place}: has more than ${MOST_KEYS} keys, too many for \`all\``);
  return Object.keys(keys).length;
}
