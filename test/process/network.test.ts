/**
 * What the Vault and AWS backends promise of the network and of TLS, asked of the program from outside: each runtime has a
 * client of its own. If these fail, a server that is not the right one gets the token, or a start waits for ever.
 */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import net, { type AddressInfo } from "node:net";
import tls from "node:tls";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { StandIn as SecretsManager } from "../aws/stand-in.ts";
import { needs } from "../requirements.ts";
import { StandIn } from "../vault/stand-in.ts";
import { temporary } from "../contract/temporary.ts";
import { Place } from "./daemon.ts";

const token = "canary-token-4417";
const value = "canary-value-9026";

/** A configuration of Vault at this address. */
function vaultAt(place: Place, url: string, more: object = {}) {
  fs.writeFileSync(place.path("token"), token, { mode: 0o600 });
  const config = { url, tokenPath: place.path("token"), path: "app", ...more };
  return { ...place.config(["id"]), backend: "vault", config, startTimeout: 2 };
}

/** Starts a daemon that must give up. @returns all that it says, without a secret in it. */
async function refusal(place: Place, config: object, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const { code, stderr } = await place.start(config, { env }).exit;
  expect(code, stderr).not.toBe(0);
  expect(stderr).not.toContain("canary");
  expect(place.published()).toEqual({});
  return stderr;
}

async function standInWithValue(): Promise<StandIn> {
  const standIn = await StandIn.start();
  standIn.data = { id: value };
  return standIn;
}

/** Takes connections and does this with each. @returns its address. */
async function listener(serve: (socket: net.Socket) => void): Promise<string> {
  const server = net.createServer((socket) => {
    socket.on("error", () => undefined);
    connections.add(socket);
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const socket of connections) socket.destroy();
    connections.clear();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
const connections = new Set<net.Socket>();

describe("Vault over HTTP", () => {
  test("the value arrives, with the token and by one way only", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    await place.start(vaultAt(place, standIn.url)).ready();
    expect(place.read("id")).toBe(value);
    expect(standIn.asked.at(-1)?.headers["x-vault-token"]).toBe(token);
  });

  test("a redirect to another origin gets no token, and no answer of it counts", async () => {
    const [standIn, thief] = [await standInWithValue(), await standInWithValue()];
    standIn.answering = ({ path }, response) => {
      response.writeHead(307, { location: thief.url + path }).end();
      return true;
    };
    const place = new Place();
    expect(await refusal(place, vaultAt(place, standIn.url))).toMatch(/redirect/);
    expect(thief.asked).toEqual([]);
  });

  test.each([
    ["does not answer", () => undefined, /no (?:complete )?answer within 1 s/],
    [
      "stops in the middle",
      (socket: net.Socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"data":'),
      /no (?:complete )?answer within 1 s/,
    ],
    ["hangs up", (socket: net.Socket) => socket.destroy(), /connection (?:was )?(?:closed|reset|lost|broke)/],
    [
      "hangs up in the middle",
      (socket: net.Socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"data":'),
      /connection (?:was )?(?:closed|reset|lost|broke)/,
    ],
    ["speaks something else", (socket: net.Socket) => socket.end("220 canary ESMTP\r\n"), /no HTTP|not HTTP|HTTP/],
  ])("a server that %s is given up, and is told of", async (_, serve, says) => {
    const place = new Place();
    const address = await listener((socket) => socket.once("data", () => void serve(socket)));
    const limits = { connectTimeout: 1, responseTimeout: 1, requestTimeout: 1.5 };
    expect(await refusal(place, vaultAt(place, `http://${address}`, limits))).toMatch(says);
  });

  test("a page with status 200 is no answer", async () => {
    const standIn = await standInWithValue();
    standIn.answering = ({ path }, response) => {
      if (!path.includes("/data/")) return false;
      response.writeHead(200, { "content-type": "text/html" }).end("<p>canary</p>");
      return true;
    };
    const place = new Place();
    expect(await refusal(place, vaultAt(place, standIn.url))).toMatch(/vault/);
  });

  test("an answer without an end does not fill the memory", async () => {
    const standIn = await standInWithValue();
    standIn.answering = (_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const more = () => {
        while (!response.destroyed && response.write("x".repeat(64 * 1024)));
        response.once("drain", more);
      };
      more();
      return true;
    };
    const place = new Place();
    expect(await refusal(place, vaultAt(place, standIn.url))).toMatch(/MiB/);
  });

  test("no proxy of the environment is asked", async () => {
    const standIn = await standInWithValue();
    const asked: string[] = [];
    const proxy = `http://${await listener((socket) => socket.once("data", (data) => asked.push(data.toString())))}`;
    const names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    const env = { ...Object.fromEntries(names.map((name) => [name, proxy])), NODE_USE_ENV_PROXY: "1" };
    const place = new Place();
    await place.start(vaultAt(place, standIn.url), { env }).ready();
    expect(place.read("id")).toBe(value);
    expect(asked).toEqual([]);
  });
});

needs("openssl").describe("Vault over TLS", () => {
  let directory: string;
  const pem = (name: string) => `${directory}/${name}.pem`;

  beforeAll(async () => {
    const { path, dispose } = await temporary();
    directory = path;
    for (const authority of ["ours", "strangers"]) request(authority, "/CN=authority", ["-days", "2"]);
    for (const [name, authority, days] of [
      ["good", "ours", "2"],
      ["strange", "strangers", "2"],
    ] as const)
      request(name, "/CN=server", [
        ...["-CA", pem(authority), "-CAkey", pem(`${authority}-key`), "-days", days],
        ...["-addext", "subjectAltName=DNS:localhost"],
      ]);
    return dispose;

    function request(name: string, subject: string, more: readonly string[]) {
      const key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        pem(`${name}-key`),
      ];
      execFileSync("openssl", ["req", "-x509", ...key, "-out", pem(name), "-subj", subject, ...more], {
        stdio: "ignore",
      });
    }
  });

  /** @returns the port of a TLS server in front of a stand-in. */
  async function secured(certificate: string, standIn: StandIn): Promise<number> {
    const sockets = new Set<net.Socket>();
    const [key, cert] = [fs.readFileSync(pem(`${certificate}-key`)), fs.readFileSync(pem(certificate))];
    const server = tls.createServer({ key, cert }, (secure) => {
      const plain = net.connect(Number(new URL(standIn.url).port), "127.0.0.1");
      for (const socket of [secure, plain]) {
        sockets.add(socket);
        socket.on("error", () => undefined);
      }
      secure.pipe(plain).pipe(secure);
    });
    server.on("tlsClientError", () => undefined);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  }

  test("a server with the authority's certificate for its name is asked", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured("good", standIn);
    await place.start(vaultAt(place, `https://localhost:${port}`, { tls: { caFile: pem("ours") } })).ready();
    expect(place.read("id")).toBe(value);
  });

  const trusting = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };
  test.each([
    ["another name", "good", "https://127.0.0.1", "ours", {}, /certificate is for another name|name/],
    ["another name, whatever the environment says", "good", "https://127.0.0.1", "ours", trusting, /name/],
    ["an unknown authority", "strange", "https://localhost", "ours", {}, /certificate/],
    [
      "an unknown authority, whatever the environment says",
      "strange",
      "https://localhost",
      "ours",
      trusting,
      /certificate/,
    ],
    ["no authority that this machine knows", "good", "https://localhost", undefined, {}, /certificate/],
    ["no authority, whatever the environment says", "good", "https://localhost", undefined, trusting, /certificate/],
  ])("a certificate of %s is refused before anything is sent", async (_, server, url, authority, env, says) => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured(server, standIn);
    const settings = authority === undefined ? {} : { tls: { caFile: pem(authority) } };
    expect(await refusal(place, vaultAt(place, `${url}:${port}`, settings), env)).toMatch(says);
    expect(standIn.asked).toEqual([]);
  });

  test.each(["SSL_CERT_FILE", "SSL_CERT_DIR"])("what $%s names is not trusted", async (name) => {
    const standIn = await standInWithValue();
    const place = new Place();
    const port = await secured("good", standIn);
    const env = { [name]: name.endsWith("DIR") ? directory : pem("ours") };
    expect(await refusal(place, vaultAt(place, `https://localhost:${port}`), env)).toMatch(/certificate/);
    expect(standIn.asked).toEqual([]);
  });

  test("AWS: a server that no known authority vouches for gets no request", async () => {
    const standIn = await standInWithValue();
    const place = new Place();
    const endpoint = `https://localhost:${await secured("good", standIn)}`;
    for (const env of [{}, trusting])
      expect(await refusal(place, awsAt(place, endpoint), { ...env, ...awsKeys })).toContain(
        "given up after startTimeout",
      );
    expect(standIn.asked).toEqual([]);
  });
});

