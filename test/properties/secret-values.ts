import fc from "fast-check";
import { expect } from "vitest";
import { encodeEnvFile, type EnvFile } from "../../src/publish/env-file.ts";

const utf8 = (text: string): Buffer => Buffer.from(text, "utf8");
const controls = Array.from({ length: 0x20 }, (_, code) => utf8(String.fromCharCode(code + 1)));
/** C1 controls: dash marks quoting with bytes 0x81 to 0x88 inside. */
const highControls = Array.from({ length: 0x21 }, (_, code) => utf8(String.fromCharCode(code + 0x7f)));

/** Characters that some reader gives a meaning to, but that no reader may change inside a quoted value. */
const carried: readonly Buffer[] = [
  ...controls,
  ...highControls,
  ...Array.from("'\"`$\\#=;&|<>()[]{}*?!~%^ \t-_+,./:@", utf8),
  ..."'' '\\'' '\"'\"' \\' \\\\ \\\n $(id) ${PATH} `id` $'x' #c ;c =x\n \n\n \n\n\n \r\n a\nB='c' %s %n \\x41 \\101 a 0 x"
    .split(" ")
    .map(utf8),
  utf8("\nINJECTED='1'\n"),
  utf8("'\nINJECTED=1\n'"),
  ..."é ß \u0081 \u0088 € あ 漢 한 \uFEFF \uFFFD \uFDCF \uFDF0 \uE000 \u2028 😀 \u{1FFFD} \u{10FFFD} e\u0301"
    .split(" ")
    .map(utf8),
];

/** Bytes that systemd refuses, or that no variable can hold. */
export const refused: readonly Buffer[] = [
  ..."\0 \uFDD0 \uFDEF \uFFFE \uFFFF \u{1FFFE} \u{1FFFF} \u{8FFFE} \u{10FFFE} \u{10FFFF}".split(" ").map(utf8),
  ...[
    "80",
    "bf",
    "ff",
    "fe",
    "c3",
    "e282",
    "f09f98", // lone continuation, impossible and cut off
    "c080",
    "c1bf",
    "e0809f",
    "e08080",
    "f08080af",
    "f0808080", // overlong
    "eda080",
    "edafbf",
    "edb080",
    "edbfbf",
    "eda0bdedb880", // surrogates, alone and paired
    "f4908080",
    "f5808080",
    "f8888080",
    "fc84808080",
    "f888808080", // beyond U+10FFFF, 5 and 6 bytes
    "c328",
    "e28228",
    "f0288cbc", // a lead byte without its continuation
  ].map((hex) => Buffer.from(hex, "hex")),
];

const joined = (pieces: readonly Buffer[], maxLength: number): fc.Arbitrary<Buffer> =>
  fc.array(fc.constantFrom(...pieces), { maxLength }).map((parts) => Buffer.concat(parts));

const unicode = fc.string({ unit: "binary", maxLength: 30 }).map(utf8);
const bytes = fc.uint8Array({ maxLength: 20 }).map((array) => Buffer.from(array));
const trailing = fc
  .tuple(joined(carried, 4), fc.constantFrom("\n", "\n\n\n", "\r\n", "\r\n\r\n", "\n \n", "\t\n"))
  .map(([head, tail]) => Buffer.concat([head, utf8(tail)]));

/** Values of a few bytes; about one in five does not fit a variable. */
export const secretValue: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 12, arbitrary: joined(carried, 12) },
  { weight: 4, arbitrary: unicode },
  { weight: 2, arbitrary: trailing },
  { weight: 2, arbitrary: joined([...carried, ...refused], 4) },
  { weight: 1, arbitrary: bytes },
);

/** Values of 64 KiB and a little more. */
export const longValue: fc.Arbitrary<Buffer> = joined(carried, 12).map((piece) =>
  piece.length === 0 ? Buffer.alloc(65_536, "x") : Buffer.alloc(65_536 + (65_536 % piece.length), piece),
);

/**
 * The bytes of a value that every reader must see; undefined where none may see any.
 *
 * Written from the documents, not from the program: TextDecoder (WHATWG Encoding) for UTF-8, ECMAScript's
 * Noncharacter_Code_Point for what systemd refuses beyond that.
 */
export function expectedValue(value: Buffer): Buffer | undefined {
  const kept = Buffer.from(value.toString("latin1").replace(/\n+$/, ""), "latin1");
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(kept);
    return /[\0\p{Noncharacter_Code_Point}]/u.test(text) ? undefined : kept;
  } catch {
    return undefined;
  }
}

/** @param dump the output of `env -0`. */
export function parseEnvironment(dump: Buffer): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (let at = 0; at < dump.length;) {
    const end = dump.indexOf(0, at);
    const equals = dump.indexOf("=", at);
    found.set(dump.toString("latin1", at, equals), dump.subarray(equals + 1, end));
    at = end + 1;
  }
  return found;
}

/**
 * The differences between the values that the file promises and those that a reader saw, and variables from nowhere.
 */
export function misread(
  promised: ReadonlyMap<string, Buffer>,
  seen: ReadonlyMap<string, Buffer>,
  readersOwn: readonly string[],
): string[] {
  const hex = (value: Buffer | undefined): string => value?.toString("hex", 0, 64) ?? "nothing";
  const wrong = [...promised].filter(([name, value]) => seen.get(name)?.equals(value) !== true);
  const foreign = [...seen.keys()].filter((name) => !promised.has(name) && !readersOwn.includes(name));
  return [
    ...wrong.map(([name, value]) => `${name}: ${hex(value)} read as ${hex(seen.get(name))}`),
    ...foreign.map((name) => `${name} was injected`),
  ];
}

/** The file for these values, named V0, V1 and so on, and the values that it promises to its readers. */
export function fileOf(values: readonly Buffer[]): { file: EnvFile; promised: Map<string, Buffer> } {
  const file = encodeEnvFile(
    values.map((value, index) => ({ id: `V${index}`, value, env: undefined, restricted: false })),
  );
  const promised = new Map<string, Buffer>();
  for (const [index, value] of values.entries()) {
    const expected = expectedValue(value);
    if (expected !== undefined) promised.set(`V${index}`, expected);
  }
  expect([...file.names.keys()], "what is in the file").toEqual([...promised.keys()]);
  return { file, promised };
}

/** The seed and the failure, without the batch of a thousand values. */
export function shortReport<Values>(details: fc.RunDetails<Values>): void {
  if (!details.failed) return;
  throw new Error(`seed ${details.seed}, path ${details.counterexamplePath ?? ""}`, { cause: details.errorInstance });
}
