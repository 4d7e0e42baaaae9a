/** The reader of the log may be slow or gone: neither ends the program, delays it or costs a line. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { programCommand } from "../program.ts";
import { needs } from "../requirements.ts";
import { type Daemon, eventually, logLines, Place } from "./daemon.ts";

const { O_NONBLOCK, O_RDONLY, O_RDWR } = fs.constants;

/** @returns a pipe's path, and this process's end of it, which does not block. */
function openPipe(place: Place, access: number): { path: string; descriptor: number } {
  const path = place.path("log");
  execFileSync("mkfifo", [path]);
  return { path, descriptor: fs.openSync(path, access | O_NONBLOCK) };
}

/** What a test writes and no log line begins with. */
const filling = /^x+/;

function fill(descriptor: number): void {
  const block = Buffer.alloc(4096, "x");
  for (;;) {
    try {
      fs.writeSync(descriptor, block);
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe("EAGAIN");
      return;
    }
  }
}

/** All that is in it now. */
function drain(descriptor: number): string {
  const buffer = Buffer.alloc(1 << 20);
  let text = "";
  for (;;) {
    try {
      const length = fs.readSync(descriptor, buffer);
      // Nobody has the other end open.
      if (length === 0) return text;
      text += buffer.toString("utf8", 0, length);
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe("EAGAIN");
      return text;
    }
  }
}

test("a full pipe with a hanging reader delays no rotation and loses no line", async () => {
  const place = new Place();
  place.put({ id: "first" });
  const { path, descriptor } = openPipe(place, O_RDWR);
  fill(descriptor);
  const blocking = fs.openSync(path, "w");
  onTestFinished(() => {
    fs.closeSync(descriptor);
  });
  const daemon = place.start(place.config(["id"]), { stderr: blocking });
  fs.closeSync(blocking);
  await eventually("published", () => place.read("id") === "first");
  // Seen before the watch is there, or by it.
  place.put({ id: "second" });
  await eventually("published again", () => {
    if (place.read("id") === "first") daemon.signal("SIGHUP");
    return place.read("id") === "second";
  });
  let text = "";
  const messages = () => logLines(text.slice(0, text.lastIndexOf("\n") + 1).replace(filling, ""));
  await eventually("both lines", () => {
    text += drain(descriptor);
    return text.includes("\n") && messages().some(({ message }) => message.startsWith("published"));
  });
  expect(messages()[0]?.message).toMatch(/^ready:/);
});

// Node takes O_NONBLOCK away from what it hands on.
needs("python").test("a full non-blocking socket loses no line", async () => {
  const place = new Place();
  place.put({ id: "first" });
  const config = place.writeConfig(place.config(["id"]));
  const program = `
import socket, subprocess, sys
ours, theirs = socket.socketpair()
theirs.setblocking(False)
try:
    while True: theirs.send(b"x" * 100)
except BlockingIOError: pass
daemon = subprocess.Popen(sys.argv[1:], stderr=theirs)
theirs.close()
sys.stdin.read()
while data := ours.recv(65536):
    sys.stdout.buffer.write(data)
    if b"ready:" in data: daemon.terminate()
sys.exit(daemon.wait())
`;
  const argv = [...programCommand(), "--config", config];
  const parent = spawn("python3", ["-c", program, ...argv, "--log-format", "json"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { PATH: process.env["PATH"] },
  });
  let text = "";
  parent.stdout.setEncoding("utf8").on("data", (data: string) => (text += data));
  await eventually("published", () => place.read("id") === "first");
  parent.stdin.end();
  expect(await once(parent, "close")).toEqual([0, null]);
  const messages = logLines(text.replace(filling, "")).map(({ message }) => message);
  expect(messages).toEqual([expect.stringMatching(/^ready:/), "stopped"]);
});

// As the journal's, while journald hangs.
needs("python").test(
  "a blocking socket without a reader delays no rotation and no signal",
  async () => {
    const place = new Place();
    place.put({ id: "0" });
    const program = `
import socket, subprocess, sys
ours, theirs = socket.socketpair()
theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
daemon = subprocess.Popen(sys.argv[1:], stderr=theirs)
theirs.close()
print(daemon.pid, flush=True)
sys.exit(daemon.wait())
`;
    const config = place.writeConfig(place.config(["id"], { onChange: { settle: 0 } }));
    const parent = spawn("python3", ["-c", program, ...programCommand(), "--config", config, "--log-format", "json"], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { PATH: process.env["PATH"] },
    });
    const [printed] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(printed);
    onTestFinished(() => {
      if (parent.exitCode === null) process.kill(pid, "SIGKILL");
    });
    await eventually("published", () => place.read("id") === "0");
    // It has no room for so many lines.
    for (let round = 1; round <= 250; round += 1) {
      place.put({ id: String(round) });
      await eventually(`rotation ${round}`, () => place.read("id") === String(round));
    }
    process.kill(pid, "SIGTERM");
    expect(await once(parent, "close")).toEqual([0, null]);
  },
  300_000,
);

async function expectRotation(place: Place, daemon: Daemon): Promise<void> {
  place.put({ id: "second" });
  await eventually("published", () => place.read("id") === "second");
  expect(daemon.running).toBe(true);
  expect((await daemon.end()).code).toBe(0);
}

test("a pipe whose reader is gone does not end the daemon", async () => {
  const place = new Place();
  place.put({ id: "first" });
  const { path, descriptor } = openPipe(place, O_RDONLY);
  const log = fs.openSync(path, "w");
  const daemon = place.start(place.config(["id"]), { stderr: log });
  fs.closeSync(log);
  await eventually("ready", () => drain(descriptor).includes('"message":"ready:'));
  fs.closeSync(descriptor);
  await expectRotation(place, daemon);
});

test("a socket whose reader is gone does not end the daemon", async () => {
  const place = new Place();
  place.put({ id: "first" });
  const daemon = await place.start(place.config(["id"])).ready();
  daemon.hangUp();
  await expectRotation(place, daemon);
});
