/** From one answer of Secrets Manager to the values of the secrets that live in it. */
import { BackendError, type Outcome, type SecretRequest } from "../../src/contract/backend.ts";
import { describeSource, type Source } from "./source.ts";

/** What GetSecretValue and an entry of BatchGetSecretValue have in common. */
export interface Answer {
  readonly SecretString?: string | undefined;
  readonly SecretBinary?: Uint8Array | undefined;
  readonly VersionId?: string | undefined;
}

/** Splits an answer among all who asked for it. */
export function outcomesIn(answer: Answer, requests: readonly SecretRequest<Source>[]): Map<string, Outcome> {
  let document: { readonly fields: Readonly<Record<string, unknown>> | undefined } | undefined;
  return new Map(
    requests.map(({ id, source }) => {
      if (source.jsonKey === undefined) return [id, wholeValue(answer, source)];
      document ??= { fields: parseObject(answer) };
      return [id, field(document.fields, source.jsonKey, answer, source)];
    }),
  );
}

function wholeValue(answer: Answer, source: Source): Outcome {
  const { SecretString: text, SecretBinary: bytes } = answer;
  if (text !== undefined) return fetched(Buffer.from(text), answer);
  if (bytes !== undefined) return fetched(Buffer.from(bytes), answer);
  return new BackendError("invalid", `${describeSource(source)}: the answer holds no value`);
}

function field(
  fields: Readonly<Record<string, unknown>> | undefined,
  key: string,
  answer: Answer,
  source: Source,
): Outcome {
  const { secretId } = source;
  if (fields === undefined)
    return new BackendError("invalid", `${secretId}: its value is no JSON object, it has no keys`);
  const value = Object.hasOwn(fields, key) ? fields[key] : undefined;
  if (value === undefined || value === null)
    return { status: "missing", where: `no key ${JSON.stringify(key)} in ${secretId}` };
  if (!isExact(value))
    return new BackendError(
      "invalid",
      `${secretId}: key ${JSON.stringify(key)}: a number too large to be carried exactly: store it as a string`,
    );
  return fetched(Buffer.from(typeof value === "string" ? value : JSON.stringify(value)), answer);
}

/** JSON.parse() has rounded an integer beyond 2^53, and nobody would see that it is another one. */
function isExact(value: unknown): boolean {
  if (typeof value === "number")
    return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value));
  return typeof value !== "object" || value === null || Object.values(value).every(isExact);
}

function fetched(value: Buffer, { VersionId: version }: Answer): Outcome {
  const known = version !== undefined && /^[\x21-\x7e]{1,64}$/.test(version);
  return { status: "value", value, version: known ? version : "unknown" };
}

/** @returns undefined where the value is none; the parser's error would quote it. */
function parseObject({ SecretString: text }: Answer): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(text ?? "");
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return undefined;
    return parsed as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
}
