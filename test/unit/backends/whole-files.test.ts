/** Many small files in one go, by the executable's addon. If this fails, it publishes what no file holds, or hangs. */
import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished } from "vitest";
import { readFiles } from "../../../backends/files/read.ts";
import { readPlainBy, readPlainSeen, type ReadInOneStep } from "../../../src/contract/plain-file.ts";
import { readInOneGoBy } from "../../../src/contract/whole-files.ts";
import { inOneGo, inOneStep, type ReadWhole, type WholeFile } from "../../../src/runtime/whole-files.ts";
import { asValue } from "../../contract/observed.ts";
import { nativeWay } from "../../native-addon.ts";
import { needs } from "../../requirements.ts";

const { test } = needs("gcc");
let known: ReadWhole | undefined;
const way: ReadWhole = (...args) => (known ??= nativeWay())(...args);

/** In memory, and on a disk. */
let memory: string;
let disk: string;

beforeEach(() => {
  memory = mkdtempSync("/dev/shm/fetcher-whole-");
  disk = mkdtempSync(join(tmpdir(), "fetcher-whole-"));
});
afterEach(() => {
  for (const directory of [memory, disk]) rmSync(directory, { recursive: true });
});

/** Once they have been at rest for long enough. */
async function whole(directory: string | undefined, ...paths: string[]): Promise<readonly WholeFile[]> {
  for (;;) {
    const files = await way(directory, paths);
    if (files !== undefined) return files;
  }
}

const texts = (files: readonly WholeFile[]) => files.map(({ value }) => value.toString());

test("reads all files of a directory, also through links inside, empty ones too", async () => {
  mkdirSync(join(memory, "sub"));
  writeFileSync(join(memory, "one"), "first");
  writeFileSync(join(memory, "sub/two"), "x".repeat(200_000));
  writeFileSync(join(memory, "empty"), "");
  symlinkSync("sub/two", join(memory, "link"));
  symlinkSync(memory, join(disk, "current"));
  const expected = ["first", "x".repeat(200_000), "", "x".repeat(200_000)];
  expect(texts(await whole(memory, "one", "sub/two", "empty", "link"))).toEqual(expected);
  expect(texts(await whole(join(disk, "current"), "one", "sub/two", "empty", "link"))).toEqual(expected);
});

test("gives the outcomes that the usual way gives", async () => {
  const files = new Map(["one", "two"].map((id) => [id, join(memory, id)]));
  for (const [id, path] of files) writeFileSync(path, `value of ${id}`);
  await whole(memory, "one", "two");
  const read = async (by: ReadWhole | undefined) => {
    readInOneGoBy(by && inOneGo(by));
    const outcomes = await readFiles(files, new AbortController().signal, memory);
    // Readers side by side end in any order.
    return new Map(
      Array.from(outcomes, ([id, outcome]) => {
        const { value, version, writtenAgo } = asValue(outcome);
        return [id, { value, version, isOld: writtenAgo !== undefined && writtenAgo > 0 }];
      }),
    );
  };
  onTestFinished(() => {
    readInOneGoBy(undefined);
  });
  expect(await read(way)).toEqual(await read(undefined));
});

test("reads a single file anywhere on this machine", async () => {
  for (const directory of [memory, disk]) {
    writeFileSync(join(directory, "token"), "good");
    expect(texts(await whole(undefined, join(directory, "token")))).toEqual(["good"]);
  }
});

const unfit: [string, (path: string) => void][] = [
  ["is missing", () => undefined],
  ["is a fifo without a writer", (path) => execFileSync("mkfifo", [path])],
  [
    "is a directory",
    (path) => {
      mkdirSync(path);
    },
  ],
  [
    "is a device",
    (path) => {
      symlinkSync("/dev/zero", path);
    },
  ],
  [
    "is a link to itself",
    (path) => {
      symlinkSync(path, path);
    },
  ],
  [
    "is on another file system",
    (path) => {
      symlinkSync("/proc/self/mountinfo", path);
    },
  ],
  [
    "is large",
    (path) => {
      writeFileSync(path, "");
      truncateSync(path, 4 * 1024 * 1024 + 1);
    },
  ],
];

for (const [what, make] of unfit)
  test(`leaves it to the usual way where one ${what}`, async () => {
    make(join(memory, "trap"));
    // Once this one is at rest, the older one is, too.
    writeFileSync(join(memory, "good"), "value");
    await whole(memory, "good");
    await whole(undefined, join(memory, "good"));
    expect(await way(memory, ["good", "trap"])).toBe(undefined);
    expect(await way(undefined, [join(memory, "trap")])).toBe(undefined);
  });

test("leaves it to the usual way where one has just changed: a write may be under way", async () => {
  writeFileSync(join(memory, "good"), "value");
  writeFileSync(join(memory, "young"), "value");
  await whole(memory, "good", "young");
  // Its clock goes on in steps.
  for (let round = 0; round < 20; round++) {
    const before = performance.now();
    chmodSync(join(memory, "young"), round % 2 === 0 ? 0o400 : 0o600);
    const files = await way(memory, ["good", "young"]);
    // On a machine that let this process wait so long, the file was at rest.
    if (performance.now() - before < 50) expect(files).toBe(undefined);
  }
});

test("reads a directory at once only in memory, where nothing hangs", async () => {
  writeFileSync(join(disk, "one"), "first");
  await whole(undefined, join(disk, "one"));
  expect(await way(disk, ["one"])).toBe(undefined);
  writeFileSync(join(memory, "good"), "value");
  symlinkSync(join(disk, "one"), join(memory, "out"));
  await whole(memory, "good");
  expect(await way(memory, ["out"])).toBe(undefined);
});

test("leaves names to the usual way that no system call can take", async () => {
  writeFileSync(join(memory, "one"), "first");
  await whole(memory, "one");
  expect(await way(memory, ["one\0", "one"])).toBe(undefined);
});

test("gives a plain file and its stats as the usual way does, also right after a write", async () => {
  for (const directory of [memory, disk]) {
    const path = join(directory, "config.json");
    writeFileSync(path, '{"backend": "folder"}');
    linkSync(path, join(directory, "second"));
    const read = async (by: ReadInOneStep | undefined) => {
      readPlainBy(by);
      const { bytes, stats } = await readPlainSeen(path);
      const { nlink, dev, ino, size, mtimeNs, ctimeNs } = stats;
      return { text: bytes.toString(), stats: { nlink, dev, ino, size, mtimeNs, ctimeNs } };
    };
    onTestFinished(() => {
      readPlainBy(undefined);
    });
    let isInOneStep = false;
    const counted: ReadInOneStep = async (file) => {
      const seen = await inOneStep(way)(file);
      isInOneStep = seen !== undefined;
      return seen;
    };
    const found = await read(counted);
    expect(isInOneStep).toBe(true);
    expect(found).toEqual(await read(undefined));
    expect(found.stats.nlink).toBe(2n);
  }
});

for (const [what, make] of unfit)
  test(`leaves a plain file to the usual way where it ${what}`, async () => {
    make(join(memory, "trap"));
    expect(await inOneStep(way)(join(memory, "trap"))).toBe(undefined);
  });

test("leaves a relative path and an empty plain file to the usual way", async () => {
  writeFileSync(join(disk, "empty"), "");
  expect(await inOneStep(way)(join(disk, "empty"))).toBe(undefined);
  expect(await inOneStep(way)("package.json")).toBe(undefined);
});
