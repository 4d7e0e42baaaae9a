/** Our identity for AWS: late, ended, refused and assumed, and what the operator reads about it. */
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openAws } from "../../aws/opened.ts";
import { assumed, type Call, notAssumed, refusal, type Reply } from "../../aws/stand-in.ts";
import { asValue, type Observed } from "../../contract/observed.ts";
import { temporary } from "../../contract/temporary.ts";

const canary = "canary-70b2ee15";
const roleArn = "arn:aws:iam::123456789012:role/reader";

let credentials: string;
let dispose: () => Promise<void>;
beforeEach(async () => {
  const directory = await temporary();
  dispose = directory.dispose;
  credentials = join(directory.path, "credentials");
  // Nothing of the machine's own.
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"])
    vi.stubEnv(name, undefined);
  vi.stubEnv("HOME", directory.path);
  vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true");
  vi.stubEnv("AWS_CONFIG_FILE", join(directory.path, "config"));
  vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", credentials);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await dispose();
});

async function writeCredentials(accessKey: string, profile = "default"): Promise<void> {
  const text = `[${profile}]\naws_access_key_id = ${accessKey}\naws_secret_access_key = ${canary}-key\n`;
  await writeFile(`${credentials}.new`, text);
  await rename(`${credentials}.new`, credentials);
}

const value: Reply = { body: { Name: "a", SecretString: "the value", VersionId: "v1" } };
const text = async (observed: Observed) => asValue(await observed.outcome("a")).value.toString();

