/**
 * Leases, tokens and passwords that end early: somebody revokes them in an incident, or the server changes them by
 * itself. A real server and a real PostgreSQL; the sidecar's clock is the test's.
 */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { asValue, type Observed } from "../contract/observed.ts";
import { temporary } from "../contract/temporary.ts";
import { until } from "../contract/until.ts";
import { Forwarder } from "./forwarder.ts";
import { Canaries, openVault } from "./opened.ts";
import { databaseRole, databaseServer, type Postgres } from "./postgres.ts";
import type { VaultServer } from "./server.ts";
import { onEachServer } from "./servers.ts";

const HOUR = 3600;

onEachServer("what ends before its time", ["postgresql"], (product) => {
  let server: VaultServer;
  let postgres: Postgres;
  let forwarder: Forwarder;
  let canaries: Canaries;
  let directory: string;
  let role: string;
  /** Seconds of the sidecar's clock. */
  let now: number;

  beforeAll(async () => {
    ({ server, postgres } = await databaseServer(product));
    await server.write("sys/auth/approle", { type: "approle" });
    await server.write("sys/policies/acl/creds", { policy: 'path "database/*" { capabilities = ["read"] }' });
  });
  afterAll(async () => {
    await server.dispose();
    await postgres.dispose();
  });
  beforeEach(async () => {
    const place = await temporary();
    directory = place.path;
    forwarder = await Forwarder.to(server.url);
    canaries = new Canaries();
    now = 1000;
    role = await databaseRole(server, "1h", "24h");
    onTestFinished(async () => {
      await forwarder.down();
      await place.dispose();
    });
  });

  const asked = (part: string) => forwarder.requests.filter((line) => line.includes(part)).length;

  /** Database credentials of an hour. */
  async function open(auth: object): Promise<Observed> {
    const place = { mount: "database", path: `creds/${role}` };
    const sources = { user: { ...place, key: "username" }, password: { ...place, key: "password" } };
    return await openVault({ url: forwarder.url, ...auth }, canaries, sources, () => now);
  }

  async function pairOf(vault: Observed) {
    const outcomes = await vault.fetch("user", "password");
    const [user, password] = [asValue(outcomes.get("user")), asValue(outcomes.get("password"))];
    canaries.add(password.value.toString());
    return { user: user.value.toString(), password: password.value.toString(), ...user };
  }

  /** Visits as the engine does, each when the previous one asked for it. @returns the last result. */
  async function visit(vault: Observed, seconds: number) {
    const end = now + seconds;
    let pair = await pairOf(vault);
    while (now < end) {
      now += pair.refreshAfter ?? seconds;
      pair = await pairOf(vault);
    }
    return pair;
  }

  async function tokenFile(text: string): Promise<{ tokenPath: string }> {
    const tokenPath = join(directory, "token");
    await writeFile(tokenPath, canaries.add(text));
    return { tokenPath };
  }

  async function appRole(more: object = {}): Promise<object> {
    const settings = { token_policies: ["creds"], bind_secret_id: false, token_bound_cidrs: "127.0.0.0/8", ...more };
    await server.write(`auth/approle/role/${role}`, settings);
    const { body } = await server.read(`auth/approle/role/${role}/role-id`);
    return { auth: { method: "approle", roleId: (body["data"] as { role_id: string }).role_id } };
  }

  test("replaces a revoked lease of an hour within three minutes", async () => {
    const vault = await open(await tokenFile(server.rootToken));
    const first = await visit(vault, HOUR / 4);
    expect(asked(`/creds/${role}`)).toBe(1);
    expect(asked("/sys/leases/lookup")).toBeGreaterThan(2);
    expect(asked("/sys/leases/lookup"), "a small share of its time").toBeLessThan(10);
    await server.write(`sys/leases/revoke-prefix/database/creds/${role}`);
    const second = await visit(vault, 180);
    expect(second.version).not.toBe(first.version);
    expect(postgres.letsIn(second.user, second.password)).toBe(true);
    expect(vault.said).toContainEqual(
      `notice the server does not know a lease of database/creds/${role} any more: replacing it`,
    );
  });

  test("replaces a login's revoked token within three minutes, with its leases", async () => {
    const vault = await open(await appRole());
    const first = await pairOf(vault);
    await server.write("sys/leases/revoke-prefix/auth/approle/login");
    await until(() => !postgres.letsIn(first.user, first.password));
    const second = await visit(vault, 180);
    expect(postgres.letsIn(second.user, second.password)).toBe(true);
    expect(asked("/auth/approle/login")).toBe(2);
  });

  test("reports a revoked token of a file within three minutes, and takes the next one", async () => {
    const rules = 'path "database/*" { capabilities = ["read"] }';
    const token = await server.token(rules, { ttl: "24h" });
    const vault = await open(await tokenFile(token));
    const first = await pairOf(vault);
    await until(() => asked("/auth/token/lookup-self") > 0);
    await server.write("auth/token/revoke", { token });
    await until(() => !postgres.letsIn(first.user, first.password));
    let problem = await vault.outage("user", "password");
    for (const end = now + 180; problem === undefined && now <= end; now += 30)
      problem = await vault.outage("user", "password");
    expect(problem).toMatchObject({ kind: "denied", message: expect.stringContaining("is not valid") as string });
    await tokenFile(await server.token(rules, { ttl: "24h" }));
    const second = await pairOf(vault);
    expect(postgres.letsIn(second.user, second.password)).toBe(true);
  });

  test("keeps leases that it may not look up, and spends no logins on them", async () => {
    const vault = await open(await appRole({ token_no_default_policy: true }));
    const first = await pairOf(vault);
    const later = await visit(vault, HOUR / 2);
    expect(later.version).toBe(first.version);
    expect(asked(`/creds/${role}`)).toBe(1);
    expect(asked("/sys/leases/lookup")).toBeLessThan(4);
    expect(asked("/auth/approle/login")).toBeLessThan(3);
  });

  /** What it says about the secrets at each visit of so many seconds, by the sidecar's own pace. */
  async function outages(vault: Observed, seconds: number) {
    const said: (string | undefined)[] = [];
    for (const end = now + seconds; now <= end; now += 10) said.push((await vault.outage("user", "password"))?.message);
    return said;
  }

  test("a revoked lease that cannot be replaced stays a failure until it can, and is reported gone once", async () => {
    const vault = await open(await tokenFile(server.rootToken));
    await visit(vault, HOUR / 8);
    const settings = (await server.read(`database/roles/${role}`)).body["data"] as object;
    await server.call("DELETE", `database/roles/${role}`);
    await server.write(`sys/leases/revoke-prefix/database/creds/${role}`);
    const said = await outages(vault, 600);
    const first = said.findIndex((message) => message !== undefined);
    expect(first).toBeGreaterThan(-1);
    expect(said.slice(first)).not.toContain(undefined);
    expect(vault.said.filter((line) => line.includes("does not know a lease"))).toHaveLength(1);
    await server.write(`database/roles/${role}`, settings);
    const pair = await pairOf(vault);
    expect(postgres.letsIn(pair.user, pair.password)).toBe(true);
  });

  test("a login whose mount is gone is reported within three minutes, and comes back with the mount", async () => {
    const auth = `gone-${randomBytes(4).toString("hex")}`;
    const enable = async () => {
      await server.write(`sys/auth/${auth}`, { type: "approle" });
      const settings = { token_policies: ["creds"], bind_secret_id: false, token_bound_cidrs: "127.0.0.0/8" };
      await server.write(`auth/${auth}/role/app`, settings);
      await server.write(`auth/${auth}/role/app/role-id`, { role_id: "app-role-id" });
    };
    await enable();
    const vault = await open({ auth: { method: "approle", mount: auth, roleId: "app-role-id" } });
    await visit(vault, HOUR / 8);
    await server.call("DELETE", `sys/auth/${auth}`);
    const said = await outages(vault, 180);
    expect(said.at(-1)).toContain(`auth/${auth}/login`);
    await enable();
    const pair = await visit(vault, 180);
    expect(postgres.letsIn(pair.user, pair.password)).toBe(true);
  });

  test("does not give up a lease during an outage", async () => {
    const vault = await open(await tokenFile(server.rootToken));
    const first = await pairOf(vault);
    await forwarder.down();
    now += 10 * 60;
    expect((await pairOf(vault)).version).toBe(first.version);
    await forwarder.up();
    expect((await visit(vault, 300)).version).toBe(first.version);
    expect(asked(`/creds/${role}`)).toBe(1);
  });

  test("fetches everything again at the first look after a night asleep, with another login", async () => {
    const vault = await open(await appRole({ token_ttl: "2h" }));
    const first = await pairOf(vault);
    now += 8 * HOUR;
    const second = await pairOf(vault);
    expect(second.version).not.toBe(first.version);
    expect(asked("/auth/approle/login")).toBe(2);
  });

  test("fetches a static role's password when the server changes it, without a poll", async () => {
    const user = `static_${randomBytes(4).toString("hex")}`;
    postgres.run(`create role ${user} login`);
    await server.write(`database/static-roles/${user}`, { db_name: "db", username: user, rotation_period: "5s" });
    const place = { mount: "database", path: `static-creds/${user}` };
    const sources = { password: { ...place, key: "password" } };
    const vault = await openVault({ url: forwarder.url, ...(await tokenFile(server.rootToken)) }, canaries, sources);
    const first = await vault.value("password");
    canaries.add(first.value.toString());
    expect(postgres.letsIn(user, first.value.toString())).toBe(true);
    expect(first.refreshAfter).toBeGreaterThan(0);
    expect(first.refreshAfter).toBeLessThan(7);
    // Asked for again before it is due, it is the same, of the same version.
    expect(await vault.value("password")).toMatchObject({ version: first.version });
    let next = first;
    while (next.value.equals(first.value)) {
      await delay((next.refreshAfter ?? 60) * 1000);
      next = await vault.value("password");
    }
    canaries.add(next.value.toString());
    expect(next.version).not.toBe(first.version);
    expect(postgres.letsIn(user, next.value.toString())).toBe(true);
    expect(asked("/static-creds/")).toBeLessThan(12);
  });
});
