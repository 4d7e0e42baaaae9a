/**
 * While nothing changes, a thread of the executable looks at the store. If these fail, a change, an outage or a new token
 * is seen half a minute late, or never. Needs FETCHER_TEST_PROGRAM=dist/fetcher.
 */
import * as fs from "node:fs";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { needs } from "../requirements.ts";
import { VaultServer } from "../vault/server.ts";
import { onEachServer } from "../vault/servers.ts";
import { StandIn } from "../vault/stand-in.ts";
import { type Daemon, eventually, Place } from "./daemon.ts";
import { listener, passOn, token, value, vaultAt } from "./network.ts";

/** The requests that came over one connection. A poll closes its own. */
type Requests = { readonly path: string; readonly token: unknown }[];

class Vault {
  readonly connections = new Map<Socket, Requests>();
  readonly standIn: StandIn;
  data: Readonly<Record<string, unknown>> = { id: value };
  status = 200;
  /** What each answer has more, or `undefined`. */
  more: () => object = () => ({});

  private constructor(standIn: StandIn) {
    this.standIn = standIn;
    standIn.answering = ({ path, headers }, response, socket) => {
      const requests = this.connections.get(socket) ?? [];
      this.connections.set(socket, requests);
      requests.push({ path, token: headers["x-vault-token"] });
      const answer = path.includes("/mounts/")
        ? { data: { type: "kv", options: { version: "2" } } }
        : path.includes("/lookup-self")
          ? { data: { ttl: 0, num_uses: 0, renewable: false } }
          : { ...this.more(), data: { data: this.data, metadata: { version: 1 } } };
      const body = JSON.stringify({ request_id: crypto.randomUUID(), ...answer });
      const isSecret = path.startsWith("/v1/secret/");
      response.writeHead(isSecret ? this.status : 200, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
      });
      response.end(body);
      return true;
    };
  }

  static async start(): Promise<Vault> {
    return new Vault(await StandIn.start());
  }

  /** The longest row of requests over one connection. */
  get longest(): Requests {
    return [...this.connections.values()].reduce((one, other) => (other.length > one.length ? other : one), []);
  }

  get asked(): number {
    return this.standIn.asked.length;
  }
}

async function watched(
  vault: Vault,
  config: object = {},
  more: object = {},
): Promise<{ place: Place; daemon: Daemon }> {
  const place = new Place("/dev/shm");
  const quick = { reloadOnChange: true, pollingInterval: 0.1, ...config };
  const daemon = await place.start({ ...vaultAt(place, vault.standIn.url, quick), ...more }).ready();
  expect(place.read("id")).toBe(value);
  return { place, daemon };
}

async function isLookedAt(vault: Vault): Promise<void> {
  await eventually("five looks over one connection", () => vault.longest.length >= 5);
}

async function endsWithoutCanary(daemon: Daemon): Promise<void> {
  const { code, stderr } = await daemon.end();
  expect(code).toBe(0);
  expect(stderr.includes("canary")).toBe(false);
}

needs("executable").describe("a store that answers the same", () => {
  test("is looked at over one connection, with the token, and for what the polls ask", async () => {
    const vault = await Vault.start();
    const { daemon } = await watched(vault);
    await isLookedAt(vault);
    const requests = vault.longest;
    expect(new Set(requests.map(({ path }) => path))).toEqual(new Set(["/v1/secret/data/app"]));
    expect(requests.every((request) => request.token === token)).toBe(true);
    await endsWithoutCanary(daemon);
    const { asked } = vault;
    await delay(300);
    expect(vault.asked).toBe(asked);
  });

  test("and then another is published soon", async () => {
    const vault = await Vault.start();
    const { place, daemon } = await watched(vault);
    for (const round of ["canary-second", "canary-third", "canary-fourth"]) {
      vault.connections.clear();
      await isLookedAt(vault);
      vault.data = { id: round };
      await eventually(round, () => place.read("id") === round, 20);
    }
    await endsWithoutCanary(daemon);
  });

  test("and then goes is an outage, and its return is told", async () => {
    const vault = await Vault.start();
    const { daemon } = await watched(vault);
    await isLookedAt(vault);
    vault.status = 503;
    await daemon.says(/status 503|sealed|unavailable/);
    vault.status = 200;
    await daemon.says(/answers again/);
    vault.connections.clear();
    await isLookedAt(vault);
    await endsWithoutCanary(daemon);
  });

  test("a new token in the file goes into the next request", async () => {
    const vault = await Vault.start();
    const { place, daemon } = await watched(vault);
    await isLookedAt(vault);
    const fresh = "canary-token-another";
    fs.writeFileSync(place.path("token.new"), fresh);
    fs.renameSync(place.path("token.new"), place.path("token"));
    vault.connections.clear();
    await isLookedAt(vault);
    expect(vault.longest.every((request) => request.token === fresh)).toBe(true);
    await endsWithoutCanary(daemon);
  });

  test("a published file that somebody removes is there again soon", async () => {
    const vault = await Vault.start();
    const { place, daemon } = await watched(vault);
    await isLookedAt(vault);
    fs.rmSync(`${place.output}/id`);
    await eventually("the file", () => place.read("id") === value, 20);
    await daemon.says(/restored published files/);
    await endsWithoutCanary(daemon);
  });

  test("a reload and a stop are as quick as ever", async () => {
    const vault = await Vault.start();
    const { daemon } = await watched(vault);
    await isLookedAt(vault);
    daemon.signal("SIGHUP");
    await daemon.says(/nothing has changed/);
    vault.connections.clear();
    await isLookedAt(vault);
    await endsWithoutCanary(daemon);
  });
});

