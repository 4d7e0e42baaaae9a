/**
 * Secrets that the server made for us. The engine comes back for them after `refreshAfter`. This file decides what a
 * visit does (nothing, renew, replace), so that the server makes a new secret only when it is time, however often and
 * by whomever it is asked for.
 */
import { type BackendContext, BackendError } from "../../src/contract/backend.ts";
import { numberOf } from "../../src/contract/json.ts";
import { dataOf, secondsOf } from "./answers.ts";
import type { Body } from "./client.ts";
import { ofStatus, Refused } from "./failures.ts";
import type { Found, Issued, Nothing, Reader } from "./read.ts";
import type { Session } from "./session.ts";
import type { Settings } from "./settings.ts";
import type { Place } from "./source.ts";
import { lookTime, renewalTime } from "./renewal-times.ts";
import type { Token } from "./token.ts";

/**
 * Seconds between two looks at a lease: it ends with its token, which can be revoked or replaced. A look sends no
 * request.
 */
const LOOK = 60;
/** Seconds by which the engine may be early. */
const SLACK = 0.5;

/** Seconds between two reads of a secret that the server is changing. */
const ROTATING = 3;

interface Lease extends Issued {
  readonly found: Found;
  /** Ids that it was given to. */
  readonly ids: Set<string>;
  /** Seconds of `now`. */
  endsAt: number;
  /** Renew or replace it from then on. */
  dueAt: number;
  /** Ask the server from then on whether it still knows it. */
  lookAt: number;
  /** Its maximum is near: renewing it does not help any more. */
  isLast: boolean;
}

export class Leases {
  readonly #session: Session;
  readonly #reader: Reader;
  readonly #server: string;
  readonly #context: BackendContext;
  readonly #now: () => number;
  readonly #current = new Map<string, Lease>();
  #superseded: Lease[] = [];
  /** The token that may not revoke leases. */
  #powerless: Token | undefined;
  /** The token that may not look leases up. */
  #blind: Token | undefined;

  constructor(session: Session, reader: Reader, settings: Settings, context: BackendContext, now: () => number) {
    this.#session = session;
    this.#reader = reader;
    this.#server = settings.server;
    this.#context = context;
    this.#now = now;
  }

