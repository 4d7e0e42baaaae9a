/** What the documentation says to type and to write, for the tests that do it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** @param path from the project's root. @returns its text. */
export function documentation(path: string): string {
  return readFileSync(join(import.meta.dirname, "..", path), "utf8");
}

/** The fenced blocks of one language, in order, without the indentation of a list that they are in. */
export function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([\\s\\S]*?)^ *\`\`\``, "gm"))].map(
    ([, indent = "", code = ""]) => code.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  );
}

/** The only block of a language. @throws where there is none, or more than one. */
export function block(text: string, language: string): string {
  const [only, ...others] = blocks(text, language);
  if (only === undefined || others.length > 0) throw new Error(`${others.length + 1} blocks of ${language}, or none`);
  return only;
}

/** The commands of a block that numbers them: `# 1. What it does.` goes before each. */
export function numbered(code: string): string[] {
  return code.split(/^# \d+\. .*\n/m).slice(1);
}

/** The parts of a text below headings of level two or three, by heading. */
export function sections(text: string): ReadonlyMap<string, string> {
  const parts = text.split(/^#{2,3} (.*)\n/m).slice(1);
  return new Map(parts.flatMap((part, index) => (index % 2 === 0 ? [[part, parts[index + 1] ?? ""] as const] : [])));
}
