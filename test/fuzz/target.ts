/**
 * What is fuzzed: something that takes input from others, arbitrary input for it, and what must hold of every result.
 * To add one, write a file in targets/ and a line in fuzz.test.ts.
 */
import { inspect } from "node:util";
import fc from "fast-check";

export interface Target {
  readonly title: string;
  /** Its share of the time. */
  readonly weight: number;
  /** Tries inputs that were findings once, and as many others. @returns how many inputs were tried. */
  run(budget: Budget): Promise<number>;
}

export interface Budget {
  readonly seed: number;
  /** Stop after so many inputs … */
  readonly runs: number;
  /** … or after so many seconds. */
  readonly seconds: number;
}

export interface Fuzzed<Input> {
  readonly title: string;
  readonly weight?: number;
  readonly input: fc.Arbitrary<Input>;
  /** Earlier findings, which every run tries first. */
  readonly found?: readonly Input[];
  /** Throws where an invariant fails. */
  readonly check: (input: Input) => void | Promise<void>;
}

/** Inputs between two looks at the clock, so that shrinking a failure has no time limit. */
const CHUNK = 100;

export function target<Input>({ title, weight = 1, input, found = [], check }: Fuzzed<Input>): Target {
  return {
    title,
    weight,
    async run({ seed, runs, seconds }) {
      const end = performance.now() + seconds * 1000;
      let tried = 0;
      for (let chunk = 0; tried < runs && performance.now() < end; chunk += 1) {
        const numRuns = Math.min(CHUNK, runs - tried) + (chunk === 0 ? found.length : 0);
        const details = await fc.check(
          fc.asyncProperty(input, async (value) => {
            await check(value);
          }),
          {
            seed: (seed + chunk) | 0,
            numRuns,
            examples: chunk === 0 ? found.map((value) => [value]) : [],
            // Shrinking a slow input may never end.
            interruptAfterTimeLimit: 600_000,
          },
        );
        if (details.failed) throw new Error(failure(title, details), { cause: details.errorInstance });
        tried += details.numRuns;
      }
      return tried;
    },
  };
}

function failure<Input>(
  title: string,
  { seed, counterexamplePath, counterexample, errorInstance }: fc.RunDetails<Input[]>,
) {
  const why = errorInstance instanceof Error ? errorInstance.message : String(errorInstance);
  return `${title}: seed ${seed}, path ${counterexamplePath ?? ""}\ninput: ${shown(counterexample?.[0])}\n${why}`;
}

/** Some input throws when it is read. */
function shown(input: unknown): string {
  try {
    return fc.stringify(input);
  } catch {
    return inspect(input, { depth: 9, showProxy: true });
  }
}
