// npm run bench: figures of one sidecar, each beside a baseline of the same run (absolute times say little: they depend on
// the machine and on what else it does). FETCHER_BENCH_ROUNDS and FETCHER_BENCH_IDLE (seconds) shorten it.
// npm run bench -- fleet: 200 sidecars at one real Vault. npm run bench -- simulation: 10,000, simulated.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundled } from "./bundled.mjs";

const others = { fleet: ["vault-fleet", "fleet"], simulation: ["fleet-plot", "simulation"] };
const [wanted, ...rest] = process.argv.slice(2);
if (wanted !== undefined) {
  const [file, name] = rest.length === 0 && Object.hasOwn(others, wanted) ? others[wanted] : [];
  if (file === undefined) {
    console.error(`usage: npm run bench [-- ${Object.keys(others).join(" | -- ")}]`);
    process.exit(64);
  }
  await (await bundled(file))[name]();
  process.exit(0);
}

const program = new URL("../dist/fetcher.js", import.meta.url).pathname;
const rounds = Number(process.env.FETCHER_BENCH_ROUNDS ?? 21);
const idleSeconds = Number(process.env.FETCHER_BENCH_IDLE ?? 60);
// Memory, as on a host: /run. Else the disk would be measured.
const place = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "fetcher-bench-"));
process.on("exit", () => rmSync(place, { recursive: true, force: true }));

const two = scope("two", 2);
const thousand = scope("thousand", 1000);
const { openKv, serverBinary } = await bundled("vault-kv");
const kv = serverBinary() === undefined ? undefined : await openKv(place);
const rows = [];

await measureStart();
await kv?.dispose();
await measureLatency();
await measureIdle();
printTable();
console.log();
await import("./fleet-memory.mjs");

/** A folder of `count` secrets and a configuration for it. */
function scope(name, count) {
  const store = join(place, `${name}-store`);
  mkdirSync(store);
  const ids = Array.from({ length: count }, (_, index) => `secret${index}`);
  for (const id of ids) writeFileSync(join(store, id), `value of ${id}\n`);
  const config = join(place, `${name}.json`);
  const output = join(place, `${name}-output`);
  const settings = { secretsDir: store, reloadOnChange: true, pollingInterval: 3600 };
  writeFileSync(
    config,
    JSON.stringify({
      backend: "folder",
      config: settings,
      secrets: Object.fromEntries(ids.map((id) => [id, {}])),
      output: { directory: output },
      onChange: { settle: 0.1 },
    }),
  );
  return { store, ids, config, output, settle: 0.1 };
}

