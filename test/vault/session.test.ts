/** When the backend gets another token, and what happens to leases that depend on the old one. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { until } from "../contract/until.ts";
import { Canaries, openVault } from "./opened.ts";
import { type Answering, reply, StandIn } from "./stand-in.ts";

let server: StandIn;
let canaries: Canaries;
let secretIdPath: string;
/** Seconds, of the backend's clock. */
let now: number;
/** Made by logins so far; the first is 1. */
let tokens: string[];
/** Credentials that were made, each with a lease. */
let issued: number;
let renewable: boolean;
/** Whether the token with this number may do that; `self` is `auth/token/lookup-self`. */
let mayDo: (token: number, path: string) => boolean;
/** What happens before a login is answered. */
let beforeLogin: () => Promise<void>;

beforeEach(async () => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  server = await StandIn.start();
  server.answering = asRoles;
  canaries = new Canaries();
  secretIdPath = join(path, "secret-id");
  await writeFile(secretIdPath, canaries.add(`secret-id-${randomBytes(8).toString("hex")}`));
  now = 1000;
  tokens = [];
  issued = 0;
  renewable = true;
  mayDo = () => true;
  beforeLogin = () => Promise.resolve();
});

/** Logins make tokens of an hour, `database/creds/app` credentials of an hour, and everything else is KV. */
const asRoles: Answering = ({ path, headers }, response) => {
  const asked = path.replace("/v1/", "");
  const number = tokens.indexOf(String(headers["x-vault-token"])) + 1;
  const lease = { lease_id: `lease-${issued}`, lease_duration: 3600, renewable };
  if (asked === "auth/approle/login") {
    const token = canaries.add(`token-${randomBytes(12).toString("hex")}`);
    void beforeLogin().then(() => {
      tokens.push(token);
      reply(response, 200, { auth: { client_token: token, lease_duration: 86_400, renewable: true } });
    });
  } else if (number === 0 || !mayDo(number, asked)) reply(response, 403, { errors: ["permission denied"] });
  else if (asked === "auth/token/lookup-self") reply(response, 200, { data: { ttl: 86_400, renewable: true } });
  else if (asked === "database/creds/app") {
    issued += 1;
    reply(response, 200, { ...lease, lease_id: `lease-${issued}`, data: { password: `password-${issued}` } });
  } else if (asked === "sys/leases/renew") reply(response, 200, lease);
  else if (asked === "sys/internal/ui/mounts/database") reply(response, 200, { data: { type: "database" } });
  else if (asked.startsWith("sys/leases/") || asked.startsWith("auth/token/")) response.writeHead(204).end();
  else if (asked.startsWith("secret/data/"))
    reply(response, 200, { data: { data: { key: "value" }, metadata: { version: 1 } } });
  else return false;
  return true;
};

const kv = (path: string) => ({ path, key: "key" });
const sources = {
  password: { mount: "database", path: "creds/app" },
  one: kv("one"),
  two: kv("two"),
  three: kv("three"),
};
const open = (settings: object = {}, ids: Record<string, Record<string, unknown>> = sources) =>
  openVault(
    { url: server.url, kvVersion: 2, auth: { method: "approle", roleId: "role", secretIdPath }, ...settings },
    canaries,
    ids,
    () => now,
  );

test("reads places that were refused together with the one token of the next login", async () => {
  const vault = await open();
  await vault.fetch("one", "two", "three");
  mayDo = (token) => token > 1;
  const lookUps = () => server.asked.filter(({ path }) => path.endsWith("lookup-self")).length;
  beforeLogin = () => until(() => lookUps() === 3);
  for (const outcome of (await vault.fetch("one", "two", "three")).values())
    expect(outcome).toMatchObject({ status: "value" });
  expect(tokens).toHaveLength(2);
});

/** Tokens, by their number, with which a request for `path` went out. */
const usedFor = (path: string) =>
  server.asked
    .filter((asked) => asked.path === `/v1/${path}`)
    .map(({ headers }) => tokens.indexOf(String(headers["x-vault-token"])) + 1);

test.each([
  ["may look itself up", () => true],
  ["may not: token_no_default_policy", (path: string) => !path.startsWith("auth/token/")],
])("a permanently refused place costs a service no credentials, where the token %s", async (_, mayUse) => {
  mayDo = (_token, path) => path !== "secret/data/one" && mayUse(path);
  const vault = await open();
  for (let poll = 0; poll < 40; poll++, now += 60) {
    const outcomes = await vault.fetch("password", "one", "two");
    expect(outcomes.get("password")).toMatchObject({ status: "value" });
    expect(outcomes.get("one")).toMatchObject({
      kind: "denied",
      message: "secret/data/one: permission denied (status 403)",
    });
  }
  expect(issued).toBe(1);
  expect(vault.said.join("\n")).not.toContain("not valid any more");
  expect(new Set(usedFor("secret/data/two"))).toEqual(new Set([1]));
  expect(tokens.length, "ever fewer logins").toBeLessThan(10);
  const tried = tokens.slice(1).map((_token, index) => index + 2);
  expect(usedFor("auth/token/revoke-self"), "none is left behind").toEqual(tried);
});

