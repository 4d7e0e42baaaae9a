/** Reads one place, or writes to it where its source has data, and takes the secrets out of the answer. */
import { isRecord } from "../../src/contract/records.ts";
import { BackendError, type Outcome } from "../../src/contract/backend.ts";
import { numberOf, bytesOf, stringifyJson } from "../../src/contract/json.ts";
import { dataOf, secondsOf, strange } from "./answers.ts";
import { ofStatus, Refused } from "./failures.ts";
import { hintFor } from "./hints.ts";
import type { Mounts } from "./mounts.ts";
import type { Answered, Session } from "./session.ts";
import type { Settings } from "./settings.ts";
import type { Place } from "./source.ts";
import type { Token } from "./token.ts";

/** Seconds to live for a certificate that is over already, by a clock that cannot be right. */
const UNCLEAR = 60;

/** What a place holds now. */
export interface Found {
  readonly status: "found";
  readonly data: Readonly<Record<string, unknown>>;
  readonly version: string;
  /** `secret/data/app` */
  readonly where: string;
  /** Set where the server made the secret for us, and will not keep it. */
  readonly issued: Issued | undefined;
  /** Seconds until the server changes it by itself, as it says: the password of a static role. */
  readonly rotatesIn?: number | undefined;
  /**
   * KV version 2 stores each number as a 64-bit float, and answers another number where it does not fit. Version 1
   * keeps its text.
   */
  readonly altersNumbers: boolean;
}

export interface Issued {
  /** "": there is nothing to renew or revoke. */
  readonly leaseId: string;
  /** Seconds; Infinity: no end is known. */
  readonly ttl: number;
  readonly renewable: boolean;
  /** The lease ends with it. */
  readonly token: Token;
}

export interface Nothing {
  readonly status: "nothing";
  readonly where: string;
}

export class Reader {
  readonly #session: Session;
  readonly #mounts: Mounts;
  readonly #server: string;
  readonly #versions = new Versions();

  constructor(session: Session, mounts: Mounts, settings: Settings) {
    this.#session = session;
    this.#mounts = mounts;
    this.#server = settings.server;
  }

  /** Learns what `read` must know first. @throws Refused, BackendError */
  async prepare({ mount, data }: Place, signal: AbortSignal): Promise<void> {
    if (data === undefined) await this.#mounts.isVersion2(mount, signal);
  }

  /** @throws BackendError */
  async read(place: Place, signal: AbortSignal): Promise<Found | Nothing> {
    const { mount, path, data, version } = place;
    let where = `${mount}/${path}`;
    /** What a policy must allow. */
    let asked = where;
    try {
      if (data !== undefined)
        return this.#generic(await this.#session.call({ method: "POST", path: where, data, signal }), place, where);
      asked = `${where}, or ${mount}/data/${path} for KV version 2`;
      const isVersion2 = await this.#mounts.isVersion2(mount, signal);
      if (isVersion2) where = `${mount}/data/${path}`;
      asked = where;
      if (!isVersion2 && version !== undefined)
        throw new BackendError("invalid", `${where}: has no versions: ${mount} is not KV version 2`);
      if (!isVersion2)
        return this.#generic(await this.#session.call({ method: "GET", path: where, signal }), place, where);
      const query = version === undefined ? undefined : `version=${version}`;
      const { body } = await this.#session.call({ method: "GET", path: where, query, signal });
      return ofVersion2(dataOf(body, where), where, version);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 404 && data === undefined && !error.isOfNamespace) {
        this.#mounts.doubt(mount);
        return this.#notFound(error, where, place);
      }
      if (error.status === 400 && data !== undefined && !error.isOfOthers)
        throw new BackendError(
          "invalid",
          `${where}: the server does not accept the \`data\` that fetcher writes (status 400)`,
        );
      if (error.status !== 403) throw ofStatus(error, where, this.#server, "");
      throw ofStatus(error, asked, this.#server, this.#hint(place, asked !== where));
    }
  }

  /** @param isHidden the server tells us nothing about the mount, as if it did not exist. */
  #hint(place: Place, isHidden: boolean): string {
    const hint = hintFor(place, this.#mounts.pointOf(place.mount));
    if (hint !== "" || !isHidden) return hint;
    return `; the token may read nothing below ${place.mount}, or there is no such \`mount\``;
  }

  /** A 404 with data is how KV version 2 says that there was something. */
  #notFound(refused: Refused, where: string, place: Place): Nothing {
    const { body } = refused;
    const inner = isRecord(body) && isRecord(body["data"]) ? body["data"]["metadata"] : undefined;
    if (isRecord(inner)) return gone(inner, where);
    const which = place.version === undefined ? "" : `, version ${place.version}`;
    const why = refused.says(/\bno handler for route\b/)
      ? "; no secrets engine is mounted there: see `mount`"
      : refused.warns(/\bversioned K\/V\b/)
        ? `; ${place.mount} is of KV version 2: leave \`kvVersion\` out, the server knows it`
        : hintFor(place, this.#mounts.pointOf(place.mount));
    return { status: "nothing", where: `nothing at ${where}${which}${why}` };
  }

  #generic(answered: Answered, place: Place, where: string): Found {
    const data = dataOf(answered.body, where);
    const issued = issuedBy(answered, data, place);
    const rotatesIn = issued === undefined ? rotationOf(data) : undefined;
    // `ttl` alone differs each time.
    const kept = rotatesIn === undefined ? data : { ...data, ttl: undefined };
    const version = issued === undefined ? this.#versions.of(place.identity, kept) : this.#versions.next();
    return { status: "found", data, version, where, issued, rotatesIn, altersNumbers: false };
  }
}

