import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const source = join(import.meta.dirname, "../dist.source");

const sections = [
  ["Tutorials", "tutorial"],
  ["How-to guides", "how-to"],
  ["Reference", "reference"],
  ["Explanation", "explanation"],
];
/** The order of the index is the order of the sidebar, and a line that ends in a colon names a group. */
const index = readFileSync(join(source, "documents.md"), "utf8");
const inIndex = linksIn(index);
const groups = [...index.matchAll(/^([A-Z][^\n]*):\n\n((?:- .*\n)+)/gm)].map(([, text, list]) => [text, linksIn(list)]);

export default {
  title: "fetcher",
  description: "The secrets sidecar for systemd services",
  lang: "en",
  srcDir: "dist.source",
  outDir: "../dist.site",
  base: process.env.SITE_BASE ?? "/",
  head: [["link", { rel: "icon", type: "image/svg+xml", href: `${process.env.SITE_BASE ?? "/"}favicon.svg` }]],
  // A link that leads nowhere ends the build.
  ignoreDeadLinks: false,
  markdown: {
    languageAlias: { mustache: "handlebars" },
    // The usual ones have comments too pale to read.
    theme: { light: "github-light-high-contrast", dark: "github-dark-high-contrast" },
    anchor: { slugify: anchorOnGitHub },
    // Braces of Mustache and Go's templates are text, not Vue's.
    config({ renderer: { rules } }) {
      for (const name of ["text", "code_inline"]) {
        const plain = rules[name];
        const whole = (html) => withMessageCodes(name === "text" ? html : withOptions(html));
        rules[name] = (...context) => whole(plain(...context).replaceAll("{{", "&#123;&#123;"));
      }
    },
  },
  themeConfig: {
    outline: [2, 3],
    search: { provider: "local" },
    nav: [{ text: "Documents", link: "/documents" }],
    sidebar: [
      { text: "Start", items: [item("index.md"), item("documents.md")] },
      ...sections.map(([text, folder]) => ({ text, items: pagesIn(folder) })),
      { text: "The project", items: ["changelog.md", "security.md", "contributing.md"].filter(isThere).map(item) },
    ].filter(({ items }) => items.length > 0),
  },
};

function pagesIn(folder) {
  if (!isThere(folder)) return [];
  const names = readdirSync(join(source, folder)).filter((name) => name.endsWith(".md"));
  const paths = names.map((name) => `${folder}/${name}`).sort();
  paths.sort((a, b) => inIndex.indexOf(a) - inIndex.indexOf(b));
  const own = groups.filter(([, links]) => links.some((link) => paths.includes(link)));
  const grouped = own.map(([text, links]) => ({ text, items: links.filter((link) => paths.includes(link)).map(item) }));
  return [...grouped, ...paths.filter((path) => !own.some(([, links]) => links.includes(path))).map(item)];
}

function linksIn(markdown) {
  return [...markdown.matchAll(/\]\(\.\/([^)#]+\.md)\)/g)].map(([, path]) => path);
}

function item(path) {
  const [, title] = /^# (.*)$/m.exec(readFileSync(join(source, path), "utf8")) ?? [];
  return { text: (title ?? path).replaceAll("`", ""), link: `/${path.replace(/(index)?\.md$/, "")}` };
}

/** A narrow column would break the code of a message at its hyphen. */
function withMessageCodes(html) {
  return html.replaceAll(/\bF-[0-9A-Z]{5}\b/g, '<span class="unbroken">$&</span>');
}

/** The same for options: `--` alone at the end of a line is no part of a command. */
function withOptions(html) {
  return html.replaceAll(/(?<![\w-])--?[a-z][\w-]*/g, '<span class="unbroken">$&</span>');
}

function isThere(path) {
  return existsSync(join(source, path));
}

/** Links are written for GitHub, and lead to the same heading here. */
function anchorOnGitHub(heading) {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, "")
    .replaceAll(" ", "-");
}
