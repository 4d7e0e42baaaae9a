/**
 * Reads an answer of HTTP/1.1 (RFC 9112) from the bytes of a connection. It is strict: two statements about the length,
 * a line that does not end as it must, or a control character end the answer.
 */

/** Those of an answer, by lower-case names. Of several with one name the first counts. */
export type Headers = Readonly<Partial<Record<string, string>>>;

export interface Receiver {
  /** A head with status 1xx: that of the answer follows. */
  interim(): void;
  head(status: number, headers: Headers): void;
  /** @param bytes of the body: the receiver's own. */
  part(bytes: Buffer): void;
  /** @param isReusable whether the connection can serve another request. */
  complete(isReusable: boolean): void;
}

/** What comes is no answer of HTTP/1.1. */
export class NotHttp extends Error {
  override readonly name = "NotHttp";
}

/** Bytes of a head, and of all between the chunks of a body but their lengths: Node's limit for a head. */
const MAX_OVERHEAD = 16 * 1024;
const NOTHING: Buffer = Buffer.alloc(0);
const BEGINNING = "HTTP/1.";
const TOKEN = String.raw`[!#$%&'*+.^_\`|~\w-]+`;
const TEXT = String.raw`[\t\x20-\x7e\x80-\xff]*`;
const FIELD = String.raw`${TOKEN}:${TEXT}\r\n`;
const HEAD = new RegExp(String.raw`^HTTP/1\.([01]) ([1-9]\d\d)(?: ${TEXT})?\r\n((?:${FIELD})*)\r\n$`);
const EXTENSION = String.raw`;${TOKEN}(?:=(?:${TOKEN}|"[\t !#-[\]-~\x80-\xff]*"))?`;
const CHUNK = new RegExp(String.raw`^([\da-fA-F]{1,12})((?:${EXTENSION})*)\r\n$`);
const TRAILER = new RegExp(`^${FIELD}$`);

type State = "head" | "sized" | "until the end" | "chunk's length" | "chunk" | "chunk's end" | "trailers" | "over";

export class AnswerParser {
  readonly #receiver: Receiver;
  #state: State = "head";
  /** A head or a line that is not complete yet. */
  #held = NOTHING;
  #input = NOTHING;
  /** In `#input`: what has been read so far … */
  #at = 0;
  /** … and how much of the body is at its beginning. */
  #filled = 0;
  /** Bytes of the body, or of the chunk, that are still to come. */
  #left = 0;
  #overhead = 0;
  #isPersistent = false;
  #hasBegun = false;

  constructor(receiver: Receiver) {
    this.#receiver = receiver;
  }

