import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { chmod, link, mkdir, rename, rm, stat, symlink, unlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { FSWatcher } from "chokidar";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type * as surveying from "../../../backends/files/survey.ts";
import folder from "../../../backends/files/folder.ts";
import { Observed } from "../../contract/observed.ts";
import { temporary } from "../../contract/temporary.ts";
import { quiet, until } from "../../contract/until.ts";
import { following, isMissing, type Following } from "../../contract/following.ts";
import type { Outcome } from "../../../src/contract/backend.ts";

/** As on a file system that gives a new directory the number of the one before, which ext4 often does. */
const numbers = vi.hoisted(() => ({ areReused: false }));
vi.mock("../../../backends/files/survey.ts", async (original) => {
  const { survey } = await original<typeof surveying>();
  return {
    survey: async (paths: readonly string[]) => {
      const places = await survey(paths);
      if (!numbers.areReused) return places;
      return new Map([...places].map(([path, { names }]) => [path, { identity: path, names }]));
    },
  };
});

let root: string;
let dispose: () => Promise<void>;

beforeEach(async () => {
  ({ path: root, dispose } = await temporary());
});
afterEach(async () => {
  numbers.areReused = false;
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await dispose();
});

const at = (...names: string[]) => join(root, ...names);
const fill = async (directory: string, value: string) => {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, "key"), value);
};
const swapLink = async (target: string, path: string) => {
  await symlink(target, `${path}.new`);
  await rename(`${path}.new`, path);
};

/** A change is seen when a hint leads to a fetch that gives this value. */
type Sees = (
  change: () => Promise<unknown>,
  expected: string | ((outcome: Outcome | undefined) => boolean),
) => Promise<void>;

/** Watches FILE, which is a path below the temporary directory, with the first name as `secretsDir`. */
async function watching(
  file: string,
  body: (watched: Omit<Following, "sees"> & { readonly sees: Sees }) => Promise<void>,
): Promise<void> {
  const [first = "", ...rest] = file.split("/");
  const observed = await Observed.open(folder, { secretsDir: at(first) }, () => ({ file: rest.join("/") }));
  await following(observed, ["key"], (watched) =>
    body({ ...watched, sees: (change, expected) => watched.sees(change, "key", expected) }),
  );
}

/** In one step for the watch: it walks the ways at an event only. */
function replace(directory: string, by: string): Promise<void> {
  fs.rmSync(directory, { recursive: true });
  fs.renameSync(by, directory);
  return Promise.resolve();
}

/** Does `swap` instead of the first fs.watch(DIRECTORY). @returns how often. */
function atWatchOf(directory: string, swap: (arm: () => fs.FSWatcher) => fs.FSWatcher): () => number {
  const watch = fs.watch as (...args: unknown[]) => fs.FSWatcher;
  let times = 0;
  vi.spyOn(fs, "watch").mockImplementation((...args: unknown[]) => {
    if (args[0] !== directory || times > 0) return watch(...args);
    times++;
    return swap(() => watch(...args));
  });
  syncBuiltinESMExports();
  return () => times;
}

/** Does `swap` once chokidar has found a link under PATH. @returns how often. */
function atLookOf(path: string, swap: () => void): () => number {
  return before("_isIgnored", (given, stats) => given === path && stats?.isSymbolicLink() === true, swap);
}

/** Does `create` when chokidar takes DIRECTORY for one in it that it has not found. @returns how often. */
function atFallbackTo(directory: string, create: () => void): () => number {
  return before("add", (given, name) => given === directory && name !== undefined, create);
}

/** Does `act` before the first call that `applies`. @returns how often. */
function before<Name extends "add" | "_isIgnored">(
  name: Name,
  applies: (...args: Parameters<FSWatcher[Name]>) => boolean,
  act: () => void,
): () => number {
  const { [name]: method } = FSWatcher.prototype;
  let times = 0;
  const replaced = function (this: FSWatcher, ...args: Parameters<FSWatcher[Name]>): unknown {
    if (applies(...args) && times++ === 0) act();
    return Reflect.apply(method, this, args);
  };
  Reflect.set(FSWatcher.prototype, name, replaced);
  onTestFinished(() => void Reflect.set(FSWatcher.prototype, name, method));
  return () => times;
}

