/**
 * A service that sends too much, nests too deep, or sends what is not text. If these fail, one AWS secret, or a proxy,
 * stops the rotation of all, or takes the memory of the host.
 */
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { idsOf, openAws, secretOf } from "../../aws/opened.ts";
import { type Call, refusal, type Reply } from "../../aws/stand-in.ts";
import { asValue } from "../../contract/observed.ts";

const canary = "canary-8b1f6c02";
const MIB = 1024 * 1024;
/** Floods take their time on a busy machine. */
const slow = { timeout: 30 };

beforeEach(() => {
  vi.stubEnv("AWS_ACCESS_KEY_ID", "key");
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", `${canary}-credentials`);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

/** Batches are refused; `bad` gets `reply`, any other what it should. */
const single =
  (reply: Reply) =>
  ({ operation, body }: Call): Reply => {
    if (operation === "BatchGetSecretValue") return refusal("AccessDeniedException", "no");
    return body["SecretId"] === "bad" ? reply : { body: secretOf(String(body["SecretId"])) };
  };

describe("a bad answer affects only its own secret", () => {
  test.each<[string, Reply, string, string]>([
    ["has no end", { body: `{"SecretString":"${canary}`, floods: true }, "invalid", "the answer is larger than 1 MiB"],
    [
      "is deeper than a secret's can be",
      { body: `{"SecretString":"x","More":${"[".repeat(5000)}${"]".repeat(5000)}}` },
      "invalid",
      "the answer: JSON of more than 128 levels",
    ],
    [
      "has a million members",
      { body: `{"SecretString":"x","More":[${"0,".repeat(250_000)}0]}` },
      "invalid",
      "the answer: JSON of more than 100000 members",
    ],
    [
      "is not UTF-8",
      { body: Buffer.concat([Buffer.from('{"SecretString":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]) },
      "invalid",
      "the answer is not UTF-8",
    ],
    [
      "is compressed, as a proxy may do: an outage",
      { body: gzipSync(`{"SecretString":"${canary}"}`), headers: { "content-encoding": "gzip" } },
      "unavailable",
      "the answer is not from AWS",
    ],
    [
      "is an error without an end: its status counts",
      { status: 503, body: canary, floods: true },
      "unavailable",
      "HTTP status 503",
    ],
  ])("that %s", async (_, reply, kind, reason) => {
    const { observed } = await openAws(single(reply));
    const outcomes = await observed.fetch("bad", "good");
    expect(outcomes.get("bad")).toMatchObject({ kind, message: expect.stringContaining(reason) as string });
    expect(asValue(outcomes.get("good")).value.toString()).toBe("value of good");
    expect(observed.said.join("\n")).not.toContain(canary);
  });

  test.each([
    ["5,000 levels", `{"key":${"[".repeat(5000)}${"]".repeat(5000)}}`, "bad: JSON of more than 128 levels"],
    ["no text", '{"key":"\\ud800"}', "is not valid Unicode text (half of a surrogate pair)"],
  ])("whose JSON has %s", async (_, json, reason) => {
    const sourceOf = (id: string): Record<string, unknown> => (id === "bad" ? { secretId: id, jsonKey: "key" } : {});
    const { observed } = await openAws(single({ body: secretOf("bad", json) }), slow, sourceOf);
    const outcomes = await observed.fetch("bad", "good");
    expect(outcomes.get("bad")).toMatchObject({ kind: "invalid", message: expect.stringContaining(reason) as string });
    expect(asValue(outcomes.get("good")).value.toString()).toBe("value of good");
  });
});

describe("a batch", () => {
  test("an answer without an end is given up, and each secret is requested alone", async () => {
    const { observed, standIn } = await openAws((call) =>
      call.operation === "BatchGetSecretValue"
        ? { body: `{"SecretValues":[{"SecretString":"${canary}`, floods: true }
        : { body: secretOf(String(call.body["SecretId"])) },
    );
    const outcomes = await observed.fetch("a", "b");
    for (const id of ["a", "b"]) expect(asValue(outcomes.get(id)).value.toString()).toBe(`value of ${id}`);
    expect(standIn.count("GetSecretValue")).toBe(2);
  });

  test.each([
    ["always another", 40, (count: number) => `token-${count}`],
    ["always the same", 2, () => "token"],
  ])("endless pages with the token %s stop after %i", async (_, pages, tokenOf) => {
    let count = 0;
    const { observed, standIn } = await openAws((call) => {
      if (call.operation === "GetSecretValue") return { body: secretOf(String(call.body["SecretId"])) };
      count += 1;
      return { body: { SecretValues: count === 1 ? [secretOf("a")] : [], Errors: [], NextToken: tokenOf(count) } };
    });
    const outcomes = await observed.fetch("a", "b");
    for (const id of ["a", "b"]) expect(asValue(outcomes.get(id)).value.toString()).toBe(`value of ${id}`);
    expect(standIn.count("BatchGetSecretValue")).toBe(pages);
    // What came before counts.
    expect(standIn.count("GetSecretValue")).toBe(1);
  });

  test("endless pages with more values than requested end with the first full page", async () => {
    const { observed, standIn } = await openAws((call) => ({
      body: { SecretValues: Array.from({ length: 1000 }, () => secretOf("other")), NextToken: String(Math.random()) },
      ...(call.operation === "GetSecretValue" && { body: secretOf(String(call.body["SecretId"])) }),
    }));
    const outcomes = await observed.fetch("a", "b");
    expect(asValue(outcomes.get("b")).value.toString()).toBe("value of b");
    expect(standIn.count("BatchGetSecretValue")).toBe(1);
  });
});

test("publishes the secrets that fit into 64 MiB in total", async () => {
  const ids = Array.from({ length: 70 }, (_, index) => `s${index}`);
  const text = "x".repeat(MIB - 1024);
  const { observed } = await openAws((call) =>
    call.operation === "BatchGetSecretValue"
      ? {
          body: {
            SecretValues: idsOf(call)
              .slice(0, 4)
              .map((id) => secretOf(id, text)),
          },
        }
      : { body: secretOf(String(call.body["SecretId"]), text) },
  );
  const outcomes = [...(await observed.fetch(...ids)).values()];
  const refused = outcomes.filter((outcome) => outcome instanceof Error);
  expect(outcomes.length - refused.length).toBe(64);
  for (const { message } of refused)
    expect(message).toMatch(/^s\d+: with it, all secrets together are larger than 64 MiB$/);
});
