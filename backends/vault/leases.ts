/**
 * Secrets that the server made for us. The engine comes back for them after `refreshAfter`; what a visit does (nothing,
 * renew, replace) is decided here, so that whoever asks, and however often, a new secret is made only when it is time.
 */
import { type BackendContext, BackendError } from "../../src/contract/backend.ts";
import { secondsOf } from "./answers.ts";
import type { Body } from "./client.ts";
import { ofStatus, Refused } from "./failures.ts";
import type { Found, Issued, Nothing, Reader } from "./read.ts";
import type { Session } from "./session.ts";
import type { Settings } from "./settings.ts";
import type { Place } from "./source.ts";
import { renewalTime } from "./timing.ts";
import type { Token } from "./token.ts";

/** Seconds between two looks at a lease: it ends with its token, which can be revoked or replaced. A look asks nothing. */
const LOOK = 60;
/** Seconds by which the engine may be early. */
const SLACK = 0.5;

interface Lease extends Issued {
  readonly found: Found;
  /** Ids that it was given to. */
  readonly ids: Set<string>;
  /** Seconds of `now`. */
  endsAt: number;
  /** Renew or replace it from then on. */
  dueAt: number;
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
  /** It may not revoke leases. */
  #powerless: Token | undefined;

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
      return { found, refreshAfter: undefined };
    }
    // Where nobody says that the new one is applied (no action, no service), the old ones run out by themselves.
    const now = this.#now();
    this.#superseded = this.#superseded.filter(({ endsAt }) => now < endsAt);
    if (held !== undefined) this.#superseded.push(held);
    const lease = this.#begin(found, found.issued);
    this.#current.set(place.identity, lease);
    return this.#give(lease, ids);
  }

  /** Ends what nobody uses any more. */
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
      isLast: !issued.renewable || issued.leaseId === "",
    };
  }

  #give(lease: Lease, ids: readonly string[]): { found: Found; refreshAfter: number | undefined } {
    for (const id of ids) lease.ids.add(id);
    // What has no end and no lease cannot end with its token either.
    if (lease.leaseId === "" && lease.ttl === Infinity) return { found: lease.found, refreshAfter: undefined };
    const now = this.#now();
    const look = Math.min(LOOK, (lease.token.endsAt - now) / 3);
    return { found: lease.found, refreshAfter: Math.max(1, Math.min(lease.dueAt - now, look)) };
  }

  /** @throws BackendError where the server cannot be asked, and the lease has not ended yet. */
  async #lives(lease: Lease, signal: AbortSignal): Promise<boolean> {
    const now = this.#now();
    if (now >= lease.endsAt) return false;
    if (lease.leaseId !== "" && lease.token !== this.#session.token) return false;
    if (now < lease.dueAt - SLACK) return true;
    return !lease.isLast && (await this.#renew(lease, signal));
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
    // The request may have needed a new token, and the old one's leases are gone.
    if (lease.token !== this.#session.token) return false;
    const ttl = secondsOf(body?.["lease_duration"]);
    if (ttl === 0) return false;
    const now = this.#now();
    lease.endsAt = now + ttl;
    if (ttl >= 0.9 * lease.ttl && body?.["renewable"] === true) {
      lease.dueAt = now + renewalTime(ttl, this.#context.random);
      return true;
    }
    // Its maximum cuts it short: it is replaced while a third of its usual time is left for the target to change over.
    lease.isLast = true;
    lease.dueAt = lease.endsAt - lease.ttl / 3;
    return lease.dueAt > now + SLACK;
  }

  async #revoke({ leaseId, found }: Lease, signal: AbortSignal): Promise<void> {
    const { token } = this.#session;
    if (leaseId === "" || token === this.#powerless) return;
    try {
      // A login for its sake would cost the lease that has just taken its place.
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
