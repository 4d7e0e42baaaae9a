/** Shows what a change does to a text, as `diff -u` does. */

export interface Change {
  /** Absolute. */
  readonly path: string;
  /** undefined: it does not exist. */
  readonly before: string | undefined;
  readonly after: string | undefined;
}

/** Lines shown before and after a difference. */
const CONTEXT = 3;

type Line = readonly [mark: " " | "-" | "+", text: string];

/** @returns "" where nothing differs. */
export function unifiedDiff({ path, before, after }: Change): string {
  if (before === after) return "";
  const lines = compare(linesOf(before), linesOf(after));
  const head = [`--- ${before === undefined ? "/dev/null" : path}`, `+++ ${after === undefined ? "/dev/null" : path}`];
  return `${[...head, ...hunks(lines)].join("\n")}\n`;
}

/** For a terminal: removed lines are red, added ones green. */
export function colored(diff: string): string {
  return diff.replaceAll(/^([-+@]).*$/gm, (line, mark: string) => {
    return `\x1b[${mark === "-" ? 31 : mark === "+" ? 32 : 36}m${line}\x1b[0m`;
  });
}

function linesOf(text: string | undefined): readonly string[] {
  return text === undefined || text === "" ? [] : text.replace(/\n$/, "").split("\n");
}

/** By the longest common subsequence: the texts are short. */
function compare(before: readonly string[], after: readonly string[]): readonly Line[] {
  const common = before.map(() => new Uint32Array(after.length + 1));
  common.push(new Uint32Array(after.length + 1));
  const longest = (i: number, j: number) => common[i]?.[j] ?? 0;
  for (let i = before.length - 1; i >= 0; i -= 1)
    for (let j = after.length - 1; j >= 0; j -= 1) {
      const row = common[i];
      if (row !== undefined)
        row[j] = before[i] === after[j] ? longest(i + 1, j + 1) + 1 : Math.max(longest(i + 1, j), longest(i, j + 1));
    }
  const lines: Line[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      lines.push([" ", before[i] ?? ""]);
      [i, j] = [i + 1, j + 1];
    } else if (j >= after.length || (i < before.length && longest(i + 1, j) >= longest(i, j + 1))) {
      lines.push(["-", before[i] ?? ""]);
      i += 1;
    } else {
      lines.push(["+", after[j] ?? ""]);
      j += 1;
    }
  }
  return lines;
}

function hunks(lines: readonly Line[]): readonly string[] {
  const isShown = lines.map((_, at) =>
    lines.slice(Math.max(at - CONTEXT, 0), at + CONTEXT + 1).some(([mark]) => mark !== " "),
  );
  const out: string[] = [];
  let [old, fresh] = [0, 0];
  for (let at = 0; at < lines.length; at += 1) {
    if (isShown[at] === true && isShown[at - 1] !== true) {
      const rest = isShown.indexOf(false, at);
      const hunk = lines.slice(at, rest < 0 ? undefined : rest);
      const [gone, come] = ["+", "-"].map((other) => hunk.filter(([mark]) => mark !== other).length);
      out.push(`@@ -${range(old, gone)} +${range(fresh, come)} @@`);
    }
    const [mark, text] = lines[at] ?? [" ", ""];
    if (mark !== "+") old += 1;
    if (mark !== "-") fresh += 1;
    if (isShown[at] === true) out.push(`${mark}${text}`);
  }
  return out;
}

/** @param at how many lines are before it. */
function range(at: number, count = 0): string {
  return `${count === 0 ? at : at + 1},${count}`;
}