function ofVersion2(
  answer: Readonly<Record<string, unknown>>,
  where: string,
  version: number | undefined,
): Found | Nothing {
  const { data, metadata } = answer;
  if (!isRecord(metadata) || typeof metadata["version"] !== "number") throw strange(where, "no metadata in the answer");
  // A deleted version has no data. A `deletion_time` to come is for the server's clock to judge.
  if (metadata["destroyed"] === true || data === null) return gone(metadata, where);
  if (!isRecord(data)) throw strange(where, "no data in the answer");
  if (version !== undefined && version !== metadata["version"]) throw strange(where, "another version in the answer");
  return { status: "found", data, version: String(metadata["version"]), where, issued: undefined, altersNumbers: true };
}

function gone(metadata: Readonly<Record<string, unknown>>, where: string): Nothing {
  const { version, destroyed } = metadata;
  const which = typeof version === "number" ? `version ${version} of ${where}` : where;
  return { status: "nothing", where: `${which} is ${destroyed === true ? "destroyed" : "deleted"}` };
}

/** Static roles of databases and of LDAP have both fields; secrets that people store do not. */
function rotationOf({ ttl, last_vault_rotation: last }: Readonly<Record<string, unknown>>): number | undefined {
  return typeof last === "string" ? numberOf(ttl) : undefined;
}

/**
 * The server made for us what has a lease, and every answer to a write: asking again would make another certificate. It
 * ends with its lease, or earlier where a certificate says so (`pki/issue`: `expiration`, seconds since 1970), by the
 * clock of the server that made it.
 */
function issuedBy(
  { body = {}, token, at }: Answered,
  data: Readonly<Record<string, unknown>>,
  place: Place,
): Issued | undefined {
  const leaseId = typeof body["lease_id"] === "string" ? body["lease_id"] : "";
  if (leaseId === "" && place.data === undefined) return undefined;
  const lease = secondsOf(body["lease_duration"]);
  const expiration = secondsOf(data["expiration"]);
  const left = expiration === 0 ? Infinity : expiration > at ? expiration - at : UNCLEAR;
  return { leaseId, ttl: lease === 0 ? left : Math.min(lease, left), renewable: body["renewable"] === true, token };
}

/** Secrets without their own version get a number, and the time at which they were first seen. */
class Versions {
  #key: Buffer | undefined;
  readonly #seen = new Map<string, { readonly mark: string; readonly version: string }>();
  #count = 0;

  next(): string {
    this.#count += 1;
    return `${this.#count} of ${new Date().toISOString().replace(/\.\d+Z$/, "Z")}`;
  }

  of(identity: string, data: Readonly<Record<string, unknown>>): string {
    const { createHmac, randomBytes } = process.getBuiltinModule("node:crypto");
    this.#key ??= randomBytes(32);
    const mark = createHmac("sha256", this.#key).update(stringifyJson(data)).digest("base64");
    let seen = this.#seen.get(identity);
    if (seen?.mark !== mark) {
      seen = { mark, version: this.next() };
      this.#seen.set(identity, seen);
    }
    return seen.version;
  }
}

/**
 * A string as its UTF-8 bytes; anything else as its JSON.
 *
 * @param key undefined: all of them. @param near the end of `no key "bd"`.
 */
export function outcomeOf(
  found: Found,
  key: string | undefined,
  refreshAfter: number | undefined,
  near: (key: string, there: readonly string[]) => string,
): Outcome {
  const { data, version, where, altersNumbers } = found;
  const value = key === undefined ? data : Object.hasOwn(data, key) ? data[key] : undefined;
  if (value === undefined) {
    const [name, hint] = [JSON.stringify(key), near(key ?? "", Object.keys(data))];
    return { status: "missing", where: `no key ${name} in ${where}${hint}` };
  }
  const place = key === undefined ? where : `key ${JSON.stringify(key)} in ${where}`;
  if (value === null) return { status: "missing", where: `no value: ${place} is null` };
  if (altersNumbers && hasAlteredNumber(value))
    return new BackendError("invalid", `${place}: has a number that KV version 2 alters: store it as a string`);
  const bytes = bytesOf(value);
  if (bytes === undefined)
    return new BackendError(
      "invalid",
      `${place}: is not valid Unicode text (half of a surrogate pair): store it as base64`,
    );
  return {
    status: "value",
    value: bytes,
    version,
    ...(refreshAfter === undefined ? {} : { refreshAfter }),
  };
}

/**
 * A float cannot hold every whole number above 2^53, and the server prints a float as JavaScript does (seen with Vault
 * 1.21 and OpenBao 2: they answer 12345678901234567890 as 12345678901234567000). A Literal was never a float.
 */
function hasAlteredNumber(value: unknown): boolean {
  if (typeof value === "number") return Number.isInteger(value) && !Number.isSafeInteger(value);
  return typeof value === "object" && value !== null && Object.values(value).some(hasAlteredNumber);
}
