/**
 * The variables of a file for EnvironmentFile=, as systemd itself reads it (systemd.exec(5), and what 252 and 257 do).
 * Bytes in, bytes out, since they are secrets.
 */

export interface Variables {
  /** The last value of each counts. The caller owns the bytes. */
  readonly values: ReadonlyMap<string, Buffer>;
  /** Lines with a `=` that systemd ignores, since no variable can have such a name: `export A=b`. */
  readonly ignored: readonly number[];
}

type State =
  | "before-key"
  | "key"
  | "before-value"
  | "value"
  | "escape"
  | "single"
  | "double"
  | "double-escape"
  | "comment"
  | "comment-escape";

const code = (character: string) => character.charCodeAt(0);
const codes = (characters: string): ReadonlySet<number> => new Set(Buffer.from(characters));
const WHITESPACE = codes(" \t\n\r");
const NEWLINE = codes("\n\r");
const COMMENT = codes("#;");
/** Between double quotes, a `\` makes these literal. */
const ESCAPED = codes('"\\`$');
const [BACKSLASH, SINGLE, DOUBLE, EQUALS, LINE_FEED] = [code("\\"), code("'"), code('"'), code("="), code("\n")];

/**
 * @param joinsComments before systemd 254 a `\` at the end of a comment makes the next line a part of it.
 */
export function variablesIn(bytes: Buffer, joinsComments: boolean): Variables {
  const reader = new Reader(joinsComments);
  for (const byte of bytes) reader.take(byte);
  reader.end();
  return { values: reader.values, ignored: reader.ignored };
}

class Reader {
  readonly values = new Map<string, Buffer>();
  readonly ignored: number[] = [];
  readonly #joinsComments: boolean;
  #state: State = "before-key";
  #line = 1;
  #keyLine = 1;
  #key: number[] = [];
  #value: number[] = [];
  /** The length of the value without the white space at its end; undefined: all of it. */
  #trimmed: number | undefined;

  constructor(joinsComments: boolean) {
    this.#joinsComments = joinsComments;
  }

  take(byte: number): void {
    this.#state = this.#next(byte);
    if (byte === LINE_FEED) this.#line += 1;
  }

  end(): void {
    if (!["before-key", "key", "comment", "comment-escape"].includes(this.#state)) this.#push();
  }

  #next(byte: number): State {
    switch (this.#state) {
      case "before-key":
        return this.#beforeKey(byte);
      case "key":
        return this.#inKey(byte);
      case "before-value":
        return this.#beforeValue(byte);
      case "value":
        return this.#inValue(byte);
      case "escape":
        // An escaped end of line continues the line, and adds nothing to the value.
        return NEWLINE.has(byte) ? "value" : this.#add("value", byte);
      case "single":
        return byte === SINGLE ? "before-value" : this.#add("single", byte);
      case "double":
        if (byte === DOUBLE) return "before-value";
        return byte === BACKSLASH ? "double-escape" : this.#add("double", byte);
      case "double-escape":
        if (ESCAPED.has(byte)) return this.#add("double", byte);
        return byte === LINE_FEED ? "double" : this.#add("double", BACKSLASH, byte);
      case "comment":
        if (byte === BACKSLASH) return "comment-escape";
        return NEWLINE.has(byte) ? "before-key" : "comment";
      case "comment-escape":
        return NEWLINE.has(byte) && !this.#joinsComments ? "before-key" : "comment";
    }
  }

  #beforeKey(byte: number): State {
    if (COMMENT.has(byte)) return "comment";
    if (WHITESPACE.has(byte)) return "before-key";
    this.#key = [byte];
    this.#keyLine = this.#line;
    return "key";
  }

  #inKey(byte: number): State {
    if (NEWLINE.has(byte)) return "before-key";
    if (byte === EQUALS) {
      this.#trimmed = undefined;
      return "before-value";
    }
    this.#key.push(byte);
    return "key";
  }

  #beforeValue(byte: number): State {
    if (NEWLINE.has(byte)) return this.#push();
    if (byte === SINGLE) return "single";
    if (byte === DOUBLE) return "double";
    if (byte === BACKSLASH) return "escape";
    return WHITESPACE.has(byte) ? "before-value" : this.#add("value", byte);
  }

  #inValue(byte: number): State {
    if (NEWLINE.has(byte)) return this.#push();
    if (byte === BACKSLASH) {
      this.#trimmed = undefined;
      return "escape";
    }
    this.#trimmed = WHITESPACE.has(byte) ? (this.#trimmed ?? this.#value.length) : undefined;
    return this.#add("value", byte);
  }

  #add(state: State, ...bytes: readonly number[]): State {
    this.#value.push(...bytes);
    return state;
  }

  #push(): State {
    const name = Buffer.from(this.#key)
      .toString("latin1")
      .replace(/[ \t\n\r]+$/, "");
    const value = Buffer.from(this.#value.slice(0, this.#state === "value" ? this.#trimmed : undefined));
    this.#value.fill(0);
    this.#value = [];
    if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      this.values.get(name)?.fill(0);
      this.values.set(name, value);
    } else {
      value.fill(0);
      this.ignored.push(this.#keyLine);
    }
    return "before-key";
  }
}
