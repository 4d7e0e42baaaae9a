/**
 * How to write a value into a file of some format: `{{db | json}}`. From bytes to bytes, so that no value becomes a
 * string.
 */

/** Bytes of a value: a filter looks at each, and without a compiler for JavaScript a MiB takes a second. */
export const MAX_FILTERED = 1024 * 1024;

/** How a filter writes a value, and which bytes it cannot write. */
interface Filter {
  readonly refuses?: { readonly bytes: readonly number[]; readonly why: string };
  /** Which two bytes that follow each other it cannot write, for the same reason. */
  readonly refusesPair?: (byte: number, next: number) => boolean;
  /** Before and after the value. */
  readonly around?: string;
  /** What replaces one byte; undefined: the byte itself. */
  readonly replace?: (byte: number) => string | undefined;
  /** The same for a character of two bytes in UTF-8. */
  readonly replacePair?: (byte: number, next: number) => string | undefined;
}

const QUOTE = 0x27;
const LINE_ENDS = [0x0a, 0x0d];
const hex = (byte: number) => byte.toString(16).padStart(2, "0");
const short: Readonly<Record<number, string>> = {
  0x22: String.raw`\"`,
  0x5c: "\\\\",
  0x08: String.raw`\b`,
  0x09: String.raw`\t`,
  0x0a: String.raw`\n`,
  0x0c: String.raw`\f`,
  0x0d: String.raw`\r`,
};

const filters: Readonly<Record<string, Filter>> = {
  // A string of JSON, and so of YAML and TOML.
  json: {
    around: '"',
    replace: (byte) => short[byte] ?? (byte < 0x20 || byte === 0x7f ? String.raw`\u00${hex(byte)}` : undefined),
    // U+0080 to U+009F: YAML takes U+0085 for a line end, which becomes a space, and refuses the others.
    replacePair: (byte, next) => (byte === 0xc2 && next < 0xa0 ? String.raw`\u00${hex(next)}` : undefined),
  },
  // One word for a shell, and for systemd's EnvironmentFile=, which reads no other embedded quote.
  sh: { around: "'", replace: (byte) => (byte === QUOTE ? `'"'"'` : undefined) },
  // RFC 3986: everything but unreserved characters is encoded, so that it can be a user, a password, a segment of a
  // path or a query.
  url: {
    replace: (byte) => (/[A-Za-z0-9._~-]/.test(String.fromCharCode(byte)) ? undefined : `%${hex(byte).toUpperCase()}`),
  },
  // Python's configparser, which reads %(name)s.
  ini: {
    refuses: { bytes: LINE_ENDS, why: "has a line end, which a value of an INI file cannot have" },
    replace: (byte) => (byte === 0x25 ? "%%" : undefined),
  },
  // NAME=value to the end of the line, with any characters: docker run --env-file.
  line: { refuses: { bytes: LINE_ENDS, why: "has a line end, and all of it must be on one line" } },
  // What readers of .env files understand alike in all languages.
  dotenv: {
    around: "'",
    refuses: {
      // Node leaves out a carriage return, and Python makes it a line feed.
      bytes: [QUOTE, 0x5c, 0x0d],
      why: "has a quote, a backslash, a carriage return or a $NAME, which readers of .env files take for different things",
    },
    // Python replaces ${NAME} even between quotes, and so does JavaScript's dotenv-expand, also without braces.
    refusesPair: (byte, next) => byte === 0x24 && /[A-Za-z_{]/.test(String.fromCharCode(next)),
  },
};

export const filterNames: readonly string[] = Object.keys(filters);

export function isFilter(name: string): boolean {
  return Object.hasOwn(filters, name);
}

/** @returns why the value cannot be written so; undefined where it can. */
export function refusalOf(name: string, value: Buffer): string | undefined {
  const { refuses, refusesPair = () => false } = filters[name] ?? {};
  if (refuses !== undefined) {
    const isRefused = (byte: number, at: number) =>
      refuses.bytes.includes(byte) || refusesPair(byte, value[at + 1] ?? 0);
    if (value.some(isRefused)) return refuses.why;
  }
  if (name === "ini" && isPadded(value)) return "begins or ends with a space, which an INI file does not keep";
  return undefined;
}

/** Decides like Python's str.strip(); at most one character of each end becomes a string. */
function isPadded(value: Buffer): boolean {
  const ends = [value.subarray(0, 4).toString("utf8"), value.subarray(-4).toString("utf8")] as const;
  return /^[\s\u001c-\u001f\u0085]/.test(ends[0]) || /[\s\u001c-\u001f\u0085]$/.test(ends[1]);
}

/** @returns new bytes, which the caller overwrites. */
export function filtered(name: string, value: Buffer): Buffer {
  const { around = "" } = filters[name] ?? {};
  const table = tableOf(name);
  const pairs = pairsIn(name, value);
  let length = 2 * around.length;
  for (const byte of value) length += table[byte]?.length ?? 1;
  for (const text of pairs.values()) length += text.length - 2;
  const content = Buffer.alloc(length);
  let at = content.write(around, 0, "latin1");
  for (let index = 0; index < value.length; index += 1) {
    const byte = value[index] ?? 0;
    const pair = byte < 0x80 ? undefined : pairs.get(index);
    const bytes = table[byte];
    if (pair !== undefined) {
      at += content.write(pair, at, "latin1");
      index += 1;
    } else if (bytes === undefined) content[at++] = byte;
    else for (const one of bytes) content[at++] = one;
  }
  content.write(around, at, "latin1");
  return content;
}

/** @returns what replaces two bytes, by the index of the first. */
function pairsIn(name: string, value: Buffer): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  const { replacePair } = filters[name] ?? {};
  if (replacePair === undefined) return found;
  for (const [index, byte] of value.entries()) {
    const text = byte < 0x80 ? undefined : replacePair(byte, value[index + 1] ?? 0);
    if (text !== undefined) found.set(index, text);
  }
  return found;
}

type Table = readonly (Uint8Array | undefined)[];
const tables = new Map<string, Table>();

/** What replaces each byte. */
function tableOf(name: string): Table {
  const known = tables.get(name);
  if (known !== undefined) return known;
  const { replace = () => undefined } = filters[name] ?? {};
  const table = Array.from({ length: 256 }, (_, byte) => {
    const text = replace(byte);
    return text === undefined ? undefined : Uint8Array.from(Buffer.from(text, "latin1"));
  });
  tables.set(name, table);
  return table;
}
