/** One target with its sidecar and its store, and what must hold of them whatever happens. */
import type { Guest } from "../e2e/guest.ts";
import { Pair } from "../e2e/pair.ts";
import { plainUnits } from "../e2e/plain-units.ts";
import { History } from "./history.ts";
import { MemorySeries, type Sample } from "./memory.ts";
import type { Outage, SoakStore } from "./stores.ts";

/** What observe.mjs reports about one pair. */
export interface Observation {
  readonly name: string;
  readonly target: Readonly<Record<string, string>>;
  readonly sidecar: Readonly<Record<string, string>>;
  /** The sidecar's other units, by their names. */
  readonly others: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly published?: string;
  readonly seen?: string;
  /** KiB. */
  readonly memory?: Omit<Sample, "at">;
  readonly log: string;
}

/** Seconds that a unit may be on its way up. Far beyond what a busy machine needs. */
const PATIENCE = 90;
/**
 * Seconds after a start in which another may follow, by `minInterval`: the target may not have read what was published
 * meanwhile.
 */
const FOLLOWING = 5;

export class Service {
  readonly pair: Pair;
  readonly store: SoakStore;
  readonly history: History;
  readonly memory = new MemorySeries();
  /** Lines that the target has reported. */
  readonly lines: string[] = [];
  /** The units that watch, poll, look and act for a sidecar without a process that stays. */
  readonly others: readonly string[];
  outage: Outage | undefined;
  /** Its output directory can be full. */
  readonly canBeFull: boolean;
  /** Its output directory takes no byte more. */
  full = false;
  /** The verify command refuses the newest value in the store. */
  refused = false;
  stopped = false;
  /** When an event last started the target, in seconds: the target's start limit counts events, too. */
  startedAt = -Infinity;
  logSize = 0;
  #partial = "";
  /** When the newest line was seen, in seconds. */
  #saidAt = -Infinity;
  /** Places in the history: of the newest line, and of the published value at the last look and at the one before. */
  #read = -1;
  #published: readonly [number, number] = [-1, -1];
  readonly #downSince = new Map<string, number>();
  #last: Observation | undefined;

  private constructor(pair: Pair, store: SoakStore, canBeFull: boolean) {
    this.pair = pair;
    this.store = store;
    this.history = new History(pair.name);
    this.canBeFull = canBeFull;
    const ends = [
      "act.path",
      "watch.path",
      "refresh.path",
      "refresh.timer",
      "act.service",
      "watch.service",
      "refresh.service",
    ];
    this.others = pair.isOnChange ? ends.map((end) => `${pair.name}-secrets-${end}`) : [];
  }

  /** @param sidecar lines for the sidecar's unit. */
  static async install(
    guest: Guest,
    name: string,
    store: SoakStore,
    sidecar: readonly string[],
    reach: string | undefined,
  ): Promise<Service> {
    await store.install();
    const { options } = store;
    const service = [...(options.sidecar?.service ?? []), ...sidecar];
    // The default start limit: rotations and other events must not bring the target to it.
    const target = { service: ["Restart=always", "RestartSec=0.2", ...(options.target?.service ?? [])] };
    const pair = await Pair.install(
      guest,
      {
        name,
        ...options,
        config: {
          ...options.config,
          onChange: { settle: 0.2, minInterval: 3, ...(options.config?.["onChange"] as object) },
        },
        target,
        sidecar: { service },
      },
      store.source ?? plainUnits,
    );
    if (reach !== undefined) await guest.tmpfs(pair.runtime, reach);
    const made = new Service(pair, store, reach !== undefined);
    await guest.run(["mkdir", "-p", pair.store]);
    await made.rotate();
    return made;
  }

  get name(): string {
    return this.pair.name;
  }

  /** Whether its store answers and takes values, and its sidecar has begun: a bad store refuses a first start. */
  get untroubled(): boolean {
    const isUp = this.#last?.sidecar["ActiveState"] === "active";
    return isUp && this.outage === undefined && !this.full && !this.refused && !this.stopped;
  }

  /** Its sidecar starts again: earlier observations no longer count. */
  unseen(): void {
    this.#last = undefined;
  }

  get writable(): boolean {
    return this.outage?.writable !== false;
  }

  async rotate(refused = false): Promise<void> {
    await this.store.put(this.history.next(refused));
    this.refused = refused;
  }