needs("executable").describe("it is polled as ever", () => {
  async function isPolled(vault: Vault, daemon: Daemon): Promise<void> {
    const { asked } = vault;
    await eventually("many polls", () => vault.asked > asked + 30);
    vault.connections.clear();
    await eventually("more polls", () => vault.asked > asked + 60);
    expect(vault.longest.length).toBeLessThan(3);
    await endsWithoutCanary(daemon);
  }

  test("where something in each answer differs", async () => {
    const vault = await Vault.start();
    let count = 100;
    vault.more = () => ({ warnings: [`${count++}`] });
    const { daemon } = await watched(vault);
    await isPolled(vault, daemon);
  });

  test("where the token is good for some requests only", async () => {
    const vault = await Vault.start();
    const { answering } = vault.standIn;
    vault.standIn.answering = (asked, response, socket) => {
      if (!asked.path.includes("/lookup-self")) return answering(asked, response, socket);
      const body = JSON.stringify({ data: { ttl: 3600, num_uses: 5000, renewable: false } });
      response.writeHead(200, { "content-type": "application/json", "content-length": body.length }).end(body);
      return true;
    };
    const { daemon } = await watched(vault);
    await isPolled(vault, daemon);
  });

  test("where a token that takes the place of another is good for some requests only", async () => {
    const vault = await Vault.start();
    const { answering } = vault.standIn;
    const fresh = "canary-token-limited";
    vault.standIn.answering = (asked, response, socket) => {
      if (!asked.path.includes("/lookup-self") || asked.headers["x-vault-token"] !== fresh)
        return answering(asked, response, socket);
      const body = JSON.stringify({ data: { ttl: 0, num_uses: 5000, renewable: false } });
      response.writeHead(200, { "content-type": "application/json", "content-length": body.length }).end(body);
      return true;
    };
    const { place, daemon } = await watched(vault);
    await isLookedAt(vault);
    fs.writeFileSync(place.path("token.new"), fresh);
    fs.renameSync(place.path("token.new"), place.path("token"));
    const isFresh = (request: { readonly token: unknown }) => request.token === fresh;
    const rows = () => [...vault.connections.values()].map((row) => row.filter(isFresh).length);
    await eventually("many polls", () => rows().reduce((sum, row) => sum + row, 0) > 30);
    expect(Math.max(...rows())).toBeLessThan(3);
    await endsWithoutCanary(daemon);
  });

  test("where the server's name is not an address", async () => {
    const vault = await Vault.start();
    const { daemon } = await watched(vault, { url: vault.standIn.url.replace("127.0.0.1", "localhost") });
    await isPolled(vault, daemon);
  });
});

/** A port before this server, and the longest row of requests for a secret over one of its connections. */
async function watchedPort(url: string): Promise<{ port: number; longest: () => number; forget: () => void }> {
  const rows: number[] = [];
  const pass = passOn(url);
  const port = await listener((socket) => {
    const row = rows.push(0) - 1;
    socket.on("data", (data) => {
      if (data.includes("GET /v1/secret")) rows[row] = (rows[row] ?? 0) + 1;
    });
    pass(socket);
  });
  const forget = () => {
    rows.fill(0);
  };
  return { port, longest: () => Math.max(0, ...rows), forget };
}

// Their answers differ in the id of the request alone, and in fields of the head.
onEachServer("is looked at, and its change is published", ["executable"], (product) => {
  test.each([
    ["KV version 2", "secret", 2, ""],
    ["KV version 1", "secret-one", 1, ""],
    // Answers above 2 KiB come in chunks.
    ["a long value", "secret", 2, "x".repeat(30_000)],
  ])("%s", async (_, mount, kvVersion, more) => {
    const server = await VaultServer.dev(product);
    onTestFinished(() => server.dispose());
    if (kvVersion === 1) await server.write(`sys/mounts/${mount}`, { type: "kv", options: { version: "1" } });
    const put = (text: string) =>
      kvVersion === 2
        ? server.write("secret/data/app", { data: { id: text, more } })
        : server.write(`${mount}/app`, { id: text, more });
    await put(value);
    const { port, longest, forget } = await watchedPort(server.url);
    const place = new Place("/dev/shm");
    const config = vaultAt(place, `http://127.0.0.1:${port}`, { mount, reloadOnChange: true, pollingInterval: 0.1 });
    fs.writeFileSync(place.path("token"), await server.token(`path "${mount}/*" { capabilities = ["read"] }`));
    const daemon = await place.start(config).ready();
    expect(place.read("id")).toBe(value);
    for (const text of ["canary-second", "canary-third"]) {
      forget();
      await eventually("ten looks over one connection", () => longest() >= 10);
      await put(text);
      await eventually(text, () => place.read("id") === text, 20);
    }
    await endsWithoutCanary(daemon);
  });
});
