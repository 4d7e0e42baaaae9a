/** Short codes for messages: docs/reference/messages.md has cause and cure of each, and a search finds it by the code. */
import texts from "./message-texts.json" with { type: "json" };

/** Crockford's: no letter looks like a digit. */
const DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH = 5;
/** A message with less fixed text than this could be in any line. */
const LEAST_FIXED = 8;

/** @param text as in the index, with `…` for what differs. @returns the same code as long as the words are the same. */
export function codeOf(text: string): string {
  // FNV-1a, 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  const digits = Array.from({ length: LENGTH }, (_, index) => DIGITS[(hash >>> (5 * index)) & 31]);
  return `F-${digits.join("")}`;
}

let known: readonly { readonly text: string; readonly parts: readonly string[]; readonly fixed: number }[] | undefined;

/**
 * @returns the code of the message with the most fixed words in the line: a line is often made of several messages, one
 *   of them its cause.
 */
export function codeIn(line: string): string | undefined {
  // Made when something is wrong: most starts need none of it.
  known ??= texts
    .map((text) => {
      const parts = text.split("…").filter((part) => part.trim() !== "");
      return { text, parts, fixed: parts.reduce((sum, part) => sum + part.length, 0) };
    })
    .filter(({ fixed }) => fixed >= LEAST_FIXED)
    .sort((a, b) => b.fixed - a.fixed);
  const found = known.find(({ parts }) => isIn(line, parts));
  return found === undefined ? undefined : codeOf(found.text);
}

function isIn(line: string, parts: readonly string[]): boolean {
  let from = 0;
  for (const part of parts) {
    const at = line.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return true;
}
