/** A section of the reference as a table. */
import { defaultOf, type Section } from "./sections.ts";

export function table({ options }: Pick<Section, "options">): string {
  const rows = options.map((option) => {
    const { text = "", since: version } = option.about;
    const since = version === undefined ? "" : ` (since ${version})`;
    return `| \`${option.path}\` | ${defaultOf(option)} | ${text}${since} |`;
  });
  return ["| option | default | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}
