import { inspect } from "node:util";
import { expect } from "vitest";
import type { Config } from "../../../src/config/config.ts";
import type { Log } from "../../../src/runtime/log.ts";
import { openStore } from "../../../src/engine/store.ts";
import { expectEnd, expectFitOutcome, expectFitToSay, expectOurs } from "../invariants.ts";

/**
 * Opens the store, fetches everything `times` times as the engine does, and closes it.
 *
 * @returns the bytes of every value.
 */
export async function fetchAll(config: Config, times = 1, limit = 10): Promise<readonly Buffer[]> {
  const said: string[] = [];
  const values: Buffer[] = [];
  const hear = (text: string, fields?: object) => {
    said.push(text, inspect(fields));
  };
  const log: Log = { error: hear, warn: hear, notice: hear, info: hear, debug: hear, trace: hear };
  try {
    const store = await expectEnd("opening", openStore(config, log, Math.random));
    const ids = config.secrets.map(({ id }) => id);
    for (let time = 0; time < times; time += 1) {
      const outcomes = await expectEnd("fetching", store.fetch(ids, new AbortController().signal, limit));
      expect([...outcomes.keys()]).toEqual(ids);
      for (const [id, outcome] of outcomes) {
        expectFitOutcome(outcome);
        said.push(store.describe(id));
        if ("status" in outcome && outcome.status === "value") values.push(outcome.value);
      }
      await expectEnd("applying", store.applied(new Map(ids.map((id) => [id, "1"]))));
    }
    await expectEnd("closing", store.close());
  } catch (error) {
    expectOurs(error);
  }
  for (const text of said) expectFitToSay(text);
  return values;
}
