/** A fleet of sidecars on a simulated clock: the program's own engine and publisher, at a store that counts. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { BackendError, type Outcome } from "../src/contract/backend.ts";
import type { Clock, Random } from "../src/runtime/clock.ts";
import { parseConfig } from "../src/config/config.ts";
import { Publisher } from "../src/publish/publisher.ts";
import { Sidecar } from "../src/engine/sidecar.ts";
import type { Store } from "../src/engine/store.ts";
import { systemctl } from "../src/systemd/systemctl.ts";
import { silentLog, silentNotifier } from "./silent.ts";

export interface Plan {
  readonly sidecars: number;
  /** Seconds between two polls of one sidecar. */
  readonly interval: number;
  /** Seconds of the simulated time. */
  readonly duration: number;
  /** Seconds within which all machines start. */
  readonly startWithin: number;
  /** Seconds of the simulated time: from then to then every request fails. */
  readonly outage: { readonly from: number; readonly to: number };
  /** false: what is random always comes out in the middle, so that intervals are fixed and everybody waits alike. */
  readonly jitter: boolean;
  readonly seed: number;
}

export interface Course {
  /** Requests in each second, those that fail included. */
  readonly perSecond: readonly number[];
  /** Seconds from the end of the outage until every sidecar had an answer. */
  readonly allCurrent: number;
}

/** @param directory where the sidecars publish. */
export async function simulate(plan: Plan, directory: string): Promise<Course> {
  const clock = new SimulatedClock();
  const random = seeded(plan.seed);
  const seconds = () => clock.monotonic() / 1e6;
  const perSecond = Array.from({ length: plan.duration }, () => 0);
  const behind = new Set<number>();
  let allCurrent = Infinity;

  const storeOf = (index: number): Store => ({
    name: "simulated",
    pollingInterval: plan.interval,
    describe: () => "nowhere",
    fetch(ids) {
      const now = seconds();
      const second = Math.floor(now);
      perSecond[second] = (perSecond[second] ?? 0) + 1;
      const isDown = now >= plan.outage.from && now < plan.outage.to;
      if (now >= plan.outage.to && behind.delete(index) && behind.size === 0) allCurrent = now - plan.outage.to;
      const outcome = (): Outcome =>
        isDown
          ? new BackendError("unavailable", "connection refused")
          : { status: "value", value: Buffer.from("value"), version: "1" };
      return Promise.resolve(new Map(ids.map((id) => [id, outcome()])));
    },
    watch: undefined,
    applied: () => Promise.resolve(),
    close: () => Promise.resolve(),
  });

  const stops: AbortController[] = [];
  const runs: Promise<unknown>[] = [];
  for (let index = 0; index < plan.sidecars; index++) {
    behind.add(index);
    const stop = new AbortController();
    stops.push(stop);
    const output = join(directory, String(index));
    mkdirSync(output);
    const config = configOf(output);
    if (config.output === undefined) throw new Error("no output");
    const publisher = await Publisher.open(config, config.output);
    const sidecar = new Sidecar({
      config,
      store: storeOf(index),
      publisher,
      notifier: silentNotifier,
      systemd: systemctl,
      log: silentLog,
      clock,
      random: plan.jitter ? random : () => 0.5,
      idle: () => undefined,
    });
    const start = random() * plan.startWithin;
    runs.push(clock.sleep(start, stop.signal).then(() => sidecar.run(stop.signal)));
  }
  await clock.run(plan.duration);
  for (const stop of stops) stop.abort();
  await Promise.all(runs);
  return { perSecond, allCurrent };
}

function configOf(output: string) {
  const flags = { configFile: undefined, backend: undefined, set: [], output, ids: [] } as const;
  return parseConfig(
    { backend: "static", config: { allowInsecure: true, reloadOnChange: true }, secrets: { a: {} } },
    flags,
    "/",
  );
}

/** Jumps from one millisecond in which something wakes to the next one. */
class SimulatedClock implements Clock {
  /** ms */
  #now = 0;
  readonly #sleepers = new Map<number, (() => void)[]>();

  monotonic(): number {
    return this.#now * 1000;
  }

  now(): Date {
    return new Date(this.#now);
  }

  sleep(seconds: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((done) => {
      const finish = () => {
        signal.removeEventListener("abort", finish);
        done();
      };
      signal.addEventListener("abort", finish);
      const at = this.#now + Math.ceil(Math.max(0, seconds) * 1000);
      const others = this.#sleepers.get(at);
      if (others === undefined) this.#sleepers.set(at, [finish]);
      else others.push(finish);
    });
  }

  async run(seconds: number): Promise<void> {
    for (; this.#now < seconds * 1000; this.#now++) {
      // Who wakes may sleep again until the same moment.
      for (const wake of this.#sleepers.get(this.#now) ?? []) {
        wake();
        // Whatever does not wait for time runs now.
        await turn();
      }
      this.#sleepers.delete(this.#now);
    }
  }
}

/** Marsaglia's xorshift, 32 bits. */
function seeded(seed: number): Random {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
