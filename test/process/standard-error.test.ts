/** Where the log goes may be slow or gone: neither ends the program or costs it the secrets. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { eventually, logLines, Place } from "./daemon.ts";

/** A descriptor of a pipe that does not block. @param access O_RDWR for both ends in one. */
function openPipe(place: Place, access: number): number {
  const path = place.path("log");
  execFileSync("mkfifo", [path]);
  return fs.openSync(path, access | fs.constants.O_NONBLOCK);
}

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

test("a log that is full and does not block loses no line, and their order stays", async () => {
  const place = new Place();
  place.put({ id: "first" });
  const log = openPipe(place, fs.constants.O_RDWR);
  onTestFinished(() => {
    fs.closeSync(log);
  });
  fill(log);
  const daemon = place.start(place.config(["id"]), { stderr: log });
  await eventually("published", () => place.read("id") === "first");
  expect(daemon.running).toBe(true);
  let text = drain(log).replace(/^x+/, "");
  const said = (message: RegExp) => () => {
    text += drain(log);
    return text.endsWith("\n") && logLines(text.replace(/^x+/, "")).some((line) => message.test(line.message));
  };
  await eventually("ready", said(/^ready:/));
  place.put({ id: "second" });
  await eventually("published anew", said(/^published/));
  const messages = logLines(text.replace(/^x+/, "")).map(({ message }) => message);
  expect(messages.findIndex((message) => message.startsWith("ready:"))).toBe(0);
  expect(messages.findIndex((message) => message.startsWith("published"))).toBeGreaterThan(0);
});

test("a log that nobody reads any more ends nothing", async () => {
  const place = new Place();
  place.put({ id: "first" });
  const reader = openPipe(place, fs.constants.O_RDONLY);
  const log = fs.openSync(place.path("log"), fs.constants.O_WRONLY);
  const daemon = place.start(place.config(["id"]), { stderr: log });
  fs.closeSync(log);
  await eventually("ready", () => drain(reader).includes('"message":"ready:'));
  fs.closeSync(reader);
  place.put({ id: "second" });
  await eventually("published", () => place.read("id") === "second");
  expect(daemon.running).toBe(true);
  expect((await daemon.end()).code).toBe(0);
});
