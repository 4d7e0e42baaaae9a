/**
 * docs/how-to/deliveries.md and sandbox.md: their snippets are those of examples/systemd, which other tests run under a
 * real systemd.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const examples = join(root, "examples/systemd");
const document = ["deliveries", "sandbox"]
  .map((name) => readFileSync(join(root, `docs/how-to/${name}.md`), "utf8"))
  .join("\n");
const files = readdirSync(examples, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name));

function withoutComments(text: string): string {
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .join("\n");
}

test("each unit file on the pages is an example, line by line; the sandbox's test covers two as drop-ins", () => {
  const units = [...document.matchAll(/^```ini\n([\s\S]*?)^```/gm)].map(([, text = ""]) => withoutComments(text));
  expect(units).toHaveLength(5);
  const known = files.map((file) => withoutComments(readFileSync(file, "utf8")));
  known.push("[Service]\nBindReadOnlyPaths=-/var/lib/elsewhere");
  const sandbox = readFileSync(join(root, "test/e2e/sandbox.test.ts"), "utf8");
  expect(sandbox).toContain('"/var/lib/elsewhere"');
  // This one the test takes from the document itself.
  expect(sandbox).toContain('blockWith("docs/how-to/sandbox.md", "ini", "InaccessiblePaths=")');
  const others = units.filter((text) => !known.includes(text));
  expect(others.map((text) => text.split("\n").slice(0, 2))).toEqual([["[Service]", "InaccessiblePaths="]]);
});

test("each file that the pages name exists", () => {
  const links = [...document.matchAll(/\]\((?!http)([^)#]+)/g)].map(([, path = ""]) => join(root, "docs/how-to", path));
  expect(links.length).toBeGreaterThan(4);
  for (const path of links) expect(() => readFileSync(path)).not.toThrow();
});
