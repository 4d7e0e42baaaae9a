/** AWS Secrets Manager: whole secrets or keys of JSON secrets, one request for each place, batches where they are allowed. */
import { forEachConcurrently } from "../../src/contract/concurrency.ts";
import {
  type Backend,
  type BackendContext,
  BackendError,
  type BackendModule,
  isBackendError,
  type Outcome,
  type SecretRequest,
} from "../../src/contract/backend.ts";
import { Room, Traffic } from "../../src/contract/limits.ts";
import { networkHint } from "../../src/contract/unit-sandbox.ts";
import { type Answer, outcomesIn } from "./answer.ts";
import { BATCH_SIZE, type Client, openClient, regionOfProfile } from "./client.ts";
import { failureOf, isOfCredentials } from "./failure.ts";
import { Unusable } from "./handler.ts";
import {
  describeSource,
  parseSettings,
  parseSource,
  parseWhole,
  regionOf,
  type Settings,
  type Source,
} from "./source.ts";

type Requests = readonly SecretRequest<Source>[];

/** One value of the service, and the requests for it or for a part of it. */
interface Place {
  readonly source: Source;
  readonly region: string;
  readonly requests: SecretRequest<Source>[];
}

/** Single requests under way at a time, at most. */
const CONCURRENCY = 8;

const aws: BackendModule<Settings, Source> = {
  name: "aws",
  // Each request is billed.
  defaultPollingInterval: 300,
  parseSettings,
  parseSource,
  parseWhole,
  describe: (source) => describeSource(source),
  reads: () =>
    ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"].flatMap((name) => {
      const path = process.env[name];
      return path?.startsWith("/") === true ? [path] : [];
    }),
  open: (settings, context) => Promise.resolve(new SecretsManager(settings, context)),
};
export default aws;

class SecretsManager implements Backend<Source> {
  readonly #settings: Settings;
  readonly #context: BackendContext;
  readonly #clients = new Map<string, Client>();
  /** Regions whose credentials were refused or missing: the next fetch looks on the machine again. */
  readonly #stale = new Set<string>();
  /** BatchGetSecretValue has its own IAM permission, and not every stand-in of the service knows it. */
  #mayBatch = true;
  readonly #traffic = new Traffic();
  #profileRegion: string | undefined;

  constructor(settings: Settings, context: BackendContext) {
    this.#settings = settings;
    this.#context = context;
  }

