/**
 * Proves an AWS identity to Vault: a signed request to GetCallerIdentity of AWS's STS, which Vault itself sends.
 * HashiCorp's server only; OpenBao has no such login. https://developer.hashicorp.com/vault/api-docs/auth/aws#login
 */
import { createHash, createHmac, type Hash } from "node:crypto";
import { fromNodeProviderChain } from "@aws-sdk/credential-providers";
import { SignatureV4 } from "@smithy/signature-v4";
import { BackendError } from "../../src/contract/backend.ts";
import { unlessAborted } from "../../src/contract/bounded-wait.ts";
import { endCredentialProcesses, quietSdk } from "../credential-process.ts";
import type { Auth } from "./settings.ts";

const BODY = "Action=GetCallerIdentity&Version=2011-06-15";

/** What `auth/aws/login` wants. @throws BackendError where there are no credentials (yet: at boot they come late) */
export async function awsProof(
  { role, region, serverId, profile }: Extract<Auth, { method: "aws" }>,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  // The role of a profile has a client of its own.
  quietSdk();
  const host = region === undefined ? "sts.amazonaws.com" : `sts.${region}.amazonaws.com`;
  const signer = new SignatureV4({
    // Without `ignoreCache` the SDK reads a file once per process, and remembers a missing one, too (SDK 3.1169).
    credentials: fromNodeProviderChain({ ...(profile === undefined ? {} : { profile }), ignoreCache: true }),
    region: region ?? "us-east-1",
    service: "sts",
    sha256: Sha256,
  });
  const request = {
    method: "POST",
    protocol: "https:",
    hostname: host,
    path: "/",
    query: {},
    headers: {
      host,
      "content-type": "application/x-www-form-urlencoded; charset=utf-8",
      "content-length": String(BODY.length),
      ...(serverId === undefined ? {} : { "x-vault-aws-iam-server-id": serverId }),
    },
    body: BODY,
  };
  let headers: Readonly<Record<string, string>>;
  try {
    ({ headers } = await unlessAborted(signal, signer.sign(request)));
  } catch {
    endCredentialProcesses();
    // The SDK's own message may say anything.
    throw new BackendError(
      "unavailable",
      "no AWS credentials to log in with (yet): see the AWS profile, or the instance's role",
    );
  }
  return {
    ...(role === undefined ? {} : { role }),
    iam_http_request_method: request.method,
    iam_request_url: base64(`https://${host}/`),
    iam_request_body: base64(BODY),
    iam_request_headers: base64(JSON.stringify(headers)),
  };
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

/** The hash that the signer expects, made of Node's own. */
class Sha256 {
  readonly #hash: Hash | ReturnType<typeof createHmac>;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash("sha256") : createHmac("sha256", bytes(secret));
  }

  update(data: Uint8Array): void {
    this.#hash.update(data);
  }

  digest(): Promise<Uint8Array> {
    return Promise.resolve(this.#hash.digest());
  }
}

function bytes(secret: string | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (typeof secret === "string") return Buffer.from(secret);
  if (secret instanceof ArrayBuffer) return new Uint8Array(secret);
  return new Uint8Array(secret.buffer, secret.byteOffset, secret.byteLength);
}
