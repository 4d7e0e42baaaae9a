/** When another token is asked for, and what becomes of what hangs on the old one. */
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
  mayDo = () => true;
  beforeLogin = () => Promise.resolve();
});

/** Logins make tokens of an hour, `database/creds/app` credentials of an hour, and everything else is KV. */
const asRoles: Answering = ({ path, headers }, response) => {
  const asked = path.replace("/v1/", "");
  const number = tokens.indexOf(String(headers["x-vault-token"])) + 1;
  const lease = { lease_id: `lease-${issued}`, lease_duration: 3600, renewable: true };
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
const open = (settings: object = {}) =>
  openVault(
    { url: server.url, kvVersion: 2, auth: { method: "approle", roleId: "role", secretIdPath }, ...settings },
    canaries,
    sources,
    () => now,
  );

test("places that are refused together are read together with the one token of the next login", async () => {
  const vault = await open();
  await vault.fetch("one", "two", "three");
  mayDo = (token) => token > 1;
  const lookUps = () => server.asked.filter(({ path }) => path.endsWith("lookup-self")).length;
  beforeLogin = () => until(() => lookUps() === 3);
  for (const outcome of (await vault.fetch("one", "two", "three")).values())
    expect(outcome).toMatchObject({ status: "value" });
  expect(tokens).toHaveLength(2);
});
