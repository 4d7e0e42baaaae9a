/** Manual pages in roff with the man(7) macros, which groff and mandoc read. */

/** Text with Markdown's `code`, *emphasis* and [links](…), as roff. */
export function roff(text: string): string {
  return text
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .split(/(`[^`]*`|\*[^*]+\*)/)
    .map((part) => {
      if (part.startsWith("`") && part.length > 1) return `\\fB${escape(part.slice(1, -1))}\\fR`;
      if (/^\*[^*]+\*$/.test(part)) return `\\fI${escape(part.slice(1, -1))}\\fR`;
      return escape(part);
    })
    .join("");
}

/** A hyphen that is typed on a command line is a minus; other characters have names. */
function escape(text: string): string {
  const names: Readonly<Record<string, string>> = {
    "\\": "\\e",
    "-": "\\-",
    "'": "\\(aq",
    "`": "\\(ga",
    "^": "\\(ha",
    "~": "\\(ti",
    "…": "...",
    "→": "\\(->",
    "±": "\\(+-",
  };
  return text.replaceAll(/[\\\-'`^~…→±]/g, (character) => names[character] ?? character);
}

/** A line that begins with a dot or a quote would be a request. */
function line(text: string): string {
  return /^[.']/.test(text) ? `\\&${text}` : text;
}

/** Breaks text into lines of at most 80 characters, which mandoc's style asks for. */
function wrapped(text: string): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && last.length + 1 + word.length > 78) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines.map(line).join("\n");
}

export function title(name: string, section: number, version: string): string {
  return `.TH ${name.toUpperCase().replaceAll("-", "\\-")} ${section} "" "fetcher ${version}"`;
}

export function section(name: string, ...content: readonly string[]): string {
  return [`.SH ${name.includes(" ") ? `"${name}"` : name}`, ...content].join("\n");
}

export function subsection(name: string, ...content: readonly string[]): string {
  return [`.SS "${roff(name)}"`, ...content].join("\n");
}

/** Paragraphs. */
export function text(...paragraphs: readonly string[]): string {
  return paragraphs.map((paragraph) => wrapped(roff(paragraph))).join("\n.PP\n");
}

/** A further paragraph, after something else. */
export function more(paragraph: string): string {
  return `.PP\n${wrapped(roff(paragraph))}`;
}

/** Tagged paragraphs: a term in bold, and what it means. */
export function list(items: readonly (readonly [term: string, meaning: string])[]): string {
  return items.map(([term, meaning]) => `.TP\n${line(roff(`\`${term}\``))}\n${wrapped(roff(meaning))}`).join("\n");
}

/** Lines as they are. */
export function literal(code: string): string {
  const lines = code.trimEnd().split("\n");
  return [".PP", ".RS 4", ".nf", ...lines.map((each) => line(escape(each))), ".fi", ".RE"].join("\n");
}
