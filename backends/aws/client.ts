/** The SDK, with limits that it lacks. Loaded only when the backend is used. */
import {
  BatchGetSecretValueCommand,
  GetSecretValueCommand,
  SecretsManagerClient,
  type SecretsManagerClientConfig,
} from "@aws-sdk/client-secrets-manager";
import { loadSharedConfigFiles } from "@smithy/core/config";
import { BackendError } from "../../src/contract/backend.ts";
import { late, reasonOf, waitFor } from "../../src/contract/bounded-wait.ts";
import type { Answer } from "./answer.ts";
import type { Traffic } from "../../src/contract/limits.ts";
import { endCredentialProcesses, quietSdk } from "../credential-process.ts";
import { credentialsOf } from "./credentials.ts";
import { limitAnswers, MAX_BATCH } from "./handler.ts";
import { type Settings, type Source, variable } from "./source.ts";

/** The service's own limit (BatchGetSecretValue, SecretIdList). */
export const BATCH_SIZE = 20;

/**
 * Pages of one batch. Another page may follow an empty one (API reference of BatchGetSecretValue). This limit stops us
 * from asking a service that never ends.
 */
export const MAX_PAGES = 2 * BATCH_SIZE;

/** Seconds. */
const CONNECTION_TIMEOUT = 5;
/** One try and one retry; the engine retries around both. */
const ATTEMPTS = 2;

/** A value in a batch, with the ARN and the name of its secret. */
export interface Entry extends Answer {
  readonly ARN?: string | undefined;
  readonly Name?: string | undefined;
}

export interface Client {
  /** Rejects with the SDK's own errors, and with what `credentialsOf` throws. */
  get(source: Source, signal: AbortSignal): Promise<Answer>;
  /**
   * Current versions only. At most `BATCH_SIZE` ids.
   *
   * @returns the values that the service has; fewer if it takes too long.
   */
  batch(secretIds: readonly string[], signal: AbortSignal): Promise<readonly Entry[]>;
  close(): void;
}

export function openClient(settings: Settings, region: string, traffic: Traffic): Client {
  quietSdk();
  const client = new SecretsManagerClient(configuration(settings, region));
  limitAnswers(client.config.requestHandler, traffic);
  return {
    async get({ secretId, versionStage, versionId }, signal) {
      const command = new GetSecretValueCommand({
        SecretId: secretId,
        VersionStage: versionStage,
        VersionId: versionId,
      });
      return await inTime(settings.timeout, signal, (abortSignal) => client.send(command, { abortSignal }));
    },
    async batch(secretIds, signal) {
      const values: Entry[] = [];
      const tokens = new Set<string>();
      let token: string | undefined;
      let size = 0;
      do {
        const command = new BatchGetSecretValueCommand({ SecretIdList: [...secretIds], NextToken: token });
        const page = await inTime(settings.timeout, signal, (abortSignal) => client.send(command, { abortSignal }));
        for (const value of (page.SecretValues ?? []).slice(0, secretIds.length)) {
          values.push(value);
          size += value.SecretString?.length ?? value.SecretBinary?.length ?? 0;
        }
        token = page.NextToken;
        if (token === undefined || token === "" || tokens.has(token)) break;
        tokens.add(token);
      } while (values.length < secretIds.length && tokens.size < MAX_PAGES && size < MAX_BATCH);
      return values;
    },
    close() {
      client.destroy();
    },
  };
}

/**
 * The region of the profile in the shared files, for when neither the configuration nor the environment names one.
 *
 * @throws BackendError where the profile is not there: at boot its files may be late.
 */
export async function regionOfProfile({ profile }: Settings): Promise<string | undefined> {
  const named = profile ?? variable("AWS_PROFILE");
  // Without `ignoreCache` the SDK reads a file once per process, and remembers a missing one, too (SDK 3.1169).
  const { credentialsFile, configFile } = await loadSharedConfigFiles({ ignoreCache: true });
  const [first, second] = [credentialsFile, configFile].map((file) => file[named ?? "default"]);
  if (named !== undefined && first === undefined && second === undefined)
    throw new BackendError("unavailable", `there is no region, and no profile ${JSON.stringify(named)} (yet)`);
  return first?.["region"] ?? second?.["region"];
}

/**
 * The SDK's own limit ends with the headers of an answer: a body that stalls would hold up the whole fetch.
 * AbortSignal.any() with AbortSignal.timeout() does not help: Node 20 may collect it, and then it never aborts.
 */
async function inTime<T>(seconds: number, signal: AbortSignal, send: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  if (signal.aborted) abort.abort(signal.reason);
  const answer = await waitFor(send(abort.signal), signal, seconds);
  if (typeof answer !== "symbol") return answer;
  const why = answer === late ? new DOMException("no answer in time", "TimeoutError") : reasonOf(signal);
  abort.abort(why);
  // The request may still wait for its credentials.
  endCredentialProcesses();
  throw why;
}

function configuration(settings: Settings, region: string): SecretsManagerClientConfig {
  const { endpoint, profile, timeout } = settings;
  return {
    region,
    credentials: credentialsOf(settings, region),
    maxAttempts: ATTEMPTS,
    requestHandler: {
      connectionTimeout: CONNECTION_TIMEOUT * 1000,
      requestTimeout: timeout * 1000,
      throwOnRequestTimeout: true,
    },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(profile === undefined ? {} : { profile }),
  };
}