const awsKeys = { AWS_ACCESS_KEY_ID: "AKIAEXAMPLE", AWS_SECRET_ACCESS_KEY: "canary-key-5521" };

function awsAt(place: Place, endpoint: string) {
  const config = { region: "eu-central-1", endpoint };
  return { ...place.config(["id"]), backend: "aws", config, startTimeout: 2 };
}

describe("AWS", () => {
  const start = async (answer: Parameters<typeof SecretsManager.start>[0]) => {
    const standIn = await SecretsManager.start(answer);
    onTestFinished(standIn.close);
    return standIn;
  };
  const secret = {
    ARN: "arn:aws:secretsmanager:eu-central-1:1:secret:id",
    Name: "id",
    SecretString: value,
    VersionId: "v1",
  };

  test("the value arrives, by requests that are signed", async () => {
    const standIn = await start(({ operation }) => ({
      body: operation === "BatchGetSecretValue" ? { SecretValues: [secret], Errors: [] } : secret,
    }));
    const place = new Place();
    await place.start(awsAt(place, standIn.url), { env: awsKeys }).ready();
    expect(place.read("id")).toBe(value);
    expect(standIn.calls[0]?.accessKey).toBe(awsKeys.AWS_ACCESS_KEY_ID);
  });

  test.each([
    ["is never answered", () => undefined],
    ["is answered by half", () => ({ body: secret, stalls: true })],
  ])("a start whose request %s is given up after startTimeout", async (_, answer) => {
    const standIn = await start(answer);
    const place = new Place();
    expect(await refusal(place, awsAt(place, standIn.url), awsKeys)).toContain("given up after startTimeout");
    expect(standIn.calls.length).toBeGreaterThan(0);
  });

  test("a redirect gets no signed request", async () => {
    const thief = await start(() => ({ body: secret }));
    const standIn = await start(() => ({ status: 307, headers: { location: thief.url }, body: "" }));
    const place = new Place();
    await refusal(place, awsAt(place, standIn.url), awsKeys);
    expect(thief.calls).toEqual([]);
  });
});
