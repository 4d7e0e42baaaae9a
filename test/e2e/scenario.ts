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
/** FETCHER_E2E_UNITS=on-change has the scenarios run with sidecars of which no process stays. Their units are generated, too. */
export const areOnChange = kind === "on-change";
/** FETCHER_E2E_UNITS=generated has the scenarios run with sidecars that may not talk to systemd. */
export const areGenerated = kind !== "by-hand";
const usualUnits = areGenerated ? generatedUnits : plainUnits;

export interface ScenarioOptions {
  /** Not beside others: it does something to the whole system. */
  readonly alone?: boolean;
  /** What it needs beyond the guest. Such a one runs alone. */
  readonly also?: readonly Requirement[];
  /** What writes the unit files. */
  readonly source?: UnitSource;
  /** Why it cannot hold where no process of the sidecar stays. */
  readonly notOnChange?: string;
}

/**
 * A test with pairs of its own, which are gone afterwards. Scenarios mostly wait, so several run at a time. One that
 * fails shows its units' state.
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
  // The daemon-reload of another pair keeps systemd from seeing what changes meanwhile.
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

/** Where changes are followed. A poll would hide what the watch does not see. */
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
