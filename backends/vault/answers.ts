/** Checks the form of answers. A wrong form says nothing about the secrets, and no error quotes it. */
import { isRecord } from "../../src/contract/records.ts";
import { BackendError } from "../../src/contract/backend.ts";
import { numberOf } from "../../src/contract/json.ts";
import type { Body } from "./client.ts";

/** A token as a login, or a renewal, gives it. */
export interface Grant {
  readonly token: string;
  /** Seconds; 0: without an end. */
  readonly ttl: number;
  readonly renewable: boolean;
  /** 0: no limit. */
  readonly uses: number;
}

/** @param place of the answer, for the error. @throws BackendError */
export function grantOf(body: Body, place: string): Grant {
  const auth = body?.["auth"];
  if (isRecord(auth) && isRecord(auth["mfa_requirement"]))
    throw new BackendError("denied", `${place}: asks for a second factor, which a service does not have`);
  if (!isRecord(auth) || typeof auth["client_token"] !== "string" || auth["client_token"] === "")
    throw strange(place, "no token in the answer");
  return {
    token: auth["client_token"],
    ttl: secondsOf(auth["lease_duration"]),
    renewable: auth["renewable"] === true,
    uses: secondsOf(auth["num_uses"]),
  };
}

/** @throws BackendError */
export function dataOf(body: Body, place: string): Readonly<Record<string, unknown>> {
  if (isRecord(body?.["wrap_info"]))
    throw new BackendError("invalid", `${place}: the answer comes wrapped: the token's policy has a min_wrapping_ttl`);
  const data = body?.["data"];
  if (!isRecord(data)) throw strange(place, "no data in the answer");
  return data;
}

/** Anything else than a positive number counts as 0. */
export function secondsOf(value: unknown): number {
  const number = numberOf(value) ?? 0;
  return Number.isFinite(number) && number > 0 ? number : 0;
}

export function strange(place: string, what: string): BackendError {
  return new BackendError("unavailable", `${place}: ${what}: this is not how Vault or OpenBao answers`);
}
