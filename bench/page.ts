/** docs/explanation/figures.md: benches write their tables between marks. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";
import { project } from "./measure.ts";

const page = join(project, "docs/explanation/figures.md");

/**
 * @param command whose table it is: `npm run bench`.
 * @returns the page's path.
 */
export async function writeTable(command: string, text: string): Promise<string> {
  const before = readFileSync(page, "utf8");
  const mark = `<!-- From here \`${command}\` writes. -->`;
  const from = before.indexOf(mark);
  const to = before.indexOf("<!-- To here. -->", from);
  if (from < 0 || to < 0) throw new Error(`${page}: the marks of ${command} are not there`);
  const after = `${before.slice(0, from)}${mark}\n\n${text}\n\n${before.slice(to)}`;
  writeFileSync(page, await format(after, { parser: "markdown", printWidth: 128 }));
  return page;
}

/** @param rows each of as many cells as the head. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [head, head.map(() => "-"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
}
