/** An opened Vault or OpenBao. */
import { forEachConcurrently } from "../../src/contract/concurrency.ts";
import type { Backend, BackendContext, Lookout, Outcome, Plan, SecretRequest } from "../../src/contract/backend.ts";
import { BackendError } from "../../src/contract/backend.ts";
import { keyHints } from "../../src/contract/nearest.ts";
import { SleepingClock } from "../../src/contract/sleeping-clock.ts";
import { Room } from "../../src/contract/limits.ts";
import { forget, lookOut } from "../../src/contract/lookout.ts";
import { Client } from "./client.ts";
import { ofStatus, Refused } from "./failures.ts";
import { Leases } from "./leases.ts";
import { Mounts } from "./mounts.ts";
import { outcomeOf, Reader } from "./read.ts";
import { Session } from "./session.ts";
import type { Settings } from "./settings.ts";
import type { Place, Source } from "./source.ts";

/** Requests at once. */
const CONCURRENCY = 8;
/** Seconds for what we revoke at the end. */
const CLOSE_LIMIT = 0.4;
/** Seconds for what we revoke after an action. */
const APPLIED_LIMIT = 4;

export class VaultStore implements Backend<Source> {
  readonly #client: Client;
  readonly #session: Session;
  readonly #leases: Leases;
  readonly #settings: Settings;
  readonly #reader: Reader;
  /** Ends what `prepare` has begun; undefined: nothing. */
  #preparing: AbortController | undefined;
  /** What the last fetch has found and how many requests it took, where each of them would find the same again. */
  #found: { readonly ids: ReadonlySet<string>; readonly places: number } | undefined;

  /** @param now seconds, including those that the machine sleeps: the server's clock keeps running meanwhile. */
  constructor(settings: Settings, context: BackendContext, now = sleepingClock()) {
    this.#settings = settings;
    this.#client = new Client(settings);
    this.#session = new Session(this.#client, settings, context, now);
    this.#reader = new Reader(this.#session, new Mounts(this.#session, settings, now), settings);
    this.#leases = new Leases(this.#session, this.#reader, settings, context, now);
  }

  /** Asks which version the mount of the first secret has. A login is not begun: a start that ends early would leave it. */
  prepare([first]: readonly SecretRequest<Source>[]): void {
    const { method } = this.#settings.auth;
    if (first === undefined || (method !== "token" && method !== "none")) return;
    this.#preparing = new AbortController();
    this.#session.fetchBegins();
    this.#reader.prepare(first.source.place, this.#preparing.signal).catch(() => undefined);
  }

  async fetch(requests: readonly SecretRequest<Source>[], signal: AbortSignal): Promise<ReadonlyMap<string, Outcome>> {
    this.#found = undefined;
    this.#client.begin();
    this.#session.fetchBegins();
    try {
      const outcomes = await this.#fetch(requests, signal);
      if ([...outcomes.values()].every(isKept))
        this.#found = { ids: new Set(outcomes.keys()), places: new Set(requests.map(identityOf)).size };
      return outcomes;
    } finally {
      this.#session.fetchEnds();
      if (this.#preparing !== undefined) this.#session.fetchEnds();
      this.#preparing = undefined;
      this.#client.end();
    }
  }

  async #fetch(requests: readonly SecretRequest<Source>[], signal: AbortSignal): Promise<Map<string, Outcome>> {
    // Without a token we know nothing about any secret. `prepare` has read its file a moment ago.
    if (this.#preparing === undefined || this.#session.token === undefined)
      await this.#said(() => this.#session.current(signal));
    const places = new Map<string, { readonly place: Place; readonly requests: SecretRequest<Source>[] }>();
    for (const request of requests) {
      const { place } = request.source;
      const known = places.get(place.identity);
      if (known === undefined) places.set(place.identity, { place, requests: [request] });
      else known.requests.push(request);
    }
    const outcomes = new Map<string, Outcome>();
    const room = new Room();
    await forEachConcurrently(places.values(), CONCURRENCY, async ({ place, requests: asked }) => {
      for (const [id, outcome] of await this.#at(place, asked, room, signal)) outcomes.set(id, outcome);
    });
    return outcomes;
  }

  lookOut(requests: readonly SecretRequest<Source>[], plan: Plan, news: () => void): Lookout | undefined {
    const found = this.#found;
    const evidence = this.#client.takeEvidence();
    if (evidence === undefined) return undefined;
    const { word } = this.#session;
    const isWhole = found?.places === evidence.asked.length && requests.every(({ id }) => found.ids.has(id));
    if (isWhole && word !== undefined) return lookOut({ ...evidence, word }, plan, news);
    forget(evidence.asked);
    return undefined;
  }

  async applied(versions: ReadonlyMap<string, string>): Promise<void> {
    await this.#leases.applied(versions, AbortSignal.timeout(APPLIED_LIMIT * 1000));
  }

  async close(): Promise<void> {
    const { revokeOnStop } = this.#settings;
    this.#preparing?.abort();
    const signal = AbortSignal.timeout(CLOSE_LIMIT * 1000);
    try {
      if (revokeOnStop) await this.#leases.revokeAll(signal);
      await this.#said(() => this.#session.close(revokeOnStop, signal));
    } finally {
      this.#client.close();
    }
  }

  async #at(
    place: Place,
    requests: readonly SecretRequest<Source>[],
    room: Room,
    signal: AbortSignal,
  ): Promise<Map<string, Outcome>> {
    const ids = requests.map(({ id }) => id);
    try {
      const answer = await this.#said(() => this.#leases.read(place, ids, signal));
      if (!("found" in answer)) return new Map(ids.map((id) => [id, { status: "missing", where: answer.where }]));
      const { found, refreshAfter } = answer;
      let hints: ReturnType<typeof keyHints> | undefined;
      // Made for the first key that is missing: a start needs none.
      const near: ReturnType<typeof keyHints> = (key, there) =>
        (hints ??= keyHints(requests.flatMap((request) => request.source.key ?? [])))(key, there);
      return new Map(
        requests.map(({ id, source }) => [
          id,
          room.admit(outcomeOf(found, source.key, refreshAfter, near), `${place.mount}/${place.path}`),
        ]),
      );
    } catch (error) {
      if (!(error instanceof BackendError)) throw error;
      return new Map(ids.map((id) => [id, error]));
    }
  }

  /** Turns a Refused that got this far into a BackendError, the only error that callers know. */
  async #said<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw error instanceof Refused ? ofStatus(error, "the server", this.#settings.server) : error;
    }
  }
}

/** Not for a lease: another answer would be another secret. */
function isKept(outcome: Outcome): boolean {
  return "status" in outcome && outcome.status === "value" && outcome.refreshAfter === undefined;
}

function identityOf({ source }: SecretRequest<Source>): string {
  return source.place.identity;
}

function sleepingClock(): () => number {
  const clock = new SleepingClock();
  return () => clock.now();
}
