/** TLS as an operator sets it up, with a real server on both sides of every mistake. */
import { randomBytes } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { freePort } from "../free-port.ts";
import { Authority } from "./authority.ts";
import { Forwarder } from "./forwarder.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { VaultServer } from "./server.ts";
import { onEachServer } from "./servers.ts";

onEachServer("TLS to a real server", [], (product) => {
  let maker: VaultServer;
  let authority: Authority;
  let strangers: Authority;
  let server: VaultServer;
  let removeCertificates: () => Promise<void>;
  let canaries: Canaries;
  let directory: string;
  let secret: string;

  const file = async (name: string, content: string | Buffer) => {
    const path = join(directory, name);
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
    return path;
  };

  beforeAll(async () => {
    maker = await VaultServer.dev(product);
    [authority, strangers] = [await Authority.create(maker), await Authority.create(maker)];
    const { path: certificates, dispose } = await temporary();
    removeCertificates = dispose;
    const { hcl, caFile } = await authority.listener(certificates);
    server = await VaultServer.stored(`${hcl}\ntls_client_ca_file = "${caFile}"`, { product });
    await server.initialize();
    await server.mountKv("secret", 2);
    await server.write("sys/policies/acl/app", { policy: 'path "secret/data/app" { capabilities = ["read"] }' });
    await server.write("sys/auth/cert", { type: "cert" });
    await server.write("auth/cert/certs/app", {
      certificate: authority.certificate,
      allowed_common_names: ["app.test"],
      token_policies: ["app"],
      token_num_uses: 1,
    });
  });
  afterAll(async () => {
    await server.dispose();
    await maker.dispose();
    await removeCertificates();
  });

  beforeEach(async () => {
    const place = await temporary();
    directory = place.path;
    onTestFinished(place.dispose);
    canaries = new Canaries();
    canaries.add(server.rootToken);
    secret = canaries.add(`canary-${randomBytes(12).toString("hex")}`);
    await server.write("secret/data/app", { data: { db: secret } });
  });

  const open = async (settings: object) =>
    openVault(
      { url: server.url, path: "app", tokenPath: await file("token", server.rootToken), ...settings },
      canaries,
    );

  test("trusts a private authority, in a file or a directory", async () => {
    const caFile = await file("ca.pem", authority.certificate);
    expect(await textOf(await open({ tls: { caFile } }), "db")).toBe(secret);
    const caDirectory = join(directory, "authorities");
    await mkdir(caDirectory);
    await writeFile(join(caDirectory, "strangers.crt"), strangers.certificate);
    await writeFile(join(caDirectory, "ours.pem"), authority.certificate);
    expect(await textOf(await open({ tls: { caDirectory } }), "db")).toBe(secret);
  });

  test("takes an authority that an editor wrote with a byte order mark", async () => {
    const caFile = await file("ca.pem", `\u{feff}${authority.certificate}`);
    expect(await textOf(await open({ tls: { caFile } }), "db")).toBe(secret);
  });

  test.each([
    ["is empty", () => ""],
    ["has another form", () => Buffer.from(authority.certificate.replaceAll(/-.*-|\s/g, ""), "base64")],
    ["has a key", () => "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"],
  ])("names the file of authorities where it %s, until it has one", async (_, content) => {
    const caFile = await file("ca.pem", content());
    const vault = await open({ tls: { caFile } });
    const form = "no certificate in PEM form in";
    const advice = "(openssl x509 -inform der converts from DER)";
    expect(await vault.outage("db")).toMatchObject({ kind: "invalid", message: `${form} ${caFile} ${advice}` });
    await file("ca.pem", authority.certificate);
    expect(await textOf(vault, "db")).toBe(secret);
    const caDirectory = join(directory, "authorities");
    await mkdir(caDirectory);
    await writeFile(join(caDirectory, "other.pem"), content());
    const message = `${form} ${caDirectory} ${advice}`;
    expect(await (await open({ tls: { caDirectory } })).outage("db")).toMatchObject({ kind: "invalid", message });
    await writeFile(join(caDirectory, "ours.pem"), authority.certificate);
    expect(await textOf(await open({ tls: { caDirectory } }), "db")).toBe(secret);
  });

  test("trusts the issuing authority alone, or the server's own certificate, and still checks its name", async () => {
    const issuer = await authority.intermediate();
    const { certificate, key } = await issuer.issue("127.0.0.1");
    const url = await tlsServer({ cert: `${certificate}\n${issuer.certificate}`, key });
    for (const [name, trusted] of [
      ["issuer.pem", issuer.certificate],
      ["server.pem", certificate],
    ] as const) {
      const caFile = await file(name, trusted);
      // The handshake is all that this server does.
      expect(await (await open({ url, tls: { caFile }, responseTimeout: 0.1 })).outage("db")).toMatchObject({
        kind: "unavailable",
        message: `${url}: no answer within 0.1 s`,
      });
      expect(await (await open({ url, tls: { caFile, serverName: "other.test" } })).outage("db")).toMatchObject({
        kind: "unavailable",
        message: `${url}: the server's certificate is for another name`,
      });
    }
    const caFile = await file("strangers.pem", strangers.certificate);
    expect(await (await open({ url, tls: { caFile } })).outage("db")).toMatchObject({ kind: "unavailable" });
  });

  test("sends no token to a server of an unknown authority, until the right authority is in the file", async () => {
    const caFile = await file("ca.pem", strangers.certificate);
    const vault = await open({ tls: { caFile } });
    expect(await vault.outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${server.url}: the server's certificate is from an unknown authority: name it in tls.caFile`,
    });
    await file("ca.pem", authority.certificate);
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("trusts only public authorities without tls, whatever NODE_TLS_REJECT_UNAUTHORIZED=0 says", async () => {
    process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
    onTestFinished(() => {
      delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    });
    expect(await (await open({})).outage("db")).toMatchObject({ kind: "unavailable" });
  });

  test("refuses a certificate for another name, and names tls.serverName as the remedy", async () => {
    const caFile = await file("ca.pem", authority.certificate);
    expect(await (await open({ tls: { caFile, serverName: "other.test" } })).outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${server.url}: the server's certificate is for another name`,
    });
    expect(await textOf(await open({ tls: { caFile, serverName: "server.test" } }), "db")).toBe(secret);
    // The same name, as the resolver takes it. Go's TLS refuses the dot.
    expect(await textOf(await open({ tls: { caFile, serverName: "server.test." } }), "db")).toBe(secret);
  });

  test("turns verification off only by its option, with a warning", async () => {
    const vault = await open({ tls: { insecureDoNotVerifyServer: true } });
    expect(await textOf(vault, "db")).toBe(secret);
    expect(vault.said[0]).toMatch(
      /^warn .*tls\.insecureDoNotVerifyServer is set: any server that answers there gets the token$/,
    );
  });

  test("treats a server's expired certificate as an outage, which a renewal ends", async () => {
    const { certificate, key } = await authority.issue("127.0.0.1", "1s");
    const url = await tlsServer({ cert: certificate, key });
    const caFile = await file("ca.pem", authority.certificate);
    // Until it has expired, the handshake is all that this server does.
    const vault = await open({ url, tls: { caFile }, responseTimeout: 0.1 });
    await expect
      .poll(async () => (await vault.outage("db"))?.message, { timeout: 50_000 })
      .toBe(`${url}: the server's certificate has expired`);
    expect(await vault.outage("db")).toMatchObject({ kind: "unavailable" });
  });

  test("sends no token to a server with nothing newer than TLS 1.1", async () => {
    const { certificate, key } = await authority.issue("127.0.0.1");
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
    const url = await tlsServer({ cert: certificate, key, ...old });
    const caFile = await file("ca.pem", authority.certificate);
    expect(await (await open({ url, tls: { caFile } })).outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${url}: the server offers no TLS version that is allowed`,
    });
  });

  test("reports that a server speaks no TLS at an https URL", async () => {
    const url = maker.url.replace("http:", "https:");
    expect(await (await open({ url })).outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${url}: the server does not speak TLS on that port`,
    });
  });

  test("reports that the server may expect https at an http URL", async () => {
    const url = server.url.replace("https:", "http:");
    expect(await (await open({ url, tls: undefined })).outage("db")).toMatchObject({
      kind: "unavailable",
      message: `${url}: the answer is not from Vault or OpenBao (status 400, no content type); that port may expect https`,
    });
  });

  test("waits for missing files, and names the option of a file that is not PEM", async () => {
    const caFile = join(directory, "late.pem");
    const vault = await open({ tls: { caFile } });
    expect(await vault.outage("db")).toMatchObject({ kind: "unavailable", message: `no file ${caFile} (yet)` });
    await file("late.pem", authority.certificate);
    expect(await textOf(vault, "db")).toBe(secret);
    const [certFile, keyFile] = [await file("cert", secret), await file("key", secret)];
    expect(await (await open({ tls: { caFile, certFile, keyFile } })).outage("db")).toMatchObject({
      kind: "invalid",
      // It may be being written.
      mayHealFor: 10,
      message: expect.stringContaining(`no certificate in PEM form in ${certFile}`) as string,
    });
  });

  test("waits for a missing key in the middle of a certificate's renewal", async () => {
    const caFile = await file("ca.pem", authority.certificate);
    const [before, after] = [await authority.issue("app.test"), await authority.issue("app.test")];
    const certFile = await file("client.pem", after.certificate);
    const keyFile = await file("client.key", before.key);
    const vault = await open({ tls: { caFile, certFile, keyFile } });
    for (let attempt = 0; attempt < 2; attempt++)
      expect(await vault.outage("db")).toMatchObject({
        kind: "unavailable",
        message: "tls.certFile and tls.keyFile do not match (yet)",
      });
    await file("client.key", after.key);
    expect(await textOf(vault, "db")).toBe(secret);
    await file("client.key", before.key);
    expect(await vault.outage("db"), "never with half of the old pair").toMatchObject({ kind: "unavailable" });
    await file("client.pem", before.certificate);
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("logs in by certificate, and uses a replaced client certificate at the next login", async () => {
    const caFile = await file("ca.pem", authority.certificate);
    const put = async (name: string) => {
      const { certificate, key } = await authority.issue(name);
      return { certFile: await file("client.pem", certificate), keyFile: await file("client.key", key) };
    };
    const files = await put("stranger.test");
    const auth = { method: "cert", role: "app" };
    const vault = await openVault(
      { url: server.url, path: "app", kvVersion: 2, auth, tls: { caFile, ...files } },
      canaries,
    );
    expect(await vault.outage("db")).toMatchObject({
      kind: "denied",
      message: expect.stringContaining("see the certificate in tls.certFile") as string,
    });
    await put("app.test");
    expect(await textOf(vault, "db")).toBe(secret);
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test("gives up a silent TLS handshake after connectTimeout", async () => {
    const forwarder = await Forwarder.to(server.url);
    onTestFinished(() => forwarder.down());
    forwarder.silent();
    const caFile = await file("ca.pem", authority.certificate);
    expect(await (await open({ url: forwarder.url, tls: { caFile }, connectTimeout: 0.3 })).outage("db")).toMatchObject(
      {
        kind: "unavailable",
        message: `${forwarder.url}: no connection within 0.3 s`,
      },
    );
  });
});

/** A TLS server that is reached by its handshake alone. */
async function tlsServer(options: tls.TlsOptions): Promise<string> {
  const port = await freePort();
  const server = tls.createServer(options);
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.close();
  });
  return `https://127.0.0.1:${port}`;
}
