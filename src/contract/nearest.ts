/** The most likely meaning of a mistyped name. */

/** Name → what other programs call the same, in lower case without `-` and `_`: words with a space between. */
export type OtherNames = Readonly<Record<string, string>>;

/** @returns the end of a sentence, `; did you mean "mode"?`, or "" where none of `known` is near. */
export function didYouMean(given: string, known: Iterable<string>, others: OtherNames = {}): string {
  const [meant] = Object.entries(others).find(([, words]) => words.split(" ").includes(plain(given))) ?? [
    nearest(given, known),
  ];
  return meant === undefined ? "" : `; did you mean ${JSON.stringify(meant)}?`;
}

/** For how many missing names, and among how many that there are, a backend looks for one that may be meant. */
export const [MOST_HINTS, MOST_NAMES] = [3, 500];

/**
 * For one answer of a store, which lacks keys that secrets want. Names of keys are no secrets.
 *
 * @param wanted keys that secrets want: where one is there, no other means it.
 * @returns what gives the end of `no key "bd"`: didYouMean() of it.
 */
export function keyHints(wanted: Iterable<string>): (key: string, there: readonly string[]) => string {
  const others = new Set(wanted);
  let hints = 0;
  return (key, there) => {
    if (there.length > MOST_NAMES || hints++ >= MOST_HINTS) return "";
    return didYouMean(
      key,
      there.filter((name) => !others.has(name)),
    );
  };
}

/** Characters of a name. */
const LONGEST = 100;

/** @returns undefined where none is near. Case, `-` and `_` do not matter: kv_version is kvVersion. */
export function nearest(given: string, known: Iterable<string>): string | undefined {
  const wanted = plain(given);
  // Nobody mistypes that much, and the cost grows with the square of the length.
  if (wanted === "" || wanted.length > LONGEST) return undefined;
  let best: string | undefined;
  let least = Math.floor(wanted.length / 3) + 1;
  for (const name of known) {
    if (name.length > LONGEST) continue;
    const steps = name === given ? Infinity : stepsBetween(wanted, plain(name));
    if (steps >= least) continue;
    [best, least] = [name, steps];
  }
  return best;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, "");
}

/**
 * How many letters are added, left out, changed, or swapped with their neighbour (optimal string alignment distance).
 */
function stepsBetween(a: string, b: string): number {
  // A word that lacks its end, or has one too many: token for tokenPath.
  if (Math.min(a.length, b.length) >= 3 && (a.startsWith(b) || b.startsWith(a))) return a === b ? 0 : 1;
  // `bd` for `db`: in so short a word, no other mistake leaves anything to go by.
  if (a.length === 2 && b === a.charAt(1) + a.charAt(0)) return 0;
  let [before, row] = [[] as number[], Array.from({ length: b.length + 1 }, (_, index) => index)];
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swap = isSwap ? (before[j - 2] ?? 0) + 1 : Infinity;
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, change, swap));
    }
    [before, row] = [row, next];
  }
  return row[b.length] ?? 0;
}
