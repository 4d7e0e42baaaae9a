import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CONSISTENT_AFTER } from "../../../backends/aws/failure.ts";
import { loadBackend } from "../../../backends/index.ts";
import type { ConfigError } from "../../../src/contract/errors.ts";
import { idsOf, openAws, region, secretOf } from "../../aws/opened.ts";
import { type Call, refusal, type Reply } from "../../aws/stand-in.ts";
import { asValue, Observed } from "../../contract/observed.ts";

const canary = "canary-1c7d93ab";

beforeEach(() => {
  vi.stubEnv("AWS_ACCESS_KEY_ID", "key");
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", `${canary}-credentials`);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

const found = ({ body }: Call): Reply => ({ body: secretOf(String(body["SecretId"])) });

describe("a batch", () => {
  test("45 secrets take three requests without a stage, so a pending rotation never gets out", async () => {
    const ids = Array.from({ length: 45 }, (_, index) => `s${index}`);
    const { observed, standIn } = await openAws((call) => ({
      body: { SecretValues: idsOf(call).map((id) => secretOf(id)), Errors: [] },
    }));
    const outcomes = await observed.fetch(...ids);
    for (const id of ids) expect(asValue(outcomes.get(id)).value.toString()).toBe(`value of ${id}`);
    expect(standIn.calls.map((call) => idsOf(call).length)).toEqual([20, 20, 5]);
    expect(JSON.stringify(standIn.calls)).not.toMatch(/Stage/);
  });

  test("a failure for one secret requests that one alone, and returns the others", async () => {
    const { observed } = await openAws((call) => {
      if (call.operation === "GetSecretValue") return refusal("AccessDeniedException", `no, ${canary}`);
      const Errors = [{ SecretId: "b", ErrorCode: "AccessDeniedException", Message: canary }];
      return { body: { SecretValues: ["a", "c"].map((id) => secretOf(id)), Errors } };
    });
    const outcomes = await observed.fetch("a", "b", "c");
    expect(asValue(outcomes.get("a")).value.toString()).toBe("value of a");
    expect(asValue(outcomes.get("c")).value.toString()).toBe("value of c");
    expect(outcomes.get("b")).toMatchObject({
      kind: "denied",
      message: expect.stringContaining(`b in ${region}`) as string,
    });
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test("a role without the permission for batches is not asked for one again", async () => {
    const { observed, standIn } = await openAws((call) =>
      call.operation === "GetSecretValue" ? found(call) : refusal("AccessDeniedException", "no"),
    );
    for (let round = 0; round < 2; round += 1) {
      const outcomes = await observed.fetch("a", "b");
      expect(asValue(outcomes.get("b")).value.toString()).toBe("value of b");
    }
    expect(standIn.count("BatchGetSecretValue")).toBe(1);
  });
});

test("reads two keys of one secret with one request", async () => {
  const document = { ...secretOf("db"), SecretString: '{"user":"u","password":"p"}' };
  const { observed, standIn } = await openAws(() => ({ body: document }), { secretId: "db" });
  const outcomes = await observed.fetch("user", "password");
  expect([asValue(outcomes.get("user")).value.toString(), asValue(outcomes.get("password")).value.toString()]).toEqual([
    "u",
    "p",
  ]);
  expect(standIn.calls).toHaveLength(1);
});

test.each([
  "12345678901234567890",
  "-9007199254740993",
  "1e400",
  "0.10",
  "1.10",
  "1e5",
  "-0.25",
  '{"pin":[9007199254740993,1.0]}',
  '{"pin":[null,true,1.5]}',
])("publishes a value %s in a JSON secret unchanged", async (json) => {
  const document = { ...secretOf("db"), SecretString: `{"id":${json},"other":12345678901234567890}` };
  const { observed } = await openAws(() => ({ body: document }), { secretId: "db" });
  expect((await observed.value("id")).value.toString()).toBe(json);
});

test("takes null in a JSON secret for no value, as with Vault", async () => {
  const document = { ...secretOf("db"), SecretString: '{"id":null}' };
  const { observed } = await openAws(() => ({ body: document }), { secretId: "db" });
  expect(await observed.outcome("id")).toEqual({ status: "missing", where: 'no value: key "id" in db is null' });
});

describe("a refusal by the service", () => {
  test.each([
    ["ThrottlingException", "unavailable"],
    ["RequestTimeoutException", "unavailable"],
    ["InternalServiceError", "unavailable"],
    ["ExpiredTokenException", "unavailable"],
    ["RequestTimeTooSkewed", "unavailable"],
    ["InternalFailure", "unavailable"],
    ["ServiceUnavailableException", "unavailable"],
    ["KMSInternalException", "unavailable"],
    ["DependencyTimeoutException", "unavailable"],
    ["IncompleteSignature", "denied"],
    ["AccessDeniedException", "denied"],
    ["UnrecognizedClientException", "denied"],
    ["DecryptionFailure", "denied"],
    ["ValidationException", "invalid"],
    ["SomethingNewException", "denied"],
  ])("%s is %s, in one line without the service's text", async (code, kind) => {
    const { observed, standIn } = await openAws(() => refusal(code, `${canary}\nsecond line`));
    const outcome = await observed.outcome("a");
    expect(outcome).toMatchObject({ kind });
    const isOfSecret = /AccessDenied|Decryption|Validation|New|Failure$|Unavailable|KMS|Dependency/.test(code);
    expect((outcome as Error).message.startsWith(`${isOfSecret ? "a in eu-central-1" : standIn.url}: `)).toBe(true);
    expect((outcome as Error).message).not.toContain("\n");
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test("a secret marked for deletion counts as missing", async () => {
    const { observed } = await openAws(() => refusal("InvalidRequestException", "it was marked for deletion"));
    const where = `no secret a in ${region}`;
    expect(await observed.outcome("a")).toEqual({ status: "missing", where, mayHealFor: CONSISTENT_AFTER });
  });

  test.each(["AccessDeniedException", "UnrecognizedClientException", "DecryptionFailure", "SomethingNewException"])(
    "%s may be temporary: a new permission takes time to reach all of AWS",
    async (code) => {
      const { observed } = await openAws(() => refusal(code, "no"));
      expect(await observed.outcome("a")).toMatchObject({ kind: "denied", mayHealFor: CONSISTENT_AFTER });
    },
  );

  test.each(["Signature expired: 20260101T000000Z is now earlier than ...", "Signature not yet current: ..."])(
    "%s: waits for a clock that is not right yet",
    async (message) => {
      const { observed, standIn } = await openAws(() => refusal("InvalidSignatureException", message));
      expect(await observed.outcome("a")).toMatchObject({
        kind: "unavailable",
        message: `${standIn.url}: the clock is not right (yet)`,
      });
    },
  );

  test.each([403, 404, 407])("does not take a proxy's %i for AWS's word", async (status) => {
    const { observed } = await openAws(() => ({ status, body: `<html>${canary}</html>` }));
    expect(await observed.outcome("a")).toMatchObject({ kind: "unavailable" });
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test("passes Retry-After to the engine", async () => {
    const { observed } = await openAws(() => refusal("ThrottlingException", "slower", { "retry-after": "1" }));
    expect(await observed.outcome("a")).toMatchObject({ kind: "unavailable", retryAfter: 1 });
  });

  test("takes garbage with status 200 for no value and no rotation", async () => {
    const { observed } = await openAws(() => ({ body: `<html>${canary}</html>` }));
    expect(await observed.outcome("a")).toMatchObject({ kind: "unavailable" });
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test("takes an answer without a value for an error, not an empty secret", async () => {
    const { observed } = await openAws(() => ({ body: { Name: "a", VersionId: "1" } }));
    expect(await observed.outcome("a")).toMatchObject({ kind: "invalid" });
  });
});

test("reports a service that never answers as unavailable after the configured time", async () => {
  const { observed } = await openAws(() => undefined, { timeout: 0.2 });
  expect(await observed.outcome("a")).toMatchObject({
    kind: "unavailable",
    message: expect.stringContaining("no answer in time") as string,
  });
});

test("ends a stalled answer after the configured time, without loss for the others", async () => {
  const { observed, standIn } = await openAws(
    (call) => {
      if (call.operation !== "GetSecretValue") return refusal("AccessDeniedException", "no batches here");
      const answer = found(call);
      return call.body["SecretId"] === "b" ? { ...answer, stalls: true } : answer;
    },
    { timeout: 2 },
  );
  const outcomes = await observed.fetch("a", "b");
  expect(asValue(outcomes.get("a")).value.toString()).toBe("value of a");
  expect(outcomes.get("b")).toMatchObject({ kind: "unavailable", message: `${standIn.url}: no answer in time` });
  await vi.waitUntil(() => standIn.stalled.size === 0, { timeout: 20_000 });
});

test("waits for credentials that are late at boot", async () => {
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "HOME"]) vi.stubEnv(name, undefined);
  vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true");
  vi.stubEnv("AWS_CONFIG_FILE", "/nonexistent");
  vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
  const { observed, standIn } = await openAws(found);
  expect(await observed.outcome("a")).toMatchObject({
    kind: "unavailable",
    message: `${standIn.url}: there are no credentials (yet)`,
  });
});

test("a mistyped key: names the nearest, and no value", async () => {
  const body = { ...secretOf("db"), SecretString: JSON.stringify({ password: canary, passwort: canary }) };
  const { observed } = await openAws(() => ({ body }), { secretId: "db" });
  expect(await observed.outcome("pasword")).toEqual({
    status: "missing",
    where: 'no key "pasword" in db; did you mean "password"?',
  });
  const outcomes = await observed.fetch("password", "pasword", "nothing like it");
  expect(outcomes.get("pasword")).toMatchObject({ where: 'no key "pasword" in db; did you mean "passwort"?' });
  expect(outcomes.get("nothing like it")).toMatchObject({ where: 'no key "nothing like it" in db' });
  expect(observed.said.join("\n")).not.toContain(canary);
});

test("finds no keys in a value that is not a JSON object, and does not quote it", async () => {
  const { observed } = await openAws(() => ({ body: { ...secretOf("a"), SecretString: canary } }), { secretId: "a" });
  expect(await observed.outcome("key")).toMatchObject({ kind: "invalid" });
  expect(observed.said.join("\n")).not.toContain(canary);
});

describe("the configuration", () => {
  const arn = `arn:aws:secretsmanager:${region}:123456789012:secret:db-AbCdEf`;
  test.each([
    ["three fields behind the ARN are wanted", { valueFrom: `${arn}:key` }, "valueFrom"],
    ["another service", { valueFrom: "arn:aws:ssm:eu-central-1:123456789012:parameter/db" }, "valueFrom"],
    ["valueFrom beside another field", { valueFrom: arn, jsonKey: "k" }, "jsonKey"],
    ["an unknown key", { name: "db" }, "name"],
  ])("%s: the error names the option", async (_, source, path) => {
    const module = await loadBackend("aws", "/");
    const settings = module.parseSettings({ region });
    let error: unknown;
    try {
      module.parseSource("id", source, settings);
    } catch (thrown) {
      error = thrown;
    }
    expect((error as ConfigError).path).toBe(path);
  });

  test("the error names a wrong role, endpoint or time, or an external id without a role", async () => {
    const module = await loadBackend("aws", "/");
    for (const [path, wrong] of [
      ["roleArn", { roleArn: "reader" }],
      ["endpoint", { endpoint: "http://user:pass@host" }],
      ["endpoint", { endpoint: "http://host:0" }],
      ["endpoint", { endpoint: "http://host:65536" }],
      ["endpoint", { endpoint: "http://[fe80::1%eth0]:80" }],
      ["externalId", { externalId: "x" }],
      ["timeout", { timeout: 101 }],
    ] as const)
      expect(() => module.parseSettings(wrong), path).toThrow(expect.objectContaining({ path }));
  });

  test("without a region the line says where to set it", async () => {
    for (const name of ["AWS_REGION", "AWS_DEFAULT_REGION"]) vi.stubEnv(name, undefined);
    const observed = await Observed.open(await loadBackend("aws", "/"), {});
    expect(await observed.outcome("a")).toMatchObject({
      kind: "invalid",
      message: "there is no region: set config.region",
    });
  });
});
