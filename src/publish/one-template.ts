/**
 * A template: a configuration file with secrets in it. The mustache package parses it; we render it from the bytes of
 * the values. So no value becomes a string, none is escaped as HTML, and a whole name is an id. (Mustache
 * itself splits a name at its dots, and writes nothing for a name that it does not know.)
 */
import { isUtf8 } from "node:buffer";
import mustache from "mustache";
import type { SecretConfig, TemplateConfig } from "../config/config.ts";
import { ConfigError, UnfitFile, unreadable } from "../contract/errors.ts";
import { didYouMean } from "../contract/nearest.ts";
import { joinPath } from "../contract/settings.ts";
import { hiddenHint } from "../contract/unit-sandbox.ts";
import { utf16Hint, withoutByteOrderMark } from "../contract/text.ts";
import { MAX_VALUES } from "../contract/limits.ts";
import { filtered, filterNames, isFilter, MAX_FILTERED, refusalOf } from "./filters.ts";
import { ValueError, withoutTrailingNewlines } from "./value.ts";

const MIB = 1024 * 1024;
/** Bytes of one file. A template may name a value many times, and a filter makes it longer. */
export const MAX_FILE = MAX_VALUES;

/** A token of Mustache 4.2.0: kind, text or name, where it begins, where it ends, what is in the section. */
type Token = readonly [kind: string, value: string, start: number, end: number, inner?: unknown];

type Part =
  | { readonly kind: "text"; readonly bytes: Buffer }
  /** `filter`: how to write it; undefined: as it is. */
  | { readonly kind: "value"; readonly id: string; readonly line: number; readonly filter: string | undefined }
  /** Written if the value exists; `not`: if it does not. */
  | { readonly kind: "if" | "if not"; readonly id: string; readonly parts: readonly Part[] };

/**
 * Reads and checks a template.
 *
 * @param secrets id → the secrets that it may name.
 * @throws ConfigError that names the template, the line, and what is wrong there.
 */
export async function readTemplate(
  template: TemplateConfig,
  secrets: ReadonlyMap<string, SecretConfig>,
  readFile: ReadFile,
): Promise<Template> {
  return new Reader(template, secrets, readFile).read();
}

/** Rejects with an UnfitFile, or the error of the system. */
export type ReadFile = (path: string) => Promise<Buffer>;

export class Template {
  /** The secrets whose values it can show. */
  readonly ids: ReadonlySet<string>;
  readonly #path: string;
  readonly #parts: readonly Part[];

  constructor(path: string, parts: readonly Part[]) {
    this.#path = path;
    this.#parts = parts;
    this.ids = new Set(idsIn(parts));
  }

  /**
   * Puts values in without their trailing newlines, as in secrets.env. An empty one then counts as none.
   *
   * @param values id → bytes.
   * @throws ValueError for a value that is not text, or too large for the file.
   */
  render(values: ReadonlyMap<string, Buffer>): Buffer {
    const pieces = new Pieces();
    try {
      this.#fill(pieces, this.#parts, values);
      return pieces.joined();
    } finally {
      pieces.clear();
    }
  }

  #fill(pieces: Pieces, parts: readonly Part[], values: ReadonlyMap<string, Buffer>): void {
    for (const part of parts) {
      if (part.kind === "text") {
        pieces.add(part.bytes);
        continue;
      }
      const value = withoutTrailingNewlines(values.get(part.id) ?? Buffer.alloc(0));
      if (part.kind !== "value") {
        if (value.length > 0 === (part.kind === "if")) this.#fill(pieces, part.parts, values);
        continue;
      }
      this.#fillIn(pieces, part, value);
    }
  }

  #fillIn(pieces: Pieces, { id, line, filter }: Part & { readonly kind: "value" }, value: Buffer): void {
    if (filter !== undefined && value.length > MAX_FILTERED)
      throw new ValueError(
        id,
        `it is larger than 1 MiB, the most that the filter in template ${this.#path} takes, line ${line}`,
      );
    const problem = problemOf(value) ?? (filter === undefined ? undefined : refusalOf(filter, value));
    if (problem !== undefined)
      throw new ValueError(id, `it ${problem}, which template ${this.#path} needs at line ${line}`);
    if (filter === undefined) pieces.add(value);
    else pieces.addOwn(filtered(filter, value));
    if (pieces.length > MAX_FILE)
      throw new ValueError(id, `with it, template ${this.#path} makes a file larger than ${MAX_FILE / MIB} MiB`);
  }
}

