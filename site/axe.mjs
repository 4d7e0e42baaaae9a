// What axe-core says of a page: contrast, names of buttons and links, order of headings, and the rest of WCAG 2 A and AA.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** @returns a line for each thing that is wrong on the page in this tab. */
export async function complaintsOfAxe(tab) {
  await tab.evaluate(source);
  return await tab.evaluate(async () => {
    const { violations } = await globalThis.axe.run({
      runOnly: ["wcag2a", "wcag2aa", "wcag21aa"],
      resultTypes: ["violations"],
    });
    return violations.flatMap(({ id, help, nodes }) =>
      nodes
        .slice(0, 3)
        .map(
          ({ target, any }) => `${id}: ${help} (${target.join(" ")}; ${any[0]?.message ?? ""}; ${nodes.length} in all)`,
        ),
    );
  });
}
