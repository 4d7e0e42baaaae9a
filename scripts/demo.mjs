// `npm start`: the main job in a terminal. A folder of sample secrets, the real daemon on it, a rotation, a clean end.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../dist/fetcher.js", import.meta.url));
const place = mkdtempSync(join(tmpdir(), "fetcher-demo-"));
const store = join(place, "store");
const output = join(place, "published");

// Not secrets: samples, made up here and shown on purpose.
mkdirSync(store, { mode: 0o700 });
writeFileSync(join(store, "db_password"), "correct horse battery staple\n");
writeFileSync(join(store, "api key"), 'it\'s "quoted" and costs $5\n');

const config = {
  backend: "folder",
  config: { secretsDir: store, reloadOnChange: true },
  secrets: { db_password: {}, "api key": { env: "API_KEY" } },
  output: { directory: output },
  onChange: { settle: 0.2 },
};
writeFileSync(join(place, "fetcher.json"), JSON.stringify(config, null, 2));

say("A folder of secrets is the store:");
for (const name of readdirSync(store)) console.log(`    ${join(store, name)}`);

say(`fetcher --config ${join(place, "fetcher.json")}`);
// The daemon does not run as a unit's process, even where this terminal does: so it cleans up after itself.
const environment = { ...process.env };
delete environment.INVOCATION_ID;
delete environment.NOTIFY_SOCKET;
const daemon = spawn(process.execPath, [program, "--config", join(place, "fetcher.json"), "--log-format", "text"], {
  env: environment,
  stdio: ["ignore", "inherit", "pipe"],
});
process.on("exit", () => daemon.kill("SIGKILL"));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

let wanted = "ready";
let seen;
createInterface({ input: daemon.stderr }).on("line", (line) => {
  console.log(`    ${line}`);
  if (line.includes(wanted)) seen?.();
});
await line("ready");
showPublished("It published, for the service alone:");

say("The secret changes in the store (written beside it, renamed over it):");
writeFileSync(join(store, ".new"), "tr0ub4dor&3\n");
const rotated = line("published 1");
renameSync(join(store, ".new"), join(store, "db_password"));
await rotated;
showPublished("Now the service would be restarted, and reads:");

say("Stopped, it takes away what it published:");
daemon.kill("SIGTERM");
const [code] = await once(daemon, "exit");
console.log(
  `    exit status ${code}; ${statSync(output, { throwIfNoEntry: false }) ? "files are LEFT" : "nothing is left"}`,
);
rmSync(place, { recursive: true });
console.log(
  '\nYour own folder:  node dist/fetcher.js --once --backend folder --set secretsDir="$PWD/DIR" SECRET_ID...\n' +
    "With systemd:     docs/how-to/one-file.md",
);
process.exit(code);

function line(text) {
  wanted = text;
  return new Promise((done, fail) => {
    seen = done;
    daemon.once("exit", (status) => fail(new Error(`fetcher ended with ${status} before it said "${text}"`)));
    setTimeout(() => fail(new Error(`fetcher did not say "${text}" within 20 s`)), 20_000).unref();
  });
}

function showPublished(title) {
  say(title);
  for (const name of readdirSync(output).filter((name) => !name.startsWith("."))) {
    const mode = (statSync(join(output, name)).mode & 0o777).toString(8).padStart(4, "0");
    const text = readFileSync(join(output, name), "utf8").trimEnd().split("\n");
    console.log(`    ${mode} ${name.padEnd(12)} ${text.join(`\n${" ".repeat(22)}`)}`);
  }
}

function say(text) {
  console.log(`\n\x1b[1m${text}\x1b[0m`);
}
