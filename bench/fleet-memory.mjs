// The end of npm run bench, and by itself after npm run build: the memory of many sidecars, with a resident process and without.
// FETCHER_BENCH_SERVICES sets their number. What the secrets themselves take in /run is the same both ways.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const program = new URL("../dist/fetcher.js", import.meta.url).pathname;
const services = Number(process.env.FETCHER_BENCH_SERVICES ?? 100);
const place = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "fetcher-fleet-"));
process.on("exit", () => rmSync(place, { recursive: true, force: true }));

console.log(`Node ${process.version}, ${services} services of 2 secrets each; sums over all processes that stay\n`);
console.log("                      processes        PSS        USS");
await show("resident, on change", { config: { reloadOnChange: true, pollingInterval: 3600 } });
await show("resident, no watch", {});
await show("not resident", { resident: false });
await baseline();

async function show(name, options) {
  const children = [];
  for (let index = 0; index < services; index += 1) children.push(await start(`${name}-${index}`, options));
  await new Promise((done) => setTimeout(done, 3000));
  print(name, children);
  await end(children);
}

/** What Node takes by itself. */
async function baseline() {
  const args = ["-e", 'setInterval(() => {}, 1 << 30); console.error("ready:")'];
  const children = [];
  for (let index = 0; index < services; index += 1) children.push(await spawned(args));
  print("bare Node", children);
  await end(children);
}

async function start(name, { config = {}, ...options }) {
  const directory = join(place, name);
  const store = join(directory, "store");
  mkdirSync(store, { recursive: true });
  for (const id of ["first", "second"]) writeFileSync(join(store, id), `value of ${id}\n`);
  const file = join(directory, "config.json");
  writeFileSync(
    file,
    JSON.stringify({
      backend: "folder",
      config: { secretsDir: store, ...config },
      secrets: { first: {}, second: {} },
      output: { directory: join(directory, "out") },
      ...options,
    }),
  );
  return await spawned([program, "--config", file]);
}

/** Resolves when it is ready: with the process that stays, or undefined where it ended well. */
async function spawned(args) {
  const env = { PATH: process.env.PATH, INVOCATION_ID: "bench" };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  const ended = once(child, "exit").then(([code]) => {
    if (code !== 0) throw new Error(log);
  });
  const ready = new Promise((done) => {
    child.stderr.on("data", (data) => {
      log += data;
      if (log.includes("ready:")) done();
    });
  });
  await Promise.race([ready, ended]);
  if (args.includes(program) && readFileSync(args.at(-1), "utf8").includes('"resident":false')) await ended;
  ended.catch(() => undefined);
  return child;
}

async function end(children) {
  for (const child of children.filter(alive)) {
    child.kill();
    await once(child, "exit").catch(() => undefined);
  }
}

function alive({ exitCode, signalCode }) {
  return exitCode === null && signalCode === null;
}

function print(name, children) {
  const left = children.filter(alive);
  const sum = (fields) => left.reduce((total, { pid }) => total + kib(pid, fields), 0) / 1024;
  const mib = (value) => `${value.toFixed(0)} MiB`.padStart(11);
  const uss = sum(["Private_Clean", "Private_Dirty"]);
  console.log(`${name.padEnd(22)}${String(left.length).padStart(9)}${mib(sum(["Pss"]))}${mib(uss)}`);
}

function kib(pid, fields) {
  const smaps = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return fields.reduce((total, field) => total + Number(new RegExp(`^${field}: +(\\d+) kB$`, "m").exec(smaps)?.[1]), 0);
}
