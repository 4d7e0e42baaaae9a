/** The built program with a real server: what its target sees while the server comes, goes and changes its mind. */
import { randomBytes } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { type Daemon, eventually, Place } from "../process/daemon.ts";
import { Forwarder } from "./forwarder.ts";
import { Canaries } from "./opened.ts";
import { VaultServer } from "./server.ts";
import { onEachServer } from "./servers.ts";

onEachServer("the sidecar with a real server", [], (product) => {
  let server: VaultServer;
  let forwarder: Forwarder;
  let canaries: Canaries;
  let place: Place;

  beforeAll(async () => {
    server = await VaultServer.dev(product);
    await server.write("sys/mounts/pki", { type: "pki" });
    await server.write("pki/root/generate/internal", { common_name: "root", ttl: "24h", key_type: "ec" });
    const role = { allow_any_name: true, key_type: "ec", generate_lease: true, max_ttl: "1h" };
    await server.write("pki/roles/app", role);
  });
  afterAll(() => server.dispose());
  beforeEach(async () => {
    canaries = new Canaries();
    canaries.add(server.rootToken);
    forwarder = await Forwarder.to(server.url);
    onTestFinished(() => forwarder.down());
    place = new Place();
    writeFileSync(place.path("token"), await token());
  });

  const token = async () =>
    canaries.add(
      await server.token('path "secret/*" { capabilities = ["read"] } path "pki/*" { capabilities = ["update"] }'),
    );
  const put = async (suffix: string) => {
    const value = canaries.add(`canary-${randomBytes(8).toString("hex")}-${suffix}`);
    await server.write("secret/data/app", { data: { db: value } });
    return value;
  };
  const start = (secrets: object = { db: {} }, config: object = {}): Daemon => {
    const settings = { url: forwarder.url, path: "app", tokenPath: place.path("token"), reloadOnChange: true };
    const daemon = place.start(
      {
        backend: "vault",
        config: { ...settings, pollingInterval: 0.3, ...config },
        secrets,
        output: { directory: place.output },
        onChange: { settle: 0 },
      },
      { args: ["--log-level", "trace"], env: { DEBUG: "*", NODE_DEBUG: "" } },
    );
    onTestFinished(() => {
      canaries.check(daemon.stderr);
    });
    return daemon;
  };
  const published = (name: string) => eventually(`${name} is published`, () => place.read("db") === name);

  test("waits for a server that comes after the service was started", async () => {
    const value = await put("late");
    await forwarder.down();
    const daemon = start();
    await daemon.says(/connection refused; trying again$/);
    await forwarder.up();
    await daemon.ready();
    expect(place.read("db")).toBe(value);
  });

  test("publishes a new version; an outage touches nothing, and its changes are published afterwards", async () => {
    const first = await put("1");
    const daemon = await start().ready();
    expect(place.read("db")).toBe(first);
    await published(await put("2"));
    const before = statSync(join(place.output, "db"), { bigint: true });
    await forwarder.down();
    await daemon.says(/connection (?:refused|reset); the published values stay in use$/);
    const last = await put("3");
    const during = statSync(join(place.output, "db"), { bigint: true });
    expect([during.ino, during.mtimeNs]).toEqual([before.ino, before.mtimeNs]);
    await forwarder.up();
    await daemon.says(/answers again/);
    await published(last);
  });

  test("keeps the published set when the token is revoked, and continues with the next token in its file", async () => {
    const first = await put("1");
    const daemon = await start().ready();
    await server.write("auth/token/revoke", { token: readFileSync(place.path("token"), "utf8") });
    await daemon.says(
      /the token in \S+ is not valid \(any more\), or may neither read this nor look itself up: put a new one there, or correct its policy; the published values stay in use$/,
    );
    expect(place.read("db")).toBe(first);
    const last = await put("2");
    writeFileSync(place.path("token"), await token());
    await published(last);
  });

  test("a start waits for the token that an agent will put in the place of its last one", async () => {
    const value = await put("1");
    await server.write("auth/token/revoke", { token: readFileSync(place.path("token"), "utf8") });
    const daemon = start();
    await daemon.says(/the token in \S+ is not valid \(any more\), .*; trying again$/);
    writeFileSync(place.path("token"), await token());
    await daemon.ready();
    expect(place.read("db")).toBe(value);
  });

  test("shows token and values in no log at any level, no argument and no variable of the process", async () => {
    await put("1");
    const daemon = await start().ready();
    const proc = (name: string) => readFileSync(`/proc/${daemon.pid}/${name}`, "utf8");
    canaries.check(proc("cmdline") + proc("environ"));
    await published(await put("2"));
    const { code } = await daemon.end();
    expect(code).toBe(0);
  });

  test("shows role, wrapped secret id and the login's token in no log either; with revokeOnStop the token ends", async () => {
    const value = await put("1");
    await server.write("sys/auth/approle", { type: "approle" });
    await server.write("sys/policies/acl/app", { policy: 'path "secret/*" { capabilities = ["read"] }' });
    await server.write("auth/approle/role/app", { token_policies: ["app"] });
    const { body } = await server.read("auth/approle/role/app/role-id");
    const response = await fetch(`${server.url}/v1/auth/approle/role/app/secret-id`, {
      method: "POST",
      headers: { "x-vault-token": server.rootToken, "x-vault-wrap-ttl": "300s" },
    });
    const { wrap_info: wrapped } = (await response.json()) as { wrap_info: { token: string } };
    writeFileSync(place.path("wrapped"), canaries.add(wrapped.token));
    const { role_id: roleId } = body["data"] as { role_id: string };
    const auth = { method: "approle", roleId, secretIdPath: place.path("wrapped"), wrapped: true, role: "app" };
    const logins = async () => {
      const { body: found } = await server.call("LIST", "sys/leases/lookup/auth/approle/login", undefined, {
        any: true,
      });
      return ((found["data"] as { keys?: string[] } | undefined)?.keys ?? []).length;
    };
    const daemon = await start({ db: {} }, { tokenPath: undefined, auth, revokeOnStop: true }).ready();
    expect(place.read("db")).toBe(value);
    expect(await logins()).toBe(1);
    expect((await daemon.end()).code).toBe(0);
    expect(await logins()).toBe(0);
    const opened = await start({ db: {} }, { tokenPath: undefined, auth }).exit;
    expect(opened.code).toBe(77);
    expect(opened.stderr).toContain("if nobody here opened it, it may have been stolen");
  });

  test("ends the start with 66 for a missing secret and 77 for a refused one, and says where each is", async () => {
    await put("1");
    const missing = await start({ absent: {} }).exit;
    expect(missing.code).toBe(66);
    expect(missing.stderr).toContain('vault: secret \\"absent\\": no key \\"absent\\" in secret/data/app');
    const refused = await start({ db: { source: { mount: "sys", path: "raw/x" } } }).exit;
    expect(refused.code).toBe(77);
    expect(refused.stderr).toContain("permission denied (status 403)");
  });

  test("renews a certificate while the old one is valid, and not at polls, SIGHUP and other secrets' changes", async () => {
    await put("1");
    const source = { mount: "pki", path: "issue/app", data: { common_name: "app.test", ttl: "15s" } };
    const daemon = await start({
      db: {},
      cert: { source: { ...source, key: "certificate" } },
      key: { source: { ...source, key: "private_key" } },
    }).ready();
    const issued = () => forwarder.requests.filter((line) => line.includes("/pki/issue/")).length;
    const [cert, key] = [place.read("cert"), place.read("key")];
    daemon.signal("SIGHUP");
    await daemon.says(/fetched again: nothing has changed/);
    await published(await put("2"));
    expect(issued()).toBe(1);
    await eventually("a new certificate", () => place.read("cert") !== cert && place.read("key") !== key);
    expect(issued()).toBe(2);
    // The line comes after the files.
    const { secrets } = await daemon.says(/^published 2 changed secrets/);
    expect(secrets).toEqual(["cert", "key"]);
  });
});
