/** What people read in the journal, in a terminal and in a file: lines of text, and JSON only on request. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { codeOf } from "../../src/runtime/message-codes.ts";
import { programCommand, runsOnNode } from "../program.ts";
import { needs } from "../requirements.ts";
import { type Daemon, eventually, logLines, Place } from "./daemon.ts";

const asText = { FETCHER_LOG_FORMAT: undefined };
/** systemd sets JOURNAL_STREAM to the file that it gives as standard error. */
const inJournal = ["sh", "-c", 'JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2) exec "$@"', "sh"];
const folder = (place: Place) => ["--backend", "folder", "--set", `secretsDir=${place.store}`];

async function untilSaid(daemon: Daemon, text: string): Promise<void> {
  await eventually(`${text}\n${daemon.stderr}`, () => daemon.stderr.includes(text) || !daemon.running);
  expect(daemon.stderr).toContain(text);
}

test("logs a start, a rotation, an outage and a stop in the journal as text lines with their priority", async () => {
  const place = new Place();
  place.put({ a: "1", b: "1" });
  const daemon = place.start(place.config(["a", "b"]), { env: asText, wrapper: inJournal });
  await untilSaid(daemon, "ready:");
  place.put({ a: "2" });
  await untilSaid(daemon, "published");
  fs.renameSync(place.store, place.path("away"));
  await untilSaid(daemon, "the published values stay in use");
  const { stderr } = await daemon.end();
  expect(stderr.split("\n")).toEqual([
    "<6>ready: 2 secrets from folder",
    "<5>published 1 changed secret (a)",
    `<4>folder: no directory ${place.store} (yet); the published values stay in use (a, b) [${codeOf("no directory … (yet)…")}]`,
    "<6>stopped",
    "",
  ]);
});

test("logs an error that ends a start with priority 3 in the journal", async () => {
  const place = new Place();
  const { code, stderr } = await place.run(["--frobnicate"], { env: asText, wrapper: inJournal });
  expect({ code, stderr }).toEqual({
    code: 64,
    stderr: `<3>Unknown option '--frobnicate' (see fetcher --help) [${codeOf("… (see fetcher --help)…")}]\n`,
  });
});

test("writes no priorities to a standard error that is not the journal's, although systemd has set JOURNAL_STREAM", async () => {
  const place = new Place();
  place.put({ a: "1" });
  const env = { ...asText, JOURNAL_STREAM: "8:1234" };
  const daemon = place.start(place.config(["a"]), { env });
  await untilSaid(daemon, "ready:");
  const { stderr } = await daemon.end();
  const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)`;
  expect(stderr).toMatch(new RegExp(`^${time} ready: 1 secret from folder\n${time} stopped\n$`));
});

/** Of POSIX, which need no file of zones. What they count is the other way round. */
const zones = [
  ["XXX12", -720, "-12:00"],
  ["XXX-13", 780, "+13:00"],
  ["UTC", 0, "Z"],
] as const;
/** Node takes these for UTC. */
const halfHours = [
  ["XXX-5:30", 330, "+05:30"],
  ["XXX3:30", -210, "-03:30"],
] as const;
test.each(runsOnNode ? zones : [...zones, ...halfHours])(
  "shows times in the process's time zone: TZ=%s",
  async (TZ, minutes, zone) => {
    const place = new Place();
    place.put({ a: "1" });
    const daemon = place.start(place.config(["a"]), { env: { ...asText, TZ } });
    const before = Date.now();
    await untilSaid(daemon, "ready:");
    const { stderr } = await daemon.end();
    const [, at = "", told] = /^(\S{19})(\S+) ready:/.exec(stderr) ?? [];
    expect(told).toBe(zone);
    const seconds = Date.parse(`${at}Z`) / 1000 - minutes * 60;
    expect(seconds).toBeGreaterThanOrEqual(Math.floor(before / 1000));
    expect(seconds).toBeLessThanOrEqual(Date.now() / 1000);
  },
);

test.each([
  ["--once", 66, 'folder: secret "no\\"pe": no file STORE/no"pe\nnothing was published\n'],
  ["--check", 66, 'folder: secret "no\\"pe": no file STORE/no"pe\n'],
  [
    "--check=config --config /nowhere.json",
    78,
    "error: configuration: cannot read /nowhere.json: no such file or directory (ENOENT)\n",
  ],
  ["--check --log-level loud", 64, "error: --log-level: expected one of error, warn, notice, info, debug, trace\n"],
  ["reload", 64, "error: reload: expected --config FILE, the same as for the daemon\n"],
  ["status --json --metrics", 64, "error: status: give only one of --json and --metrics\n"],
  [
    "units",
    64,
    "error: units: expected the NAME of /etc/fetcher/NAME.json, or the path of a file; --user for units of a user\n",
  ],
  ["check --x", 64, "error: check: expected the NAME of a service with a sidecar; options belong to fetcher --check\n"],
])(
  "%s off a terminal reports errors in text, and with --log-format json as objects only",
  async (words, status, said) => {
    const place = new Place();
    const common = words.startsWith("--") && status === 66 ? [...folder(place), 'no"pe'] : [];
    const args = [...words.split(" "), ...common];
    const text = await place.run(args, { env: asText });
    expect({ code: text.code, stderr: text.stderr }).toEqual({
      code: status,
      stderr: said.replaceAll("STORE", place.store),
    });
    const machine = await place.run([...args, "--log-format=json"], { env: asText });
    expect(machine.code).toBe(status);
    const messages = logLines(machine.stderr).map(({ message }) => `${message}\n`);
    expect(messages.join("")).toBe(text.stderr.replace("error: ", ""));
  },
);

test("refuses an unknown format in one line, and does nothing else", async () => {
  const place = new Place();
  place.put({ id: "canary-1" });
  const args = ["--once", ...folder(place), "id"];
  for (const [more, env] of [
    [["--log-format", "xml"], asText],
    [[], { FETCHER_LOG_FORMAT: "xml" }],
  ] as const) {
    const { code, stdout, stderr } = await place.run([...args, ...more], { env });
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(stderr).toMatch(/^error: (?:--log-format|FETCHER_LOG_FORMAT): expected text or json\n$/);
  }
});

needs("script").test("colours the word before an error in a terminal, unless colour is turned off", () => {
  const program = programCommand()
    .map((word) => `"${word}"`)
    .join(" ");
  const shown = (setting: string) => {
    const command = `env -u NO_COLOR TERM=xterm ${setting} ${program} --frobnicate`;
    const env = { PATH: process.env["PATH"] };
    return spawnSync("script", ["-qec", command, "/dev/null"], { encoding: "utf8", input: "", env }).stdout;
  };
  const message = "Unknown option '--frobnicate'";
  expect(shown("")).toContain(`\u001b[31merror: \u001b[0m${message}`);
  for (const setting of ["NO_COLOR=1", "TERM=dumb", "FETCHER_LOG_FORMAT=json"]) {
    expect(shown(setting)).toContain(message);
    expect(shown(setting)).not.toContain("\u001b");
  }
});
