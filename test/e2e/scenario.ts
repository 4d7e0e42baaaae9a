import { test } from "vitest";
import { withoutSuffix } from "../../src/config/unit-names.ts";
import { needs, type Requirement } from "../requirements.ts";
import { generatedUnits } from "./generated-units.ts";
import type { Guest } from "./guest.ts";
import { Pair, type PairOptions, type UnitSource } from "./pair.ts";
import { plainUnits } from "./plain-units.ts";

const kinds = ["by-hand", "generated", "on-change"];
const kind = process.env["FETCHER_E2E_UNITS"] ?? "by-hand";
if (!kinds.includes(kind)) throw new Error(`FETCHER_E2E_UNITS=${kind}: expected ${kinds.join(", ")}`);
/**
 * FETCHER_E2E_UNITS=on-change runs the scenarios with sidecars that have no process that stays, on generated units,
 * too.
 */
export const areOnChange = kind === "on-change";
/** FETCHER_E2E_UNITS=generated runs the scenarios with sidecars that may not talk to systemd. */
export const areGenerated = kind !== "by-hand";
const usualUnits = areGenerated ? generatedUnits : plainUnits;

export interface ScenarioOptions {
  /** Runs alone: it does something to the whole system. */
  readonly alone?: boolean;
  /** What it needs beyond the guest. Such a scenario runs alone. */
  readonly also?: readonly Requirement[];
  /** The writer of the unit files. */
  readonly source?: UnitSource;
  /** Why it does not apply to an on-change sidecar. */
  readonly notOnChange?: string;
}

/**
 * A test with its own pairs, which are gone afterwards. Scenarios mostly wait, so several run at a time. A failing one
 * shows the state of its units.
 */
export function scenario(
  guest: Guest,
  title: string,
  body: (pairOf: (options: PairOptions) => Promise<Pair>) => Promise<void>,
  { alone = false, also = [], source = usualUnits, notOnChange }: ScenarioOptions = {},
): void {
  const isOnChange = areOnChange && source === usualUnits;
  if (isOnChange && notOnChange !== undefined) {
    test(title, { skip: true, meta: { missing: `not on change: ${notOnChange}` } });
    return;
  }
  // Another pair's daemon-reload keeps systemd from seeing changes meanwhile.
  const run = also.length > 0 ? needs(...also).test : alone || isOnChange ? test : test.concurrent;
  run(title, async () => {
    const pairs: Pair[] = [];
    try {
      await body(async (options) => {
        const pair = await Pair.install(guest, isOnChange ? onChange(options) : options, source);
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

/** For tests of following changes. A poll would hide what the watch does not see. */
function onChange(options: PairOptions): PairOptions {
  const { config = {} } = options;
  const settings = {
    pollingInterval: 3600,
    ...(config["config"] as { readonly reloadOnChange?: boolean } | undefined),
  };
  if (settings.reloadOnChange === false || config["resident"] !== undefined) return options;
  return { ...options, config: { ...config, config: settings, resident: "on-change" } };
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
