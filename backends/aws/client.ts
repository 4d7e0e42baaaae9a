/** The SDK, with the limits that it does not have by itself. Loaded only when the backend is used. */
import {
  BatchGetSecretValueCommand,
  type BatchGetSecretValueCommandOutput,
  GetSecretValueCommand,
  SecretsManagerClient,
  type SecretsManagerClientConfig,
} from "@aws-sdk/client-secrets-manager";
import { unlessAborted } from "../files/read.ts";
import type { Answer } from "./answer.ts";
import { credentialsOf } from "./credentials.ts";
import type { Settings, Source } from "./source.ts";

/** The service's own limit (BatchGetSecretValue, SecretIdList). */
export const BATCH_SIZE = 20;

/** Seconds. */
const CONNECTION_TIMEOUT = 5;
/** A first try and one more; the engine's retry is around both. */
const ATTEMPTS = 2;

export type Batch = Pick<BatchGetSecretValueCommandOutput, "SecretValues" | "Errors">;

export interface Client {
  /** Rejects with the SDK's own errors, and with what `credentialsOf` throws. */
  get(source: Source, signal: AbortSignal): Promise<Answer>;
  /** Current versions only. At most `BATCH_SIZE` ids. */
  batch(secretIds: readonly string[], signal: AbortSignal): Promise<Batch>;
  close(): void;
}

export function openClient(settings: Settings, region: string): Client {
  // Advice about Node for whoever updates the SDK; here it would go to the journal of every start.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
  const client = new SecretsManagerClient(configuration(settings, region));
  return {
    async get({ secretId, versionStage, versionId }, signal) {
      const command = new GetSecretValueCommand({
        SecretId: secretId,
        VersionStage: versionStage,
        VersionId: versionId,
      });
      return await within(settings.timeout, signal, (abortSignal) => client.send(command, { abortSignal }));
    },
    async batch(secretIds, signal) {
      const values: Required<Batch>["SecretValues"] = [];
      const errors: Required<Batch>["Errors"] = [];
      let token: string | undefined;
      do {
        const command = new BatchGetSecretValueCommand({ SecretIdList: [...secretIds], NextToken: token });
        const page = await within(settings.timeout, signal, (abortSignal) => client.send(command, { abortSignal }));
        values.push(...(page.SecretValues ?? []));
        errors.push(...(page.Errors ?? []));
        token = page.NextToken;
      } while (token !== undefined && token !== "" && values.length < secretIds.length);
      return { SecretValues: values, Errors: errors };
    },
    close() {
      client.destroy();
    },
  };
}

/**
 * The SDK's own limit is over when the headers of an answer are there: a body that stalls would hold up the whole fetch.
 * AbortSignal.any() with AbortSignal.timeout() does not do it: in Node 20 it may be collected, and then never aborts.
 */
async function within<T>(seconds: number, signal: AbortSignal, send: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const stop = () => {
    abort.abort(signal.reason);
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const timer = setTimeout(() => {
    abort.abort(new DOMException("no answer in time", "TimeoutError"));
  }, seconds * 1000);
  try {
    return await unlessAborted(abort.signal, send(abort.signal));
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
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