/** What a file is made of. */
class Pieces {
  readonly #all: Buffer[] = [];
  /** Those that a filter made. */
  readonly #own: Buffer[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(piece: Buffer): void {
    this.#all.push(piece);
    this.#length += piece.length;
  }

  addOwn(piece: Buffer): void {
    this.#own.push(piece);
    this.add(piece);
  }

  /** Its own allocation, outside Node's shared pool. */
  joined(): Buffer {
    const content = Buffer.alloc(this.#length);
    let at = 0;
    for (const piece of this.#all) at += piece.copy(content, at);
    return content;
  }

  /** Overwrites its own pieces. */
  clear(): void {
    for (const piece of this.#own) piece.fill(0);
  }
}

function problemOf(value: Buffer): string | undefined {
  return value.includes(0) ? "has NUL bytes" : isUtf8(value) ? undefined : "is not UTF-8 text";
}

function idsIn(parts: readonly Part[]): readonly string[] {
  return parts.flatMap((part) => (part.kind === "text" ? [] : part.kind === "value" ? [part.id] : idsIn(part.parts)));
}

class Reader {
  readonly #template: TemplateConfig;
  readonly #secrets: ReadonlyMap<string, SecretConfig>;
  readonly #readFile: ReadFile;
  #text = "";

  constructor(template: TemplateConfig, secrets: ReadonlyMap<string, SecretConfig>, readFile: ReadFile) {
    this.#template = template;
    this.#secrets = secrets;
    this.#readFile = readFile;
  }

  async read(): Promise<Template> {
    const bytes = await this.#read();
    if (!isUtf8(bytes)) throw this.#refuse(`is not UTF-8 text${utf16Hint(bytes)}`);
    // Some editors leave a byte order mark, which readers of INI, JSON and shell files stumble over.
    this.#text = withoutByteOrderMark(bytes).toString("utf8");
    return new Template(this.#template.path, this.#parts(this.#tokens(), []));
  }

  async #read(): Promise<Buffer> {
    try {
      return await this.#readFile(this.#template.path);
    } catch (error) {
      if (error instanceof UnfitFile) throw this.#refuse(error.message);
      throw unreadable(this.#refuse("cannot be read").message, error, hiddenHint(this.#template.path));
    }
  }

  #tokens(): readonly Token[] {
    try {
      return mustache.parse(this.#text) as unknown as readonly Token[];
    } catch (error) {
      // `Unclosed section "x" at 12`; for a tag without an end, the number is the end of the whole text.
      const [, what = "", at] = /^(.*?)(?: at (\d+))?$/s.exec(error instanceof Error ? error.message : "") ?? [];
      const position =
        what === "Unclosed tag" ? this.#text.indexOf("{{", this.#text.lastIndexOf("}}") + 1) : Number(at);
      throw this.#refuse(explain(what), Number.isNaN(position) ? undefined : position);
    }
  }

  /** @param sections the sections around it that are written where their secret has a value, innermost last. */
  #parts(tokens: readonly Token[], sections: readonly string[]): Part[] {
    return tokens.flatMap(([kind, value, start, , inner]): Part[] => {
      switch (kind) {
        case "text":
          return [{ kind: "text", bytes: Buffer.from(value) }];
        case "name":
        case "&": {
          const [name, filter] = this.#filterIn(value, start);
          const id = name === "." ? (sections.at(-1) ?? name) : name;
          if (this.#known(id, start).optional && !sections.includes(id))
            throw this.#refuse(
              `${tag(id)} is optional: write it between {{#${shown(id)}}} and {{/${shown(id)}}}`,
              start,
            );
          return [{ kind: "value", id, line: this.#line(start), filter }];
        }
        case "#":
        case "^": {
          const { id } = this.#known(value, start);
          const nested = kind === "#" ? [...sections, id] : sections;
          return [{ kind: kind === "#" ? "if" : "if not", id, parts: this.#parts(inner as readonly Token[], nested) }];
        }
        case ">":
          throw this.#refuse(`{{>${shown(value)}}}: partials do not exist here: write their text instead`, start);
        default:
          // Comments, and new delimiters, which are already in effect.
          return [];
      }
    });
  }

  /** `db | json`: the secret and its filter. An id may contain a bar, too. */
  #filterIn(value: string, start: number): readonly [name: string, filter: string | undefined] {
    const bar = value.lastIndexOf("|");
    if (bar < 0 || this.#secrets.has(value)) return [value, undefined];
    const [name, filter] = [value.slice(0, bar).trim(), value.slice(bar + 1).trim()];
    if (isFilter(filter)) return [name, filter];
    const known = `known are ${filterNames.join(", ")}${didYouMean(filter, filterNames)}`;
    throw this.#refuse(`there is no filter ${tag(filter)}: ${known}`, start);
  }

  #known(id: string, start: number): SecretConfig {
    const secret = this.#secrets.get(id);
    if (secret === undefined) {
      const meant = didYouMean(id, this.#secrets.keys());
      throw this.#refuse(`there is no secret ${tag(id)}: declare it in "secrets"${meant}`, start);
    }
    return secret;
  }

  #line(position: number): number {
    return this.#text.slice(0, position).split("\n").length;
  }

  #refuse(problem: string, position?: number): ConfigError {
    const { file, path } = this.#template;
    const line = position === undefined ? "" : ` line ${this.#line(position)}:`;
    return new ConfigError(`${joinPath("templates", file)}.template`, `${path}${line} ${problem}`);
  }
}

/** Mustache's errors, worded for the reader of the template. */
function explain(what: string): string {
  const [, how, name] = /^(Unclosed|Unopened) section "(.*)"$/s.exec(what) ?? [];
  if (name !== undefined)
    return how === "Unclosed"
      ? `the section ${tag(name)} is not closed by then: {{/${shown(name)}}} is missing`
      : `{{/${shown(name)}}} closes a section that is not open`;
  if (what === "Unclosed tag") return "a tag has no end: }} is missing";
  return "expected two delimiters, as in {{=<% %>=}}";
}

function tag(name: string): string {
  return JSON.stringify(shown(name));
}

/** Names are short. A long one is text that was not meant as a tag, and may be anything. */
function shown(name: string): string {
  const line = name.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
  return line.length <= 80 ? line : `${line.slice(0, 40)}…`;
}
