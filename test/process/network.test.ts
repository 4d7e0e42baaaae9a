/**
 * What the Vault backend promises about the network, checked on the program from outside: each runtime has its own
 * client. If these fail, a wrong server gets the token, or a start waits for ever.
 */
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import net from "node:net";
import * as fs from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { freePort } from "../free-port.ts";
import { needs } from "../requirements.ts";
import { eventually, Place } from "./daemon.ts";
import { listener, passOn, proxy, publishes, refuses, standInWithValue, token, vaultAt, value } from "./network.ts";

test("publishes the value, and sends the token over one route only", async () => {
  const standIn = await standInWithValue();
  const place = new Place();
  await publishes(place, vaultAt(place, standIn.url));
  expect(standIn.asked.at(-1)?.headers["x-vault-token"] === token).toBe(true);
});

test("sends no token to a redirect to another origin, and ignores its answer", async () => {
  const [standIn, thief] = [await standInWithValue(), await standInWithValue()];
  standIn.answering = ({ path }, response) => {
    response.writeHead(307, { location: thief.url + path }).end();
    return true;
  };
  const place = new Place();
  await refuses(
    place,
    vaultAt(place, standIn.url),
    `redirects to another origin, ${thief.url}, and fetcher sends no token there`,
  );
  expect(thief.asked).toEqual([]);
});

test("follows a redirect to the same origin with the token, but not in a circle", async () => {
  const standIn = await standInWithValue();
  const [place, other] = [new Place(), new Place()];
  standIn.answering = ({ path }, response) => {
    if (path === "/v1/secret/data/app") response.writeHead(307, { location: "/v1/elsewhere" }).end();
    else if (path === "/v1/elsewhere") response.writeHead(307, { location: `${standIn.url}/v1/there` }).end();
    else if (path === "/v1/there")
      response
        .writeHead(200, { "content-type": "application/json" })
        .end(JSON.stringify({ data: { data: standIn.data, metadata: { version: 1 } } }));
    else return false;
    return true;
  };
  await publishes(place, vaultAt(place, standIn.url));
  // Questions about the token may come after it.
  const there = standIn.asked.find(({ path }) => path === "/v1/there");
  // No error shows a token.
  expect(there?.headers["x-vault-token"] === token).toBe(true);
  standIn.answering = ({ path }, response) => {
    if (path.includes("/mounts/")) return false;
    response.writeHead(307, { location: path }).end();
    return true;
  };
  await refuses(other, vaultAt(other, standIn.url), `${standIn.url}: redirects without end`);
});

const half = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"data":';
/** A byte now and then, for ever: each is in time. */
const drips = (socket: net.Socket) => {
  socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"canary":"');
  const timer = setInterval(() => socket.write("x"), 100);
  socket.once("close", () => {
    clearInterval(timer);
  });
};
/** What is to be given up comes to that soon, and nothing else does on a busy machine. */
const patient = { connectTimeout: 20, responseTimeout: 20, requestTimeout: 30 };
test.each<readonly [string, (socket: net.Socket) => void, string, object]>([
  ["does not answer", () => undefined, "no answer within 0.5 s", { responseTimeout: 0.5 }],
  ["stops in the middle", (socket) => socket.write(half), "no answer within 0.5 s", { responseTimeout: 0.5 }],
  ["answers without an end, and slowly", drips, "no complete answer within 2 s", { requestTimeout: 2 }],
  ["hangs up", (socket) => socket.destroy(), "connection reset", {}],
  ["resets the connection", (socket) => socket.resetAndDestroy(), "connection reset", {}],
  ["hangs up in the middle", (socket) => socket.end(half), "connection reset", {}],
  [
    "resets the connection in the middle",
    (socket) => socket.write(half, () => socket.resetAndDestroy()),
    "connection reset",
    {},
  ],
  ["speaks something else", (socket) => socket.end("220 canary ESMTP\r\n"), "the answer is not HTTP", {}],
])("gives up and reports a server that %s", async (_, serve, says, limits) => {
  const place = new Place();
  const url = `http://127.0.0.1:${await listener((socket) => {
    socket.once("data", () => {
      serve(socket);
    });
  })}`;
  await refuses(place, vaultAt(place, url, { ...patient, ...limits }), `${url}: ${says}`);
});

test("rejects a page with status 200", async () => {
  const standIn = await standInWithValue();
  standIn.answering = ({ path }, response) => {
    if (!path.includes("/data/")) return false;
    response.writeHead(200, { "content-type": "text/html" }).end("<p>canary</p>");
    return true;
  };
  const place = new Place();
  await refuses(place, vaultAt(place, standIn.url), "the answer is not from Vault or OpenBao (status 200, text/html)");
});

test("limits the memory for an answer without an end", async () => {
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
  await refuses(place, vaultAt(place, standIn.url), /MiB/);
});

test("ignores a proxy of the environment", async () => {
  const standIn = await standInWithValue();
  const { env, asked } = await proxy();
  const place = new Place();
  await publishes(place, vaultAt(place, standIn.url), env);
  expect(asked).toEqual([]);
});

