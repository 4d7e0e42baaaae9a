/** Publishes what has changed: all of it or nothing, and verified first where the operator asked for that. */
import type { Fetched } from "../contract/backend.ts";
import { isAborted } from "../runtime/clock.ts";
import type { VerifyConfig } from "../config/config.ts";
import { FatalError } from "../contract/errors.ts";
import type { HeldValues } from "./held-values.ts";
import { isRecord } from "../contract/records.ts";
import type { Log } from "../runtime/log.ts";
import type { PublishResult } from "./ask-times.ts";
import type { Owed } from "./owed.ts";
import type { Publisher, StagedSet } from "../publish/publisher.ts";
import { ValueError } from "../publish/value.ts";
import { verify } from "./verify.ts";

/** A set that was refused, as a keyed digest. */
export interface Refusal {
  readonly key: string;
  readonly digest: string;
}

export function isRefusal(value: unknown): value is Refusal {
  return isRecord(value) && typeof value["key"] === "string" && typeof value["digest"] === "string";
}

export class RotationPublisher {
  #verify: VerifyConfig | null;
  readonly #publisher: Publisher;
  readonly #held: HeldValues;
  readonly #owed: Owed;
  readonly #log: Log;
  /** A key of this process, so that a digest reveals nothing to others. */
  #key: Buffer | undefined;
  /** The warnings that are logged already. */
  #leftOut: ReadonlyMap<string, string> = new Map();
  #refused: ReadonlyMap<string, string> = new Map();

  constructor(verifyConfig: VerifyConfig | null, publisher: Publisher, held: HeldValues, owed: Owed, log: Log) {
    this.#verify = verifyConfig;
    this.#publisher = publisher;
    this.#held = held;
    this.#owed = owed;
    this.#log = log;
  }

  /** For another process, which must not try the same set again; undefined: none was refused. */
  get refusal(): Refusal | undefined {
    const digest = this.#owed.refused;
    return digest === undefined || this.#key === undefined ? undefined : { key: this.#key.toString("base64"), digest };
  }

  /** @param unpublished why an earlier process did not publish what is new. */
  recall(refusal: Refusal | null, unpublished: string | null): void {
    if (refusal !== null) {
      this.#key = Buffer.from(refusal.key, "base64");
      this.#owed.refuse(refusal.digest);
    }
    this.#owed.obstruct("publish", unpublished ?? undefined);
  }

  /** Another configuration is in charge. */
  take(verifyConfig: VerifyConfig | null): void {
    this.#verify = verifyConfig;
  }

  /**
   * Publishes what is held. Where nothing is published yet, no verify command gates it: there is nothing better.
   *
   * @param changed ids that differ from a complete set that an earlier life published; undefined: none exists.
   * @returns `kept` where that set stays, and `held` is no longer what is published; `failed` where trying again may
   *   help.
   * @throws PublishError, ValueError where there is none.
   */
  async publishFirst(
    act: boolean,
    changed: readonly string[] | undefined,
    signal: AbortSignal,
  ): Promise<"published" | "kept" | "failed"> {
    const values = this.#held.bytes;
    try {
      const staged = this.#publisher.stage(values, act);
      if (changed !== undefined && changed.length > 0) {
        const why = await this.#whyRefused(staged, values, signal);
        if (why !== undefined) {
          if (isAborted(signal)) return "failed";
          this.#owed.toPublish(changed);
          this.#refuse(this.#digest(values), why);
          return "kept";
        }
      }
      staged.commit();
      this.#warnLeftOut(staged);
      return "published";
    } catch (error) {
      if (changed === undefined || !(error instanceof FatalError || error instanceof ValueError)) throw error;
      this.#owed.toPublish(changed);
      this.#fail(error.message);
      return "failed";
    }
  }

