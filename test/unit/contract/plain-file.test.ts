/** An operator's path may lead to anything. Reading it must neither wait for ever nor take all memory. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { UnfitFile } from "../../../src/contract/errors.ts";
import { readPlain, readPlainSync } from "../../../src/contract/plain-file.ts";

const MIB = 1024 * 1024;

function temporary(): string {
  const path = fs.mkdtempSync(join(tmpdir(), "fetcher-plain-"));
  onTestFinished(() => {
    fs.rmSync(path, { recursive: true });
  });
  return path;
}

async function problemOf(path: string): Promise<string> {
  const messages: string[] = [];
  for (const read of [readPlain, (file: string) => Promise.resolve().then(() => readPlainSync(file))]) {
    const error: unknown = await read(path).then(
      () => "it was read",
      (thrown: unknown) => thrown,
    );
    messages.push(error instanceof UnfitFile ? error.message : String(error));
  }
  expect(messages[1]).toBe(messages[0]);
  return messages[0] ?? "";
}

describe("refuses an irregular file at once", () => {
  test.each(["/dev/zero", "/dev/null", "/"])("%s", async (path) => {
    expect(await problemOf(path)).toBe("is not a regular file");
  });
  test("a fifo without a writer", async () => {
    const path = join(temporary(), "fifo");
    execFileSync("mkfifo", [path]);
    expect(await problemOf(path)).toBe("is not a regular file");
  });
  test("a socket", async () => {
    const path = join(temporary(), "socket");
    const server = createServer().listen(path);
    onTestFinished(() => void server.close());
    await new Promise((done) => server.once("listening", done));
    expect(await problemOf(path)).toContain("ENXIO");
  });
});

test("refuses a file of 10 GB before reading any of it, and reads one of 16 MiB", async () => {
  const path = join(temporary(), "large");
  fs.writeFileSync(path, "");
  fs.truncateSync(path, 10 * 1024 * MIB);
  expect(await problemOf(path)).toBe("is larger than 16 MiB");
  fs.truncateSync(path, 16 * MIB);
  expect((await readPlain(path)).length).toBe(16 * MIB);
  expect(readPlainSync(path).length).toBe(16 * MIB);
  fs.truncateSync(path, 16 * MIB + 1);
  expect(await problemOf(path)).toBe("is larger than 16 MiB");
});

test("reads a file of unknown size whole", async () => {
  const path = "/proc/self/status";
  expect((await readPlain(path)).toString()).toContain("VmPeak");
  expect(readPlainSync(path).toString()).toContain("VmPeak");
});
