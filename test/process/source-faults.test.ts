import * as fs from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { eventually, Place } from "./daemon.ts";

/** No poll in a test's time: every change seen is seen by inotify. */
const NEVER = 2_000_000;

interface Fault {
  /** Lays out the folder with `a` = "one"; @returns secretsDir. */
  readonly prepare: (place: Place) => string;
  /** Makes `a` read "two". */
  readonly change: (place: Place) => void;
}

function plain(place: Place): string {
  place.put({ a: "one" });
  return place.store;
}

function directory(place: Place, name: string, value: string): string {
  fs.mkdirSync(place.path(name), { recursive: true });
  fs.writeFileSync(place.path(name, "a"), value);
  return place.path(name);
}

function swapLink(link: string, target: string): void {
  fs.symlinkSync(target, `${link}.new`);
  fs.renameSync(`${link}.new`, link);
}

const faults: Readonly<Record<string, Fault>> = {
  "an in-place write": {
    prepare: plain,
    change: (place) => {
      fs.writeFileSync(join(place.store, "a"), "two");
    },
  },
  "an in-place write with a restored mtime": {
    prepare: plain,
    change: (place) => {
      const { atime, mtime } = fs.statSync(join(place.store, "a"));
      fs.writeFileSync(join(place.store, "a"), "two");
      fs.utimesSync(join(place.store, "a"), atime, mtime);
    },
  },
  "a rename-over with equal mtime": {
    prepare: plain,
    change: (place) => {
      const { atime, mtime } = fs.statSync(join(place.store, "a"));
      fs.utimesSync(join(place.store, "a"), atime, mtime);
      fs.writeFileSync(place.path("new"), "two");
      fs.utimesSync(place.path("new"), atime, mtime);
      fs.renameSync(place.path("new"), join(place.store, "a"));
    },
  },
  "delete and create": {
    prepare: plain,
    change: (place) => {
      fs.rmSync(join(place.store, "a"));
      fs.writeFileSync(join(place.store, "a"), "two");
    },
  },
  "the symbolic link of the secret": {
    prepare: (place) => {
      fs.writeFileSync(place.path("v1"), "one");
      fs.writeFileSync(place.path("v2"), "two");
      fs.symlinkSync(place.path("v1"), join(place.store, "a"));
      return place.store;
    },
    change: (place) => {
      swapLink(join(place.store, "a"), place.path("v2"));
    },
  },
  "secretsDir is a link (sops-nix, agenix)": {
    prepare: (place) => {
      swapLink(place.path("current"), directory(place, "generations/1", "one"));
      return place.path("current");
    },
    change: (place) => {
      swapLink(place.path("current"), directory(place, "generations/2", "two"));
      fs.rmSync(place.path("generations/1"), { recursive: true });
    },
  },
  "a link inside it (Kubernetes' ..data)": {
    prepare: (place) => {
      directory(place, "store/..2026_1", "one");
      swapLink(join(place.store, "..data"), "..2026_1");
      fs.symlinkSync("..data/a", join(place.store, "a"));
      return place.store;
    },
    change: (place) => {
      directory(place, "store/..2026_2", "two");
      swapLink(join(place.store, "..data"), "..2026_2");
      fs.rmSync(join(place.store, "..2026_1"), { recursive: true });
    },
  },
  "its grandparent is a link": {
    prepare: (place) => {
      directory(place, "generations/1/etc/secrets", "one");
      swapLink(place.path("system"), "generations/1");
      return place.path("system/etc/secrets");
    },
    change: (place) => {
      directory(place, "generations/2/etc/secrets", "two");
      swapLink(place.path("system"), "generations/2");
    },
  },
  "a link behind a link": {
    prepare: (place) => {
      swapLink(place.path("current"), directory(place, "generations/1", "one"));
      fs.symlinkSync("current", place.path("alias"));
      return place.path("alias");
    },
    change: (place) => {
      swapLink(place.path("current"), directory(place, "generations/2", "two"));
    },
  },
  "a replaced directory": {
    prepare: plain,
    change: (place) => {
      directory(place, "new", "two");
      fs.renameSync(place.store, place.path("old"));
      fs.renameSync(place.path("new"), place.store);
    },
  },
  "a directory deleted and created again, file by file": {
    prepare: plain,
    change: (place) => {
      fs.rmSync(place.store, { recursive: true });
      fs.mkdirSync(place.store);
      fs.writeFileSync(join(place.store, "a"), "two");
    },
  },
};