  /**
   * @param act the target must hear of it.
   * @param again verify a set again that was refused before.
   * @returns the ids that are published now; `failed` where trying again may help; `refused` where only another change
   *   can.
   */
  async publish(
    changes: ReadonlyMap<string, Fetched>,
    act: boolean,
    again: boolean,
    signal: AbortSignal,
  ): Promise<Exclude<PublishResult, "unchanged">> {
    const values = new Map(this.#held.bytes);
    for (const [id, { value }] of changes) values.set(id, value);
    const digest = this.#digest(values);
    // Without a change, other files of the same values are due, and what could not be published before still is not.
    if (changes.size > 0) this.#owed.toPublish([...changes.keys()]);
    if (this.#owed.isRefused(digest) && !again) return "refused";
    try {
      const staged = this.#publisher.stage(values, act);
      const why = await this.#whyRefused(staged, values, signal);
      if (why !== undefined) {
        // A stop ends the command, whose result says nothing about the set then.
        if (isAborted(signal)) return "failed";
        return this.#refuse(digest, why);
      }
      staged.commit();
      this.#warnLeftOut(staged);
    } catch (error) {
      if (!(error instanceof FatalError || error instanceof ValueError)) throw error;
      if (error instanceof ValueError) return await this.#publishOthers(error, changes, digest, act, again, signal);
      this.#fail(error.message);
      return "failed";
    }
    for (const [id, fetched] of changes) this.#held.set(id, fetched);
    if (changes.size > 0) this.#owed.published();
    else this.#owed.filesPublished();
    return new Set(changes.keys());
  }

  /**
   * Asks the verify command, and discards a set that is not good.
   *
   * @returns undefined: the set is good.
   * @throws FatalError where the command cannot be run for now.
   */
  async #whyRefused(
    staged: StagedSet,
    values: ReadonlyMap<string, Buffer>,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (this.#verify === null) return undefined;
    let isGood = false;
    try {
      const why = await verify(this.#verify, staged, values, signal);
      isGood = why === undefined;
      return why;
    } finally {
      if (!isGood) staged.discard();
    }
  }

  /** A secret whose value does not fit its variable must not hold up the others. */
  async #publishOthers(
    error: ValueError,
    changes: ReadonlyMap<string, Fetched>,
    digest: string,
    act: boolean,
    again: boolean,
    signal: AbortSignal,
  ): Promise<Exclude<PublishResult, "unchanged">> {
    const others = new Map(changes);
    if (!others.delete(error.id) || others.size === 0) return this.#refuse(digest, error.message);
    const result = await this.publish(others, act, again, signal);
    if (typeof result !== "string") {
      this.#owed.toPublish([error.id]);
      this.#fail(error.message);
    }
    return result;
  }

  /** It is hard to find out why a service lacks a variable: so we say it, once. */
  #warnLeftOut({ warnings, refused }: StagedSet): void {
    for (const { why, names, more } of news(refused, this.#refused))
      this.#log.warn(`key ${JSON.stringify(names[0])} cannot be published${more}: ${why}`);
    for (const { why, names, more } of news(warnings, this.#leftOut))
      this.#log.warn(`secret ${JSON.stringify(names[0])} is in its file only, not in secrets.env${more}: ${why}`, {
        secrets: names,
      });
    // Not those of before: a store can invent names for ever.
    this.#refused = refused;
    this.#leftOut = warnings;
  }

  /** Each refused set is news. */
  #refuse(digest: string, why: string): "refused" {
    this.#owed.refuse(digest);
    this.#owed.obstruct("publish", undefined);
    this.#fail(why);
    return "refused";
  }

  #fail(why: string): void {
    const problem = `the new secrets are not published: ${why}`;
    if (this.#owed.obstruct("publish", problem)) this.#log.error(problem);
  }

  #digest(values: ReadonlyMap<string, Buffer>): string {
    const { createHmac, randomBytes } = process.getBuiltinModule("node:crypto");
    this.#key ??= randomBytes(32);
    const hmac = createHmac("sha256", this.#key);
    for (const [id, value] of values) hmac.update(`${id}\0${value.length}\0`).update(value);
    return hmac.digest("base64");
  }
}

/** @returns the names that did not have this reason before, by reason. */
function news(now: ReadonlyMap<string, string>, before: ReadonlyMap<string, string>) {
  const fresh = new Map<string, string[]>();
  for (const [name, why] of now) if (before.get(name) !== why) fresh.set(why, [...(fresh.get(why) ?? []), name]);
  return [...fresh].map(([why, names]) => {
    const more = names.length === 1 ? "" : ` (and ${names.length - 1} more)`;
    return { why, names, more };
  });
}
