/** Servers as a network may have them, to see what programs do with them. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import net, { type AddressInfo } from "node:net";
import tls from "node:tls";
import { expect, onTestFinished } from "vitest";
import { StandIn } from "../vault/stand-in.ts";
import { eventually, type Place } from "./daemon.ts";

export const token = "canary-token-4417";
export const value = "canary-value-9026";

/** A configuration of Vault at this address. */
export function vaultAt(place: Place, url: string, more: object = {}) {
  fs.writeFileSync(place.path("token"), token, { mode: 0o600 });
  const config = { secretsDir: undefined, url, tokenPath: place.path("token"), path: "app", ...more };
  return { ...place.config(["id"], { config }), backend: "vault" };
}

export const awsKeys = {
  AWS_ACCESS_KEY_ID: "AKIAEXAMPLE",
  AWS_SECRET_ACCESS_KEY: "canary-key-5521",
  AWS_EC2_METADATA_DISABLED: "true",
};

export function awsAt(place: Place, endpoint: string, more: object = {}) {
  const config = { secretsDir: undefined, region: "eu-central-1", endpoint, ...more };
  return { ...place.config(["id"], { config }), backend: "aws" };
}

/** Starts a daemon, which must log this and publish nothing, whatever it receives. @returns its whole log. */
export async function refuses(
  place: Place,
  config: object,
  says: string | RegExp,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const daemon = place.start(config, { env });
  const isSaid = () => (typeof says === "string" ? daemon.stderr.includes(says) : says.test(daemon.stderr));
  await eventually(`${String(says)}\n${daemon.stderr}`, () => isSaid() || !daemon.running);
  expect(isSaid(), daemon.stderr).toBe(true);
  expect(place.published()).toEqual({});
  const { stderr } = await daemon.end();
  expect(stderr).not.toContain("canary");
  return stderr;
}

/** Starts a daemon, which must publish the server's values. @returns it */
export async function publishes(place: Place, config: object, env: Readonly<Record<string, string>> = {}) {
  const daemon = await place.start(config, { env }).ready();
  expect(place.read("id")).toBe(value);
  return daemon;
}

export async function standInWithValue(): Promise<StandIn> {
  const standIn = await StandIn.start();
  standIn.data = { id: value };
  return standIn;
}

/** Takes connections and does this with each. @returns its port. */
export async function listener(serve: (socket: net.Socket) => void, host = "127.0.0.1"): Promise<number> {
  return await listening(net.createServer(serve), "connection", host);
}

/** @returns the port of a TLS server that does this with each connection, once the handshake is over. */
export async function tlsListener(options: tls.TlsOptions, serve: (socket: net.Socket) => void): Promise<number> {
  const server = tls.createServer(options, serve);
  server.on("tlsClientError", () => undefined);
  return await listening(server, "secureConnection", "127.0.0.1");
}

async function listening(server: net.Server, event: string, host: string): Promise<number> {
  const sockets = new Set<net.Socket>();
  server.on(event, (socket: net.Socket) => {
    socket.on("error", () => undefined);
    sockets.add(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Passes a connection on to a server on this machine. */
export function passOn(url: string): (socket: net.Socket) => void {
  return (socket) => {
    const plain = net.connect(Number(new URL(url).port), "127.0.0.1");
    for (const [one, other] of [
      [socket, plain],
      [plain, socket],
    ] as const) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
    socket.pipe(plain).pipe(socket);
  };
}

/** A proxy that must not be used, and the variables that name it. */
export async function proxy(): Promise<{ env: Readonly<Record<string, string>>; asked: readonly string[] }> {
  const asked: string[] = [];
  const port = await listener((socket) => socket.once("data", (data) => asked.push(data.toString())));
  const names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
  const env = Object.fromEntries(names.map((name) => [name, `http://127.0.0.1:${port}`]));
  return { env: { ...env, NODE_USE_ENV_PROXY: "1" }, asked };
}

/** Authorities and certificates, made with openssl(1) in this directory. */
export class Certificates {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  path(name: string): string {
    return `${this.#directory}/${name}.pem`;
  }

  authority(name: string): void {
    this.#openssl("req", "-x509", ...this.#key(name), "-out", this.path(name), "-subj", "/CN=authority", "-days", "2");
  }

  /** Issues a certificate for `localhost` by that authority. @param days -1: it has expired. */
  issue(name: string, authority: string, days = 2): void {
    const request = `${this.#directory}/${name}.csr`;
    const names = ["-addext", "subjectAltName=DNS:localhost"];
    this.#openssl("req", "-new", ...this.#key(name), "-out", request, "-subj", "/CN=server", ...names);
    const signer = ["-CA", this.path(authority), "-CAkey", this.path(`${authority}-key`), "-CAcreateserial"];
    const more = ["-days", String(days), "-copy_extensions", "copy"];
    this.#openssl("x509", "-req", "-in", request, "-out", this.path(name), ...signer, ...more);
  }

  pair(name: string): { key: Buffer; cert: Buffer } {
    return { key: fs.readFileSync(this.path(`${name}-key`)), cert: fs.readFileSync(this.path(name)) };
  }

  #key(name: string): string[] {
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    return [...curve, "-nodes", "-keyout", this.path(`${name}-key`)];
  }

  #openssl(...args: readonly string[]): void {
    execFileSync("openssl", args, { stdio: "ignore" });
  }
}