test("replaces a dead token that may not look itself up, once a place that it could read is refused", async () => {
  mayDo = (_, path) => !path.startsWith("auth/token/");
  const vault = await open();
  await vault.fetch("one");
  mayDo = (token, path) => token > 1 && !path.startsWith("auth/token/");
  now += 60;
  expect(await vault.value("one")).toMatchObject({ status: "value" });
  expect(tokens).toHaveLength(2);
});

test("finds a role's later policy with one login", async () => {
  mayDo = (token, path) => token > 1 || path !== "secret/data/one";
  const vault = await open();
  expect((await vault.fetch("one", "two")).get("one")).toMatchObject({ kind: "denied" });
  now += 700;
  expect(await vault.value("one")).toMatchObject({ status: "value" });
  expect(await vault.value("two")).toMatchObject({ status: "value" });
  expect(tokens).toHaveLength(2);
  expect(usedFor("auth/token/revoke-self")).toEqual([]);
});

test.each([
  ["the role gets a policy after a failed attempt", () => true],
  ["the token dies, and may not look itself up", (path: string) => !path.startsWith("auth/token/")],
])("replaces a token of a day within the hour: %s", async (_, mayUse) => {
  let allowed = 1;
  mayDo = (token, path) => mayUse(path) && (path !== "secret/data/one" || token >= allowed);
  const vault = await open();
  await vault.fetch("one", "two");
  now += 12 * 3600;
  allowed = Infinity;
  expect(await vault.outcome("one")).toMatchObject({ kind: "denied" });
  expect(tokens, "in vain").toHaveLength(2);
  allowed = 3;
  const end = now + 3600;
  while (tokens.length === 2 && now < end) {
    now += 60;
    await vault.outcome("one");
  }
  expect(await vault.value("one")).toMatchObject({ status: "value" });
});

test("many permanently refused places cost no more logins than one", async () => {
  mayDo = (_, path) => !path.startsWith("secret/data/");
  const ids = Array.from({ length: 15 }, (_, number) => `place-${number}`);
  const vault = await open({}, Object.fromEntries(ids.map((id) => [id, kv(id)])));
  for (let poll = 0; poll < 130; poll++, now += 60) await vault.fetch(...ids);
  expect(tokens.length, "in two hours").toBeLessThan(12);
});

test.each(["one", "two", "three"] as const)("gives %s its turn among permanently refused places", async (id) => {
  let granted = Infinity;
  mayDo = (token, path) => !path.startsWith("secret/data/") || (path === `secret/data/${id}` && token >= granted);
  const vault = await open();
  const poll = async () => (await vault.fetch("one", "two", "three")).get(id);
  await poll();
  now += 700;
  await poll();
  expect(tokens, "in vain, for whichever had the first turn").toHaveLength(2);
  granted = 3;
  let outcome = await poll();
  for (let polls = 0; polls < 300 && outcome instanceof Error; polls++, now += 60) outcome = await poll();
  expect(outcome).toMatchObject({ status: "value" });
  expect(tokens.length, "the first again at the latest after the two others").toBeLessThanOrEqual(5);
});

test("a place that is no longer refused takes no turn from others", async () => {
  let refused = ["one", "two"];
  mayDo = (_, path) => !refused.some((id) => path === `secret/data/${id}`);
  const vault = await open();
  await vault.fetch("one", "two");
  now += 700;
  await vault.outcome("one");
  await vault.outcome("two");
  expect(tokens, "tried with one; two waits").toHaveLength(2);
  refused = ["one"];
  await vault.value("two");
  for (let poll = 0; poll < 20; poll++, now += 60) await vault.fetch("one", "two");
  expect(tokens, "tried with one again").toHaveLength(3);
});

test("replaces a dead token at once that may not look itself up, whatever was refused before", async () => {
  let isDead = false;
  mayDo = (token, path) => !path.startsWith("auth/token/") && path !== "secret/data/one" && !(isDead && token === 1);
  const vault = await open();
  for (let poll = 0; poll < 300; poll++, now += 60) await vault.fetch("one", "two");
  isDead = true;
  expect(await vault.value("two")).toMatchObject({ status: "value" });
});

test("a refused login does not change the answer: the token is good, and its place may not be read", async () => {
  mayDo = (_, path) => path !== "secret/data/one";
  const vault = await open();
  await vault.fetch("one", "two");
  await writeFile(secretIdPath, "");
  now += 700;
  expect(await vault.outcome("one")).toMatchObject({
    kind: "denied",
    message: "secret/data/one: permission denied (status 403)",
  });
  expect(await vault.value("two")).toMatchObject({ status: "value" });
});