  /**
   * What `place` holds: from a lease that lives, else from the server.
   *
   * @throws BackendError
   */
  async read(
    place: Place,
    ids: readonly string[],
    signal: AbortSignal,
  ): Promise<{ found: Found; refreshAfter: number | undefined } | Nothing> {
    const held = this.#current.get(place.identity);
    if (held !== undefined && (await this.#lives(held, signal))) return this.#give(held, ids);
    const found = await this.#reader.read(place, signal);
    if (found.status === "nothing") return found;
    if (found.issued === undefined) {
      this.#current.delete(place.identity);
      return { found, refreshAfter: this.#untilRotated(found) };
    }
    // Without an action or a service, nothing reports the new one as applied: the old ones run out by themselves.
    const now = this.#now();
    this.#superseded = this.#superseded.filter(({ endsAt }) => now < endsAt);
    if (held !== undefined) this.#superseded.push(held);
    const lease = this.#begin(found, found.issued);
    this.#current.set(place.identity, lease);
    return this.#give(lease, ids);
  }

  /** Revokes unused leases. */
  async applied(versions: ReadonlyMap<string, string>, signal: AbortSignal): Promise<void> {
    const isOver = ({ ids, found }: Lease) => [...ids].every((id) => versions.get(id) !== found.version);
    const over = this.#superseded.filter(isOver);
    this.#superseded = this.#superseded.filter((lease) => !over.includes(lease));
    for (const lease of over) await this.#revoke(lease, signal);
  }

  async revokeAll(signal: AbortSignal): Promise<void> {
    const all = [...this.#superseded, ...this.#current.values()];
    this.#superseded = [];
    this.#current.clear();
    for (const lease of all) await this.#revoke(lease, signal);
  }

  #begin(found: Found, issued: Issued): Lease {
    const now = this.#now();
    return {
      ...issued,
      found,
      ids: new Set(),
      endsAt: now + issued.ttl,
      dueAt: now + renewalTime(issued.ttl, this.#context.random),
      lookAt: now + lookTime(issued.ttl, this.#context.random),
      isLast: !issued.renewable || issued.leaseId === "",
    };
  }

  #give(lease: Lease, ids: readonly string[]): { found: Found; refreshAfter: number | undefined } {
    for (const id of ids) lease.ids.add(id);
    // A secret without an end and without a lease does not end with its token either.
    if (lease.leaseId === "" && lease.ttl === Infinity) return { found: lease.found, refreshAfter: undefined };
    const now = this.#now();
    const asked = lease.leaseId === "" || lease.token === this.#blind ? Infinity : lease.lookAt - now;
    const look = Math.min(LOOK, (lease.token.endsAt - now) / 3, asked);
    return { found: lease.found, refreshAfter: Math.max(1, Math.min(lease.dueAt - now, look)) };
  }

  /** @throws BackendError where the server cannot be asked, and the lease has not ended yet. */
  async #lives(lease: Lease, signal: AbortSignal): Promise<boolean> {
    const now = this.#now();
    if (now >= lease.endsAt) return false;
    if (lease.leaseId !== "" && lease.token !== this.#session.token) return false;
    if (now >= lease.dueAt - SLACK) return !lease.isLast && (await this.#renew(lease, signal));
    if (lease.leaseId === "" || now < lease.lookAt - SLACK) return true;
    return await this.#isKnown(lease, signal);
  }

  /**
   * Nobody tells us when a lease or its token is revoked, so we ask. Where the server cannot say, the lease counts as
   * alive: its renewal will show.
   *
   * @throws BackendError where its token has died, and there is no other.
   */
  async #isKnown(lease: Lease, signal: AbortSignal): Promise<boolean> {
    const { token, found } = lease;
    const now = this.#now();
    lease.lookAt = now + lookTime(lease.ttl, this.#context.random);
    if (token === this.#blind) return true;
    const path = "sys/leases/lookup";
    // A right that the token has lost tells more than one that it never had.
    const [couldLook, wasGood] = [token.worked.has(path), token.worked.has("auth/token/lookup-self")];
    try {
      const data = { lease_id: lease.leaseId };
      const { body } = await this.#session.call({ method: "POST", path, data, signal });
      if (token !== this.#session.token) return false;
      return this.#hasTime(lease, dataOf(body, path)["ttl"]);
    } catch (error) {
      if (token !== this.#session.token) return false;
      const isGone = error instanceof Refused && error.status === 400 && !error.isOfOthers;
      const isDead = isDenied(error);
      const isRefused = isDead || (error instanceof Refused && error.status === 403);
      if (isGone || (isRefused && couldLook) || (isDead && wasGood)) {
        this.#context.log("notice", `the server does not know a lease of ${found.where} any more: replacing it`);
        // It stays gone while it cannot be replaced.
        lease.endsAt = now;
        return false;
      }
      if (isRefused) {
        this.#blind = token;
        this.#context.log("debug", `${path} is refused: a revoked lease shows only when it is renewed`);
      }
      // Its token has died, and the login does not give another, which is no outage that a lease outlives.
      if (token.isRefused && wasGood && !isRefused && error instanceof BackendError) throw error;
      return true;
    }
  }

  /**
   * @param ttl seconds by the server's clock, which keeps running while we sleep.
   * @returns whether the lease can stay for now.
   */
  #hasTime(lease: Lease, ttl: unknown): boolean {
    const left = numberOf(ttl);
    if (left === undefined) return true;
    const now = this.#now();
    lease.endsAt = Math.min(lease.endsAt, now + left);
    // A lease with less time left than a renewal would leave it is renewed, or replaced, at the next visit.
    lease.dueAt = Math.min(lease.dueAt, Math.max(now, lease.endsAt - lease.ttl / 3));
    return left > 0;
  }

  async #renew(lease: Lease, signal: AbortSignal): Promise<boolean> {
    const path = "sys/leases/renew";
    const data = { lease_id: lease.leaseId, increment: Math.round(lease.ttl) };
    let body: Body;
    try {
      ({ body } = await this.#session.call({ method: "POST", path, data, signal }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      const failure = ofStatus(error, path, this.#server);
      if (failure.kind === "unavailable") throw failure;
      this.#context.log(
        "debug",
        `a lease of ${lease.found.where} cannot be renewed (status ${error.status}): replacing it`,
      );
      return false;
    }
    // The request may have needed a new token; then the old token's leases are gone.
    if (lease.token !== this.#session.token) return false;
    const ttl = secondsOf(body?.["lease_duration"]);
    if (ttl === 0) return false;
    const now = this.#now();
    lease.endsAt = now + ttl;
    lease.lookAt = now + lookTime(lease.ttl, this.#context.random);
    if (ttl >= 0.9 * lease.ttl && body?.["renewable"] === true) {
      lease.dueAt = now + renewalTime(ttl, this.#context.random);
      return true;
    }
    // Its maximum cuts it short: it is replaced while a third of its usual time is left for the target to change over.
    lease.isLast = true;
    lease.dueAt = lease.endsAt - lease.ttl / 3;
    return lease.dueAt > now + SLACK;
  }

  /**
   * When to read a secret that the server changes by itself (a static role's password): when that is due, and every
   * `LOOK` seconds before.
   */
  #untilRotated({ rotatesIn }: Found): number | undefined {
    if (rotatesIn === undefined) return undefined;
    // The change is due or under way, which takes some seconds.
    return rotatesIn <= 0 ? ROTATING : Math.min(LOOK, rotatesIn + 0.5 + this.#context.random());
  }

  async #revoke({ leaseId, found }: Lease, signal: AbortSignal): Promise<void> {
    const { token } = this.#session;
    if (leaseId === "" || token === this.#powerless) return;
    try {
      // `attempt` never logs in: a login would end the lease that has just taken its place.
      await this.#session.attempt({ method: "POST", path: "sys/leases/revoke", data: { lease_id: leaseId }, signal });
      this.#context.log("debug", `revoked an old lease of ${found.where}`);
    } catch (error) {
      if (error instanceof Refused && error.status === 403) this.#powerless = token;
      const why =
        error instanceof Refused ? `status ${error.status}` : error instanceof BackendError ? error.message : "failed";
      this.#context.log("notice", `an old lease of ${found.where} cannot be revoked (${why}): it runs out by itself`);
    }
  }
}

/** The server refuses the token of a file, or the login that would replace a token. */
function isDenied(error: unknown): boolean {
  return error instanceof BackendError && error.kind === "denied";
}
