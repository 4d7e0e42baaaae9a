/** The project's documents, as tests read them: fenced blocks, links, and the anchors that links may name. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

export const project = join(import.meta.dirname, "..");

export interface Block {
  /** Below the project. */
  readonly file: string;
  /** The heading above it; "" before the first one. */
  readonly heading: string;
  /** The line of its first fence, from 1. */
  readonly line: number;
  /** `json`; "" where the fence has none. */
  readonly language: string;
  /** The text after the language. */
  readonly info: string;
  /** Its code without the fence's indentation; every line with its end. */
  readonly code: string;
}

export interface Link {
  readonly line: number;
  /** The target as written: a path, `#anchor`, or an address. */
  readonly target: string;
}

/** Every Markdown file, below the project. */
export function markdownFiles(directory = project): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return /^(\..*|node_modules|dist.*)$/.test(entry.name) ? [] : markdownFiles(path);
    return entry.name.endsWith(".md") ? [relative(project, path)] : [];
  });
}

/** @param language only the blocks of this one; undefined: all. */
export function blocksOf(file: string, language?: string): Block[] {
  const { blocks } = parse(file);
  return language === undefined ? blocks : blocks.filter((block) => block.language === language);
}

/** The one block of `language` that contains `part`. @throws unless there is exactly one. */
export function blockWith(file: string, language: string, part: string): Block {
  const [found, ...others] = blocksOf(file, language).filter(({ code }) => code.includes(part));
  if (found === undefined || others.length > 0)
    throw new Error(`${file}: ${found === undefined ? "no" : "more than one"} block of ${language} with ${part}`);
  return found;
}

/** The code of the blocks of `language` under one heading. */
export function codeUnder(file: string, heading: string, language: string): string[] {
  return blocksOf(file, language).flatMap((block) => (block.heading === heading ? [block.code] : []));
}

/** The commands of a block that numbers them: `# 1. What it does.` precedes each. */
export function numbered(code: string): string[] {
  return code.split(/^# \d+\. .*\n/m).slice(1);
}

/** The text outside code. */
export function linksOf(file: string): Link[] {
  return parse(file).prose.flatMap(({ line, text }) =>
    [...text.replaceAll(/`[^`]*`/g, (code) => (code.includes("](") ? "" : code)).matchAll(/\]\(([^()\s]+)\)/g)].map(
      ([, target = ""]) => ({ line, target }),
    ),
  );
}

/** The anchors that a link to this file may name, as GitHub makes them of the headings. */
export function anchorsOf(file: string): string[] {
  const seen = new Map<string, number>();
  return parse(file).prose.flatMap(({ text }) => {
    const heading = headingIn(text);
    if (heading === undefined) return [];
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").toLowerCase();
    const anchor = plain.replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, "").replaceAll(" ", "-");
    const count = seen.get(anchor) ?? 0;
    seen.set(anchor, count + 1);
    return [count === 0 ? anchor : `${anchor}-${count}`];
  });
}

/** The target of a relative link of `file`, below the project. */
export function resolveLink(file: string, target: string): { readonly path: string; readonly anchor: string } {
  const [path = "", anchor = ""] = target.split("#");
  return { path: path === "" ? file : join(dirname(file), decodeURI(path)), anchor };
}

interface Parsed {
  readonly blocks: Block[];
  readonly prose: { readonly line: number; readonly text: string }[];
}

function headingIn(text: string): string | undefined {
  return /^#{1,6} +(.*?)(?: +#+)? *$/.exec(text)?.[1];
}

function parse(file: string): Parsed {
  const blocks: Block[] = [];
  const prose: Parsed["prose"] = [];
  let heading = "";
  let open: { fence: string; indent: number; line: number; language: string; info: string; code: string } | undefined;
  for (const [index, text] of readFileSync(join(project, file), "utf8").split("\n").entries()) {
    const line = index + 1;
    const [, indent = "", fence = "", language = "", info = ""] =
      /^( *)(`{3,})([^\s`]*)\s*([^`]*?)\s*$/.exec(text) ?? [];
    if (open === undefined) {
      heading = headingIn(text) ?? heading;
      if (fence === "") prose.push({ line, text });
      else open = { fence, indent: indent.length, line, language, info, code: "" };
    } else if (fence.length >= open.fence.length && language === "") {
      const { line: first, language: of, info: more, code } = open;
      blocks.push({ file, heading, line: first, language: of, info: more, code });
      open = undefined;
    } else open.code += `${text.slice(Math.min(open.indent, text.length - text.trimStart().length))}\n`;
  }
  if (open !== undefined) throw new Error(`${file}:${open.line}: a fenced block that does not end`);
  return { blocks, prose };
}
