/**
 * npm run bench -- fleet: 200 sidecars in one process poll one real server every 10 s, before, in and after an outage of 20 s.
 * It needs `bao` or `vault`. Figures, not a test: what is expected is printed beside what was counted.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../src/runtime/clock.ts";
import { parseConfig } from "../src/config/config.ts";
import { Publisher } from "../src/publish/publisher.ts";
import { Sidecar } from "../src/engine/sidecar.ts";
import { openStore } from "../src/engine/store.ts";
import { systemctl } from "../src/systemd/systemctl.ts";
import { Forwarder } from "../test/vault/forwarder.ts";
import { VaultServer } from "../test/vault/server.ts";
import { silentLog, silentNotifier } from "./silent.ts";

const SIDECARS = Number(process.env["FETCHER_BENCH_FLEET"] ?? 200);
/** Seconds. */
const INTERVAL = 10;
const STEADY = 60;
const OUTAGE = 20;
const AFTER = 40;

export async function fleet(): Promise<void> {
  const server = await VaultServer.dev();
  const forwarder = await Forwarder.to(server.url);
  const directory = mkdtempSync(join(tmpdir(), "fetcher-fleet-"));
  const tokenPath = join(directory, "token");
  writeFileSync(tokenPath, server.rootToken);
  await server.write("secret/data/app", { data: { db: "1" } });
  const stop = new AbortController();
  const outputs = Array.from({ length: SIDECARS }, (_, index) => join(directory, String(index)));
  const runs = await Promise.all(outputs.map((output) => start(output, forwarder.url, tokenPath, stop.signal)));
  await all(outputs, "1");

  // One poll of each is behind them all: their phases are what they stay.
  await delay(INTERVAL * 1000);
  console.log(`${SIDECARS} sidecars, polling every ${INTERVAL} s, requests in a second:`);
  report(`steady, ${STEADY} s`, await perSecond(forwarder, STEADY), 2);

  await forwarder.down();
  await delay(OUTAGE * 1000);
  await server.write("secret/data/app", { data: { db: "2" } });
  await forwarder.up();
  const back = performance.now();
  const counting = perSecond(forwarder, AFTER);
  await all(outputs, "2");
  const current = (performance.now() - back) / 1000;
  report(`after an outage of ${OUTAGE} s, ${AFTER} s`, await counting, 3);
  console.log(`all current after ${current.toFixed(1)} s (expected: within ${AFTER} s)`);

  stop.abort();
  await Promise.all(runs.map(({ run }) => run));
  await forwarder.down();
  await server.dispose();
  rmSync(directory, { recursive: true, force: true });
}

async function start(output: string, url: string, tokenPath: string, stop: AbortSignal) {
  mkdirSync(output);
  const settings = { url, tokenPath, path: "app", kvVersion: 2, reloadOnChange: true, pollingInterval: INTERVAL };
  const flags = { configFile: undefined, backend: undefined, set: [], output, ids: [] } as const;
  const config = parseConfig(
    { backend: "vault", config: settings, secrets: { db: {} }, onChange: { settle: 0 } },
    flags,
    "/",
  );
  const store = await openStore(config, silentLog, Math.random);
  if (config.output === undefined) throw new Error("no output");
  const publisher = await Publisher.open(config, config.output);
  const parts = { config, store, publisher, notifier: silentNotifier, systemd: systemctl, log: silentLog };
  return { run: new Sidecar({ ...parts, clock: systemClock, random: Math.random, idle: () => undefined }).run(stop) };
}

/** Until every sidecar has published `value`. */
async function all(outputs: readonly string[], value: string): Promise<void> {
  const has = (output: string) => {
    try {
      return readFileSync(join(output, "db"), "utf8") === value;
    } catch {
      return false;
    }
  };
  while (!outputs.every(has)) await delay(50);
}

async function perSecond({ requests }: Forwarder, seconds: number): Promise<number[]> {
  const counts: number[] = [];
  const begun = performance.now();
  for (let second = 1; second <= seconds; second++) {
    const before = requests.length;
    await delay(begun + second * 1000 - performance.now());
    counts.push(requests.length - before);
  }
  return counts;
}

function report(what: string, counts: readonly number[], limit: number): void {
  const mean = SIDECARS / INTERVAL;
  const peak = Math.max(...counts);
  const sum = counts.reduce((total, count) => total + count, 0);
  console.log(
    `${what}: ${(sum / counts.length).toFixed(1)} on average (${mean} expected), peak ${peak} = ${(peak / mean).toFixed(2)} × the mean (limit ${limit})`,
  );
  console.log(`  ${counts.join(" ")}`);
}
