/** Secrets with leases at a real server: created once, kept alive, replaced in time, and ended when unused. */
import { randomBytes, X509Certificate } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import type { Observed } from "../contract/observed.ts";
import { temporary } from "../contract/temporary.ts";
import { until } from "../contract/until.ts";
import { Forwarder } from "./forwarder.ts";
import { Canaries, openVault } from "./opened.ts";
import { databaseRole, databaseServer, type Postgres } from "./postgres.ts";
import { VaultServer } from "./server.ts";
import { onEachServer } from "./servers.ts";

interface Pair {
  readonly user: string;
  readonly password: string;
  readonly version: string;
  readonly refreshAfter: number;
}

/** Both secrets of one lease, from one fetch. */
async function pairOf(vault: Observed): Promise<Pair> {
  const outcomes = await vault.fetch("user", "password");
  const [user, password] = ["user", "password"].map((id) => {
    const outcome = outcomes.get(id);
    expect(outcome).toMatchObject({ status: "value", refreshAfter: expect.any(Number) as number });
    return outcome as { value: Buffer; version: string; refreshAfter: number };
  });
  expect(user?.version).toBe(password?.version);
  expect(user?.refreshAfter).toBe(password?.refreshAfter);
  return {
    user: user?.value.toString() ?? "",
    password: password?.value.toString() ?? "",
    version: user?.version ?? "",
    refreshAfter: user?.refreshAfter ?? 0,
  };
}

const applied = (vault: Observed, { version }: Pair) =>
  vault.backend.applied?.(
    new Map([
      ["user", version],
      ["password", version],
    ]),
  );

let server: VaultServer;
let forwarder: Forwarder;
let canaries: Canaries;
let directory: string;

const asked = (part: string) => forwarder.requests.filter((line) => line.includes(part)).length;
const leases = async (prefix: string) => {
  const { body } = await server.call("LIST", `sys/leases/lookup/${prefix}`, undefined, { any: true });
  return ((body["data"] as { keys?: string[] } | undefined)?.keys ?? []).length;
};

async function open(settings: object, sources: Readonly<Record<string, Record<string, unknown>>>) {
  const tokenPath = join(directory, "token");
  await writeFile(tokenPath, canaries.add(server.rootToken));
  return await openVault({ url: forwarder.url, tokenPath, ...settings }, canaries, sources);
}

async function eachTest() {
  const place = await temporary();
  directory = place.path;
  forwarder = await Forwarder.to(server.url);
  canaries = new Canaries();
  onTestFinished(async () => {
    await forwarder.down();
    await place.dispose();
  });
}

