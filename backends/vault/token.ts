/** One token. Leases belong to it: they end with it. */
import type { Grant } from "./answers.ts";

export interface Token {
  /** undefined: the server wants no token from us. */
  readonly text: string | undefined;
  readonly since: number;
  /** Seconds of `now`, or Infinity. */
  endsAt: number;
  /** Requests that it is still good for. */
  uses: number;
  renewable: boolean;
  /** Seconds that the server grants at a time; 0: without an end, or not known. */
  ttl: number;
  /** Paths that it may use, as requests have shown. */
  readonly worked: Set<string>;
  /** The server refused it, even when it asked about itself. */
  isRefused: boolean;
}

export function tokenOf(grant: Grant, now: number): Token {
  return {
    ...unknownToken(grant.token, now),
    endsAt: grant.ttl === 0 ? Infinity : now + grant.ttl,
    uses: grant.uses === 0 ? Infinity : grant.uses,
    renewable: grant.renewable,
    ttl: grant.ttl,
  };
}

/** A token that we know nothing about. */
export function unknownToken(text: string | undefined, now: number): Token {
  const unknown = { endsAt: Infinity, uses: Infinity, renewable: false, ttl: 0, worked: new Set<string>() };
  return { text, since: now, ...unknown, isRefused: false };
}
