/**
 * Whatever a server does wrong, one clear line says so, without a word of its answer; all is well again when the server
 * is.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Observed } from "../contract/observed.ts";
import { temporary } from "../contract/temporary.ts";
import { until } from "../contract/until.ts";
import { freePort } from "../free-port.ts";
import { Authority } from "./authority.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { VaultServer } from "./server.ts";
import { onEachServer } from "./servers.ts";
import { type Answering, reply, StandIn } from "./stand-in.ts";

let canaries: Canaries;
let secret: string;
let token: string;
let tokenPath: string;

beforeEach(async () => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  canaries = new Canaries();
  secret = canaries.add(`canary-${randomBytes(12).toString("hex")}`);
  token = canaries.add(`token-${randomBytes(12).toString("hex")}`);
  tokenPath = join(path, "token");
  await writeFile(tokenPath, token);
});

const open = (settings: Record<string, unknown>) => openVault({ path: "app", tokenPath, ...settings }, canaries);

describe("a stand-in server", () => {
  let server: StandIn;
  beforeEach(async () => {
    server = await StandIn.start();
    server.data = { db: secret };
  });

  /** Fails once as `answering` does, then works. @returns the message, without the server's URL */
  async function failing(answering: Answering, settings: object = {}): Promise<object> {
    const vault = await open({ url: server.url, ...settings });
    server.answering = answering;
    const failure = await vault.outage("db");
    server.answering = () => false;
    expect(await textOf(vault, "db"), "it works again").toBe(secret);
    const { kind, message, retryAfter } = failure ?? {};
    return { kind, message: message?.replace(server.url, "URL"), ...(retryAfter === undefined ? {} : { retryAfter }) };
  }

  const saying = (response: ServerResponse, status: number, headers: Readonly<Record<string, string>> = {}) => {
    reply(response, status, { errors: [`${secret} ${token}`], data: secret }, headers);
    return true;
  };

  test.each([
    [400, "invalid", "secret/app: the server does not understand the request (status 400)"],
    [405, "invalid", "secret/app: the server does not support this operation (status 405)"],
    [412, "unavailable", "URL: the server has not caught up with the cluster yet (status 412)"],
    [418, "unavailable", "URL: a proxy before the server refuses the request (status 418)"],
    [429, "unavailable", "URL: the server limits how often it is asked (status 429)"],
    [472, "unavailable", "URL: the server is a standby that answers no requests (status 472)"],
    [473, "unavailable", "URL: the server is a standby that answers no requests (status 473)"],
    [500, "unavailable", "URL: the server has an internal error (status 500)"],
    [501, "unavailable", "URL: the server is not initialized (status 501)"],
    [502, "unavailable", "URL: the server has an internal error (status 502)"],
    [503, "unavailable", "URL: the server is sealed or under maintenance (status 503)"],
    [504, "unavailable", "URL: the server has an internal error (status 504)"],
  ])("status %i", async (status, kind, message) => {
    expect(await failing((_, response) => saying(response, status))).toEqual({ kind, message });
  });

  const behind = "secret/app: the secrets engine cannot reach the system behind it (status 400)";
  test.each([
    "error assuming role: ServiceUnavailable: status code: 503, request id: 1",
    "error fetching the keys: unexpected status code 502: Bad Gateway",
    "pq: sorry, too many clients already",
    "FATAL: the database system is starting up",
    "error creating user: dial tcp 10.0.0.7:5432: connect: connection refused",
    "Error assuming role: RequestError: send request failed caused by: Post https://sts: net/http: TLS handshake timeout",
    "context deadline exceeded",
    "Error assuming role: Throttling: Rate exceeded",
    "lookup db.internal: no such host",
    "unexpected EOF",
  ])("waits out a 400 about a service behind the server: %s", async (text) => {
    const answer: Answering = (_, response) => (reply(response, 400, { errors: [`${text} ${secret}`] }), true);
    expect(await failing(answer)).toEqual({ kind: "unavailable", message: behind });
  });

  test.each([400, 401, 403, 404, 405])(
    "does not take a %i in a gateway's own JSON for an answer about the secret",
    async (status) => {
      const answer: Answering = (_, response) => (reply(response, status, { message: `Forbidden ${secret}` }), true);
      expect(await failing(answer)).toEqual({
        kind: "unavailable",
        message: `URL: the answer is not from Vault or OpenBao (status ${status}, application/json)`,
      });
    },
  );

  test("looks up a token after the secrets, which one connection brings", async () => {
    const used: { readonly path: string; readonly socket: Socket }[] = [];
    server.answering = ({ path }, _, socket) => {
      used.push({ path: path.split("/").slice(-2).join("/"), socket });
      return false;
    };
    const vault = await open({ url: server.url });
    expect(await textOf(vault, "db")).toBe(secret);
    await until(() => used.some(({ path }) => path === "token/lookup-self"));
    expect(used.map(({ path }) => path)).toEqual(["mounts/secret", "data/app", "token/lookup-self"]);
    expect(used[0]?.socket).toBe(used[1]?.socket);
  });

  test.each([503, 412, 429])("looks up a token again after a %i, and so renews it before it ends", async (status) => {
    const seen = (end: string) => server.asked.filter(({ path }) => path.endsWith(end)).length;
    server.answering = ({ path }, response) => {
      if (path.endsWith("lookup-self")) {
        if (seen("lookup-self") < 3) return saying(response, status);
        reply(response, 200, { data: { ttl: 3, renewable: true, num_uses: 0 } });
        return true;
      }
      if (!path.endsWith("renew-self")) return false;
      reply(response, 200, { auth: { lease_duration: 3600, renewable: true, client_token: token } });
      return true;
    };
    const vault = await open({ url: server.url });
    for (const times of [1, 2, 3]) {
      expect(await textOf(vault, "db")).toBe(secret);
      await until(() => seen("lookup-self") === times);
      await until(() => vault.said.filter((line) => line.includes("cannot look up")).length === Math.min(times, 2));
    }
    await until(() => seen("renew-self") > 0);
    expect(await textOf(vault, "db")).toBe(secret);
    expect(seen("lookup-self"), "not again where it was answered").toBe(3);
  });

  test("repeats a failed look-up even without polls", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    let lookUps = 0;
    server.answering = ({ path }, response) => {
      if (!path.endsWith("lookup-self")) return false;
      lookUps += 1;
      return lookUps === 1 ? saying(response, 503) : (reply(response, 200, { data: { ttl: 0 } }), true);
    };
    const vault = await open({ url: server.url, kvVersion: 2 });
    await textOf(vault, "db");
    await until(() => vault.said.some((line) => line.includes("cannot look up")));
    vi.runOnlyPendingTimers();
    await until(() => lookUps === 2);
  });

  test("waits while a KV engine is upgraded to version 2, as the real server reports it", async () => {
    const errors = [
      "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly.",
    ];
    expect(await failing((_, response) => (reply(response, 400, { errors }), true))).toEqual({
      kind: "unavailable",
      message: "secret/app: the secrets engine is being upgraded to KV version 2 (status 400)",
    });
  });

  test("reports a 403 without another token as a refusal", async () => {
    expect(await failing((_, response) => saying(response, 403))).toEqual({
      kind: "denied",
      message: `the token in ${tokenPath} is not valid (any more), or may neither read this nor look itself up: put a new one there, or correct its policy`,
    });
  });

  test.each([
    ["without a token, at a server that answers 400", 400, "missing client token"],
    ["with a token that may neither read the place nor look itself up", 403, "permission denied"],
  ])("reports an agent %s", async (_, status, error) => {
    const vault = await openVault({ url: server.url, path: "app", auth: { method: "none" } }, canaries);
    server.answering = (_asked, response) => (reply(response, status, { errors: [error] }), true);
    expect(await vault.outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${server.url}: the agent has no token (yet), or one that may not look itself up`,
    });
    server.answering = () => false;
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test.each([
    ["7", 7],
    ["0", 0],
    ["99999999", 3600],
    ["Thu, 01 Jan 1970 00:00:00 GMT", 0],
    ["soon", undefined],
  ])("passes on Retry-After: %s as %s seconds", async (header, seconds) => {
    const message = "URL: the server limits how often it is asked (status 429)";
    expect(await failing((_, response) => saying(response, 429, { "retry-after": header }))).toEqual({
      kind: "unavailable",
      message,
      ...(seconds === undefined ? {} : { retryAfter: seconds }),
    });
  });

  test("passes on Retry-After too when the server delays the look-up of a refused token", async () => {
    const busy: Answering = ({ path }, response) =>
      path.endsWith("lookup-self") ? saying(response, 429, { "retry-after": "7" }) : saying(response, 403);
    expect(await failing(busy)).toEqual({
      kind: "unavailable",
      message: "URL: the server limits how often it is asked (status 429)",
      retryAfter: 7,
    });
  });

  const page =
    (status: number, type: string | undefined, text: string | Buffer): Answering =>
    (_, response) => {
      response.writeHead(status, type === undefined ? {} : { "content-type": type });
      response.end(text);
      return true;
    };
  const strange = (status: number, type: string) => ({
    kind: "unavailable",
    message: `URL: the answer is not from Vault or OpenBao (status ${status}, ${type})${
      status === 400 ? "; that port may expect https" : ""
    }`,
  });

  test("takes a page of HTML with status 200, 403 or 404 for neither a secret nor a missing one", async () => {
    for (const status of [200, 403, 404])
      expect(await failing(page(status, "text/html; charset=utf-8", `<h1>${secret}</h1>`))).toEqual(
        strange(status, "text/html"),
      );
  });

  test("takes an error without a text for neither: a lost proxy knows of no secret", async () => {
    for (const status of [400, 403, 404])
      expect(await failing(page(status, undefined, ""))).toEqual(strange(status, "no content type"));
    expect(await failing(page(429, undefined, ""))).toMatchObject({
      message: "URL: the server limits how often it is asked (status 429)",
    });
  });

  test("rejects an answer that is not JSON, not an object, or has no type", async () => {
    for (const text of [`{"data": {"data": {"db": "${secret}"`, `["${secret}"]`, `"${secret}"`, "null"])
      expect(await failing(page(200, "application/json", text))).toEqual(strange(200, "application/json"));
    expect(await failing(page(200, undefined, `{"data":{}}`))).toEqual(strange(200, "no content type"));
  });

  test("rejects JSON of another shape", async () => {
    const bodies: [unknown, string][] = [
      [{}, "no data in the answer"],
      [{ data: secret }, "no data in the answer"],
      [{ data: {} }, "no metadata in the answer"],
      [{ data: { data: {}, metadata: { version: secret } } }, "no metadata in the answer"],
      [{ data: { data: secret, metadata: { version: 1 } } }, "no data in the answer"],
    ];
    for (const [body, what] of bodies)
      expect(await failing((_, response) => (reply(response, 200, body), true), { kvVersion: 2 })).toEqual({
        kind: "unavailable",
        message: `secret/data/app: ${what}: this is not how Vault or OpenBao answers`,
      });
  });

  test("reports an answer that the token's policy wraps", async () => {
    const wrap_info = { token: secret, ttl: 60 };
    expect(
      await failing((_, response) => (reply(response, 200, { wrap_info, data: null }), true), { kvVersion: 2 }),
    ).toEqual({
      kind: "invalid",
      message: "secret/data/app: the answer comes wrapped: the token's policy has a min_wrapping_ttl",
    });
  });

  test("rejects an answer that a proxy has compressed or re-encoded", async () => {
    for (const body of [
      gzipSync(`{"data":{"data":{"db":"${secret}"}}}`),
      Buffer.from(`{"data":"${secret}"}`, "utf16le").swap16(),
    ])
      expect(await failing(page(200, "application/json", body))).toEqual(strange(200, "application/json"));
  });

  test("gives up endless interim answers before any time limit", async () => {
    const flood = (_: unknown, __: unknown, socket: Socket) => {
      socket.write("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000));
      return true;
    };
    expect(await failing(flood, { responseTimeout: 90, requestTimeout: 95 })).toEqual({
      kind: "unavailable",
      message: "URL: the answer does not begin (status 1xx again and again)",
    });
  });

  test("reports garbage instead of HTTP", async () => {
    expect(await failing((_, __, socket) => socket.end(`${secret}\r\n\r\n`).destroyed || true)).toEqual({
      kind: "unavailable",
      message: "URL: the answer is not HTTP",
    });
  });

  test("reports a connection that breaks before or within the answer", async () => {
    expect(await failing((_, __, socket) => socket.destroy().destroyed)).toEqual({
      kind: "unavailable",
      message: "URL: connection reset",
    });
    const within: Answering = (_, response, socket) => {
      response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
      response.write(`{"data":{"data":{"db":"${secret}"`, () => socket.destroy());
      return true;
    };
    expect(await failing(within)).toEqual({
      kind: "unavailable",
      message: "URL: connection reset",
    });
  });

  test("gives up a half-open connection, and an answer that stops in the middle, after responseTimeout", async () => {
    const givenUp = { kind: "unavailable", message: "URL: no answer within 1 s" };
    expect(await failing(() => true, { responseTimeout: 1 })).toEqual(givenUp);
    const stopping: Answering = (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.write("{");
      return true;
    };
    expect(await failing(stopping, { responseTimeout: 1 })).toEqual(givenUp);
  });

  test("does not blame the connection when a request waited for one and then for its answer", async () => {
    const places = Array.from({ length: 12 }, (_, index) => `place-${index}`);
    const sources = Object.fromEntries(places.map((id) => [id, { path: id, key: "db" }]));
    const vault = await openVault({ url: server.url, tokenPath, kvVersion: 2, connectTimeout: 5 }, canaries, sources);
    const held: ServerResponse[] = [];
    server.answering = ({ path }, response) => path.includes("/place-") && held.push(response) > 0;
    const answerAll = () => {
      for (const response of held.splice(0))
        reply(response, 200, { data: { data: { db: secret }, metadata: { version: 1 } } });
    };
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const fetches = Promise.all([vault.fetch(...places.slice(0, 8)), vault.fetch(...places.slice(8))]);
    for (const waiting of [8, 4]) {
      await until(() => held.length === waiting);
      vi.advanceTimersByTime(6000);
      answerAll();
    }
    for (const outcomes of await fetches)
      for (const outcome of outcomes.values()) expect(outcome).toMatchObject({ status: "value" });
  });

  test("gives up an endlessly dripping answer after requestTimeout", async () => {
    const dripping: Answering = (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const drip = setInterval(() => response.write(" "), 20);
      response.on("close", () => {
        clearInterval(drip);
      });
      return true;
    };
    expect(await failing(dripping, { requestTimeout: 1 })).toEqual({
      kind: "unavailable",
      message: "URL: no complete answer within 1 s",
    });
  });

  test("limits the memory for an answer without an end", async () => {
    const flooding: Answering = (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const chunk = Buffer.alloc(1024 * 1024, " ");
      const pour = () => {
        while (!response.destroyed && response.write(chunk));
      };
      response.on("drain", pour);
      pour();
      return true;
    };
    expect(await failing(flooding)).toEqual({
      kind: "invalid",
      message: "sys/internal/ui/mounts/secret: the answer is larger than 32 MiB",
    });
  });

  test("follows a redirect to the same origin with the token, and sends another origin nothing", async () => {
    const other = await StandIn.start();
    const to =
      (location: string, status = 307): Answering =>
      ({ path }, response) => {
        if (path.startsWith("/elsewhere/"))
          return (reply(response, 200, { data: { data: { db: secret }, metadata: { version: 2 } } }), true);
        response.writeHead(status, { location });
        response.end();
        return true;
      };
    const vault = await open({ url: server.url, kvVersion: 2 });
    for (const [location, status] of [
      ["/elsewhere/app", 307],
      [`${server.url}/elsewhere/app`, 302],
    ] as const) {
      server.answering = to(location, status);
      expect(await textOf(vault, "db")).toBe(secret);
      expect(server.asked.at(-1)).toMatchObject({ path: "/elsewhere/app", headers: { "x-vault-token": token } });
    }
    server.answering = to(`${other.url}/v1/secret/data/app?x=${secret}`);
    expect(await vault.outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${server.url}: redirects to another origin, ${other.url}, and fetcher sends no token there: if it is right, put it into \`url\``,
    });
    expect(other.asked).toEqual([]);
    for (const [location, what] of [
      [`file:///${secret}`, "file:"],
      [`javascript:${secret}`, "javascript:"],
      [`ftp://${secret}/`, "ftp:"],
      [`data:text/plain,${secret}`, "data:"],
      [`${"x".repeat(200)}:${secret}`, `${"x".repeat(100)}…`],
      [server.url.replace("//", `//user:${secret}@`), "a user in it"],
      [server.url.replace("//", `//:${secret}@`), "a user in it"],
    ] as const) {
      server.answering = to(location);
      expect(await vault.outage("db")).toMatchObject({
        kind: "unavailable",
        message: `${server.url}: redirects to a URL with ${what}, as no Vault does: see what answers at \`url\``,
      });
    }
    server.answering = to("/v1/secret/data/app");
    expect(await vault.outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${server.url}: redirects without end`,
    });
  });

  test("takes no proxy, token, namespace or debugging from the environment", async () => {
    const proxy = await StandIn.start();
    const said: string[] = [];
    const write = process.stderr.write.bind(process.stderr);
    process.stderr.write = (chunk: string | Uint8Array) => said.push(chunk.toString()) > 0;
    const environment = {
      http_proxy: proxy.url,
      HTTP_PROXY: proxy.url,
      all_proxy: proxy.url,
      VAULT_ADDR: proxy.url,
      VAULT_TOKEN: "token-of-the-environment",
      VAULT_NAMESPACE: "namespace-of-the-environment",
      VAULT_PREFIX: "/prefix",
      VAULT_SKIP_VERIFY: "1",
      DEBUG: "*",
    };
    onTestFinished(() => {
      process.stderr.write = write;
      for (const name of Object.keys(environment)) Reflect.deleteProperty(process.env, name);
    });
    Object.assign(process.env, environment);
    expect(await textOf(await open({ url: server.url }), "db")).toBe(secret);
    expect(proxy.asked).toEqual([]);
    canaries.check(said.join(""));
    for (const { headers, path } of server.asked) {
      expect(headers["x-vault-token"] === token).toBe(true);
      expect(headers["x-vault-request"]).toBe("true");
      expect(headers["x-vault-namespace"]).toBeUndefined();
      expect(path).toMatch(/^\/v1\/(secret|sys|auth)\//);
    }
  });

  test("sends no token with a login, and no earlier token with a request", async () => {
    server.answering = ({ path }, response) => {
      if (path !== "/v1/auth/approle/login") return false;
      reply(response, 200, { auth: { client_token: `${token}-of-login`, lease_duration: 60, renewable: true } });
      return true;
    };
    const secretIdPath = tokenPath;
    const vault = await openVault(
      { url: server.url, path: "app", kvVersion: 2, auth: { method: "approle", roleId: "role", secretIdPath } },
      canaries,
    );
    expect(await textOf(vault, "db")).toBe(secret);
    expect(server.asked.map(({ path, headers }) => [path, headers["x-vault-token"]])).toEqual([
      ["/v1/auth/approle/login", undefined],
      ["/v1/secret/data/app", `${token}-of-login`],
    ]);
  });

  test("keeps a lease whose renewal meets a sealed server", async () => {
    let issued = 0;
    let sealed = true;
    server.answering = ({ path }, response) => {
      if (path === "/v1/sys/leases/renew")
        if (sealed) reply(response, 503, { errors: ["Vault is sealed"] });
        else reply(response, 200, { lease_id: "lease", lease_duration: 3, renewable: true });
      else if (path === "/v1/database/creds/app") {
        issued += 1;
        reply(response, 200, { lease_id: "lease", lease_duration: 3, renewable: true, data: { db: secret } });
      } else if (path === "/v1/sys/internal/ui/mounts/database") reply(response, 200, { data: { type: "database" } });
      else return false;
      return true;
    };
    const vault = await open({ url: server.url, mount: "database", path: "creds/app" });
    const { refreshAfter, version } = await vault.value("db");
    await new Promise((resolve) => setTimeout(resolve, (refreshAfter ?? 0) * 1000));
    expect(await vault.outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${server.url}: the server is sealed (status 503)`,
    });
    sealed = false;
    expect(await vault.value("db")).toMatchObject({ version });
    expect(issued).toBe(1);
  });

  test("hides a server's text about a refused login, unwrapping or renewal, which may echo the request", async () => {
    const approle = { method: "approle", roleId: "role", secretIdPath: tokenPath };
    const cases = [
      [approle, "/v1/auth/approle/login", 400, "denied"],
      [approle, "/v1/auth/approle/login", 500, "unavailable"],
      [{ ...approle, wrapped: true }, "/v1/sys/wrapping/lookup", 400, "denied"],
      [{ ...approle, wrapped: true }, "/v1/sys/wrapping/lookup", 500, "unavailable"],
      [{ method: "token", tokenPath }, "/v1/secret/data/app", 403, "denied"],
    ] as const;
    for (const [auth, failing, status, kind] of cases) {
      const vault = await openVault({ url: server.url, path: "app", kvVersion: 2, auth }, canaries);
      let refused = 0;
      server.answering = ({ path, body, headers }, response) => {
        if (path !== failing && path !== "/v1/auth/token/lookup-self") return false;
        refused += 1;
        reply(response, status, {
          errors: [body, JSON.stringify(headers), token],
          warnings: [secret],
          auth: { secret },
        });
        return true;
      };
      expect(await vault.outage("db")).toMatchObject({ kind });
      expect(refused).toBeGreaterThan(0);
    }
  });

  test("after an aborted unwrapping uses the opened secret id at the next attempt, and reports no theft", async () => {
    const abort = new AbortController();
    let opened = 0;
    server.answering = ({ path }, response) => {
      if (path === "/v1/sys/wrapping/lookup")
        reply(response, 200, { data: { creation_path: "auth/approle/role/app/secret-id" } });
      else if (path === "/v1/auth/approle/login") reply(response, 200, { auth: { client_token: `${token}-of-login` } });
      else if (path !== "/v1/sys/wrapping/unwrap") return false;
      else if (opened++ > 0) reply(response, 400, { errors: ["wrapping token is not valid or does not exist"] });
      else {
        abort.abort();
        setImmediate(() => {
          reply(response, 200, { data: { secret_id: secret } });
        });
      }
      return true;
    };
    const auth = { method: "approle", roleId: "role", secretIdPath: tokenPath, wrapped: true };
    const vault = await openVault({ url: server.url, path: "app", kvVersion: 2, auth }, canaries);
    await expect(vault.backend.fetch(vault.requests("db"), abort.signal)).rejects.toThrow();
    expect(await textOf(vault, "db")).toBe(secret);
    expect(opened).toBe(1);
  });

  test("reports a malformed login answer, or a required second factor", async () => {
    const vault = await openVault(
      { url: server.url, path: "app", auth: { method: "approle", roleId: "role", secretIdPath: tokenPath } },
      canaries,
    );
    for (const [auth, kind, message] of [
      [
        { client_token: "" },
        "unavailable",
        "auth/approle/login: no token in the answer: this is not how Vault or OpenBao answers",
      ],
      [
        { mfa_requirement: { x: secret } },
        "denied",
        "auth/approle/login: asks for a second factor, which a service does not have",
      ],
    ] as const) {
      server.answering = (_, response) => (reply(response, 200, { auth }), true);
      expect(await vault.outage("db")).toMatchObject({ kind, message });
    }
  });

  test("a poll survives an idle connection that the server closes just as it is used", async () => {
    // The previous request asks which engine is at that place. No token look-up uses that connection meanwhile.
    const vault = await openVault({ url: server.url, path: "app", auth: { method: "none" } }, canaries);
    let closed = 0;
    server.answering = ({ path }, _, socket) => {
      if (closed > 0 || path !== "/v1/secret/data/app") return false;
      closed += 1;
      return socket.destroy().destroyed;
    };
    expect(await textOf(vault, "db")).toBe(secret);
    expect(closed).toBe(1);
  });
});

describe("no server", () => {
  test("reports a closed port, an unknown host, a missing socket", async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const directory = await mkdtemp(join(tmpdir(), "fetcher-socket-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    const cases = [
      [url, `${url}: connection refused`],
      // Two addresses, so two refusals.
      [url.replace("127.0.0.1", "localhost"), `${url.replace("127.0.0.1", "localhost")}: connection refused`],
      [
        "http://no-such-host.invalid:8200",
        expect.stringMatching(/the host's name (is not known|cannot be looked up now)$/) as string,
      ],
      [`unix:${directory}/none`, `unix:${directory}/none: no such socket (yet)`],
    ] as const;
    for (const [server, message] of cases)
      expect(await (await open({ url: server })).outage("db")).toMatchObject({
        kind: "unavailable",
        message,
      });
  });
});

for (const storage of ["file", "raft"] as const)
  onEachServer(
    `a real server with TLS, on ${storage} storage`,
    storage === "file" ? ["vault-file-storage"] : [],
    (product) => {
      let server: VaultServer;
      let key: string;
      let caFile: string;
      let vault: Observed;
      let removeCertificates: () => Promise<void>;

      const connect = (settings: object = {}) => open({ url: server.url, tls: { caFile }, ...settings });

      beforeAll(async () => {
        const { path, dispose } = await temporary();
        removeCertificates = dispose;
        const maker = await VaultServer.dev(product);
        const { hcl, caFile: file } = await (await Authority.create(maker)).listener(path);
        await maker.dispose();
        caFile = file;
        server = await VaultServer.stored(hcl, { storage, product });
      });
      afterAll(async () => {
        await server.dispose();
        await removeCertificates();
      });

      const sealed = () => ({ kind: "unavailable", message: `${server.url}: the server is sealed (status 503)` });
      /** A new secret, which the backend has read once. */
      async function working(settings: object = {}): Promise<void> {
        await server.write("secret/data/app", { data: { db: secret } });
        await writeFile(tokenPath, canaries.add(server.rootToken));
        vault = await connect(settings);
        expect(await textOf(vault, "db")).toBe(secret);
      }

      test("waits until the server is initialized, unsealed and ready", async () => {
        vault = await connect();
        expect(await vault.outage("db")).toMatchObject({
          kind: "unavailable",
          message: expect.stringMatching(/: the server is (not initialized|sealed)/) as string,
        });
        key = await server.initialize();
        await server.mountKv("secret", 2);
        await server.write("secret/data/app", { data: { db: secret } });
        await writeFile(tokenPath, canaries.add(server.rootToken));
        expect(await textOf(vault, "db")).toBe(secret);
      });

      test("waits while the server is sealed", async () => {
        await working();
        await server.call("PUT", "sys/seal");
        expect(await vault.outage("db")).toMatchObject(sealed());
        await server.unseal(key);
        expect(await textOf(vault, "db")).toBe(secret);
      });

      test("waits while the server is killed, restarts sealed, and is unsealed later", async () => {
        await working();
        await server.stop();
        expect(await vault.outage("db")).toMatchObject({
          kind: "unavailable",
          message: `${server.url}: connection refused`,
        });
        await server.start();
        expect(await vault.outage("db")).toMatchObject(sealed());
        await server.unseal(key);
        expect(await textOf(vault, "db")).toBe(secret);
      });

      test("waits while the server is stopped by a signal: it takes connections and does not answer", async () => {
        await working({ connectTimeout: 3, responseTimeout: 3 });
        // Also where this fails: the next test speaks to the same server.
        onTestFinished(() => {
          server.thaw();
        });
        await server.freeze();
        expect(await vault.outage("db")).toMatchObject({
          kind: "unavailable",
          message: expect.stringMatching(/: no (answer|connection) within 3 s$/) as string,
        });
        server.thaw();
        await until(async () => (await vault.outage("db")) === undefined, "it answers again");
        expect(await textOf(vault, "db")).toBe(secret);
      });

      test("respects the server's rate limit", async () => {
        await working();
        await server.write("sys/quotas/rate-limit/slow", { rate: 1, interval: "1h", path: "secret/" });
        onTestFinished(async () => {
          await server.call("DELETE", "sys/quotas/rate-limit/slow");
        });
        await until(async () => (await vault.outage("db")) !== undefined, "a request is one too many");
        expect(await vault.outage("db")).toMatchObject({
          kind: "unavailable",
          message: `${server.url}: the server limits how often it is asked (status 429)`,
        });
      });
    },
    storage === "file" ? ["vault"] : undefined,
  );