test("reports a closed port, an unknown host or a missing socket", async () => {
  const port = await freePort();
  for (const [url, says] of [
    [`http://127.0.0.1:${port}`, /: connection refused/],
    [`http://localhost:${port}`, /: connection refused/],
    ["http://no-such-host.invalid:8200", /: the host's name (is not known|cannot be looked up now)/],
    ["unix:/nowhere/vault.sock", /: no such socket \(yet\)/],
  ] as const) {
    const place = new Place();
    await refuses(place, vaultAt(place, url), says);
  }
});

test("reaches a server on a Unix socket", async () => {
  const standIn = await standInWithValue();
  const place = new Place();
  const path = place.path("vault.sock");
  const server = net.createServer(passOn(standIn.url));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => void server.close());
  await publishes(place, vaultAt(place, `unix:${path}`));
});

needs("ipv6").test("reaches a server at an IPv6 address", async () => {
  const standIn = await standInWithValue();
  const port = await listener(passOn(standIn.url), "::1");
  const place = new Place();
  await publishes(place, vaultAt(place, `http://[::1]:${port}`));
  expect(standIn.asked.at(-1)?.headers.host).toBe(`[::1]:${port}`);
});

for (const [listening, silent] of [
  ["::1", "127.0.0.1"],
  ["127.0.0.1", "::1"],
] as const)
  needs("ipv6", "mount-namespace").test(
    `reaches the server at ${listening} when its name also has ${silent}`,
    async () => {
      const standIn = await standInWithValue();
      const port = await listener(passOn(standIn.url), listening);
      const place = new Place();
      fs.writeFileSync(place.path("hosts"), `${silent} two.test\n${listening} two.test\n`);
      const wrapper = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount --bind "$0" /etc/hosts && exec "$@"',
        place.path("hosts"),
      ];
      const daemon = place.start(vaultAt(place, `http://two.test:${port}`), { wrapper });
      await daemon.ready();
      expect(place.read("id")).toBe(value);
    },
  );

test("uses one connection for all requests of a poll, and closes it afterwards", async () => {
  const standIn = await standInWithValue();
  const sockets = new Map<net.Socket, string[]>();
  standIn.answering = ({ path }, _, socket) => {
    sockets.set(socket, [...(sockets.get(socket) ?? []), path]);
    return false;
  };
  const place = new Place();
  await publishes(
    place,
    vaultAt(place, standIn.url, { auth: { method: "none" }, tokenPath: undefined, pollingInterval: 0.2 }),
  );
  await eventually("three more polls", () => standIn.asked.length >= 5);
  const [first, ...rest] = sockets.values();
  expect(first).toEqual(["/v1/sys/internal/ui/mounts/secret", "/v1/secret/data/app"]);
  for (const requests of rest) expect(requests).toEqual(["/v1/secret/data/app"]);
});

test("no poll fails when the server closes a connection just as it is reused", async () => {
  const standIn = await standInWithValue();
  let closed = 0;
  standIn.answering = ({ path }, _, socket) => {
    if (closed > 0 || path !== "/v1/secret/data/app") return false;
    closed += 1;
    return socket.destroy().destroyed;
  };
  const place = new Place();
  const daemon = await publishes(
    place,
    vaultAt(place, standIn.url, { auth: { method: "none" }, tokenPath: undefined }),
  );
  expect(closed).toBe(1);
  expect(daemon.stderr).not.toContain("connection reset");
});

test("reports an outage and its end once each, and publishes what changed meanwhile", async () => {
  const standIn = await standInWithValue();
  const place = new Place();
  const daemon = await publishes(place, vaultAt(place, standIn.url, { pollingInterval: 0.2 }));
  standIn.answering = (_, __, socket) => socket.destroy().destroyed;
  expect((await daemon.says(/connection reset/)).level).toBe("warn");
  expect(place.read("id")).toBe(value);
  standIn.data = { id: "another" };
  standIn.answering = () => false;
  await daemon.says(/answers again/);
  await daemon.says(/^published 1/);
  expect(place.read("id")).toBe("another");
});

