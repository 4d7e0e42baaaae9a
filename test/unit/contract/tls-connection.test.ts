/**
 * TLS over a connection that can rest. If these fail, a server that the usual way would reach is not reached, or is not checked.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Connection, ConnectionEvents, OpenResting } from "../../../src/contract/connection.ts";
import { SocketConnection } from "../../../src/contract/socket-connection.ts";
import { tlsOpener } from "../../../src/contract/tls-connection.ts";
import { temporary } from "../../contract/temporary.ts";
import { needs } from "../../requirements.ts";

let cert: Buffer, key: Buffer;
let server: tls.Server;
let port: number;
let said: string[];
let connection: Connection | undefined;
let over: (event: string) => void;
let carried: string[];

/** A carrier over a socket of Node's, which says that it can rest. */
class Carrier extends SocketConnection {
  rest(): boolean {
    return true;
  }
  wake(patience: number | undefined): boolean {
    return patience === 3;
  }
}

const carry: OpenResting = (peer, events) => {
  carried.push("host" in peer ? peer.host : "");
  return new Carrier(net.connect(peer), "connect", events);
};

needs("openssl").describe("TLS over a connection that can rest", () => {
  beforeAll(async () => {
    const { path, dispose } = await temporary();
    const files = ["-keyout", join(path, "key"), "-out", join(path, "cert")];
    const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const names = ["-subj", "/CN=server", "-addext", "subjectAltName=DNS:localhost"];
    execFileSync("openssl", [...kind, ...files, ...names], { stdio: "ignore" });
    [cert, key] = [readFileSync(join(path, "cert")), readFileSync(join(path, "key"))];
    return dispose;
  });

  beforeEach(async () => {
    [said, carried] = [[], []];
    server = tls.createServer({ cert, key }, (socket) => {
      socket.on("error", () => undefined).on("data", (data: Buffer) => socket.end(`answer to ${data.toString()}`));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    ({ port } = server.address() as AddressInfo);
  });
  afterEach(async () => {
    connection?.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  /** @returns what was said until it came to its end. */
  async function ask(host: string, resting: OpenResting | undefined, options: tls.ConnectionOptions = {}) {
    const ended = new Promise<string>((resolve) => (over = resolve));
    const events: ConnectionEvents = {
      opened: () => {
        said.push(`opened, ${connection?.rest?.() === true ? "rests" : "cannot rest"}`);
        connection?.send(Buffer.from("question"));
      },
      received: (bytes) => said.push(bytes.toString()),
      ended: (error) => {
        over((error as NodeJS.ErrnoException | undefined)?.code ?? "ended");
      },
    };
    connection = tlsOpener({ ca: cert, rejectUnauthorized: true, ...options }, () => resting)({ host, port }, events);
    said.push(await ended);
    return said;
  }

  test("carries an exchange, rests, and wakes with the patience that it is given", async () => {
    expect(await ask("127.0.0.1", carry, { servername: "localhost" })).toEqual([
      "opened, rests",
      "answer to question",
      "ended",
    ]);
    expect([connection?.wake?.(3), connection?.wake?.(undefined)]).toEqual([true, false]);
  });

  test.each<readonly [string, string, tls.ConnectionOptions, string]>([
    ["a name that the certificate does not have", "127.0.0.1", {}, "ERR_TLS_CERT_ALTNAME_INVALID"],
    ["an authority that is not trusted", "localhost", { ca: [] }, "DEPTH_ZERO_SELF_SIGNED_CERT"],
    ["an old version of TLS", "localhost", { maxVersion: "TLSv1.1", minVersion: "TLSv1.1" }, "ERR_SSL"],
  ])("opens nothing for %s", async (_, host, options, code) => {
    const all = await ask(host, carry, options);
    expect(all.join()).toContain(code);
    expect(all).toHaveLength(1);
    expect(carried.at(-1)).toBe("127.0.0.1");
  });

  test.each<readonly [string, OpenResting | undefined]>([
    ["there is none now", undefined],
    ["it cannot be opened", () => undefined],
    [
      "it ends before it is open",
      (_, events) => {
        setImmediate(() => {
          events.ended(new Error("refused"));
        });
        return new Carrier(new net.Socket(), "connect", { ...events, ended: () => undefined });
      },
    ],
    ["the address is silent", (_, events) => new Carrier(new net.Socket(), "connect", events)],
  ])("goes the usual way where %s", async (_, resting) => {
    expect(await ask("localhost", resting)).toEqual(["opened, cannot rest", "answer to question", "ended"]);
  });

  test("says nothing after it is destroyed", async () => {
    const told: string[] = [];
    const say = (text: string) => () => told.push(text);
    const events = { opened: say("opened"), received: say("received"), ended: say("ended") };
    for (const wait of [0, 1, 5]) {
      const one = tlsOpener({ ca: cert }, () => carry)({ host: "localhost", port }, events);
      await new Promise((resolve) => setTimeout(resolve, wait));
      const before = told.length;
      one.destroy();
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(told).toHaveLength(before);
    }
  });
});
