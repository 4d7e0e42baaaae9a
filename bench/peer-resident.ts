/** Peers that run, side by side: their memory, what they do while nothing happens, and how soon a change is in their files. */
import { setTimeout as sleep } from "node:timers/promises";
import { Forwarder } from "../test/vault/forwarder.ts";
import { type Instance, startInstance } from "./instance.ts";
import { median, since } from "./measure.ts";
import { type Peer, POLL } from "./peer.ts";
import { type Bench, type Figures, FIRST, placeOf, writeValue } from "./peer-measures.ts";
import { memoryOfGroups, processorTimeOf } from "./process-group.ts";

/** Seconds. */
export const IDLE = 60;
/** Of each peer. */
const INSTANCES = 3;

export interface ResidentFigures {
  /** MiB of the first instance. */
  readonly anonymous: number;
  readonly pss: number;
  /** MiB that the second and the third add: anonymous, and all (PSS). */
  readonly marginalAnonymous: readonly number[];
  readonly marginal: readonly number[];
  /** Milliseconds on a processor in IDLE seconds, and requests meanwhile. */
  readonly idle: number;
  readonly requests: number;
  /** Milliseconds from a change in Vault until it is in the files; undefined where none is followed. */
  readonly change: number | undefined;
  /** From the answer that had it. */
  readonly afterAnswer: number | undefined;
}

export async function measureResident(bench: Bench, changes: number): Promise<Figures<ResidentFigures>> {
  const all = bench.peers.map((peer, index) => new Residents(bench, peer, `resident-${index}`));
  for (let count = 1; count <= INSTANCES; count++) {
    for (const residents of all) await residents.add();
    // Two polls, after which most of a first one's code is loaded.
    await sleep(2 * POLL * 1000 + 1000);
    for (const residents of all) residents.weigh();
  }
  for (const residents of all) residents.beginIdle();
  await sleep(IDLE * 1000);
  for (const residents of all) residents.endIdle();
  for (let change = 1; change <= changes; change++) {
    // At any time between two polls.
    await sleep(Math.random() * POLL * 1000);
    const value = `change ${change}`;
    const arrived = all.map((residents) => residents.expect(value));
    await writeValue(bench, value);
    await Promise.all(arrived);
  }
  for (const residents of all) await residents.stop();
  return all.map((residents) => residents.figures());
}

/** One instance, with its own port to Vault. */
interface Resident {
  readonly instance: Instance;
  readonly forwarder: Forwarder;
}

class Residents {
  readonly #bench: Bench;
  readonly #peer: Peer;
  readonly #name: string;
  readonly #running: Resident[] = [];
  readonly #weights: { readonly anonymous: number; readonly pss: number }[] = [];
  #before: readonly number[] = [];
  #idle: readonly number[] = [];
  #requests: readonly number[] = [];
  readonly #changes: number[] = [];
  readonly #afterAnswers: number[] = [];

  constructor(bench: Bench, peer: Peer, name: string) {
    this.#bench = bench;
    this.#peer = peer;
    this.#name = name;
  }

  async add(): Promise<void> {
    const forwarder = await Forwarder.to(this.#bench.server.url);
    const place = placeOf(this.#bench, `${this.#name}-${this.#running.length}`);
    const instance = await startInstance(this.#peer, { ...place, url: forwarder.url }, FIRST);
    this.#running.push({ instance, forwarder });
  }

  weigh(): void {
    this.#weights.push(memoryOfGroups(this.#running.map(({ instance }) => instance.pid)));
  }

  beginIdle(): void {
    this.#before = this.#processorTimes();
    for (const { forwarder } of this.#running) forwarder.requests.length = 0;
  }

  endIdle(): void {
    this.#idle = this.#processorTimes().map((time, index) => time - (this.#before[index] ?? NaN));
    this.#requests = this.#running.map(({ forwarder }) => forwarder.requests.length);
  }

  /** To be called right before the change. @returns when each has it. */
  async expect(value: string): Promise<void> {
    if (!this.#peer.follows) return;
    const begun = process.hrtime.bigint();
    await Promise.all(
      this.#running.map(async ({ instance, forwarder }) => {
        let answered = begun;
        forwarder.onAnswer = (data) => {
          if (data.includes(value)) answered = process.hrtime.bigint();
        };
        await instance.has(value);
        this.#changes.push(since(begun));
        this.#afterAnswers.push(since(answered));
      }),
    );
  }

  async stop(): Promise<void> {
    for (const { instance, forwarder } of this.#running) {
      await instance.stop();
      await forwarder.down();
    }
  }

  figures(): ResidentFigures {
    const [first = { anonymous: NaN, pss: NaN }] = this.#weights;
    const marginalOf = (what: "anonymous" | "pss") =>
      this.#weights.slice(1).map((weight, index) => weight[what] - (this.#weights[index]?.[what] ?? NaN));
    const medianOrNone = (values: readonly number[]) => (values.length === 0 ? undefined : median(values));
    return {
      ...first,
      marginalAnonymous: marginalOf("anonymous"),
      marginal: marginalOf("pss"),
      idle: median(this.#idle),
      requests: median(this.#requests),
      change: medianOrNone(this.#changes),
      afterAnswer: medianOrNone(this.#afterAnswers),
    };
  }

  #processorTimes(): number[] {
    return this.#running.map(({ instance }) => processorTimeOf([instance.pid]));
  }
}