  get last(): Observation | undefined {
    return this.#last;
  }

  /** The value of the newest line of the target, and of its variable where the line tells it. */
  get used(): { readonly file: string | undefined; readonly variable: string | undefined } {
    const [, file, variable] = / file=(\S*)(?: variable=(\S*))?$/.exec(this.lines.at(-1) ?? "") ?? [];
    return { file, variable };
  }

  /** @param now seconds. @returns what is wrong, and the number of checks. */
  check(observation: Observation, now: number): { readonly wrong: readonly string[]; readonly checks: number } {
    this.#last = observation;
    const { target, sidecar, others, published, seen, memory, log } = observation;
    const wrong: string[] = [];
    let checks = 0;
    const judge = (what: string, text: string | undefined, atLeast = -1): number => {
      if (text === undefined) return atLeast;
      checks += 1;
      const place = this.history.place(text);
      if (place === undefined) wrong.push(`${what} is no value that the store held: ${text.length} bytes`);
      else if (text.includes("refused")) wrong.push(`${what} is a value that the verify command refuses`);
      else if (place < atLeast) wrong.push(`${what} is value ${place}; value ${atLeast} was there before`);
      return Math.max(place ?? -1, atLeast);
    };
    const [last, before] = this.#published;
    for (const line of this.#take(log)) {
      this.#saidAt = now;
      const [, file, variable] = / file=(\S*)(?: variable=(\S*))?$/.exec(line) ?? [];
      // The target may have written it during the last look.
      this.#read = judge("the target's file", file, Math.max(this.#read, before));
      // secrets.env is renamed last: a start between the two renames reads the value before, and the action follows.
      judge("the target's variable", variable);
    }
    this.#published = [judge("what is published", published, Math.max(this.#read, last)), last];
    judge("what the target sees", seen);
    for (const [what, unit] of Object.entries({ target, sidecar, ...others })) {
      checks += 1;
      const state = unit["ActiveState"] ?? "";
      // A unit that runs for a moment is mostly inactive.
      if (state === "active" || (state === "inactive" && Object.hasOwn(others, what) && what.endsWith(".service"))) {
        this.#downSince.delete(what);
        continue;
      }
      const since = this.#downSince.get(what) ?? now;
      this.#downSince.set(what, since);
      if (this.stopped) this.#downSince.delete(what);
      else if (state === "failed") wrong.push(`the ${what} has failed: ${unit["Result"] ?? ""}`);
      else if (now - since > PATIENCE && !(what === "sidecar" && this.full))
        wrong.push(`the ${what} is ${state} (${unit["SubState"] ?? ""}) for ${(now - since).toFixed(0)} s`);
    }
    if (memory !== undefined) this.memory.add(Number(sidecar["MainPID"]), now, memory);
    return { wrong, checks };
  }

  /** @param now seconds. @returns why it is not at rest with the newest value; undefined: it is. */
  unsettled(now: number): string | undefined {
    const { target, sidecar, others = {}, published } = this.#last ?? {};
    const { latest } = this.history;
    const place = (text: string | undefined) => (text === undefined ? "nothing" : this.history.place(text));
    for (const [what, unit] of Object.entries({ target, sidecar }))
      if (unit?.["ActiveState"] !== "active") return `the ${what} is ${unit?.["ActiveState"] ?? "not seen"}`;
    for (const [what, unit] of Object.entries(others))
      if (unit["ActiveState"] !== (what.endsWith(".service") ? "inactive" : "active"))
        return `${what} is ${unit["ActiveState"] ?? "not seen"}`;
    if (published !== latest) return `published is ${place(published)} of ${this.history.length - 1}`;
    const { file, variable } = this.used;
    if (file !== latest) return `the target read ${place(file)} of ${this.history.length - 1}`;
    if (variable !== undefined && variable !== latest)
      return `the target's variable is ${place(variable)} of ${this.history.length - 1}`;
    return now - this.#saidAt < FOLLOWING ? "the target has just begun" : undefined;
  }

  #take(log: string): readonly string[] {
    this.logSize += Buffer.byteLength(log);
    const lines = (this.#partial + log).split("\n");
    this.#partial = lines.pop() ?? "";
    this.lines.push(...lines);
    return lines;
  }
}