describe("the machine's credentials", () => {
  test("may be late at boot: the backend waits, and finds them in their file when it appears", async () => {
    const { observed, standIn } = await openAws(() => value);
    for (let attempt = 0; attempt < 2; attempt += 1)
      expect(await observed.outcome("a")).toMatchObject({
        kind: "unavailable",
        message: `${standIn.url}: there are no credentials (yet)`,
      });
    await writeCredentials("late");
    expect(await text(observed)).toBe("the value");
    expect(standIn.calls.at(-1)?.accessKey).toBe("late");
  });

  test("use their profile's region where no other setting names one", async () => {
    for (const name of ["AWS_REGION", "AWS_DEFAULT_REGION"]) vi.stubEnv(name, undefined);
    await writeCredentials("app", "app");
    await writeFile(
      credentials.replace(/credentials$/, "config"),
      "[profile app]\nregion = eu-south-9\n[profile bare]\noutput = json\n",
    );
    const { observed, standIn } = await openAws(() => value, { profile: "app", region: undefined });
    expect(await text(observed)).toBe("the value");
    expect(standIn.calls.at(-1)?.region).toBe("eu-south-9");
    vi.stubEnv("AWS_REGION", "eu-north-9");
    expect(await text(observed)).toBe("the value");
    expect(standIn.calls.at(-1)?.region).toBe("eu-north-9");
    vi.stubEnv("AWS_REGION", undefined);
    const bare = await openAws(() => value, { profile: "bare", region: undefined });
    expect(await bare.observed.outcome("a")).toMatchObject({
      kind: "invalid",
      message: 'there is no region, and none of the profile "bare": set config.region',
    });
  });

  test("bring a region late, with the files of their profile; an empty variable is none", async () => {
    for (const name of ["AWS_REGION", "AWS_DEFAULT_REGION"]) vi.stubEnv(name, "");
    await writeCredentials("other", "other");
    const { observed, standIn } = await openAws(() => value, { profile: "app", region: undefined });
    expect(await observed.outcome("a")).toMatchObject({
      kind: "unavailable",
      message: 'there is no region, and no profile "app" (yet)',
    });
    await writeFile(credentials.replace(/credentials$/, "config"), "[profile app]\nregion = eu-south-9\n");
    expect(await observed.outcome("a")).toMatchObject({
      kind: "unavailable",
      message: `${standIn.url}: profile "app": there are no credentials (yet)`,
    });
    await writeCredentials("app", "app");
    expect(await text(observed)).toBe("the value");
    expect(standIn.calls.at(-1)?.region).toBe("eu-south-9");
  });

  test("a missing profile makes the backend wait, and the line names the profile", async () => {
    await writeCredentials("other", "other");
    const { observed, standIn } = await openAws(() => value, { profile: "app" });
    expect(await observed.outcome("a")).toMatchObject({
      kind: "unavailable",
      message: `${standIn.url}: profile "app": there are no credentials (yet)`,
    });
    await writeCredentials("app", "app");
    expect(await text(observed)).toBe("the value");
  });

  test.each([
    ["ExpiredTokenException", "unavailable", "the credentials have expired"],
    ["UnrecognizedClientException", "denied", "AWS does not know the access key"],
  ])("refused credentials (%s) are read again at the next fetch", async (code, kind, why) => {
    await writeCredentials("old");
    const { observed, standIn } = await openAws((call) => (call.accessKey === "old" ? refusal(code, canary) : value));
    expect(await observed.outcome("a")).toMatchObject({ kind, message: `${standIn.url}: ${why}` });
    await writeCredentials("new");
    expect(await text(observed)).toBe("the value");
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test("credentials that AWS refuses for a batch do not turn batches off", async () => {
    await writeCredentials("old");
    const values = ["a", "b"].map((Name) => ({ Name, SecretString: `value of ${Name}`, VersionId: "v1" }));
    const { observed, standIn } = await openAws((call) =>
      call.accessKey === "old"
        ? refusal("UnrecognizedClientException", "no")
        : { body: { SecretValues: values, Errors: [] } },
    );
    expect((await observed.fetch("a", "b")).get("b")).toMatchObject({ kind: "denied" });
    await writeCredentials("new");
    expect(asValue((await observed.fetch("a", "b")).get("b")).value.toString()).toBe("value of b");
    expect(standIn.count("GetSecretValue")).toBe(0);
  });
});

describe("a role", () => {
  const answer = (call: Call): Reply => (call.operation === "AssumeRole" ? assumed("temporary") : value);

  test("is assumed once, with the machine's own credentials, and its own are used", async () => {
    await writeCredentials("own");
    const { observed, standIn } = await openAws(answer, { roleArn, externalId: "for-us" });
    for (let round = 0; round < 2; round += 1) expect(await text(observed)).toBe("the value");
    const [login, ...gets] = standIn.calls;
    expect(login).toMatchObject({
      operation: "AssumeRole",
      accessKey: "own",
      body: { RoleArn: roleArn, RoleSessionName: "fetcher", ExternalId: "for-us" },
    });
    expect(gets.map(({ operation, accessKey }) => [operation, accessKey])).toEqual([
      ["GetSecretValue", "temporary"],
      ["GetSecretValue", "temporary"],
    ]);
  });

  test("a role that does not trust us is denied: the line names it, and the missing permission", async () => {
    await writeCredentials("own");
    const { observed, standIn } = await openAws(() => notAssumed("AccessDenied", `${canary} is not authorized`), {
      roleArn,
    });
    expect(await observed.outcome("a")).toMatchObject({
      kind: "denied",
      message: `${standIn.url}: cannot assume ${roleArn}: access denied: allow fetcher's identity sts:AssumeRole, and let the role trust it`,
    });
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test.each([
    ["Throttling", "throttled"],
    ["RequestThrottled", "throttled"],
    ["IDPCommunicationError", "the identity provider does not answer"],
  ])("is retried when STS says %s with status 400, as when a whole fleet boots", async (code, why) => {
    await writeCredentials("own");
    const { observed, standIn } = await openAws(() => notAssumed(code, canary, 400), { roleArn });
    expect(await observed.outcome("a")).toMatchObject({
      kind: "unavailable",
      message: `${standIn.url}: cannot assume ${roleArn}: ${why}`,
    });
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test("is assumed once the machine's credentials exist", async () => {
    const { observed, standIn } = await openAws(answer, { roleArn });
    expect(await observed.outcome("a")).toMatchObject({
      kind: "unavailable",
      message: `${standIn.url}: cannot assume ${roleArn}: there are no credentials (yet)`,
    });
    await writeCredentials("own");
    expect(await text(observed)).toBe("the value");
  });

  test("is retried when its service answers without an end", async () => {
    await writeCredentials("own");
    const { observed, standIn } = await openAws(
      (call) => ({ ...answer(call), floods: call.operation === "AssumeRole" }),
      {
        roleArn,
      },
    );
    expect(await observed.outcome("a")).toMatchObject({
      kind: "unavailable",
      message: `${standIn.url}: cannot assume ${roleArn}: the answer is larger than 1 MiB`,
    });
  });

  test("is requested again at the next fetch when its service stalls", async () => {
    await writeCredentials("own");
    let stalls = true;
    const { observed, standIn } = await openAws(
      (call) => ({ ...answer(call), stalls: stalls && call.operation === "AssumeRole" }),
      {
        roleArn,
        timeout: 2,
      },
    );
    expect(await observed.outcome("a")).toMatchObject({
      kind: "unavailable",
      message: `${standIn.url}: no answer in time`,
    });
    stalls = false;
    expect(await text(observed)).toBe("the value");
  });

  test("does not delay the sidecar's stop when its service never answers", async () => {
    await writeCredentials("own");
    const { observed, standIn } = await openAws(() => undefined, { roleArn, timeout: 100 });
    const abort = new AbortController();
    const fetching = observed.backend.fetch(observed.requests("a"), abort.signal);
    await vi.waitUntil(() => standIn.count("AssumeRole") > 0, { timeout: 60_000 });
    abort.abort();
    expect((await fetching).get("a")).toMatchObject({ kind: "unavailable" });
  }, 120_000);
});