  async fetch(requests: Requests, signal: AbortSignal): Promise<ReadonlyMap<string, Outcome>> {
    this.#reopen();
    this.#traffic.begin();
    const isSomewhere = requests.every(({ source }) => regionOf(source.secretId, this.#settings) !== undefined);
    const { places, outcomes } = this.#places(requests, isSomewhere ? "" : await this.#regionOfProfile());
    const single: Place[] = [];
    for (const ofRegion of groupBy(places, ({ region }) => region)) {
      const current = ofRegion.filter(
        ({ source }) => source.versionStage === undefined && source.versionId === undefined,
      );
      single.push(...ofRegion.filter((place) => !current.includes(place)));
      for (let at = 0; at < current.length; at += BATCH_SIZE)
        single.push(...(await this.#batch(current.slice(at, at + BATCH_SIZE), outcomes, signal)));
    }
    await forEachConcurrently(single, CONCURRENCY, (place) => this.#get(place, outcomes, signal));
    return outcomes;
  }

  close(): Promise<void> {
    for (const client of this.#clients.values()) client.close();
    return Promise.resolve();
  }

  #reopen(): void {
    for (const region of this.#stale) {
      this.#clients.get(region)?.close();
      this.#clients.delete(region);
    }
    this.#stale.clear();
  }

  async #regionOfProfile(): Promise<string | BackendError> {
    try {
      const region = (this.#profileRegion ??= await regionOfProfile(this.#settings));
      if (region !== undefined) return region;
    } catch (error) {
      if (isBackendError(error)) return error;
      throw error;
    }
    const { profile } = this.#settings;
    const why = profile === undefined ? "" : `, and none of the profile ${JSON.stringify(profile)}`;
    return new BackendError("invalid", `there is no region${why}: set config.region`);
  }

  #places(requests: Requests, otherwise: string | BackendError): { places: Place[]; outcomes: Outcomes } {
    const outcomes = new Outcomes();
    const places = new Map<string, Place>();
    for (const request of requests) {
      const { source } = request;
      const region = regionOf(source.secretId, this.#settings) ?? otherwise;
      if (typeof region !== "string") {
        outcomes.set(request.id, region);
        continue;
      }
      const key = JSON.stringify([region, source.secretId, source.versionStage, source.versionId]);
      const place = places.get(key) ?? { source, region, requests: [] };
      place.requests.push(request);
      places.set(key, place);
    }
    return { places: [...places.values()], outcomes };
  }

  /** @returns the places that must be asked for one by one. */
  async #batch(places: readonly Place[], outcomes: Outcomes, signal: AbortSignal): Promise<readonly Place[]> {
    const [first] = places;
    if (!this.#mayBatch || places.length < 2 || first === undefined) return places;
    let batch;
    try {
      batch = await this.#client(first.region).batch(
        places.map(({ source }) => source.secretId),
        signal,
      );
    } catch (error) {
      const unknown = isOfCredentials(error);
      if (unknown) this.#stale.add(first.region);
      const place = `BatchGetSecretValue in ${first.region}`;
      const failure = await explained(failureOf(error, place, this.#service(first.region)));
      if (unknown || (isBackendError(failure) && failure.kind === "unavailable")) {
        for (const place of places) fail(place, failure, outcomes);
        return [];
      }
      // Single requests show which secret is at fault.
      if (error instanceof Unusable) return places;
      this.#mayBatch = false;
      this.#context.log("debug", "AWS refuses BatchGetSecretValue: one request for each secret from now on");
      return places;
    }
    const rest: Place[] = [];
    for (const place of places) {
      const { secretId } = place.source;
      const value = batch.find(({ ARN, Name }) => isSame(secretId, ARN, Name));
      // A separate request explains the failure of one secret better than the batch.
      if (value === undefined) rest.push(place);
      else outcomes.addAll(value, place.requests);
    }
    return rest;
  }

  async #get(place: Place, outcomes: Outcomes, signal: AbortSignal): Promise<void> {
    try {
      const answer = await this.#client(place.region).get(place.source, signal);
      outcomes.addAll(answer, place.requests);
    } catch (error) {
      if (isOfCredentials(error)) this.#stale.add(place.region);
      const { versionStage, versionId, secretId } = place.source;
      const what = describeSource({ secretId, versionStage, versionId, jsonKey: undefined });
      const failure = failureOf(error, `${what} in ${place.region}`, this.#service(place.region));
      fail(place, await explained(failure), outcomes);
    }
  }

  /** For people. */
  #service(region: string): string {
    return this.#settings.endpoint?.replace(/\/$/, "") ?? `Secrets Manager in ${region}`;
  }

  #client(region: string): Client {
    const client = this.#clients.get(region) ?? openClient(this.#settings, region, this.#traffic);
    this.#clients.set(region, client);
    return client;
  }
}

/** The outcomes of one fetch, as far as there is room for them. */
class Outcomes extends Map<string, Outcome> {
  readonly #room = new Room();

  addAll(answer: Answer, requests: Requests): void {
    for (const [{ id, source }, outcome] of outcomesIn(answer, requests))
      this.set(id, this.#room.admit(outcome, describeSource(source)));
  }
}

/** The answer has the whole ARN, even where we ask by name or by an ARN without its six random characters. */
function isSame(secretId: string, arn: string | undefined, name: string | undefined): boolean {
  if (secretId === name || secretId === arn) return true;
  return secretId.startsWith("arn:") && arn?.slice(0, -7) === secretId;
}

function fail(place: Place, outcome: Outcome, outcomes: Outcomes): void {
  for (const { id } of place.requests) outcomes.set(id, outcome);
}

/** Our own unit may keep us from the service. */
async function explained<Failure>(failure: Failure): Promise<Failure | BackendError> {
  if (!isBackendError(failure) || failure.kind !== "unavailable") return failure;
  const hint = await networkHint();
  return hint === "" ? failure : new BackendError(failure.kind, `${failure.message}${hint}`, failure.retryAfter);
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): T[][] {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return [...groups.values()];
}
