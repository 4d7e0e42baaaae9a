/**
 * Logins at a real server: what an operator set up for a service gives it its secrets, for as long as the service runs.
 */
import { spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes, sign } from "node:crypto";
import { writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { until } from "../contract/until.ts";
import { Authority } from "./authority.ts";
import { Forwarder } from "./forwarder.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { VaultServer } from "./server.ts";
import { onEachServer } from "./servers.ts";

const rules = `path "secret/data/app" { capabilities = ["read"] }
               path "secret/data/many/*" { capabilities = ["read"] }
               path "secret/data/denied" { capabilities = ["deny"] }`;

onEachServer("login at a real server", [], (product) => {
  let server: VaultServer;
  let forwarder: Forwarder;
  let canaries: Canaries;
  let directory: string;
  let secret: string;

  beforeAll(async () => {
    server = await VaultServer.dev(product);
    await server.write("sys/policies/acl/app", { policy: rules });
    await server.write("sys/auth/approle", { type: "approle" });
  });
  afterAll(() => server.dispose());

  beforeEach(async () => {
    const place = await temporary();
    directory = place.path;
    forwarder = await Forwarder.to(server.url);
    onTestFinished(async () => {
      await forwarder.down();
      await place.dispose();
    });
    canaries = new Canaries();
    canaries.add(server.rootToken);
    secret = canaries.add(`canary-${randomBytes(12).toString("hex")}`);
    await server.write("secret/data/app", { data: { db: secret } });
  });

  const file = async (name: string, content: string) => {
    const path = join(directory, name);
    await writeFile(path, content);
    return path;
  };
  const open = (settings: object, sources = {}) =>
    openVault({ url: forwarder.url, path: "app", ...settings }, canaries, sources);
  const token = async (more: object = {}) => {
    const { body } = await server.write("auth/token/create", { policies: ["app"], ...more });
    return canaries.add((body["auth"] as { client_token: string }).client_token);
  };
  const requests = (part: string) => forwarder.requests.filter((line) => line.includes(part)).length;

  /** Its own role with this name. */
  async function role(name: string, more: object = {}) {
    await server.write(`auth/approle/role/${name}`, { token_policies: ["app"], ...more });
    const { body } = await server.read(`auth/approle/role/${name}/role-id`);
    const { role_id: roleId } = body["data"] as { role_id: string };
    const secretId = async () => {
      const { body: made } = await server.write(`auth/approle/role/${name}/secret-id`);
      return canaries.add((made["data"] as { secret_id: string }).secret_id);
    };
    return { roleId, secretId };
  }

  /** A response-wrapped answer to a write. */
  async function wrapped(path: string, body: object = {}) {
    const response = await fetch(`${server.url}/v1/${path}`, {
      method: "POST",
      headers: { "x-vault-token": server.rootToken, "x-vault-wrap-ttl": "60s" },
      body: JSON.stringify(body),
    });
    const answer = (await response.json()) as { wrap_info: { token: string } };
    return canaries.add(answer.wrap_info.token);
  }

  /** An agent that logs in by AppRole. */
  async function agentWith(roleId: string, secretIdPath: string) {
    const socket = join(directory, "agent.sock");
    const agent = await startAgent(
      server.program,
      directory,
      `vault { address = "${server.url}" }
       auto_auth {
         method "approle" {
           config = {
             role_id_file_path = "${await file("agent-role", roleId)}"
             secret_id_file_path = "${secretIdPath}"
           }
         }
       }
       api_proxy { use_auto_auth_token = true }
       listener "unix" {
         address = "${socket}"
         tls_disable = true
         require_request_header = true
       }`,
    );
    return { socket, agent };
  }

  test("waits for a late token file, empty at first: a boot survives a late agent", async () => {
    const tokenPath = join(directory, "token");
    const vault = await open({ tokenPath });
    expect(await vault.outage("db")).toMatchObject({
      kind: "unavailable",
      message: `no token: no file ${tokenPath} (yet)`,
    });
    await file("token", "");
    expect(await vault.outage("db")).toMatchObject({
      kind: "unavailable",
      message: `no token: ${tokenPath} is empty (yet)`,
    });
    await file("token", `${await token()}\n`);
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("names a token file without a token, and neither shows nor sends any of it", async () => {
    const tokenPath = await file("token", `${secret}\nhttp: ${secret}`);
    expect(await (await open({ tokenPath })).outage("db")).toMatchObject({
      kind: "invalid",
      message: `${tokenPath} is not a token: expected one word of printable ASCII`,
    });
    expect(forwarder.requests).toEqual([]);
  });

  test("reads a token file again: an agent's new token counts from the next poll", async () => {
    const first = await token();
    const tokenPath = await file("token", first);
    const vault = await open({ tokenPath });
    expect(await textOf(vault, "db")).toBe(secret);
    await server.write("auth/token/revoke", { token: first });
    expect(await vault.outage("db")).toMatchObject({
      kind: "denied",
      message: `the token in ${tokenPath} is not valid (any more), or may neither read this nor look itself up: put a new one there, or correct its policy`,
    });
    await file("token", await token());
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("tells a token that the policy keeps from a path from an invalid one", async () => {
    const vault = await open({ tokenPath: await file("token", await token()) }, { other: { path: "denied" } });
    const outcomes = await vault.fetch("db", "other");
    expect(outcomes.get("db")).toMatchObject({ status: "value" });
    expect(outcomes.get("other")).toMatchObject({
      kind: "denied",
      message: "secret/data/denied: permission denied (status 403)",
    });
  });

  test("tells a login mounted elsewhere from a refused one", async () => {
    const auth = { method: "approle", roleId: "nobody", secretIdPath: await file("secret-id", "none") };
    const said = async (more: object) => (await (await open({ auth: { ...auth, ...more } })).outage("db"))?.message;
    for (const mount of ["nosuch", "auth/approle"])
      expect(await said({ mount })).toBe(
        `auth/${mount}/login: the server refuses the login (status 403): see the role id, and the secret id in ${auth.secretIdPath}. Or no login is mounted at auth/${mount}: set auth.mount to one that \`vault auth list\` shows, without "auth/"`,
      );
    expect(await said({})).not.toContain("auth.mount");
  });

  test("renews a token in the file for as long as the sidecar runs", async () => {
    const vault = await open({ tokenPath: await file("token", await token({ period: "5s" })) });
    expect(await textOf(vault, "db")).toBe(secret);
    await until(() => requests("renew-self") >= 3);
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("retries a failed renewal until the token has really ended", async () => {
    const vault = await open({ tokenPath: await file("token", await token({ period: "24s" })) });
    await textOf(vault, "db");
    await until(() => requests("lookup-self") >= 1 && forwarder.answers === forwarder.requests.length);
    // A round trip to the server: its earlier answer about the token has arrived by then, too.
    await textOf(vault, "db");
    await forwarder.down();
    await until(() => vault.said.some((line) => line.includes("cannot renew the token: ")));
    await forwarder.up();
    await until(() => requests("renew-self") >= 1);
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("announces the end of a non-renewable token in time for the operator to replace it", async () => {
    const tokenPath = await file("token", await token({ ttl: "10s", renewable: false }));
    const vault = await open({ tokenPath });
    await textOf(vault, "db");
    await until(() =>
      vault.said.some((line) => /^warn the token in \S+ ends in \d+ s and cannot be renewed/.test(line)),
    );
  });

  test("AppRole: reads the secrets with role id and secret id, with one login", async () => {
    const { roleId, secretId } = await role("plain");
    const secretIdPath = await file("secret-id", await secretId());
    const roleIdPath = await file("role-id", roleId);
    for (const id of [{ roleId }, { roleIdPath }]) {
      const vault = await open({ auth: { method: "approle", ...id, secretIdPath } });
      const before = requests("auth/approle/login");
      for (let poll = 0; poll < 3; poll++) expect(await textOf(vault, "db")).toBe(secret);
      expect(requests("auth/approle/login") - before).toBe(1);
    }
  });

  test("AppRole: names the file of a wrong secret id; the right one counts at the next attempt", async () => {
    const { roleId, secretId } = await role("wrong");
    const secretIdPath = await file("secret-id", canaries.add("wrong-secret-id-canary"));
    const vault = await open({ auth: { method: "approle", roleId, secretIdPath } });
    expect(await vault.outage("db")).toMatchObject({
      kind: "denied",
      message: `auth/approle/login: the server refuses the login (status 400): see the role id, and the secret id in ${secretIdPath}`,
    });
    await file("secret-id", await secretId());
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("AppRole: replaces a revoked token with one login, and no poll fails", async () => {
    const { roleId, secretId } = await role("revoked");
    const vault = await open({
      auth: { method: "approle", roleId, secretIdPath: await file("secret-id", await secretId()) },
    });
    expect(await textOf(vault, "db")).toBe(secret);
    await server.write("sys/leases/revoke-prefix/auth/approle/login", {});
    expect(await textOf(vault, "db")).toBe(secret);
    expect(requests("auth/approle/login")).toBe(2);
  });

  test("AppRole: logs in again beyond the token's longest life, and no poll fails", async () => {
    const { roleId, secretId } = await role("short", { token_ttl: "2s", token_max_ttl: "4s" });
    const vault = await open({
      auth: { method: "approle", roleId, secretIdPath: await file("secret-id", await secretId()) },
    });
    await until(async () => {
      expect(await textOf(vault, "db")).toBe(secret);
      return requests("auth/approle/login") >= 3;
    });
  });

  test("AppRole: uses tokens of two uses twice, and no poll fails", async () => {
    const { roleId, secretId } = await role("limited", { token_num_uses: 2 });
    const auth = { method: "approle", roleId, secretIdPath: await file("secret-id", await secretId()) };
    const vault = await open({ auth, kvVersion: 2 });
    for (let poll = 0; poll < 6; poll++) expect(await textOf(vault, "db")).toBe(secret);
    expect(requests("auth/approle/login")).toBe(3);
    expect(requests("renew-self") + requests("lookup-self")).toBe(0);
  });

  test("AppRole: reads several paths at once with tokens of one use", async () => {
    const { roleId, secretId } = await role("single", { token_num_uses: 1 });
    const auth = { method: "approle", roleId, secretIdPath: await file("secret-id", await secretId()) };
    const ids = ["one", "two", "three", "four", "five"];
    for (const id of ids) await server.write(`secret/data/many/${id}`, { data: { [id]: secret } });
    const vault = await open({ auth, kvVersion: 2 }, Object.fromEntries(ids.map((id) => [id, { path: `many/${id}` }])));
    for (let poll = 0; poll < 2; poll++)
      for (const [id, outcome] of await vault.fetch(...ids))
        expect({ id, outcome }).toMatchObject({ outcome: { status: "value" } });
    expect(requests("secret/data/many/"), "none is refused").toBe(10);
  });

  test("AppRole: a path refused at every poll causes no storm of logins", async () => {
    const { roleId, secretId } = await role("refused");
    const auth = { method: "approle", roleId, secretIdPath: await file("secret-id", await secretId()) };
    const vault = await open({ auth }, { other: { path: "denied" } });
    for (let poll = 0; poll < 5; poll++) expect(await vault.outcome("other")).toMatchObject({ kind: "denied" });
    expect(requests("auth/approle/login")).toBe(1);
  });

  test("AppRole: opens a wrapped secret id once, and uses it for every later login", async () => {
    const { roleId } = await role("wrapped", { token_num_uses: 1 });
    const secretIdPath = await file("wrapped", await wrapped("auth/approle/role/wrapped/secret-id"));
    const vault = await open({
      kvVersion: 2,
      auth: { method: "approle", roleId, secretIdPath, wrapped: true, role: "wrapped" },
    });
    for (let poll = 0; poll < 3; poll++) expect(await textOf(vault, "db")).toBe(secret);
    expect(requests("sys/wrapping/unwrap")).toBe(1);
    expect(requests("auth/approle/login")).toBe(3);
  });

  test("AppRole: reports a wrapped secret id opened before as a possible theft", async () => {
    const { roleId } = await role("stolen");
    const wrappingToken = await wrapped("auth/approle/role/stolen/secret-id");
    await server.write("sys/wrapping/unwrap", {}, { token: wrappingToken });
    const secretIdPath = await file("wrapped", wrappingToken);
    const vault = await open({ auth: { method: "approle", roleId, secretIdPath, wrapped: true } });
    expect(await vault.outage("db")).toMatchObject({
      kind: "denied",
      message: `the wrapped secret id in ${secretIdPath} was opened before, or is too old: if nobody here opened it, it may have been stolen`,
    });
  });

  test("AppRole: does not open a wrapping token made for another purpose", async () => {
    const { roleId } = await role("mine");
    await role("others");
    const forged = { secret_id: secret };
    for (const [made, role] of [
      [await wrapped("sys/wrapping/wrap", forged), {}],
      [await wrapped("sys/wrapping/wrap", forged), { role: "mine" }],
      [await wrapped("auth/approle/role/others/secret-id"), { role: "mine" }],
    ] as const) {
      const secretIdPath = await file("wrapped", made);
      const vault = await open({ auth: { method: "approle", roleId, secretIdPath, wrapped: true, ...role } });
      const whose = "role" in role ? role.role : "a role";
      expect(await vault.outage("db")).toMatchObject({
        kind: "denied",
        message: `the wrapping token in ${secretIdPath} was not made for a secret id of ${whose} in auth/approle: somebody may have replaced it`,
      });
    }
    expect(requests("sys/wrapping/unwrap")).toBe(0);
  });

  test("JWT: uses a replaced token file at the next login", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    await server.write("sys/auth/jwt-app", { type: "jwt" });
    await server.write("auth/jwt-app/config", {
      jwt_validation_pubkeys: [publicKey.export({ type: "spki", format: "pem" })],
    });
    await server.write("auth/jwt-app/role/app", {
      role_type: "jwt",
      user_claim: "sub",
      bound_audiences: ["vault"],
      token_policies: ["app"],
      token_num_uses: 1,
    });
    const jwt = (subject: string) => {
      const now = Math.floor(Date.now() / 1000);
      const claims = { sub: subject, aud: "vault", iat: now, nbf: now - 5, exp: now + 600 };
      const signed = [{ alg: "ES256", typ: "JWT" }, claims]
        .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
        .join(".");
      const signature = sign("sha256", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" });
      return canaries.add(`${signed}.${signature.toString("base64url")}`);
    };
    const jwtPath = await file("jwt", jwt("first"));
    const vault = await open({ kvVersion: 2, auth: { method: "jwt", mount: "jwt-app", role: "app", jwtPath } });
    expect(await textOf(vault, "db")).toBe(secret);
    await file("jwt", `${jwt("second")}x`);
    expect(await vault.outage("db")).toMatchObject({
      kind: "denied",
      message: expect.stringContaining(`see the role, and the token in ${jwtPath}`) as string,
    });
    await file("jwt", jwt("third"));
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("Kubernetes: reads the secrets with the pod's service account token", async () => {
    const pod = canaries.add(["e30", "e30", randomBytes(12).toString("hex")].join("."));
    const url = await fakeTokenReview(pod);
    await server.write("sys/auth/kubernetes", { type: "kubernetes" });
    await server.write("auth/kubernetes/config", {
      kubernetes_host: url,
      token_reviewer_jwt: serviceAccountToken(),
      disable_local_ca_jwt: true,
      kubernetes_ca_cert: (await Authority.create(server)).certificate,
    });
    await server.write("auth/kubernetes/role/app", {
      bound_service_account_names: ["app"],
      bound_service_account_namespaces: ["prod"],
      token_policies: ["app"],
      audience: "",
    });
    const jwt = serviceAccountToken(pod);
    canaries.add(jwt);
    const vault = await open({
      auth: { method: "kubernetes", role: "app", jwtPath: await file("jwt", jwt) },
    });
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("needs no login with an agent's socket, and leaves the token to the agent", async () => {
    const { roleId, secretId } = await role("agent");
    const { socket, agent } = await agentWith(roleId, await file("agent-secret", await secretId()));
    const vault = await openVault({ url: `unix:${socket}`, path: "app" }, canaries);
    await until(async () => agent.ended || (await vault.outage("db")) === undefined);
    expect(await textOf(vault, "db"), agent.log).toBe(secret);
  });

  test("waits for an agent that has not logged in yet; tells a policy's refusal from that", async () => {
    const { roleId, secretId } = await role("late-agent");
    const { socket, agent } = await agentWith(roleId, join(directory, "agent-secret"));
    const vault = await openVault({ url: `unix:${socket}`, path: "app" }, canaries, { other: { path: "denied" } });
    const noToken = "the agent has no token (yet), or one that may not look itself up";
    const outage = async () => (agent.ended ? "ended" : (await vault.outage("db"))?.message.replace(/^\S+: /, ""));
    // Where it has made its socket, it may not listen there yet.
    await until(async () => ["ended", noToken].includes((await outage()) ?? ""));
    expect(await vault.outage("db"), agent.log).toMatchObject({
      kind: "unavailable",
      message: `unix:${socket}: ${noToken}`,
    });
    await file("agent-secret", await secretId());
    await until(async () => (await outage()) !== noToken);
    expect(await textOf(vault, "db"), agent.log).toBe(secret);
    expect(await vault.outcome("other")).toMatchObject({
      kind: "denied",
      message: "secret/data/denied: permission denied (status 403)",
    });
  });
});

/** The server's own program, as an agent that logs in for others. */
async function startAgent(program: string, directory: string, config: string) {
  await writeFile(join(directory, "agent.hcl"), config);
  const child = spawn(program, ["agent", `-config=${join(directory, "agent.hcl")}`], {
    env: { PATH: process.env["PATH"] ?? "", HOME: directory },
  });
  const agent = { log: "", ended: false };
  const ended = new Promise<void>((resolve) =>
    child.once("exit", () => {
      agent.ended = true;
      resolve();
    }),
  );
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data: Buffer) => {
      agent.log += data.toString();
    });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  return agent;
}

/** As Kubernetes signs them; the signature is not checked here. */
function serviceAccountToken(id = "reviewer"): string {
  const claims = {
    iss: "kubernetes/serviceaccount",
    "kubernetes.io/serviceaccount/namespace": "prod",
    "kubernetes.io/serviceaccount/service-account.name": "app",
    "kubernetes.io/serviceaccount/service-account.uid": "uid-1",
    sub: "system:serviceaccount:prod:app",
    id,
  };
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const signed = [{ alg: "RS256", typ: "JWT" }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  return `${signed}.${sign("sha256", Buffer.from(signed), privateKey).toString("base64url")}`;
}

/** A fake of the one call of the Kubernetes API that Vault makes: TokenReview (authentication.k8s.io/v1). */
async function fakeTokenReview(id: string): Promise<string> {
  const fake = http.createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    request.on("end", () => {
      const { token } = (JSON.parse(text) as { spec: { token: string } }).spec;
      const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { id: string };
      response.setHeader("content-type", "application/json");
      response.statusCode = 201;
      response.end(
        JSON.stringify({
          apiVersion: "authentication.k8s.io/v1",
          kind: "TokenReview",
          status: {
            authenticated: claims.id === id,
            user: { username: "system:serviceaccount:prod:app", uid: "uid-1", groups: ["system:serviceaccounts"] },
          },
        }),
      );
    });
  });
  await new Promise<void>((resolve) => fake.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    fake.close();
  });
  return `http://127.0.0.1:${(fake.address() as AddressInfo).port}`;
}