/** @returns whether a directory has a watcher. Call it before the watch. */
function watchedDirectories(): (path: string) => boolean {
  const directories = new Map<unknown, unknown>();
  const note = (name: "add" | "close", how: (watcher: unknown, directory: unknown) => void) => {
    const { [name]: method } = FSWatcher.prototype;
    const noting = function (this: unknown, ...args: readonly unknown[]): unknown {
      how(this, args[0]);
      return Reflect.apply(method, this, args);
    };
    Reflect.set(FSWatcher.prototype, name, noting);
    onTestFinished(() => void Reflect.set(FSWatcher.prototype, name, method));
  };
  note("add", (watcher, directory) => directories.set(watcher, directory));
  note("close", (watcher) => directories.delete(watcher));
  return (path) => [...directories.values()].includes(path);
}

const watches = () => process.getActiveResourcesInfo().filter((kind) => kind === "FSEventWrap").length;

const isOutage = (outcome: Outcome | undefined) => outcome === undefined;

describe("sees a rotation without waiting for the poll", () => {
  test("a write in place, even with a restored mtime", async () => {
    await fill(at("dir"), "old");
    await watching("dir/key", async ({ sees }) => {
      await sees(() => writeFile(at("dir/key"), "new"), "new");
      await sees(async () => {
        const { atime, mtime } = await stat(at("dir/key"));
        await writeFile(at("dir/key"), "xxx");
        await utimes(at("dir/key"), atime, mtime);
      }, "xxx");
    });
  });

  test("a rename-over, also with equal mtime and size, again and again", async () => {
    const time = new Date("2024-01-01");
    await fill(at("dir"), "0");
    await utimes(at("dir/key"), time, time);
    await watching("dir/key", async ({ sees }) => {
      for (const value of ["1", "2", "3"]) {
        await sees(async () => {
          await writeFile(at("new"), value);
          await utimes(at("new"), time, time);
          await rename(at("new"), at("dir/key"));
        }, value);
      }
    });
  });

  test("a deletion and, later, a creation", async () => {
    await fill(at("dir"), "old");
    await watching("dir/key", async ({ sees }) => {
      await sees(() => unlink(at("dir/key")), isMissing);
      await sees(() => writeFile(at("dir/key"), "new"), "new");
    });
  });

  test.each(["key~", ".key.swp", ".hidden", "a b", "back\\slash", "ключ", "dir"])(
    "in a file named %j",
    async (name) => {
      await mkdir(at("dir"));
      await writeFile(at("dir", name), "old");
      await watching(`dir/${name}`, async ({ sees }) => {
        await sees(() => writeFile(at("dir", name), "new"), "new");
        await sees(() => rm(at("dir", name)), isMissing);
        await sees(() => writeFile(at("dir", name), "again"), "again");
      });
    },
  );

  test("below a directory named like an editor's backup, and through a link that climbs above the root", async () => {
    await fill(at("dir~"), "old");
    await symlink(`/..${at("dir~")}`, at("link"));
    await watching("link/key", async ({ sees }) => {
      await sees(() => writeFile(at("dir~/key"), "new"), "new");
    });
  });

  test("in a file of mode 0040, which its owner may not read", async () => {
    await fill(at("dir"), "old");
    await watching("dir/key", async ({ sees }) => {
      await chmod(at("dir/key"), 0o040);
      await sees(() => rename(at("dir/key"), at("dir/other")), isMissing);
      await sees(
        () => rename(at("dir/other"), at("dir/key")),
        (outcome) => outcome !== undefined && !isMissing(outcome),
      );
    });
  });

  test("a link swapped in place of the file, and then a write to the file that it leads to", async () => {
    await fill(at("a"), "a");
    await fill(at("b"), "b");
    await mkdir(at("dir"));
    await symlink("../a/key", at("dir/key"));
    await watching("dir/key", async ({ sees }) => {
      await sees(() => writeFile(at("a/key"), "A"), "A");
      await sees(() => swapLink("../b/key", at("dir/key")), "b");
      await sees(() => writeFile(at("b/key"), "B"), "B");
    });
  });

  test("a generation swap of sops-nix: the directory is a link", async () => {
    await fill(at("secrets.d/1"), "one");
    await symlink("secrets.d/1", at("secrets"));
    await watching("secrets/key", async ({ sees }) => {
      for (const generation of ["2", "3", "4"]) {
        await fill(at("secrets.d", generation), generation);
        await sees(() => swapLink(`secrets.d/${generation}`, at("secrets")), generation);
        await rm(at("secrets.d", String(Number(generation) - 1)), { recursive: true });
        await sees(() => writeFile(at("secrets/key"), `${generation} changed`), `${generation} changed`);
      }
    });
  });

  test("a swap of Kubernetes' ..data", async () => {
    await fill(at("dir/..1"), "one");
    await symlink("..1", at("dir/..data"));
    await symlink("..data/key", at("dir/key"));
    await watching("dir/key", async ({ sees }) => {
      await fill(at("dir/..2"), "two");
      await sees(() => swapLink("..2", at("dir/..data")), "two");
      await sees(() => writeFile(at("dir/..2/key"), "three"), "three");
    });
  });

  test("a swap of a link two directories up, absolute, and of one in the middle of a chain", async () => {
    await fill(at("blue/mid/dir"), "blue");
    await fill(at("green/mid/dir"), "green");
    await fill(at("red/mid/dir"), "red");
    await symlink(at("second"), at("first"));
    await symlink(at("blue"), at("second"));
    await watching("first/mid/dir/key", async ({ sees }) => {
      await sees(() => swapLink(at("green"), at("second")), "green");
      await sees(() => swapLink(at("red"), at("first")), "red");
      await sees(() => writeFile(at("red/mid/dir/key"), "red 2"), "red 2");
    });
  });

  test("the last of many generations in quick succession, and a write into it right away", async () => {
    for (let generation = 0; generation < 40; generation++) await fill(at(`generation-${generation}/dir`), "");
    await symlink("generation-0/dir", at("current"));
    await watching("current/key", async ({ sees }) => {
      for (let round = 0; round < 5; round++) {
        await sees(async () => {
          for (let generation = 0; generation < 40; generation++) {
            await swapLink(`generation-${generation}/dir`, at("current"));
            if (generation % 7 === round) await setImmediate();
          }
          await writeFile(at("current/key"), `round ${round}`);
        }, `round ${round}`);
      }
    });
  });

  test("a directory two levels up moved away and replaced", async () => {
    await fill(at("top/mid/dir"), "old");
    await fill(at("top/new/dir"), "new");
    await watching("top/mid/dir/key", async ({ sees }) => {
      await sees(() => rename(at("top/mid"), at("top/gone")), isMissing);
      await sees(() => rename(at("top/new"), at("top/mid")), "new");
      await sees(() => writeFile(at("top/mid/dir/key"), "newer"), "newer");
    });
  });

  test("a directory deleted and created again, often under the same inode number", async () => {
    await fill(at("dir"), "0");
    await watching("dir/key", async ({ sees }) => {
      for (const value of ["1", "2", "3"]) {
        await sees(() => rm(at("dir"), { recursive: true }), isOutage);
        await sees(() => fill(at("dir"), value), value);
        await sees(() => writeFile(at("dir/key"), `${value} changed`), `${value} changed`);
      }
    });
  });

  test("a directory deleted and created again at once", async () => {
    await fill(at("dir"), "0");
    await watching("dir/key", async ({ sees }) => {
      for (const value of ["1", "2", "3"]) {
        await sees(async () => {
          await rm(at("dir"), { recursive: true });
          await fill(at("dir"), value);
        }, value);
        await sees(() => writeFile(at("dir/key"), `${value} changed`), `${value} changed`);
      }
    });
  });

  test("a directory deleted and created again between the look at it and the watch on it", async () => {
    numbers.areReused = true;
    await fill(at("dir"), "0");
    await fill(at("next"), "lost");
    await watching("dir/key", async ({ sees }) => {
      const swapped = atWatchOf(at("dir"), (arm) => {
        fs.rmSync(at("dir"), { recursive: true });
        try {
          return arm();
        } finally {
          fs.mkdirSync(at("dir"));
          fs.writeFileSync(at("dir/key"), "1");
        }
      });
      await sees(() => replace(at("dir"), at("next")), "1");
      expect(swapped()).toBe(1);
      await sees(() => writeFile(at("dir/key"), "2"), "2");
    });
  });

  test("a directory absent only at the look before the watch on it", async () => {
    numbers.areReused = true;
    await fill(at("top/dir"), "0");
    await fill(at("next/dir"), "lost");
    await watching("top/dir/key", async ({ sees }) => {
      const removed = atWatchOf(at("top"), (arm) => {
        fs.rmSync(at("top/dir"), { recursive: true });
        return arm();
      });
      const created = atFallbackTo(at("top"), () => {
        fs.mkdirSync(at("top/dir"));
        fs.writeFileSync(at("top/dir/key"), "1");
      });
      await sees(() => replace(at("top"), at("next")), "1");
      await until(() => created() > 0);
      expect([removed(), created()]).toEqual([1, 1]);
      await sees(() => writeFile(at("top/dir/key"), "2"), "2");
    });
  });

  test("a directory that is a link only at the look before the watch on it", async () => {
    await fill(at("top/dir"), "0");
    await fill(at("next/dir"), "1");
    await watching("top/dir/key", async ({ sees }) => {
      const linked = atWatchOf(at("top"), (arm) => {
        fs.renameSync(at("top/dir"), at("top/aside"));
        fs.symlinkSync("aside", at("top/dir"));
        return arm();
      });
      const restored = atLookOf(at("top/dir"), () => {
        fs.unlinkSync(at("top/dir"));
        fs.renameSync(at("top/aside"), at("top/dir"));
      });
      await sees(() => replace(at("top"), at("next")), "1");
      await until(() => restored() > 0);
      expect([linked(), restored()]).toEqual([1, 1]);
      await sees(() => writeFile(at("top/dir/key"), "2"), "2");
    });
  });

  test("a directory that appears late, with all above it", async () => {
    await watching("top/mid/dir/key", async ({ sees }) => {
      await sees(() => fill(at("top/mid/dir"), "late"), "late");
      await sees(() => writeFile(at("top/mid/dir/key"), "later"), "later");
    });
  });

  test("a link whose target appears late", async () => {
    await symlink("run/generation", at("dir"));
    await watching("dir/key", async ({ sees }) => {
      await sees(() => fill(at("run/generation"), "late"), "late");
      await sees(() => writeFile(at("run/generation/key"), "later"), "later");
    });
  });
});

