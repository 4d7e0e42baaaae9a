/**
 * Splits a command line into options and other words as `parseArgs()` of `node:util` does, with its messages. A start
 * cannot use that one: loading `node:util` takes the executable a millisecond, a thirtieth of its start (measured).
 */
type Kind = "text" | "texts" | "flag";

export interface Words<Options extends Readonly<Record<string, Kind>>> {
  readonly values: { readonly [Name in keyof Options]?: Value[Options[Name]] };
  /** Words that are no options. */
  readonly positionals: readonly string[];
}

interface Value {
  text: string;
  /** An option that may be given several times. */
  texts: readonly string[];
  flag: true;
}

/**
 * @param options name → what it takes.
 * @param short letter → name, of flags only.
 * @throws Error about the first word that is wrong; its message names the option, and never shows a value.
 */
export function parseWords<Options extends Readonly<Record<string, Kind>>>(
  argv: readonly string[],
  options: Options,
  short: Readonly<Record<string, string>>,
): Words<Options> {
  const values: Partial<Record<string, string | true>> = {};
  const lists: Partial<Record<string, string[]>> = {};
  const positionals: string[] = [];
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at] ?? "";
    if (word === "--") {
      positionals.push(...argv.slice(at + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      positionals.push(word);
      continue;
    }
    for (const { shown, name, value } of optionsIn(word, short)) {
      const kind = Object.hasOwn(options, name) ? options[name] : undefined;
      if (kind === undefined) throw new Error(`Unknown option '${shown}'`);
      if (kind === "flag") {
        if (value !== undefined) throw new Error(`Option '${shownFlag(name, short)}' does not take an argument`);
        values[name] = true;
        continue;
      }
      const text = value ?? following(shown, argv[(at += 1)]);
      if (kind === "text") values[name] = text;
      else (lists[name] ??= []).push(text);
    }
  }
  return { values: { ...values, ...lists } as Words<Options>["values"], positionals };
}

interface Given {
  /** As it was written, without its value. */
  readonly shown: string;
  readonly name: string;
  /** After `=`. */
  readonly value?: string;
}

/** `-xy` is `-x -y`. */
function optionsIn(word: string, short: Readonly<Record<string, string>>): readonly Given[] {
  if (!word.startsWith("--")) {
    const letters = Array.from(word.slice(1));
    return letters.map((letter) => ({ shown: `-${letter}`, name: short[letter] ?? letter }));
  }
  // The name has one character at least.
  const equals = word.indexOf("=", 3);
  if (equals < 0) return [{ shown: word, name: word.slice(2) }];
  return [{ shown: word.slice(0, equals), name: word.slice(2, equals), value: word.slice(equals + 1) }];
}

/** The value in the next word. @throws Error where it is missing, or looks like another option. */
function following(shown: string, next: string | undefined): string {
  if (next === undefined) throw new Error(`Option '${shown} <value>' argument missing`);
  if (next.length > 1 && next.startsWith("-")) throw new Error(`Option '${shown}' argument is ambiguous`);
  return next;
}

function shownFlag(name: string, short: Readonly<Record<string, string>>): string {
  const letter = Object.keys(short).find((one) => short[one] === name);
  return `${letter === undefined ? "" : `-${letter}, `}--${name}`;
}
