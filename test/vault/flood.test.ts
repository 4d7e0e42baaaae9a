/**
 * A server that sends too much, nests too deep, or sends what is not text: only the secrets of that place fail, with
 * one line.
 */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { type Answering, StandIn } from "./stand-in.ts";

const canaries = new Canaries();
const MIB = 1024 * 1024;

/** Two places: `app` is as it should be, `bad` is answered with `body`, byte by byte. */
async function opened(body: string | Buffer | undefined, answering?: Answering) {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  const tokenPath = join(path, "token");
  await writeFile(tokenPath, canaries.add(`canary-${randomBytes(12).toString("hex")}`));
  const server = await StandIn.start();
  server.data = { good: "value" };
  server.answering = (asked, response, socket) => {
    if (!asked.path.startsWith("/v1/secret/data/bad")) return false;
    if (answering !== undefined) return answering(asked, response, socket);
    response.writeHead(200, { "content-type": "application/json" }).end(body);
    return true;
  };
  return openVault({ url: server.url, tokenPath, kvVersion: 2, path: "app" }, canaries, {
    bad: { path: "bad", key: "key" },
    other: { path: "bad", key: "other" },
  });
}

const v2 = (key: string) => `{"data":{"data":{"key":${key},"other":"fine"},"metadata":{"version":1}}}`;

test.each([
  ["5,000 levels", v2(`${"[".repeat(5000)}${"]".repeat(5000)}`), "JSON of more than 128 levels"],
  ["1,000,000 objects", v2(`[${"{},".repeat(1_000_000)}{}]`), "JSON of more than 100000 members"],
  ["a number of a million digits", v2("1".repeat(1_000_000)), "a number of more than 1000 characters"],
  [
    "invalid UTF-8",
    Buffer.concat([Buffer.from('{"data":{"data":{"key":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}}}')]),
    "the answer is not UTF-8",
  ],
  ["more than 32 MiB", v2(`"${"x".repeat(33 * MIB)}"`), "the answer is larger than 32 MiB"],
])("%s at one path affect only its own secrets", async (_, body, message) => {
  const vault = await opened(body);
  const outcomes = await vault.fetch("good", "bad");
  expect(outcomes.get("bad")).toMatchObject({ kind: "invalid", message: `secret/data/bad: ${message}` });
  expect(outcomes.get("good")).toMatchObject({ status: "value", value: Buffer.from("value") });
});

test("keeps the meaning of an error status, whatever its body: an outage ends no start", async () => {
  const vault = await opened(undefined, (_, response) => {
    response.writeHead(503, { "content-type": "application/json" }).end("[".repeat(5000));
    return true;
  });
  expect((await vault.fetch("bad")).get("bad")).toMatchObject({ kind: "unavailable" });
});

test("refuses half of a surrogate pair, never replaces it, and reads the path's other keys", async () => {
  const vault = await opened(v2('"\\ud800x"'));
  expect((await vault.fetch("bad")).get("bad")).toMatchObject({
    kind: "invalid",
    message: expect.stringContaining("is not valid Unicode text") as string,
  });
  expect(await textOf(vault, "other")).toBe("fine");
});

test.each([
  "0.10",
  "1.10",
  "1e5",
  "-0",
  "0.12345678901234567890123",
  '{"a":[1.0,{"__proto__":2.50}]}',
  '[1.10,"1.10"]',
])("publishes %s exactly as stored", async (literal) => {
  expect(await textOf(await opened(v2(literal)), "bad")).toBe(literal);
});

test("takes null for no value", async () => {
  expect((await (await opened(v2("null"))).fetch("bad")).get("bad")).toEqual({
    status: "missing",
    where: 'no value: key "key" in secret/data/bad is null',
  });
});

test("shortens a redirect's host name", async () => {
  const host = `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}`;
  const vault = await opened(undefined, (_, response) => {
    response.writeHead(307, { location: `https://${host}/` }).end();
    return true;
  });
  const outcome = (await vault.fetch("bad")).get("bad");
  const { message } = outcome as Error;
  expect(message).toContain(`https://${"a".repeat(60)}.`);
  expect(message).not.toContain("ccc");
});

test("names the place of more than 32 MiB behind a redirect to badly encoded text, and does not crash", async () => {
  const vault = await opened(undefined, ({ path }, response) => {
    if (!path.includes("%ff")) response.writeHead(307, { location: "/v1/secret/data/bad%ff" }).end();
    else response.writeHead(200, { "content-type": "application/json" }).end(v2(`"${"x".repeat(33 * MIB)}"`));
    return true;
  });
  const outcomes = await vault.fetch("good", "bad");
  expect(outcomes.get("bad")).toMatchObject({
    kind: "invalid",
    message: "secret/data/bad%ff: the answer is larger than 32 MiB",
  });
  expect(outcomes.get("good")).toMatchObject({ status: "value" });
});

test("refuses each of eight answers of 31 MiB alone, and stops at 256 MiB in total with the ninth", async () => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  const tokenPath = join(path, "token");
  await writeFile(tokenPath, "t");
  const server = await StandIn.start();
  const body = `{"data":{"data":{"key":"${"x".repeat(31 * MIB)}"},"metadata":{"version":1}}}`;
  const sent = Buffer.from(body);
  server.answering = (_, response) => {
    response.writeHead(200, { "content-type": "application/json" }).end(sent);
    return true;
  };
  const ids = Array.from({ length: 9 }, (_, index) => `s${index}`);
  const sources = Object.fromEntries(ids.map((id) => [id, { path: id, key: "key" }]));
  const vault = await openVault({ url: server.url, tokenPath, kvVersion: 2 }, canaries, sources);
  const outcomes = await vault.fetch(...ids);
  const messages = ids.map((id) => (outcomes.get(id) as Error).message);
  expect(messages.filter((message) => /^secret\/s\d: the value is larger than 16 MiB$/.test(message))).toHaveLength(8);
  expect(
    messages.filter((message) => /^secret\/data\/s\d: all answers together are larger than 256 MiB$/.test(message)),
  ).toHaveLength(1);
  // A fetch later all is counted from the beginning.
  expect((await vault.fetch("s0")).get("s0")).toMatchObject({ message: "secret/s0: the value is larger than 16 MiB" });
}, 60_000);
