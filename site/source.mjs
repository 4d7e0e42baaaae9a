// Writes the pages as the generator reads them: those of docs/, and files beside it that they link to. What GitHub shows
// and what the site shows is the same text; only links and pictures are turned.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, extname, join, normalize, posix } from "node:path";
import { drawDiagrams } from "./diagrams.mjs";

const project = join(import.meta.dirname, "..");

/** Pages outside of docs/, and where the site has them. */
const others = {
  "README.md": "index.md",
  "CONTRIBUTING.md": "contributing.md",
  "CHANGELOG.md": "changelog.md",
  "SECURITY.md": "security.md",
};

/** @param source the folder to write. */
export async function writeSource(source) {
  const pages = [...markdownIn("docs"), ...Object.keys(others).filter((path) => existsSync(join(project, path)))];
  const shown = new Map(pages.map((path) => [path, pageOf(path)]));
  for (const path of pages) {
    const text = readFileSync(join(project, path), "utf8");
    // A link to something other than a page gets one, which shows it.
    const turned = turnLinks(text, path, shown);
    const drawn = await drawDiagrams(turnPictures(turned), join(source, "public/diagrams"));
    // A page without headings has no outline: its table gets that place.
    write(source, shown.get(path), /^## /m.test(drawn) ? drawn : `---\naside: false\n---\n\n${drawn}`);
  }
  for (const path of [...shown.keys()].filter((path) => !pages.includes(path)))
    write(source, shown.get(path), fileAsPage(path));
  cpSync(join(import.meta.dirname, "favicon.svg"), join(source, "public/favicon.svg"));
  for (const path of filesIn("docs").filter((path) => /\.(svg|png)$/.test(path)))
    cpSync(join(project, path), join(source, posix.relative("docs", path)));
}

/** Where the site has a page. */
function pageOf(path) {
  if (path in others) return others[path];
  return posix.relative("docs", path).replace(/(^|\/)README\.md$/, "$1documents.md");
}

function turnLinks(text, path, shown) {
  const from = shown.get(path);
  return outsideCode(text, (prose) =>
    prose.replaceAll(
      /(!?\[[^\]]*\])\(([^()\s]+)\)|(srcset|src)="([^"]+)"/g,
      (whole, label, link, attribute, picture) => {
        const target = link ?? picture;
        if (/^([a-z]+:|#)/.test(target)) return whole;
        const [file, anchor] = target.split("#");
        const to = posix.relative(posix.dirname(from), placeOf(normalize(join(dirname(path), file)), shown));
        const address = (to.startsWith(".") ? to : `./${to}`) + (anchor === undefined ? "" : `#${anchor}`);
        return attribute === undefined ? `${label}(${address})` : `${attribute}="${address}"`;
      },
    ),
  );
}

function placeOf(path, shown) {
  const file = path.replace(/\/$/, "");
  if (/\.(svg|png)$/.test(file)) return posix.relative("docs", file);
  if (!shown.has(file)) {
    if (!existsSync(join(project, file))) throw new Error(`a link leads to ${file}, which is not there`);
    shown.set(file, `files/${file.replaceAll("@", "-at-")}.md`);
  }
  return shown.get(file);
}

/** A picture in two schemes: the site has its own switch, which `<picture>` does not see. Any picture scrolls on a phone. */
function turnPictures(text) {
  const scrolling = (alt, ...images) =>
    `<div class="picture wide chart" tabindex="0" role="region" aria-label="${alt}">${images.join("")}</div>`;
  return text
    .replaceAll(
      /<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)"\s*\/?>\s*<img alt="([^"]+)" src="([^"]+)"[^>]*>\s*<\/picture>/g,
      (_, dark, alt, light) =>
        scrolling(
          alt,
          `<img class="only-light" alt="${alt}" src="${light}">`,
          `<img class="only-dark" alt="${alt}" src="${dark}">`,
        ),
    )
    .replaceAll(/^!\[([^\]]+)\]\(([^()\s]+\.svg)\)$/gm, (_, alt, src) =>
      scrolling(alt, `<img alt="${alt}" src="${src}">`),
    );
}

/** An example, or all of a folder, as it is. */
function fileAsPage(path) {
  const files = statSync(join(project, path)).isDirectory() ? filesIn(path) : [path];
  const parts = files.map((file) => {
    const title = files.length > 1 ? `## ${posix.relative(path, file)}\n\n` : "";
    return `${title}\`\`\`\`${language(file)}\n${readFileSync(join(project, file), "utf8").trimEnd()}\n\`\`\`\`\n`;
  });
  return `# ${path}\n\n${parts.join("\n")}`;
}

function language(file) {
  if (/\.(service|conf|timer)$/.test(file)) return "ini";
  return (
    { ".json": "json", ".nix": "nix", ".yml": "yaml", ".ts": "ts", ".sh": "sh" }[extname(basename(file))] ?? "text"
  );
}

function outsideCode(text, change) {
  return text
    .split(/(^ *```[^]*?^ *```$)/m)
    .map((part, index) => (index % 2 === 0 ? change(part) : part))
    .join("");
}

function markdownIn(folder) {
  return filesIn(folder).filter((path) => path.endsWith(".md"));
}

function filesIn(folder) {
  return readdirSync(join(project, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => posix.join(posix.relative(project, entry.parentPath), entry.name))
    .sort();
}

function write(source, path, text) {
  mkdirSync(dirname(join(source, path)), { recursive: true });
  writeFileSync(join(source, path), text);
}
