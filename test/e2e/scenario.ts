import { test } from "vitest";
import { withoutSuffix } from "../../src/config/unit-names.ts";
import { needs, type Requirement } from "../requirements.ts";
import { generatedUnits } from "./generated-units.ts";
import type { Guest } from "./guest.ts";
import { Pair, type PairOptions, type UnitSource } from "./pair.ts";
import { plainUnits } from "./plain-units.ts";

/** FETCHER_E2E_UNITS=generated has the scenarios run with sidecars that may not talk to systemd. */
export const areGenerated = process.env["FETCHER_E2E_UNITS"] === "generated";
const usualUnits = areGenerated ? generatedUnits : plainUnits;

export interface ScenarioOptions {
  /** Not beside others: it does something to the whole system. */
  readonly alone?: boolean;
  /** What it needs beyond the guest. Such a one runs alone. */
  readonly also?: readonly Requirement[];
  /** What writes the unit files. */
  readonly source?: UnitSource;
}

/**
 * A test with pairs of its own, which are gone afterwards. Scenarios mostly wait, so several run at a time. One that
 * fails shows its units' state.
 */
export function scenario(
  guest: Guest,
  title: string,
  body: (pairOf: (options: PairOptions) => Promise<Pair>) => Promise<void>,
  { alone = false, also = [], source = usualUnits }: ScenarioOptions = {},
): void {
  const run = also.length > 0 ? needs(...also).test : alone ? test : test.concurrent;
  run(title, async () => {
    const pairs: Pair[] = [];
    try {
      await body(async (options) => {
        const pair = await Pair.install(guest, options, source);
        pairs.push(pair);
        return pair;
      });
    } catch (error) {
      if (error instanceof Error) error.message += await diagnosis(guest, pairs);
      throw error;
    } finally {
      for (const pair of pairs) await pair.remove();
    }
  });
}

async function diagnosis(guest: Guest, pairs: readonly Pair[]): Promise<string> {
  let text = "";
  for (const { target, sidecar } of pairs) {
    for (const unit of [target, sidecar]) text += `\n\n${await guest.status(unit)}`;
    const command = `journalctl --quiet --boot -o short-precise --unit=${target} '--unit=${withoutSuffix(sidecar)}*' | grep -v RestartMode`;
    text += `\n\n${await guest.text(command, { check: false })}`;
  }
  return text;
}