  /** Whether a byte has come. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /**
   * @param bytes the parser's own from now on. It gathers the body in them, and overwrites the rest.
   * @throws NotHttp; then it must not be called again.
   */
  take(bytes: Buffer): void {
    this.#hasBegun = true;
    const input = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    if (input !== bytes) bytes.fill(0);
    [this.#input, this.#held, this.#at, this.#filled] = [input, NOTHING, 0, 0];
    while (this.#at < input.length && this.#state !== "over" && this.#step());
    const [body, hasMore] = [input.subarray(0, this.#filled), this.#at < input.length];
    input.fill(0, this.#filled);
    this.#input = NOTHING;
    if (body.length > 0) this.#receiver.part(body);
    if (this.#state === "over") this.#receiver.complete(this.#isPersistent && !hasMore);
  }

  /** The server sends no more. @returns whether the answer is complete by that: then it is received. */
  end(): boolean {
    if (this.#state !== "until the end") return false;
    this.#state = "over";
    this.#receiver.complete(false);
    return true;
  }

  /** @returns false where more bytes must come first. */
  #step(): boolean {
    switch (this.#state) {
      case "head":
        return this.#readHead();
      case "sized":
        if (this.#gather(this.#left)) this.#state = "over";
        return true;
      case "until the end":
        this.#gather(Infinity);
        return true;
      case "chunk's length":
        return this.#readChunkLength();
      case "chunk":
        if (this.#gather(this.#left)) this.#state = "chunk's end";
        return true;
      case "chunk's end": {
        const line = this.#read("\r\n", 2);
        if (line !== undefined && line.length > 2) throw new NotHttp();
        this.#state = line === undefined ? this.#state : "chunk's length";
        return line !== undefined;
      }
      case "trailers":
        return this.#readTrailer();
      case "over":
        return false;
    }
  }

  #readHead(): boolean {
    const text = this.#read("\r\n\r\n", MAX_OVERHEAD);
    if (text === undefined) {
      const begun = this.#held.toString("latin1");
      if (!BEGINNING.startsWith(begun.slice(0, BEGINNING.length)) || /(?<!\r)\n/.test(begun)) throw new NotHttp();
      return false;
    }
    const [, minor, digits, fields = ""] = HEAD.exec(text) ?? [];
    if (minor === undefined) throw new NotHttp();
    const status = Number(digits);
    const { headers, connection } = fieldsOf(fields);
    const closes = /(?:^|[\t ,])close(?:[\t ,]|$)/i.test(connection);
    // What announces an answer has no body, and is not the last word.
    const announces = minor === "1" && !closes && !speaksOfLength(headers);
    // We ask for no other protocol.
    if (status === 101 || (status < 200 && !announces)) throw new NotHttp();
    if (status < 200) {
      this.#receiver.interim();
      return true;
    }
    this.#isPersistent = minor === "1" && !closes;
    this.#frame(status, headers, minor === "1");
    this.#receiver.head(status, headers);
    return true;
  }

  /** How long the body is (RFC 9112, 6.3). */
  #frame(status: number, headers: Headers, hasChunks: boolean): void {
    const { "content-length": length, "transfer-encoding": coding } = headers;
    if (coding !== undefined && (coding.toLowerCase() !== "chunked" || length !== undefined || !hasChunks))
      throw new NotHttp();
    if (length !== undefined && !/^\d{1,15}$/.test(length)) throw new NotHttp();
    this.#left = Number(length ?? 0);
    if (status === 204 || status === 304) this.#state = "over";
    else if (coding !== undefined) this.#state = "chunk's length";
    else if (length === undefined) {
      this.#state = "until the end";
      this.#isPersistent = false;
    } else this.#state = this.#left === 0 ? "over" : "sized";
  }

  #readChunkLength(): boolean {
    const line = this.#read("\r\n", MAX_OVERHEAD);
    if (line === undefined) return false;
    const [, digits, extensions = ""] = CHUNK.exec(line) ?? [];
    if (digits === undefined) throw new NotHttp();
    this.#count(extensions.length);
    this.#left = parseInt(digits, 16);
    this.#state = this.#left === 0 ? "trailers" : "chunk";
    return true;
  }

  #readTrailer(): boolean {
    const line = this.#read("\r\n", MAX_OVERHEAD);
    if (line === undefined) return false;
    if (line === "\r\n") this.#state = "over";
    else if (!TRAILER.test(line) || speaksOfLength(fieldsOf(line).headers)) throw new NotHttp();
    this.#count(line.length);
    return true;
  }

  #count(bytes: number): void {
    this.#overhead += bytes;
    if (this.#overhead > MAX_OVERHEAD) throw new NotHttp();
  }

  /** @returns the text up to `end` and with it; undefined where it is not complete. Holds it, then. */
  #read(end: string, limit: number): string | undefined {
    const found = this.#input.indexOf(end, this.#at, "latin1");
    const to = found === -1 ? this.#input.length : found + end.length;
    if (to - this.#at > limit) throw new NotHttp();
    const begin = this.#at;
    this.#at = to;
    if (found !== -1) return this.#input.toString("latin1", begin, to);
    this.#held = Buffer.from(this.#input.subarray(begin));
    return undefined;
  }

  /** Takes as much of the body as is there, up to `most` bytes. @returns whether these were all of them. */
  #gather(most: number): boolean {
    const to = Math.min(this.#at + most, this.#input.length);
    if (this.#filled < this.#at) this.#input.copyWithin(this.#filled, this.#at, to);
    const gathered = to - this.#at;
    this.#filled += gathered;
    this.#at = to;
    this.#left -= gathered;
    return gathered === most;
  }
}

/** @param fields of a head that is as it should be. @throws NotHttp where one about the length comes twice, or with a tab. */
function fieldsOf(fields: string): { headers: Headers; connection: string } {
  const headers = Object.create(null) as Partial<Record<string, string>>;
  let connection = "";
  for (const field of fields.split("\r\n")) {
    const colon = field.indexOf(":");
    if (colon === -1) continue;
    const name = field.slice(0, colon).toLowerCase();
    const value = trimmed(field.slice(colon + 1));
    if (name === "connection") connection += `,${value}`;
    const isOfLength = name === "content-length" || name === "transfer-encoding";
    if (isOfLength && (headers[name] !== undefined || field.includes("\t"))) throw new NotHttp();
    headers[name] ??= value;
  }
  return { headers, connection };
}

function speaksOfLength(headers: Headers): boolean {
  return headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined;
}

/** Without spaces and tabs around it. `trim()` would take more. */
function trimmed(text: string): string {
  let [from, to] = [0, text.length];
  const isBlank = (at: number) => text[at] === " " || text[at] === "\t";
  while (from < to && isBlank(from)) from += 1;
  while (from < to && isBlank(to - 1)) to -= 1;
  return text.slice(from, to);
}