describe("publishes a rotation without a poll", () => {
  test.each(Object.entries(faults))("%s", async (_, { prepare, change }) => {
    const place = new Place();
    const secretsDir = prepare(place);
    // Longer than a busy machine makes a change of two steps.
    const onChange = { settle: 0.5 };
    const config = place.config(["a"], { config: { secretsDir, pollingInterval: NEVER }, onChange });
    const daemon = await place.start(config).ready();
    await armed(daemon.pid);
    change(place);
    await eventually("the rotation", () => place.read("a") === "two");
    expect(daemon.lines.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
  });
});

test("keeps the published set while a directory is gone, and sees its return without a poll", async () => {
  const place = new Place();
  place.put({ a: "one" });
  const daemon = await place.start(place.config(["a"], { config: { pollingInterval: NEVER } })).ready();
  await armed(daemon.pid);
  fs.renameSync(place.store, place.path("away"));
  await daemon.says(/no directory .*; the published values stay in use/);
  expect(place.read("a")).toBe("one");
  fs.writeFileSync(place.path("away", "a"), "two");
  fs.renameSync(place.path("away"), place.store);
  await eventually("the return", () => place.read("a") === "two");
});

test("never mixes generations that change quickly", async () => {
  const place = new Place();
  const ids = ["a", "b", "c", "d"];
  const generation = (n: number) => {
    fs.mkdirSync(place.path(`generations/${n}`), { recursive: true });
    for (const id of ids) fs.writeFileSync(place.path(`generations/${n}`, id), String(n));
    swapLink(place.path("current"), `generations/${n}`);
  };
  generation(0);
  const config = place.config(ids, { config: { secretsDir: place.path("current") }, onChange: { settle: 0 } });
  const daemon = await place.start(config).ready();
  const envs = new Set<string>();
  for (let n = 1; n <= 200; n += 1) {
    generation(n);
    await new Promise((resolve) => setTimeout(resolve, 1));
    envs.add(place.read("secrets.env") ?? "");
  }
  await eventually(
    "the last generation",
    () => place.read("a") === "200" && place.read("secrets.env")?.includes("d='200'") === true,
  );
  for (const env of envs) expect(new Set(env.match(/'\d+'/g)).size).toBe(1);
  expect(place.published()).toMatchObject(Object.fromEntries(ids.map((id) => [id, "200"])));
  expect(daemon.lines.filter(({ level }) => level === "error")).toEqual([]);
});

/** The watch is armed after READY: it has inotify watches, and their number rests. */
async function armed(pid: number): Promise<void> {
  let last = -1;
  let same = 0;
  await eventually("the watch", () => {
    const now = inotifyWatches(pid);
    same = now === last && now > 0 ? same + 1 : 0;
    last = now;
    return same > 20;
  });
}

function inotifyWatches(pid: number): number {
  return fs
    .readdirSync(`/proc/${pid}/fdinfo`)
    .map((fd) => {
      try {
        return fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8").match(/^inotify /gm)?.length ?? 0;
      } catch {
        return 0;
      }
    })
    .reduce((sum, count) => sum + count, 0);
}

test("publishes a file written in place in many steps once, whole", async () => {
  const place = new Place();
  place.put({ id: "before" });
  const daemon = await place.start(place.config(["id"], { onChange: { settle: 2 } })).ready();
  const descriptor = fs.openSync(join(place.store, "id"), "w");
  for (let step = 1; step <= 12; step += 1) {
    fs.writeSync(descriptor, `line ${step}\n`);
    await delay(250);
  }
  fs.closeSync(descriptor);
  await eventually("the last line is published", () => place.read("id")?.endsWith("line 12\n") === true);
  await daemon.says(/^published/);
  expect(daemon.lines.filter(({ message }) => message.startsWith("published"))).toHaveLength(1);
  expect(place.read("id")).toMatch(/^line 1\n/);
});

test("a start without reloadOnChange waits until a file being written is whole", async () => {
  const place = new Place();
  place.put({ id: "before" });
  const descriptor = fs.openSync(join(place.store, "id"), "w");
  fs.writeSync(descriptor, "line 1\n");
  const daemon = place.start(place.config(["id"], { config: { reloadOnChange: false }, onChange: { settle: 2 } }));
  for (let step = 2; step <= 15; step += 1) {
    await delay(200);
    fs.writeSync(descriptor, `line ${step}\n`);
  }
  fs.closeSync(descriptor);
  await daemon.ready();
  expect(place.read("id")).toMatch(/line 15\n$/);
});

needs("rsync").describe("rsync into the folder", () => {
  test.each([
    ["which renames each file when it has it", ["--archive"]],
    ["slowly, which renames all of them at the end", ["--archive", "--delay-updates", "--bwlimit=4M"]],
    ["in place, with the others", ["--archive", "--inplace"]],
  ])("%s: one publish for each run, of all files", async (_, options) => {
    const place = new Place();
    const sizes = { small: 20, large: 6 << 20, last: 3000 };
    const ids = Object.keys(sizes);
    const valuesOf = (letter: string) =>
      Object.fromEntries(Object.entries(sizes).map(([id, size]) => [id, letter.repeat(size)]));
    place.put(valuesOf("a"));
    const daemon = await place
      .start(place.config(ids, { onChange: { settle: 1 } }), { args: ["--log-level", "trace"] })
      .ready();
    const source = place.path("source");
    fs.mkdirSync(source);
    const published = () => daemon.lines.filter(({ message }) => message.startsWith("published"));
    for (const [runs, letter] of ["b", "c"].entries()) {
      for (const [id, value] of Object.entries(valuesOf(letter))) fs.writeFileSync(join(source, id), value);
      execFileSync("rsync", [...options, `${source}/`, `${place.store}/`]);
      await eventually("all new values are published", () =>
        ids.every((id) => place.read(id) === valuesOf(letter)[id]),
      );
      await eventually("it says so", () => published().length > runs);
    }
    await daemon.end();
    expect(published().map(({ secrets }) => secrets)).toEqual([ids, ids]);
    // rsync writes `.small.XXXXXX` first, or `.~tmp~/small`.
    expect(daemon.stderr).not.toMatch(/\.(?:small|large|last)\.|~tmp~/);
  });
});

describe("publishes all of a file, and never a part, whichever program writes it", () => {
  const size = 3 << 20;
  test.each([
    ["cat, over the file", 'cat "$1" >"$2"'],
    ["cp, over the file", 'cp "$1" "$2"'],
    ["cp, which removes the file first", 'cp --remove-destination "$1" "$2"'],
    ["mv, from another file system", 'cp "$1" /dev/shm/fetcher-mv.$$ && mv /dev/shm/fetcher-mv.$$ "$2"'],
    ["dd, block for block in place, as rsync --inplace does", 'dd if="$1" of="$2" bs=4k conv=notrunc status=none'],
    ["tee, from a pipe in pieces", '{ head -c 1000000; sleep 0.2; cat; } <"$1" | tee "$2" >/dev/null'],
    ["sed -i", 'sed -i "1s/.*/$(head -n 1 "$1")/; 2,\\$s/./$(head -c 1 "$1")/g" "$2"'],
  ])("%s", async (_, script) => {
    const value = (letter: string) => `${letter.repeat(99)}\n`.repeat(size / 100);
    const [old, new_] = [value("a"), value("b")];
    const place = new Place();
    place.put({ id: old });
    fs.writeFileSync(place.path("source"), new_);
    const daemon = await place.start(place.config(["id"], { onChange: { settle: 1 } })).ready();
    execFileSync("sh", ["-c", script, "sh", place.path("source"), join(place.store, "id")]);
    const seen = new Set<string | undefined>();
    await eventually("the new value is published", () => {
      const now = place.read("id");
      seen.add(now === old ? "old" : now === new_ ? "new" : (now?.length.toString() ?? "none"));
      return now === new_;
    });
    await daemon.says(/^published/);
    expect([...seen].filter((one) => one !== "old" && one !== "new")).toEqual([]);
    expect(daemon.lines.filter(({ message }) => message.startsWith("published"))).toHaveLength(1);
  });
});