describe("watching is cheap", () => {
  test("in a directory with 3,000 other files: one watch per directory on the way, no hint for the others", async () => {
    await fill(at("dir"), "old");
    for (let index = 0; index < 3000; index++) await writeFile(at("dir", `other-${index}`), "");
    const before = watches();
    await watching("dir/key", async ({ sees, hints }) => {
      expect(watches() - before).toBe(at("dir").split("/").length);
      const quietly = await quiet(hints);
      for (let index = 0; index < 100; index++) await writeFile(at("dir", `other-${index}`), "changed");
      await unlink(at("dir/other-0"));
      expect(await quiet(hints)).toBe(quietly);
      await sees(() => writeFile(at("dir/key"), "new"), "new");
    });
  });

  test("a file written to without end causes hints, and other links are still followed", async () => {
    await fill(at("1"), "one");
    await fill(at("2"), "two");
    await symlink("1", at("dir"));
    await watching("dir/key", async ({ hints, observed }) => {
      const before = await quiet(hints);
      for (let index = 0; index < 500; index++) {
        await writeFile(at("1/new"), "one");
        await rename(at("1/new"), at("1/key"));
      }
      await swapLink("2", at("dir"));
      const swapped = await quiet(hints);
      expect(swapped).toBeGreaterThan(before);
      await writeFile(at("2/key"), "three");
      await until(() => hints() > swapped);
      expect((await observed.value("key")).value.toString()).toBe("three");
    });
  });
});

