/**
 * An answer that is within the limits of size, and takes long to look through. If this fails, a store that sends one
 * keeps `systemctl stop` waiting.
 */
import * as fs from "node:fs";
import { expect } from "vitest";
import { StandIn } from "../vault/stand-in.ts";
import { environmentOfExecutable } from "../program.ts";
import { needs } from "../requirements.ts";
import { eventually, Place } from "./daemon.ts";

const MIB = 1024 * 1024;

/** In hundredths of a second. */
function processorTime(pid: number): number {
  const fields = fs
    .readFileSync(`/proc/${pid}/stat`, "latin1")
    .replace(/^.*\) /, "")
    .split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

const ofVault = (key: string) => Buffer.from(`{"data":{"data":{"key":"${key}"},"metadata":{"version":1}}}`);

const cases: readonly (readonly [string, () => Buffer, object])[] = [
  ["31 MiB of JSON have been looked through", () => Buffer.from(`{"${'\\"'.repeat(15.5 * MIB)}`), {}],
  ["15 MiB of base64 have been decoded", () => ofVault("A".repeat(15 * MIB)), { decode: "base64" }],
];

// Node needs less than half a second for either.
const { test } = needs("executable");

for (const [title, answer, secret] of cases)
  test(`a stop does not wait until ${title}`, async () => {
    const store = await StandIn.start();
    let isSent = false;
    store.answering = ({ path }, response) => {
      if (!path.endsWith("/app")) return false;
      response.writeHead(200, { "content-type": "application/json" });
      response.end(answer()).on("finish", () => {
        isSent = true;
      });
      return true;
    };
    const place = new Place();
    fs.writeFileSync(place.path("token"), "token", { mode: 0o600 });
    const config = { url: store.url, tokenPath: place.path("token"), kvVersion: 2, path: "app", secretsDir: undefined };
    const daemon = place.start(place.config({ key: secret }, { backend: "vault", config }), {
      env: environmentOfExecutable,
    });
    await eventually("all of the answer", () => isSent);
    const before = processorTime(daemon.pid);
    await eventually("that it is looked through", () => processorTime(daemon.pid) > before + 50);
    const { code, stderr } = await daemon.end();
    expect(code).toBe(0);
    expect(stderr).toContain('"stopped"');
    // What would be said at the end of the work.
    expect(stderr).not.toMatch(/the answer is not from Vault|"ready/);
  }, 120_000);
