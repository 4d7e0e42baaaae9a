// Mermaid's diagrams as SVG files, drawn when the site is built: a reader's browser runs no Mermaid, and none is needed here.
import { renderMermaidSVG } from "beautiful-mermaid";
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** By the site's own two schemes. */
const schemes = {
  light: { bg: "#ffffff", fg: "#3c3c43", muted: "#3c3c43", line: "#67676c", accent: "#3451b2", border: "#67676c" },
  dark: { bg: "#1b1b1f", fg: "#dfdfd6", muted: "#dfdfd6", line: "#98989f", accent: "#a8b1ff", border: "#98989f" },
};

/** @returns the text with a picture in place of each diagram. */
export async function drawDiagrams(text, folder) {
  return text.replaceAll(/^```mermaid\n([^]*?)^```$/gm, (_, code, offset) => {
    const heading = [...text.slice(0, offset).matchAll(/^#+ (.*)$/gm)].at(-1)?.[1] ?? "Diagram";
    const name = createHash("sha256").update(code).digest("hex").slice(0, 12);
    mkdirSync(folder, { recursive: true });
    const pictures = Object.entries(schemes).map(([scheme, colours]) => {
      const svg = renderMermaidSVG(code, { ...colours, font: "sans-serif" })
        // A stranger's fonts.
        .replaceAll(/@import url\([^)]*\);?/g, "")
        // Labels lie on lines: each keeps a rim of the background.
        .replace("</style>", `text { paint-order: stroke; stroke: ${colours.bg}; stroke-width: 4px; }</style>`);
      writeFileSync(join(folder, `${name}-${scheme}.svg`), svg);
      return `<img class="only-${scheme}" alt="Diagram: ${heading}" src="/diagrams/${name}-${scheme}.svg">`;
    });
    // Focusable: on a phone it scrolls.
    return `<div class="picture wide" tabindex="0" role="region" aria-label="Diagram: ${heading}">${pictures.join("")}</div>`;
  });
}