describe("a directory on the way where others write a lot", () => {
  /** Watches top/busy/dir/key, and writes beside `dir` until nobody watches `busy`. */
  async function bothered(body: (sees: Sees, bother: () => Promise<void>) => Promise<void>): Promise<void> {
    await fill(at("top/busy/dir"), "old");
    const isWatched = watchedDirectories();
    await watching("top/busy/dir/key", async ({ sees, hints }) => {
      const bother = async () => {
        await until(() => isWatched(at("top/busy")));
        while (isWatched(at("top/busy"))) await writeFile(at("top/busy/other"), "x");
        await quiet(hints);
        expect(isWatched(at("top/busy"))).toBe(false);
      };
      await bother();
      await sees(() => writeFile(at("top/busy/dir/key"), "new"), "new");
      await body(sees, bother);
    });
  }

  test("causes no wake-ups, and the watch sees each change below it", async () => {
    await bothered(async (sees, bother) => {
      await fill(at("next"), "replaced");
      await sees(() => replace(at("top/busy/dir"), at("next")), "replaced");
      await bother();
      await sees(() => rename(at("top/busy/dir"), at("top/busy/gone")), isMissing);
      await sees(() => rename(at("top/busy/gone"), at("top/busy/dir")), "replaced");
      await bother();
      await sees(() => rm(at("top/busy/dir"), { recursive: true }), isMissing);
      await fill(at("linked"), "linked");
      await sees(() => symlink("../../linked", at("top/busy/dir")), "linked");
      await sees(() => swapLink("none", at("top/busy/dir")), isMissing);
    });
  });

  test("is seen when it is itself replaced, also by one that is empty", async () => {
    await bothered(async (sees, bother) => {
      await fill(at("full/dir"), "full");
      await sees(() => replace(at("top/busy"), at("full")), "full");
      await bother();
      await mkdir(at("empty"));
      await sees(() => replace(at("top/busy"), at("empty")), isMissing);
      await sees(() => fill(at("top/busy/dir"), "late"), "late");
      await bother();
      await sees(() => rename(at("top"), at("gone")), isOutage);
      await sees(() => fill(at("top/busy/dir"), "later"), "later");
    });
  });

  test("stays watched where a link or a file in it is on the way", async () => {
    await fill(at("1"), "one");
    await fill(at("2"), "two");
    await symlink("1", at("dir"));
    const isWatched = watchedDirectories();
    await watching("dir/key", async ({ sees, hints }) => {
      for (const beside of ["1/other", "other"])
        for (let index = 0; index < 500; index++) await writeFile(at(beside), "x");
      await quiet(hints);
      expect([isWatched(root), isWatched(at("1"))]).toEqual([true, true]);
      await sees(() => swapLink("2", at("dir")), "two");
      await sees(() => writeFile(at("2/key"), "three"), "three");
    });
  });
});

describe("a change that inotify cannot see", () => {
  test("a write through another hard link waits for the next fetch, so the poll delivers it", async () => {
    await fill(at("dir"), "old");
    await link(at("dir/key"), at("other"));
    await watching("dir/key", async ({ observed }) => {
      const before = await observed.value("key");
      await writeFile(at("other"), "new");
      const after = await observed.value("key");
      expect(after.value.toString()).toBe("new");
      expect(after.version).not.toBe(before.version);
    });
  });

  test("a directory with a backslash in its name is reported once as polled only", async () => {
    await fill(at("back\\slash"), "old");
    await watching("back\\slash/key", async ({ observed, sees }) => {
      await sees(() => rename(at("back\\slash"), at("gone")), isOutage);
      await sees(() => rename(at("gone"), at("back\\slash")), "old");
      const warnings = observed.said.filter((line) => line.startsWith("warn "));
      expect(warnings).toEqual([
        `warn cannot watch ${at("back\\slash")}: the watcher takes a backslash for a slash; polling finds changes there`,
      ]);
    });
  });
});