test("an outage during such a login is no answer: the old token stays, and the new one ends", async () => {
  mayDo = (token, path) => token > 1 || path !== "secret/data/one";
  const vault = await open();
  await vault.fetch("password", "one", "two");
  now += 700;
  let sealed = true;
  server.answering = (asked, response, socket) => {
    const isNew = asked.headers["x-vault-token"] === tokens[1];
    if (!sealed || !isNew || asked.path !== "/v1/secret/data/one") return asRoles(asked, response, socket);
    reply(response, 503, { errors: ["Vault is sealed"] });
    return true;
  };
  expect(await vault.outcome("one")).toMatchObject({ kind: "unavailable" });
  expect(usedFor("auth/token/revoke-self")).toEqual([2]);
  await vault.value("password");
  expect(issued).toBe(1);
  sealed = false;
  expect(await vault.value("one"), "without a pause").toMatchObject({ status: "value" });
});

/** From now on KV is down for every token but the first. */
const failing = () => {
  server.answering = (asked, response, socket) => {
    const isKv = asked.path.startsWith("/v1/secret/data/");
    if (!isKv || asked.headers["x-vault-token"] === tokens[0]) return asRoles(asked, response, socket);
    reply(response, 500, { errors: ["internal error"] });
    return true;
  };
};

test("replaces a dead token during an outage of its store, by one login and not by one per attempt", async () => {
  const vault = await open();
  await vault.value("one");
  mayDo = (token) => token > 1;
  failing();
  for (let attempt = 0; attempt < 20; attempt++, now += 15)
    expect(await vault.outcome("one")).toMatchObject({ kind: "unavailable" });
  expect(tokens).toHaveLength(2);
  expect(usedFor("auth/token/revoke-self")).toEqual([]);
  expect(await vault.value("password"), "what is not down").toMatchObject({ status: "value" });
});

test("logs in rarely while an outage hides whether a token is dead, and reports nothing as refused", async () => {
  mayDo = (_, path) => !path.startsWith("auth/token/");
  const vault = await open();
  await vault.fetch("one", "two");
  mayDo = (token, path) => token > 1 && !path.startsWith("auth/token/");
  failing();
  for (let attempt = 0; attempt < 20; attempt++, now += 15)
    for (const id of ["one", "two"]) expect(await vault.outcome(id)).toMatchObject({ kind: "unavailable" });
  expect(vault.said.join("\n")).not.toContain("logged in again");
  expect(tokens.length, "ever fewer logins").toBeLessThan(8);
  expect(usedFor("auth/token/revoke-self")).toEqual(tokens.slice(1).map((_token, index) => index + 2));
  expect(await vault.outcome("one")).toMatchObject({
    message: `${server.url}: cannot tell whether the token is still valid (yet)`,
  });
  server.answering = asRoles;
  now += 600;
  await vault.fetch("one", "two");
  expect(await vault.value("one"), "with the token of whichever had its turn").toMatchObject({ status: "value" });
});

test("a lease that may not be revoked does not affect the next lease", async () => {
  mayDo = (_, path) => path !== "sys/leases/revoke";
  renewable = false;
  const vault = await open();
  await vault.value("password");
  now += 2500;
  const { version } = await vault.value("password");
  expect(issued).toBe(2);
  await vault.backend.applied?.(new Map([["password", version]]));
  expect(tokens).toHaveLength(1);
  for (let look = 0; look < 20; look++, now += 60) expect(await vault.value("password")).toMatchObject({ version });
  expect(vault.said.filter((line) => line.includes("cannot be revoked (status 403)"))).toHaveLength(1);
});

test("ends the leases' token at a stop with revokeOnStop, whatever else is refused", async () => {
  mayDo = (_, path) => path !== "sys/leases/revoke";
  const vault = await open({ revokeOnStop: true });
  await vault.value("password");
  now += 700;
  await vault.backend.close?.();
  expect(usedFor("auth/token/revoke-self")).toEqual([1]);
  expect(tokens).toHaveLength(1);
});

test("reports an outage of the login after a token's death once for all places, and as no refusal", async () => {
  const vault = await open();
  await vault.fetch("one", "two", "three");
  mayDo = (token) => token > 1;
  server.answering = (asked, response, socket) => {
    if (asked.path !== "/v1/auth/approle/login") return asRoles(asked, response, socket);
    reply(response, 503, { errors: ["Vault is sealed"] });
    return true;
  };
  for (const outcome of (await vault.fetch("one", "two", "three")).values())
    expect(outcome).toMatchObject({ kind: "unavailable" });
  server.answering = asRoles;
  for (const outcome of (await vault.fetch("one", "two", "three")).values())
    expect(outcome).toMatchObject({ status: "value" });
});
