/**
 * docs/reference/BACKEND.md: people write these pages, except for the tables of settings between two comments, which
 * come from the schemas.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";
import { loadBackend } from "../../backends/index.ts";
import { type BackendSection, backendSections } from "./sections.ts";
import { table } from "./tables.ts";

/** Below the project; not every backend has one. */
export function backendPage(name: string): string {
  return `docs/reference/${name}.md`;
}

/** @returns path below `root` → the page, with its tables made anew. @throws where a page lacks the place of one. */
export async function backendPages(root: string): Promise<Map<string, string>> {
  const pages = new Map<string, string>();
  for (const section of backendSections) {
    const path = backendPage(section.name);
    if (!existsSync(join(root, path))) continue;
    const text = filled(path, readFileSync(join(root, path), "utf8"), await parts(section));
    pages.set(path, await format(text, { parser: "markdown", printWidth: 120 }));
  }
  return pages;
}

/** How often a store is asked, for people. */
export async function polling(name: string): Promise<string> {
  const { defaultPollingInterval } = await loadBackend(name, "/");
  return defaultPollingInterval === null
    ? "Its values cannot change while the sidecar runs: nothing is polled."
    : `Polled every ${defaultPollingInterval} s by default.`;
}

/** @returns the name of a place in a page → what belongs there. */
async function parts({ name, options, cases }: BackendSection): Promise<Map<string, string>> {
  const ofSource = (path: string) => path.startsWith("secrets.ID.source");
  const settings = options.filter(({ path }) => !ofSource(path));
  const all = new Map([
    ["settings", [await polling(name), ...(settings.length > 0 ? [table({ options: settings })] : [])].join("\n\n")],
    ["source", table({ options: options.filter(({ path }) => ofSource(path)) })],
  ]);
  if (cases.length > 0)
    all.set("logins", cases.map((login) => `### The ${login.title}\n\n${table(login)}`).join("\n\n"));
  return all;
}

function filled(path: string, text: string, all: ReadonlyMap<string, string>): string {
  let page = text;
  for (const [name, part] of all) {
    const [begin, end] = [`<!-- ${name}: made by npm run docs -->`, `<!-- end of ${name} -->`];
    const pieces = page.split(begin);
    const [, ...after] = pieces[1]?.split(end) ?? [];
    if (pieces.length !== 2 || after.length !== 1) throw new Error(`${path}: not one "${begin}" with its "${end}"`);
    page = `${pieces[0] ?? ""}${begin}\n\n${part}\n\n${end}${after[0] ?? ""}`;
  }
  return page;
}
