/** KV secrets of a real server: what we ask, how often, and what an answer means. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import { temporary } from "../contract/temporary.ts";
import { until } from "../contract/until.ts";
import { Forwarder } from "./forwarder.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { VaultServer } from "./server.ts";
import { onEachServer } from "./servers.ts";

onEachServer("KV at a real server", [], (product) => {
  let server: VaultServer;
  let forwarder: Forwarder;
  let canaries: Canaries;
  let tokenPath: string;
  let secret: string;

  beforeAll(async () => {
    server = await VaultServer.dev(product);
    await server.mountKv("old", 1);
    await server.mountKv("team/deep", 2);
  });
  afterAll(() => server.dispose());

  beforeEach(async () => {
    const { path, dispose } = await temporary();
    forwarder = await Forwarder.to(server.url);
    onTestFinished(async () => {
      await forwarder.down();
      await dispose();
    });
    canaries = new Canaries();
    secret = canaries.add(`canary-${randomBytes(12).toString("hex")}`);
    tokenPath = join(path, "token");
    await writeFile(tokenPath, canaries.add(server.rootToken));
  });

  const open = (settings: object, sources: Readonly<Record<string, Record<string, unknown>>> = {}) =>
    openVault({ url: forwarder.url, tokenPath, ...settings }, canaries, sources);
  /** What the server was asked, but for the token's own affairs. */
  const asked = () =>
    forwarder.requests.map((line) => line.split(" ")[1] ?? "").filter((path) => !path.includes("/auth/token/"));
  const clear = () => forwarder.requests.splice(0);

  test("reads several paths and mounts of both versions in one scope with one request each, at the start and at every poll", async () => {
    await server.write("secret/data/app", { data: { db: `${secret}-db`, api: `${secret}-api` } });
    await server.write("old/some/where", { user: `${secret}-user`, password: `${secret}-password` });
    await server.write("team/deep/data/tls", { data: { key: `${secret}-key` } });
    const vault = await open(
      { path: "app" },
      {
        user: { mount: "old", path: "some/where" },
        pw: { mount: "old", path: "/some/where/", key: "password" },
        tls: { mount: "team/deep", path: "tls", key: "key" },
      },
    );
    const ids = ["db", "api", "user", "pw", "tls"];
    const outcomes = await vault.fetch(...ids);
    expect(ids.map((id) => (outcomes.get(id) as { value: Buffer }).value.toString())).toEqual(
      ["db", "api", "user", "password", "key"].map((name) => `${secret}-${name}`),
    );
    const reads = ["/v1/old/some/where", "/v1/secret/data/app", "/v1/team/deep/data/tls"];
    const mounts = ["old", "secret", "team/deep"].map((mount) => `/v1/sys/internal/ui/mounts/${mount}`);
    expect(asked().sort()).toEqual([...reads, ...mounts].sort());
    clear();
    await vault.fetch(...ids);
    expect(asked().sort()).toEqual(reads);
  });

  test("needs one request for the first fetch with kvVersion", async () => {
    await server.write("secret/data/app", { data: { db: secret } });
    const vault = await open({ path: "app", kvVersion: 2 });
    expect(await textOf(vault, "db")).toBe(secret);
    expect(asked()).toEqual(["/v1/secret/data/app"]);
  });

  test("keeps a pinned version, whatever is written after it", async () => {
    for (const round of [1, 2, 3]) await server.write("secret/data/pinned", { data: { db: `${secret}-${round}` } });
    const vault = await open({ path: "pinned" }, { then: { key: "db", version: 2 }, now: { key: "db" } });
    expect((await vault.value("then")).value.toString()).toBe(`${secret}-2`);
    expect(await vault.value("then")).toMatchObject({ version: "2" });
    expect(await vault.value("now")).toMatchObject({ version: "3" });
    expect(await (await open({ path: "pinned" }, { db: { version: 9 } })).outcome("db")).toMatchObject({
      status: "missing",
      where: "nothing at secret/data/pinned, version 9",
    });
    const old = await open({ mount: "old", path: "pinned" }, { db: { version: 2 } });
    expect(await old.outcome("db")).toMatchObject({
      kind: "invalid",
      message: "old/pinned: has no versions: old is not KV version 2",
    });
  });

  test("reports why a secret is missing: deleted, destroyed, never written, or without that key", async () => {
    const vault = await open({ path: "gone" });
    expect(await vault.outcome("db")).toMatchObject({ where: "nothing at secret/data/gone" });
    await server.write("secret/data/gone", { data: { api: secret } });
    expect(await vault.outcome("db")).toMatchObject({ where: 'no key "db" in secret/data/gone' });
    await server.call("DELETE", "secret/data/gone");
    expect(await vault.outcome("db")).toMatchObject({
      status: "missing",
      where: "version 1 of secret/data/gone is deleted",
    });
    await server.call("PUT", "secret/destroy/gone", { versions: [1] });
    expect(await vault.outcome("db")).toMatchObject({
      status: "missing",
      where: "version 1 of secret/data/gone is destroyed",
    });
  });

  test("a mistyped key: names the nearest one, with both versions, unless another secret has it", async () => {
    for (const [mount, at] of [
      ["secret", "secret/data/near"],
      ["old", "old/near"],
    ] as const) {
      const values = { db: secret, ["line\nbreak"]: secret };
      await server.write(at, mount === "old" ? values : { data: values });
      const vault = await open({ mount, path: "near" });
      expect(await vault.outcome("bd")).toMatchObject({
        status: "missing",
        where: `no key "bd" in ${at}; did you mean "db"?`,
      });
      expect(await vault.outcome("line break")).toMatchObject({
        where: `no key "line break" in ${at}; did you mean "line\\nbreak"?`,
      });
      expect((await vault.fetch("db", "bd")).get("bd")).toMatchObject({ where: `no key "bd" in ${at}` });
    }
  });

  test("keeps a secret until its later deletion, by the server's clock and not by ours", async () => {
    await server.write("secret/metadata/later", { delete_version_after: "1h" });
    await server.write("secret/data/later", { data: { db: secret } });
    const vault = await open({ path: "later" });
    expect(await textOf(vault, "db")).toBe(secret);
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 7200_000 });
    onTestFinished(() => void vi.useRealTimers());
    expect(await textOf(vault, "db")).toBe(secret);
    await server.write("secret/metadata/later", { delete_version_after: "1s" });
    await server.write("secret/data/later", { data: { db: secret } });
    await until(async () => !("value" in (await vault.outcome("db"))));
    expect(await vault.outcome("db")).toMatchObject({ where: "version 2 of secret/data/later is deleted" });
  });

  test("refuses a mount whose version it may not read, and never takes it for version 1", async () => {
    await writeFile(tokenPath, canaries.add(await server.token('path "cubbyhole/*" { capabilities = ["read"] }')));
    const vault = await open({ path: "app" });
    expect(await vault.outcome("db")).toMatchObject({
      kind: "denied",
      message:
        "secret/app, or secret/data/app for KV version 2: permission denied (status 403); the token may read nothing below secret, or there is no such `mount`",
    });
    expect(asked().every((path) => path === "/v1/sys/internal/ui/mounts/secret")).toBe(true);
  });

  test("names the path that a policy must allow: for KV version 1, version 2, and another engine", async () => {
    const rules = 'path "secret/data/other" { capabilities = ["read"] } path "old/other" { capabilities = ["read"] }';
    await writeFile(tokenPath, canaries.add(await server.token(rules)));
    const said = async (settings: object) => {
      const outcome = await (await open(settings)).outcome("db");
      return "message" in outcome ? outcome.message : outcome;
    };
    expect(await said({ path: "app" })).toBe("secret/data/app: permission denied (status 403)");
    expect(await said({ path: "app", kvVersion: 2 })).toBe("secret/data/app: permission denied (status 403)");
    expect(await said({ path: "app", mount: "old" })).toBe("old/app: permission denied (status 403)");
    expect(await said({ path: "app", kvVersion: 1 })).toBe("secret/app: permission denied (status 403)");
  });

  test("corrects a path that begins with the mount, with data/ or /v1, and a mount that includes part of the path", async () => {
    await server.write("secret/data/hello", { data: { db: secret } });
    const said = async (settings: object) => {
      const outcome = await (await open(settings)).outcome("db");
      return "where" in outcome ? outcome.where : outcome;
    };
    expect(await said({ path: "secret/hello" })).toBe(
      'nothing at secret/data/secret/hello; `path` begins below the mount: leave "secret/" out of it',
    );
    // As the server's own addresses have it.
    expect(await said({ path: "secret/data/hello" })).toBe(
      'nothing at secret/data/secret/data/hello; `path` begins below the mount: leave "secret/data/" out of it',
    );
    expect(await said({ path: "data/hello" })).toBe(
      'nothing at secret/data/data/hello; leave "data/" out of `path`: fetcher adds it for KV version 2',
    );
    expect(await said({ mount: "secret/data", path: "hello" })).toBe(
      'nothing at secret/data/data/hello; the mount there is "secret": what comes after it belongs in `path`',
    );
    expect(await said({ path: "v1/secret/hello" })).toContain('leave "v1/" out of `path`');
    expect(await said({ path: "hello#db" })).toBe(
      "nothing at secret/data/hello#db; `#` is a part of the path: name the key in `key`",
    );
    expect(await said({ path: "hello", kvVersion: 1 })).toBe(
      "nothing at secret/hello; secret is of KV version 2: leave `kvVersion` out, the server knows it",
    );
    expect(await said({ mount: "nosuch", path: "hello", kvVersion: 2 })).toBe(
      "nothing at nosuch/data/hello; no secrets engine is mounted there: see `mount`",
    );
    const refused = await (await open({ mount: "nosuch", path: "hello" })).outcome("db");
    expect(refused).toMatchObject({
      kind: "denied",
      message: expect.stringMatching(/there is no such `mount`$/) as string,
    });
  });

  test.each(['"TOKEN"', "VAULT_TOKEN=TOKEN", '{"client_token":"TOKEN"}'])(
    "reports a token file with more than the token in it, without showing it: %s",
    async (form) => {
      await writeFile(tokenPath, canaries.add(form.replace("TOKEN", server.rootToken)));
      const outcome = await (await open({ path: "hello" })).outcome("db");
      expect(outcome).toMatchObject({
        kind: "denied",
        message: expect.stringMatching(/: more than the token seems to be in that file$/) as string,
      });
    },
  );

  test("accepts a url that ends in /v1", async () => {
    await server.write("secret/data/hello", { data: { db: secret } });
    for (const end of ["/v1", "/v1/"])
      expect(await textOf(await open({ url: `${forwarder.url}${end}`, path: "hello" }), "db")).toBe(secret);
  });

  test("ignores a byte order mark before a token, and keeps it in a value", async () => {
    await writeFile(tokenPath, `\ufeff${server.rootToken}\r\n`);
    await server.write("secret/data/hello", { data: { db: `\ufeff${secret}` } });
    expect(await textOf(await open({ path: "hello" }), "db")).toBe(`\ufeff${secret}`);
  });

  test("publishes all keys of a path as one JSON object, with the store's numbers", async () => {
    await server.write("old/whole", { user: secret, port: 0.5, nothing: null });
    const module = await loadBackend("vault", "/");
    const settings = module.parseSettings({ url: forwarder.url, tokenPath, mount: "old", path: "whole" });
    const source = module.parseWhole?.("app", {}, settings);
    const backend = await module.open(settings, { log: () => undefined, random: Math.random });
    const outcome = (await backend.fetch([{ id: "app", source }], new AbortController().signal)).get("app");
    const { value } = outcome as { value: Buffer };
    expect(JSON.parse(value.toString())).toEqual({ user: secret, port: 0.5, nothing: null });
    expect(module.describe(source, settings)).toBe("old/whole");
    expect(() => module.parseWhole?.("app", { key: "user" }, settings)).toThrow(
      'does not go together with "all": true',
    );
    await backend.close?.();
  });

  test("publishes strings as their bytes, everything else as its JSON", async () => {
    const data = {
      text: "ä\n",
      number: 8,
      flag: false,
      nothing: null,
      list: ["a", 1],
      object: { b: { c: "d" } },
      "": "x",
    };
    await server.write("secret/data/kinds", { data });
    const vault = await open({ path: "kinds" });
    const texts = await Promise.all(
      ["text", "number", "flag", "list", "object"].map(async (id) => [id, await textOf(vault, id)]),
    );
    expect(Object.fromEntries(texts)).toEqual({
      text: "ä\n",
      number: "8",
      flag: "false",
      list: '["a",1]',
      object: '{"b":{"c":"d"}}',
    });
    expect(await vault.outcome("nothing")).toEqual({
      status: "missing",
      where: 'no value: key "nothing" in secret/data/kinds is null',
    });
    expect(await vault.outcome("toString")).toMatchObject({ status: "missing" });
  });

  test("refuses a number that KV version 2 has altered, and keeps its text with version 1", async () => {
    const numbers = '"id": 12345678901234567890, "deep": { "ids": [1, 12345678901234567890] }, "huge": 1e21';
    const put = { method: "POST", headers: { "x-vault-token": server.rootToken } };
    await fetch(`${server.url}/v1/secret/data/numbers`, {
      ...put,
      body: `{"data":{${numbers},"most":9007199254740991,"least":-9007199254740991,"half":1.5}}`,
    });
    await fetch(`${server.url}/v1/old/numbers`, { ...put, body: `{${numbers},"decimal":1.10,"power":1e5}` });
    const vault = await open({ path: "numbers" });
    for (const id of ["id", "deep", "huge"])
      expect(await vault.outcome(id)).toMatchObject({
        kind: "invalid",
        message: `key "${id}" in secret/data/numbers: has a number that KV version 2 alters: store it as a string`,
      });
    const old = await open({ mount: "old", path: "numbers" });
    const texts = ["id", "deep", "huge", "decimal", "power"].map((id) => textOf(old, id));
    expect(await Promise.all(texts)).toEqual([
      "12345678901234567890",
      '{"ids":[1,12345678901234567890]}',
      "1e21",
      "1.10",
      "1e5",
    ]);
    expect(await textOf(vault, "most")).toBe("9007199254740991");
    expect(await textOf(vault, "least")).toBe("-9007199254740991");
    expect(await textOf(vault, "half")).toBe("1.5");
  });

  test("sends paths and keys of any characters to the server unchanged", async () => {
    const path = "a b/ä%2e%2e/q?x=#y&/+";
    await server.write(`secret/data/${path.split("/").map(encodeURIComponent).join("/")}`, {
      data: { "k/e y": secret },
    });
    const vault = await open({}, { db: { path, key: "k/e y" } });
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("polls every 60 s with one request on its own connection, without a watch or a change", async () => {
    await server.write("secret/data/app", { data: { db: secret } });
    const vault = await open({ path: "app", kvVersion: 2 });
    expect(vault.module.defaultPollingInterval).toBe(60);
    for (let poll = 0; poll < 5; poll++) await textOf(vault, "db");
    expect(asked()).toHaveLength(5);
  });
});