/** Starts the daemon; `ready` resolves with the milliseconds from exec to READY. */
function start({ config }) {
  const begun = process.hrtime.bigint();
  // A socket that nobody listens on: the notification is made and sent as under systemd.
  const env = { PATH: process.env.PATH, NOTIFY_SOCKET: "@fetcher-bench-nobody-listens" };
  const child = spawn(process.execPath, [program, "--config", config, "--log-format", "json"], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ready = new Promise((done, fail) => {
    let log = "";
    child.stderr.on("data", (data) => {
      log += data;
      if (log.includes('"message":"ready')) done(since(begun));
    });
    child.once("exit", () => fail(new Error(log)));
  });
  const stop = async () => {
    child.kill("SIGTERM");
    if (child.exitCode === null) await once(child, "exit");
  };
  return { child, ready, stop };
}

async function measureStart() {
  const times = { node: [], two: [], kv: [], thousand: [], shell: [] };
  const scopes = { two, ...(kv === undefined ? {} : { kv }), thousand };
  for (let round = 0; round < rounds; round += 1) {
    times.node.push(timed(() => spawnSync(process.execPath, ["-e", "0"])));
    for (const [name, of] of Object.entries(scopes)) {
      const daemon = start(of);
      times[name].push(await daemon.ready);
      await daemon.stop();
    }
    if (round % 5 === 0) times.shell.push(timed(() => copyByShell(thousand)));
  }
  const [node, small, large, shell] = [times.node, times.two, times.thousand, times.shell].map(median);
  row("exec to READY, 2 secrets", ms(small), "node -e 0", ms(node), `${ratio(small, node)} x`, "<= 1.5 x");
  if (kv === undefined) console.log("neither bao nor vault is installed: no figure of a start with Vault\n");
  else {
    const vault = median(times.kv);
    row(
      "exec to READY, one KV2 path of Vault",
      ms(vault),
      "node -e 0",
      ms(node),
      `${ratio(vault, node)} x`,
      "<= 2.5 x",
    );
  }
  row("exec to READY, 1,000 secrets", ms(large), "2 secrets", ms(small), `${ratio(large, small)} x`, "<= 4 x");
  const faster = `${ratio(shell, large)} x faster`;
  row("exec to READY, 1,000 secrets", ms(large), "shell loop, 1,000 files", ms(shell), faster, ">= 10 x faster");
}

/** As RFC 59's proof of concept did it: a copy and a line of secrets.env for each secret. */
function copyByShell({ store, ids }) {
  const output = mkdtempSync(join(place, "shell-"));
  const script =
    'for id in "$@"; do cp "$STORE/$id" "$OUT/$id"; chmod 0444 "$OUT/$id"; ' +
    'echo "$id=\\"$(cat "$STORE/$id")\\"" >> "$OUT/secrets.env"; done';
  const env = { PATH: process.env.PATH, STORE: store, OUT: output };
  const result = spawnSync("/bin/sh", ["-ec", script, "sh", ...ids], { env });
  if (result.status !== 0) throw new Error(String(result.stderr));
  rmSync(output, { recursive: true });
}

/** From the rename in the store to the new bytes in the output; the baseline is a bare fs.watch on the same rename. */
async function measureLatency() {
  const daemon = start(two);
  await daemon.ready;
  await sleep(1000);
  const [published, noticed] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    const value = `round ${round}\n`;
    const begun = process.hrtime.bigint();
    const seenByWatch = new Promise((done) => {
      const watcher = watch(two.store, () => {
        watcher.close();
        done(since(begun));
      });
      writeFileSync(join(place, "next"), value);
      renameSync(join(place, "next"), join(two.store, "secret0"));
    });
    while (readFileSync(join(two.output, "secret0"), "utf8") !== value) await sleep(1);
    published.push(since(begun) - two.settle * 1000);
    noticed.push(await seenByWatch);
    await sleep(50);
  }
  await daemon.stop();
  const [ours, bare] = [median(published), median(noticed)];
  row("change to published, beyond settle", ms(ours), "bare fs.watch notices", ms(bare), "", "<= 50 ms");
}

async function measureIdle() {
  const bare = spawn(process.execPath, ["-e", "setInterval(() => {}, 1 << 30)"], { stdio: "ignore" });
  const daemon = start(two);
  await daemon.ready;
  await sleep(3000);
  const before = [daemon.child, bare].map(cpuSeconds);
  await sleep(idleSeconds * 1000);
  const after = [daemon.child, bare].map(cpuSeconds);
  const [ours, baseline] = after.map((seconds, index) => seconds - before[index]);
  const [memory, bareMemory] = [daemon.child, bare].map(privateMemory);
  row(
    "idle private memory (USS)",
    mib(memory),
    "idle bare Node",
    mib(bareMemory),
    `${ratio(memory, bareMemory)} x`,
    "",
  );
  row(`idle CPU over ${idleSeconds} s`, ms(ours * 1000), "idle bare Node", ms(baseline * 1000), "", "");
  await daemon.stop();
  bare.kill();
}

/** utime + stime of /proc/PID/stat; a tick is 10 ms on Linux. */
function cpuSeconds({ pid }) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Bytes that only this process has. */
function privateMemory({ pid }) {
  const smaps = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kib = [...smaps.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)].map(([, size]) => Number(size));
  return kib.reduce((sum, size) => sum + size, 0) * 1024;
}

function row(...cells) {
  rows.push(cells);
}

function printTable() {
  const all = [["what", "fetcher", "baseline", "its figure", "against it", "wanted"], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((cells) => cells[column].length)));
  console.log(`Node ${process.version}, median of ${rounds} rounds\n`);
  for (const cells of all)
    console.log(
      cells
        .map((cell, column) => cell.padEnd(widths[column]))
        .join("  ")
        .trimEnd(),
    );
}

function timed(work) {
  const begun = process.hrtime.bigint();
  work();
  return since(begun);
}

function since(begun) {
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function ms(value) {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function mib(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function ratio(a, b) {
  return (a / b).toFixed(2);
}

function sleep(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}
