/**
 * How to write a value into a file of some format: `{{db | json}}`. From bytes to bytes, so that no value becomes a
 * string.
 */

/** Bytes of a value: a filter that replaces each of them takes the executable a fifth of a second for a MiB. */
export const MAX_FILTERED = 1024 * 1024;

/** How a filter writes a value, and which bytes it cannot write. */
interface Filter {
  readonly refuses?: { readonly bytes: readonly number[]; readonly why: string };
  /** What may not follow a byte, for the same reason. */
  readonly refusesPair?: { readonly byte: number; readonly isRefused: (next: number) => boolean };
  /** Before and after the value. */
  readonly around?: string;
  /** What replaces one byte; undefined: the byte itself. */
  readonly replace?: (byte: number) => string | undefined;
  /** The same for characters of two bytes in UTF-8, of which this is the first. */
  readonly replacePair?: { readonly byte: number; readonly by: (next: number) => string | undefined };
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
    replacePair: { byte: 0xc2, by: (next) => (next >= 0x80 && next < 0xa0 ? String.raw`\u00${hex(next)}` : undefined) },
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
    refusesPair: { byte: 0x24, isRefused: (next) => /[A-Za-z_{]/.test(String.fromCharCode(next)) },
  },
};

export const filterNames: readonly string[] = Object.keys(filters);

export function isFilter(name: string): boolean {
  return Object.hasOwn(filters, name);
}

/** @returns why the value cannot be written so; undefined where it can. */
export function refusalOf(name: string, value: Buffer): string | undefined {
  const { refuses, refusesPair } = filters[name] ?? {};
  if (refuses?.bytes.some((byte) => value.includes(byte)) === true) return refuses.why;
  if (
    refusesPair !== undefined &&
    placesOf(refusesPair.byte, value).some((at) => refusesPair.isRefused(value[at + 1] ?? 0))
  )
    return refuses?.why;
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
  const places = placesIn(value, table);
  const length = places === undefined ? lengthOfEach(value, table) : lengthBetween(value, table, places);
  const content = Buffer.alloc(2 * around.length + length);
  const inner = content.subarray(around.length, around.length + length);
  if (places === undefined) writeEach(value, table, inner);
  else writeBetween(value, table, places, inner);
  content.write(around, 0, "latin1");
  content.write(around, around.length + length, "latin1");
  return content;
}

/** Of so many bytes, one that is replaced: it then costs less to look at each byte than to search for these. */
const DENSE = 16;

/** @returns where something is replaced, in their order; undefined where that is nearly everywhere. */
function placesIn(value: Buffer, { replaced, pair, pairs }: Table): Uint32Array | undefined {
  const most = value.length / DENSE;
  const found: number[] = [];
  for (const byte of replaced) {
    for (const at of placesOf(byte, value, most)) found.push(at);
    if (found.length > most) return undefined;
  }
  const firsts = pair === undefined ? [] : placesOf(pair, value, most);
  if (found.length + firsts.length > most) return undefined;
  for (const at of firsts) if (pairs[value[at + 1] ?? 0] !== undefined) found.push(at);
  return Uint32Array.from(found).sort();
}

function lengthBetween(value: Buffer, { bytes, pairs }: Table, places: Uint32Array): number {
  let { length } = value;
  for (const at of places)
    length += (bytes[value[at] ?? 0]?.length ?? (pairs[value[at + 1] ?? 0]?.length ?? 0) - 1) - 1;
  return length;
}

function writeBetween(value: Buffer, { bytes, pairs }: Table, places: Uint32Array, content: Buffer): void {
  let [to, from] = [0, 0];
  for (const at of places) {
    to += value.copy(content, to, from, at);
    const one = bytes[value[at] ?? 0];
    const replacement = one ?? pairs[value[at + 1] ?? 0] ?? [];
    content.set(replacement, to);
    to += replacement.length;
    from = at + (one === undefined ? 2 : 1);
  }
  value.copy(content, to, from);
}

function lengthOfEach(value: Buffer, { bytes, pair, pairs }: Table): number {
  const { length: end } = value;
  const lengths = Uint8Array.from(bytes, (replacement) => replacement?.length ?? 1);
  let length = 0;
  for (let at = 0; at < end; at += 1) {
    const byte = value[at] ?? 0;
    const ofPair = byte === pair ? pairs[value[at + 1] ?? 0] : undefined;
    if (ofPair !== undefined) at += 1;
    length += ofPair?.length ?? lengths[byte] ?? 1;
  }
  return length;
}

function writeEach(value: Buffer, { bytes, pair, pairs }: Table, content: Buffer): void {
  const { length: end } = value;
  let to = 0;
  for (let at = 0; at < end; at += 1) {
    const byte = value[at] ?? 0;
    const ofPair = byte === pair ? pairs[value[at + 1] ?? 0] : undefined;
    if (ofPair !== undefined) at += 1;
    const replacement = ofPair ?? bytes[byte];
    if (replacement === undefined) content[to++] = byte;
    else {
      content.set(replacement, to);
      to += replacement.length;
    }
  }
}

/**
 * Where this byte is. By the engine's own search: without a compiler for JavaScript, a look at each byte of 7 MiB kept
 * the executable deaf to a stop for four seconds (measured).
 *
 * @param most ends the search one place later.
 */
function placesOf(byte: number, value: Buffer, most = Infinity): number[] {
  const places: number[] = [];
  for (let at = value.indexOf(byte); at !== -1 && places.length <= most; at = value.indexOf(byte, at + 1))
    places.push(at);
  return places;
}

/** What replaces bytes. */
interface Table {
  /** By the byte. */
  readonly bytes: readonly (Uint8Array | undefined)[];
  /** Those that are replaced. */
  readonly replaced: readonly number[];
  /** The first of two that are replaced together … */
  readonly pair: number | undefined;
  /** … and by what, by the second. */
  readonly pairs: readonly (Uint8Array | undefined)[];
}
const tables = new Map<string, Table>();

function tableOf(name: string): Table {
  const known = tables.get(name);
  if (known !== undefined) return known;
  const { replace = () => undefined, replacePair } = filters[name] ?? {};
  const each = (by: (byte: number) => string | undefined) =>
    Array.from({ length: 256 }, (_, byte) => {
      const text = by(byte);
      return text === undefined ? undefined : Uint8Array.from(Buffer.from(text, "latin1"));
    });
  const bytes = each(replace);
  const replaced = [...bytes.keys()].filter((byte) => bytes[byte] !== undefined);
  const table = { bytes, replaced, pair: replacePair?.byte, pairs: each(replacePair?.by ?? (() => undefined)) };
  tables.set(name, table);
  return table;
}
