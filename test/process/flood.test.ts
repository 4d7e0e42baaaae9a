/**
 * A hostile store, and the memory that it costs, seen from outside. If these fail, an impostor of the store takes the
 * memory of the host, and with it the services that need no new secret.
 */
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { MAX_TRAFFIC } from "../../src/contract/limits.ts";
import { type Reply, StandIn as SecretsManager } from "../aws/stand-in.ts";
import { StandIn as Vault } from "../vault/stand-in.ts";
import { runsOnNode } from "../program.ts";
import { type Daemon, eventually, Place } from "./daemon.ts";

const MIB = 1024 * 1024;

/** As Node takes it on a machine with little memory. */
const smallHeap = runsOnNode ? { NODE_OPTIONS: "--max-old-space-size=256" } : {};

/** MiB; the most that it ever had. */
function peak({ pid }: Daemon): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

/** MiB of a sidecar whose store behaves. */
async function usual(): Promise<number> {
  const place = new Place();
  place.put({ good: "value" });
  return peak(await place.start(place.config(["good"])).ready());
}

const twenty = Array.from({ length: 20 }, (_, index) => `s${index}`);
const optional = (ids: readonly string[]) => Object.fromEntries(ids.map((id) => [id, { optional: true }]));

test("limits memory to a small multiple of the answer limit when Vault sends 31 MiB twenty times", async () => {
  const hostile = await Vault.start();
  // What the parser would make objects of is the worst, so half is that.
  const halves = `"more":[${"{},".repeat(5 * MIB)}{}],"text":"${"x".repeat(16 * MIB)}"`;
  const [objects, text] = [halves, `"text":"${"x".repeat(31 * MIB)}"`].map((more) =>
    Buffer.from(`{"data":{"data":{"key":"value"},"metadata":{"version":1}},${more}}`),
  );
  hostile.answering = ({ path }, response) => {
    if (path.endsWith("/app")) return false;
    response.writeHead(200, { "content-type": "application/json" }).end(/[02468]$/.test(path) ? objects : text);
    return true;
  };
  hostile.data = { good: "value" };
  const place = new Place();
  fs.writeFileSync(place.path("token"), "token", { mode: 0o600 });
  const bad = Object.fromEntries(twenty.map((id) => [id, { source: { path: id, key: "key" }, optional: true }]));
  const config = { url: hostile.url, tokenPath: place.path("token"), kvVersion: 2, path: "app", secretsDir: undefined };
  const daemon = place.start(place.config({ good: {}, ...bad }, { backend: "vault", config }), { env: smallHeap });
  await daemon.ready();
  expect(place.read("good")).toBe("value");
  await eventually("it is told", () => daemon.stderr.includes("JSON of more than 100000 members"));
  expect(peak(daemon) - (await usual())).toBeLessThan((2 * MAX_TRAFFIC) / MIB);
}, 120_000);

test("limits memory to a small multiple of an answer, however little of it each packet has", async () => {
  const store = await Vault.start();
  const begin = '{"data":{"data":{"key":"value"},"metadata":{"version":1}},"more":"';
  const body = [begin, "x".repeat(3 * MIB), '"}'].map((text) => Buffer.from(text));
  // Chunks of a byte, with lengths as long as may be: three MiB in some fifty.
  const chunks = body.map((text) => text.toString().replaceAll(/[^]/g, "000000000001\r\n$&\r\n"));
  store.answering = ({ path }, _, socket) => {
    if (!path.endsWith("/app")) return false;
    const head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    return socket.end(`${head}${chunks.join("")}0\r\n\r\n`).writable || true;
  };
  const place = new Place();
  fs.writeFileSync(place.path("token"), "token", { mode: 0o600 });
  // A busy machine needs its time for three million chunks.
  const patient = { responseTimeout: 90, requestTimeout: 95 };
  const places = { tokenPath: place.path("token"), kvVersion: 2, path: "app", secretsDir: undefined };
  const config = { url: store.url, ...places, ...patient };
  const daemon = place.start(place.config(["key"], { backend: "vault", config }), { env: smallHeap });
  await daemon.ready();
  expect(place.read("key")).toBe("value");
  expect(peak(daemon) - (await usual())).toBeLessThan(50);
}, 120_000);

test("limits memory to a few of the largest allowed answers when Secrets Manager answers without end", async () => {
  const endless: Reply = { body: '{"SecretString":"', floods: true };
  const hostile = await SecretsManager.start(({ body }) =>
    body["SecretId"] === "good" ? { body: { Name: "good", SecretString: "value", VersionId: "1" } } : endless,
  );
  const place = new Place();
  const config = { region: "eu-central-1", endpoint: hostile.url, secretsDir: undefined };
  const env = {
    ...smallHeap,
    AWS_ACCESS_KEY_ID: "key",
    AWS_SECRET_ACCESS_KEY: "key",
    AWS_EC2_METADATA_DISABLED: "true",
  };
  const daemon = place.start(place.config({ good: {}, ...optional(twenty) }, { backend: "aws", config }), { env });
  await daemon.ready();
  expect(place.read("good")).toBe("value");
  await eventually("it is told", () => daemon.stderr.includes("the answer is larger than 1 MiB"));
  // With the SDK's own 60 MiB of code and what eight sockets hold.
  expect(peak(daemon) - (await usual())).toBeLessThan(160);
  await hostile.close();
}, 120_000);

test("stays below the unit's MemoryMax=, files included, when four Vault values of nearly 16 MiB change at once", async () => {
  const store = await Vault.start();
  let letter = "a";
  store.answering = ({ path }, response) => {
    if (!/\/s\d$/.test(path)) return false;
    const body = `{"data":{"data":{"key":"${letter.repeat(15.9 * MIB)}"},"metadata":{"version":1}}}`;
    response.writeHead(200, { "content-type": "application/json" }).end(body);
    return true;
  };
  const place = new Place();
  fs.writeFileSync(place.path("token"), "token", { mode: 0o600 });
  const four = twenty.slice(0, 4);
  const large = Object.fromEntries(four.map((id) => [id, { source: { path: id, key: "key" }, env: null }]));
  const config = { url: store.url, tokenPath: place.path("token"), kvVersion: 2, path: "app", secretsDir: undefined };
  const daemon = place.start(place.config(large, { backend: "vault", config }), { env: smallHeap });
  await daemon.ready();
  const before = daemon.lines.length;
  letter = "b";
  daemon.signal("SIGHUP");
  await daemon.says(/^published 4 changed secrets/, before);
  expect(place.read("s3")?.slice(0, 4)).toBe("bbbb");
  // The old set and the new one are there together.
  expect(peak(daemon) + 8 * 16).toBeLessThan(1024);
}, 120_000);