needs("root", "mount-namespace").test("resolves a name again when its name server comes after the start", async () => {
  const standIn = await standInWithValue();
  const place = new Place();
  const [resolver, service] = ["127.0.0.77", "late.test"];
  const dns = await nameServer(resolver);
  const file = place.path("resolv.conf");
  // No server answers there.
  fs.writeFileSync(file, "nameserver 127.0.0.78\n");
  const script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
  const url = `http://${service}:${new URL(standIn.url).port}`;
  const wrapper = ["unshare", "--mount", "sh", "-c", script, file];
  const config = vaultAt(place, url);
  const daemon = place.start(config, { wrapper });
  await daemon.says(/the host's name (?:cannot be looked up now|is not known).*; trying again/);
  expect(dns.asked).toEqual([]);
  fs.writeFileSync(file, `nameserver ${resolver}\n`);
  await daemon.ready();
  expect(place.read("id")).toBe(value);
  expect(new Set(dns.asked)).toEqual(new Set([service]));
});

/** A stand-in for a name server (RFC 1035): every name has the address 127.0.0.1, and none of IPv6. */
async function nameServer(address: string): Promise<{ readonly asked: readonly string[] }> {
  const asked: string[] = [];
  const socket = createSocket("udp4");
  socket.on("message", (query, peer) => {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString("latin1", at + 1, at + 1 + length));
      at += 1 + length;
    }
    asked.push(labels.join("."));
    const question = query.subarray(12, at + 5);
    const isAddress = query.readUInt16BE(at + 1) === 1;
    const header = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, isAddress ? 1 : 0, 0, 0, 0, 0]);
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    socket.send(Buffer.concat([header, question, ...(isAddress ? [record] : [])]), peer.port, peer.address);
  });
  await new Promise<void>((resolve) => socket.bind(53, address, resolve));
  onTestFinished(() => {
    socket.close();
  });
  return { asked };
}

/** A server that takes no connection: its queue is full, and the system leaves the next ones without an answer. */
const full = `import socket, sys
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(0)
inside = socket.create_connection(server.getsockname())
print(server.getsockname()[1], flush=True)
sys.stdin.read()`;

needs("python").test("gives up a connection that nobody takes, keeps none of them, and recovers at once", async () => {
  const blocked = spawn("python3", ["-c", full], { stdio: ["pipe", "pipe", "inherit"] });
  const gone = once(blocked, "exit");
  onTestFinished(() => void blocked.kill());
  const [port] = (await once(blocked.stdout, "data")) as [Buffer];
  const place = new Place();
  const limits = { connectTimeout: 0.4, responseTimeout: 20, requestTimeout: 30 };
  const daemon = place.start(vaultAt(place, `http://127.0.0.1:${Number(port)}`, limits));
  const sockets = () =>
    fs.readdirSync(`/proc/${daemon.pid}/fd`).filter((file) => {
      try {
        return fs.readlinkSync(`/proc/${daemon.pid}/fd/${file}`).startsWith("socket:");
      } catch {
        return false;
      }
    }).length;
  await daemon.says(/no connection within 0\.4 s/);
  const before = sockets();
  // Some more attempts, of which the log says nothing new.
  await delay(5000);
  // That of an attempt that begins just now.
  expect(sockets()).toBeLessThanOrEqual(before + 1);
  blocked.stdin.end();
  await gone;
  const standIn = await standInWithValue();
  const server = net.createServer(passOn(standIn.url));
  await new Promise<void>((resolve) => server.listen(Number(port), "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  await daemon.ready();
  expect(place.read("id")).toBe(value);
});

test("sends a request that is larger than what the network takes at once", async () => {
  const standIn = await standInWithValue();
  const text = "x".repeat(12 * 1024 * 1024);
  standIn.answering = ({ method, body }, response) => {
    if (method !== "POST") return false;
    const isWhole = (JSON.parse(body) as { text: string }).text === text;
    response
      .writeHead(isWhole ? 200 : 400, { "content-type": "application/json" })
      .end(JSON.stringify({ data: standIn.data, errors: [] }));
    return true;
  };
  // It takes nothing for a moment. The last moment may end after the test, when the stand-in has no address any more.
  const pass = passOn(standIn.url);
  const port = await listener((socket) => {
    socket.pause();
    setTimeout(() => {
      pass(socket);
    }, 200);
  });
  const place = new Place();
  const config = vaultAt(place, `http://127.0.0.1:${port}`, { mount: "engine" });
  await publishes(place, { ...config, secrets: { id: { source: { path: "make", data: { text } } } } });
});

test("reads one large answer at a time: the server of the next one waits", async () => {
  const standIn = await standInWithValue();
  const large = "x".repeat(15 * 1024 * 1024);
  const body = JSON.stringify({ data: { data: { id: large }, metadata: { version: 1 } } });
  const answers: (() => void)[] = [];
  let sent = 0;
  standIn.answering = ({ path }, response) => {
    if (!path.includes("/data/")) return false;
    response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
    // Half of each comes: more than may come of two at once, and more than the network holds.
    response.write(body.slice(0, 14 * 1024 * 1024), () => (sent += 1));
    answers.push(() => response.end(body.slice(14 * 1024 * 1024)));
    return true;
  };
  const place = new Place();
  const config = vaultAt(place, standIn.url, { kvVersion: 2, ...patient });
  const secrets = { one: { source: { path: "one", key: "id" } }, two: { source: { path: "two", key: "id" } } };
  const daemon = place.start({ ...config, secrets });
  await eventually("both are asked for", () => answers.length === 2 && sent > 0);
  // Time for what must not happen.
  await delay(500);
  expect(sent).toBe(1);
  for (const answer of answers) answer();
  await daemon.ready();
  expect([place.read("one"), place.read("two")].map((text) => text?.length)).toEqual([large.length, large.length]);
});