onEachServer("database credentials of a real server and a real PostgreSQL", ["postgresql"], (product) => {
  let postgres: Postgres;
  let role: string;

  beforeAll(async () => {
    ({ server, postgres } = await databaseServer(product));
  });
  afterAll(async () => {
    await server.dispose();
    await postgres.dispose();
  });
  beforeEach(eachTest);

  async function credentials(ttl: string, maxTtl: string, settings: object = {}) {
    role = await databaseRole(server, ttl, maxTtl);
    const place = { mount: "database", path: `creds/${role}` };
    return await open(settings, { user: { ...place, key: "username" }, password: { ...place, key: "password" } });
  }

  test("takes user and password from one lease, and polling or reloading creates no others", async () => {
    const vault = await credentials("60s", "1h");
    const first = await pairOf(vault);
    canaries.add(first.password);
    expect(postgres.letsIn(first.user, first.password)).toBe(true);
    for (let poll = 0; poll < 4; poll++)
      expect(await pairOf(vault)).toMatchObject({ version: first.version, user: first.user });
    // One of the two alone, as after a failed publish.
    expect((await vault.value("password")).value.toString()).toBe(first.password);
    expect(asked(`/creds/${role}`)).toBe(1);
    expect(await leases(`database/creds/${role}`)).toBe(1);
  });

  test("renews credentials in time, which stay valid beyond their first end", async () => {
    const vault = await credentials("6s", "1h");
    const first = await pairOf(vault);
    canaries.add(first.password);
    const end = Date.now() + 7000;
    while (Date.now() < end) {
      const { refreshAfter, version } = await pairOf(vault);
      expect(version).toBe(first.version);
      await delay(refreshAfter * 1000);
    }
    expect(asked("/sys/leases/renew")).toBeGreaterThanOrEqual(1);
    expect(asked(`/creds/${role}`)).toBe(1);
    expect(postgres.letsIn(first.user, first.password)).toBe(true);
  });

  test("replaces credentials before their maximum life; the old ones work until the target has the new ones, then end", async () => {
    const vault = await credentials("9s", "13s");
    const first = await pairOf(vault);
    canaries.add(first.password);
    let second = first;
    while (second.version === first.version) {
      await delay(second.refreshAfter * 1000);
      second = await pairOf(vault);
    }
    canaries.add(second.password);
    expect(postgres.letsIn(first.user, first.password), "the old ones while the target changes over").toBe(true);
    expect(postgres.letsIn(second.user, second.password)).toBe(true);
    // The target still has the old ones: another action ended.
    await applied(vault, first);
    expect(postgres.letsIn(first.user, first.password)).toBe(true);
    await applied(vault, second);
    // The server revokes in its own time.
    await until(() => !postgres.letsIn(first.user, first.password));
    expect(postgres.letsIn(second.user, second.password)).toBe(true);
  });

  test("replaces a revoked lease at its renewal", async () => {
    const vault = await credentials("3s", "1h");
    const first = await pairOf(vault);
    await server.write(`sys/leases/revoke-prefix/database/creds/${role}`);
    await delay(first.refreshAfter * 1000);
    const second = await pairOf(vault);
    expect(second.version).not.toBe(first.version);
    expect(postgres.letsIn(second.user, second.password)).toBe(true);
  });

  test("creates nothing new when the server is away at a renewal, and renews later", async () => {
    const vault = await credentials("6s", "1h");
    const first = await pairOf(vault);
    await delay(first.refreshAfter * 1000);
    await forwarder.down();
    expect(await vault.outage("user", "password")).toMatchObject({ kind: "unavailable" });
    await forwarder.up();
    expect(await pairOf(vault)).toMatchObject({ version: first.version });
    expect(asked(`/creds/${role}`)).toBe(1);
  });

  test("replaces leases that end with their revoked token at the next look", async () => {
    await server.write("sys/auth/approle", { type: "approle" }, { any: true });
    await server.write("sys/policies/acl/creds", {
      policy: 'path "database/creds/*" { capabilities = ["read"] } path "sys/leases/*" { capabilities = ["update"] }',
    });
    await server.write("auth/approle/role/app", {
      token_policies: ["creds"],
      bind_secret_id: false,
      token_bound_cidrs: "127.0.0.0/8",
    });
    const { body } = await server.read("auth/approle/role/app/role-id");
    const { role_id: roleId } = body["data"] as { role_id: string };
    await credentials("30s", "1h");
    const place = { mount: "database", path: `creds/${role}` };
    const sources = {
      user: { ...place, key: "username" },
      password: { ...place, key: "password" },
      other: { path: "x" },
    };
    const auth = { method: "approle", roleId };
    const vault = await openVault({ url: forwarder.url, auth, kvVersion: 2 }, canaries, sources);
    const first = await pairOf(vault);
    await server.write("sys/leases/revoke-prefix/auth/approle/login");
    await until(() => !postgres.letsIn(first.user, first.password));
    // A poll of another secret meets the refusal, and logs in.
    await vault.outcome("other");
    const second = await pairOf(vault);
    expect(postgres.letsIn(second.user, second.password)).toBe(true);
  });

  test("ends leases on stop with revokeOnStop, and keeps them without", async () => {
    for (const revokeOnStop of [true, false]) {
      const vault = await credentials("60s", "1h", { revokeOnStop });
      const { user, password } = await pairOf(vault);
      await vault.backend.close?.();
      if (revokeOnStop) await until(() => !postgres.letsIn(user, password));
      else expect(await leases(`database/creds/${role}`)).toBe(1);
    }
  });
});

onEachServer("certificates of a real server's PKI", [], (product) => {
  beforeAll(async () => {
    server = await VaultServer.dev(product);
    await server.write("sys/mounts/pki", { type: "pki" });
    await server.write("pki/root/generate/internal", { common_name: "root", ttl: "24h", key_type: "ec" });
    for (const [name, generateLease] of [
      ["leased", true],
      ["plain", false],
    ] as const)
      await server.write(`pki/roles/${name}`, {
        allow_any_name: true,
        key_type: "ec",
        generate_lease: generateLease,
        max_ttl: "1h",
      });
  });
  afterAll(() => server.dispose());
  beforeEach(eachTest);

  for (const role of ["leased", "plain"])
    test(`writes a certificate once, and keeps it for two thirds of its life (${role})`, async () => {
      const place = { mount: "pki", path: `issue/${role}`, data: { common_name: "app.test", ttl: "9s" } };
      const vault = await open({}, { cert: { ...place, key: "certificate" }, key: { ...place, key: "private_key" } });
      const outcomes = await vault.fetch("cert", "key");
      const [cert, key] = ["cert", "key"].map(
        (id) => outcomes.get(id) as { value: Buffer; version: string; refreshAfter: number },
      );
      canaries.add(key?.value.toString().split("\n")[1] ?? "");
      const certificate = new X509Certificate(cert?.value ?? "");
      expect(certificate.subject).toBe("CN=app.test");
      expect(cert?.refreshAfter).toBe(key?.refreshAfter);
      for (let poll = 0; poll < 3; poll++) expect((await vault.value("cert")).version).toBe(cert?.version);
      expect(asked("/pki/issue/")).toBe(1);
      let next = await vault.value("cert");
      while (next.version === cert?.version) {
        await delay((next.refreshAfter ?? 0) * 1000);
        next = await vault.value("cert");
      }
      expect(Date.parse(certificate.validTo), "the old one is still valid").toBeGreaterThan(Date.now());
      expect(asked("/pki/issue/")).toBe(2);
    });

  test("reports `data` that the server does not accept, without showing it", async () => {
    const canary = canaries.add(`canary-${randomBytes(8).toString("hex")}`);
    const vault = await open(
      {},
      { cert: { mount: "pki", path: "issue/plain", data: { ttl: canary }, key: "certificate" } },
    );
    expect(await vault.outcome("cert")).toMatchObject({
      kind: "invalid",
      message: "pki/issue/plain: the server does not accept the `data` that fetcher writes (status 400)",
    });
  });
});
