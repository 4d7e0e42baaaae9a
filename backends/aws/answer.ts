/** Takes the values of secrets out of one answer of Secrets Manager. */
import { BackendError, type Outcome, type SecretRequest } from "../../src/contract/backend.ts";
import { bytesOf, parseJson } from "../../src/contract/json.ts";
import { keyHints } from "../../src/contract/nearest.ts";
import { describeSource, type Source } from "./source.ts";

/** What GetSecretValue and an entry of BatchGetSecretValue have in common. */
export interface Answer {
  readonly SecretString?: string | undefined;
  readonly SecretBinary?: Uint8Array | undefined;
  readonly VersionId?: string | undefined;
}

/** Yields the outcome of one request at a time: each value may be as large as the answer. */
export function* outcomesIn(
  answer: Answer,
  requests: readonly SecretRequest<Source>[],
): Generator<readonly [SecretRequest<Source>, Outcome]> {
  const near = keyHints(requests.flatMap(({ source: { jsonKey } }) => jsonKey ?? []));
  let document: { readonly fields: Readonly<Record<string, unknown>> | BackendError | undefined } | undefined;
  for (const request of requests) {
    const { source } = request;
    if (source.jsonKey === undefined) yield [request, wholeValue(answer, source)];
    else {
      document ??= { fields: parseObject(answer, source.secretId) };
      yield [request, field(document.fields, source.jsonKey, answer, source, near)];
    }
  }
}

function wholeValue(answer: Answer, source: Source): Outcome {
  const { SecretString: text, SecretBinary: bytes } = answer;
  if (text !== undefined) return fetched(bytesOf(text), answer, describeSource(source));
  if (bytes !== undefined) return fetched(Buffer.from(bytes), answer, describeSource(source));
  return new BackendError("invalid", `${describeSource(source)}: the answer holds no value`);
}

function field(
  fields: Readonly<Record<string, unknown>> | BackendError | undefined,
  key: string,
  answer: Answer,
  source: Source,
  near: (key: string, there: readonly string[]) => string,
): Outcome {
  const { secretId } = source;
  if (fields instanceof BackendError) return fields;
  if (fields === undefined)
    return new BackendError("invalid", `${secretId}: its value is not a JSON object, so it has no keys`);
  const value = Object.hasOwn(fields, key) ? fields[key] : undefined;
  const name = JSON.stringify(key);
  if (value === undefined)
    return { status: "missing", where: `no key ${name} in ${secretId}${near(key, Object.keys(fields))}` };
  if (value === null) return { status: "missing", where: `no value: key ${name} in ${secretId} is null` };
  return fetched(bytesOf(value), answer, describeSource(source));
}

function fetched(value: Buffer | undefined, { VersionId: version }: Answer, place: string): Outcome {
  if (value === undefined)
    return new BackendError(
      "invalid",
      `${place}: is not valid Unicode text (half of a surrogate pair): store it as base64`,
    );
  const known = version !== undefined && /^[\x21-\x7e]{1,64}$/.test(version);
  return { status: "value", value, version: known ? version : "unknown" };
}

/** @returns undefined where the value is not a JSON object, an error where it is over the limits. */
function parseObject({ SecretString: text = "" }: Answer, place: string) {
  try {
    const parsed = parseJson(text, place);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return undefined;
    return parsed as Readonly<Record<string, unknown>>;
  } catch (error) {
    return error instanceof BackendError ? error : undefined;
  }
}
