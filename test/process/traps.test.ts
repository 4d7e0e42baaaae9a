import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { isRoot, logLines, ordinary, Place } from "./daemon.ts";
import { fakeSystemctl } from "./fake-systemctl.ts";

/** A file elsewhere that a trap leads to, and everything about it that must stay as it is. */
function victim(place: Place) {
  const path = place.path("victims", "victim");
  fs.mkdirSync(dirname(path));
  fs.writeFileSync(path, "precious", { mode: 0o640 });
  if (isRoot) fs.chownSync(path, 4321, 4322);
  const look = () => {
    const { mode, uid, gid, ino, nlink, mtimeMs } = fs.lstatSync(path);
    return {
      mode,
      uid,
      gid,
      ino,
      nlink,
      mtimeMs,
      content: fs.readFileSync(path, "utf8"),
      beside: fs.readdirSync(dirname(path)),
    };
  };
  return { path, look };
}

/** Each makes a trap at a path, given the victim's. */
const traps = {
  "a symbolic link to a file": (at: string, target: string) => {
    fs.symlinkSync(target, at);
  },
  "a symbolic link to a directory": (at: string, target: string) => {
    fs.symlinkSync(dirname(target), at);
  },
  "a dangling symbolic link": (at: string, target: string) => {
    fs.symlinkSync(`${target}-new`, at);
  },
  "a hard link": (at: string, target: string) => {
    fs.linkSync(target, at);
  },
  "a fifo": (at: string) => {
    execFileSync("mkfifo", [at]);
  },
  "a regular file": (at: string) => {
    fs.writeFileSync(at, "a stranger's", { mode: 0o666 });
  },
  "a stranger's file": (at: string) => {
    fs.writeFileSync(at, "a stranger's", { mode: 0o666 });
    if (isRoot) fs.chownSync(at, 4321, 4321);
  },
} as const;
const trapNames = Object.keys(traps) as (keyof typeof traps)[];

/** With an owner and a mode where we may give them: chown and chmod must not follow a link either. */
const secrets = { id: isRoot ? { owner: 1, mode: "0444", env: "ID" } : { mode: "0444", env: "ID" } };

describe("keeps a stranger's file at a secret's name, and does not touch its target", () => {
  describe.each(["id", "secrets.env"])("at %s", (name) => {
    test.each(trapNames)(
      "%s before the start: exits 73, publishes nothing, and works once the file is moved away",
      async (trap) => {
        const place = new Place();
        const { path, look } = victim(place);
        place.put({ id: "one", other: "one" });
        fs.mkdirSync(place.output);
        traps[trap](join(place.output, name), path);
        const [before, there] = [look(), fs.lstatSync(join(place.output, name))];
        const config = place.config({ ...secrets, other: {} });
        const exit = await place.start(config).exit;
        expect(exit.code).toBe(73);
        expect(logLines(exit.stderr).map(({ message }) => message)).toEqual([
          `output: ${join(place.output, name)} already exists, and fetcher did not create it: move it away, or name another output`,
        ]);
        expect(look()).toEqual(before);
        expect(fs.lstatSync(join(place.output, name)).ino).toBe(there.ino);
        expect(fs.readdirSync(place.output)).toEqual([name]);
        fs.rmSync(join(place.output, name));
        await place.start(config).ready();
        expect(place.read("id")).toBe("one");
      },
    );
  });

  test("keeps the old set in use while a new secret's name is taken, and publishes once the file is moved away", async () => {
    const place = new Place();
    place.put({ id: "one" });
    await (await place.start(place.config(["id"])).ready()).end("SIGKILL");
    place.put({ late: "one" });
    fs.writeFileSync(join(place.output, "late"), "a stranger's");
    const config = place.config({ id: {}, late: { optional: true } });
    const daemon = await place.start(config).ready();
    await daemon.says(/late already exists, and fetcher did not create it/);
    expect(place.read("late")).toBe("a stranger's");
    fs.rmSync(join(place.output, "late"));
    daemon.signal("SIGHUP");
    await daemon.says(/^published/);
    expect(place.read("late")).toBe("one");
  });

  test("keeps it at its end too", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const daemon = await place.start(place.config({ id: {}, spare: { optional: true } })).ready();
    fs.writeFileSync(join(place.output, "spare"), "a stranger's");
    expect((await daemon.end()).code).toBe(0);
    expect(place.published()).toEqual({ spare: "a stranger's" });
  });
});

describe("replaces a trap at a name of ours in the output, and does not touch its target", () => {
  describe.each(["id", "secrets.env", ".fetcher-state"])("at %s", (name) => {
    test.each(trapNames)("%s", async (trap) => {
      const place = new Place();
      const { path, look } = victim(place);
      place.put({ id: "one" });
      if (name === ".fetcher-state") {
        fs.mkdirSync(place.output);
        traps[trap](join(place.output, name), path);
      }
      const before = look();
      const daemon = await place.start(place.config(secrets)).ready();
      expect(look()).toEqual({ ...before, nlink: 1 });
      expect(place.read("id")).toBe("one");
      expect(fs.lstatSync(join(place.output, name)).isFile()).toBe(true);

      fs.rmSync(join(place.output, name));
      traps[trap](join(place.output, name), path);
      const again = look();
      place.put({ id: "two" });
      await daemon.says(/^published/);
      expect(look()).toEqual({ ...again, nlink: fs.lstatSync(path).nlink });
      expect(place.read("id")).toBe("two");
      expect(place.read("secrets.env")).toContain("ID='two'");
    });
  });
});

describe("reports a directory at a name of ours, and keeps it with its content", () => {
  test.each(["id", "secrets.env", ".fetcher-state"])("at %s before the start: exits 73", async (name) => {
    const place = new Place();
    place.put({ id: "one", other: "one" });
    const inside = join(place.output, name, "inside");
    fs.mkdirSync(dirname(inside), { recursive: true });
    fs.writeFileSync(inside, "stays");
    const exit = await place.start(place.config(["other", "id"])).exit;
    expect([73, 74]).toContain(exit.code);
    expect(logLines(exit.stderr)).toHaveLength(1);
    expect(exit.stderr).toContain(join(place.output, name));
    expect(fs.readFileSync(inside, "utf8")).toBe("stays");
    expect(place.leftovers()).toEqual([]);
    expect(fs.existsSync(join(place.output, "other"))).toBe(false);
  });

  test("a directory at a secret's name after READY is reported once; the old set stays whole until it is removed", async () => {
    const place = new Place();
    place.put({ id: "one", other: "one" });
    const daemon = await place.start(place.config(["other", "id"])).ready();
    fs.rmSync(join(place.output, "id"));
    fs.mkdirSync(join(place.output, "id"));
    place.put({ other: "two" });
    const line = await daemon.says(/are not published/);
    expect(line.message).toContain(join(place.output, "id"));
    expect(place.read("other")).toBe("one");
    fs.rmdirSync(join(place.output, "id"));
    daemon.signal("SIGHUP");
    await daemon.says(/^published/);
    expect(place.read("other")).toBe("two");
    expect(place.read("id")).toBe("one");
  });
});

describe("does not follow a trap at a temporary name", () => {
  describe.each([".fetcher-stage-0123456789ab", ".fetcher-commit-0123456789ab"])("at %s", (name) => {
    test.each(trapNames)("%s", async (trap) => {
      const place = new Place();
      const { path, look } = victim(place);
      place.put({ id: "one" });
      fs.mkdirSync(place.output);
      traps[trap](join(place.output, name), path);
      const before = look();
      await place.start(place.config(secrets)).ready();
      expect(look()).toEqual(before);
      expect(place.read("id")).toBe("one");
    });
  });

  needs("root").test("does not complete a stranger's commit directory, whose files would look like ours", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const directory = join(place.output, ".fetcher-commit-0123456789ab");
    fs.mkdirSync(directory, { recursive: true });
    fs.writeFileSync(join(directory, "id"), "forged");
    fs.writeFileSync(join(directory, "extra"), "forged");
    for (const path of [directory, join(directory, "id"), join(directory, "extra")]) fs.chownSync(path, 4321, 4321);
    await place.start(place.config(["id"])).ready();
    expect(place.published()).toMatchObject({ id: "one" });
    expect(fs.existsSync(join(place.output, "extra"))).toBe(false);
  });

  test("discards a stage that holds links without following them", async () => {
    const place = new Place();
    const { path, look } = victim(place);
    place.put({ id: "one" });
    const stage = join(place.output, ".fetcher-stage-0123456789ab");
    fs.mkdirSync(stage, { recursive: true });
    fs.symlinkSync(dirname(path), join(stage, "id"));
    const before = look();
    await place.start(place.config(["id"])).ready();
    expect(look()).toEqual(before);
    expect(place.leftovers()).toEqual([]);
  });
});

describe("a stranger's file at a link's name", () => {
  const config = (place: Place) =>
    place.config({ ...secrets, id: { env: "ID" } }, { output: { links: place.path("links") } });

  describe.each(["id", "secrets.env"])("at %s", (name) => {
    test.each(trapNames)("%s before the first start: exits 73, and keeps it", async (trap) => {
      const place = new Place();
      const { path, look } = victim(place);
      place.put({ id: "one" });
      fs.mkdirSync(place.path("links"));
      traps[trap](place.path("links", name), path);
      const [before, there] = [look(), fs.lstatSync(place.path("links", name))];
      const exit = await place.start(config(place)).exit;
      expect(exit.code).toBe(73);
      expect(exit.stderr).toContain(`${place.path("links", name)} already exists, and fetcher did not create it`);
      expect(look()).toEqual(before);
      expect(fs.lstatSync(place.path("links", name)).ino).toBe(there.ino);
      expect(place.published()).toEqual({});
    });

    test("names a directory in the error", async () => {
      const place = new Place();
      place.put({ id: "one" });
      fs.mkdirSync(place.path("links", name), { recursive: true });
      const exit = await place.start(config(place)).exit;
      expect(exit.code).toBe(73);
      expect(exit.stderr).toContain(place.path("links", name));
    });
  });

  test.each(["a directory", "a regular file"])(
    "%s after READY: reports it once, still publishes and acts, and repairs the other links",
    async (what) => {
      const place = new Place();
      place.put({ id: "one", other: "one" });
      const systemctl = fakeSystemctl(place, join(place.output, "id"));
      const daemon = await place
        .start(
          place.config(["id", "other"], {
            output: { links: place.path("links") },
            service: "target.service",
            onChange: { minInterval: 0 },
          }),
          systemctl,
        )
        .ready();
      fs.rmSync(place.path("links", "id"));
      if (what === "a directory") fs.mkdirSync(place.path("links", "id"));
      else fs.writeFileSync(place.path("links", "id"), "mine");
      fs.rmSync(place.path("links", "secrets.env"));
      for (const value of ["two", "three"]) {
        const lines = daemon.lines.length;
        place.put({ id: value });
        await daemon.says(/restart done/, lines);
        expect(place.read("id")).toBe(value);
      }
      expect(fs.readFileSync(place.path("links", "secrets.env"), "utf8")).toBe(place.read("secrets.env"));
      expect(systemctl.calls()).toHaveLength(2);
      expect(daemon.stderr).not.toContain("not published");
      const told = daemon.lines.filter(({ message }) => message.includes(place.path("links", "id")));
      expect(told).toHaveLength(1);
      expect(told[0]?.level).toBe("warn");
      // And the next life starts with it.
      await daemon.end("SIGKILL");
      await place.start(place.config(["id", "other"], { output: { links: place.path("links") } })).ready();
      expect(fs.lstatSync(place.path("links", "id")).isSymbolicLink()).toBe(false);
    },
  );

  test("another running sidecar's link: exits 73, and keeps it; once that one was killed, takes it over", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const links = place.path("links");
    fs.mkdirSync(links);
    const first = await place.start(place.config(["id"], { output: { links } })).ready();
    const shown = fs.readlinkSync(join(links, "id"));
    const other = place.config(["id"], { output: { links, directory: place.path("other") } });
    const { code, stderr } = await place.start(other).exit;
    expect([code, stderr]).toEqual([73, expect.stringContaining(`${join(links, "id")} is a link of another fetcher`)]);
    expect(fs.readlinkSync(join(links, "id"))).toBe(shown);
    await first.end("SIGKILL");
    await place.start(other).ready();
    expect(fs.readlinkSync(join(links, "id"))).not.toBe(shown);
    expect(fs.readFileSync(join(links, "id"), "utf8")).toBe("one");
  });

  test("stays at the stop", async () => {
    const place = new Place();
    place.put({ id: "one" });
    const daemon = await place.start(config(place)).ready();
    fs.rmSync(place.path("links", "id"));
    fs.writeFileSync(place.path("links", "id"), "mine");
    await daemon.end();
    expect(fs.readFileSync(place.path("links", "id"), "utf8")).toBe("mine");
  });
});

describe("refuses with 73, before it fetches a secret, an output that somebody else can replace", () => {
  async function refused(place: Place, output: string, options = {}): Promise<string> {
    const exit = await place.start({ ...place.config(["id"]), output: { directory: output } }, options).exit;
    expect(exit.code).toBe(73);
    const lines = logLines(exit.stderr);
    expect(lines).toHaveLength(1);
    expect(lines[0]?.message).toContain(output);
    return lines[0]?.message ?? "";
  }

  test("a symbolic link", async () => {
    const place = new Place();
    fs.mkdirSync(place.path("real"));
    fs.symlinkSync(place.path("real"), place.output);
    expect(await refused(place, place.output)).toContain("symbolic link");
    expect(fs.readdirSync(place.path("real"))).toEqual([]);
  });

  test.each([
    [0o777, "everybody"],
    [0o757, "everybody"],
  ])("mode %o", async (mode, who) => {
    const place = new Place();
    fs.mkdirSync(place.output);
    fs.chmodSync(place.output, mode);
    expect(await refused(place, place.output)).toContain(who);
  });

  test("below a directory that any user can change", async () => {
    const place = new Place();
    const above = place.path("above");
    fs.mkdirSync(above);
    fs.chmodSync(above, 0o777);
    expect(await refused(place, join(above, "out"))).toContain(above);
  });

  needs("root").test("writable by a group that is not root's", async () => {
    const place = new Place();
    fs.mkdirSync(place.output);
    fs.chownSync(place.output, 0, 4322);
    fs.chmodSync(place.output, 0o775);
    expect(await refused(place, place.output)).toContain("group 4322");
  });

  needs("root").test("another user's, or below another user's", async () => {
    const place = new Place();
    const above = place.path("above");
    fs.mkdirSync(join(above, "out"), { recursive: true });
    fs.chownSync(above, 4321, 4321);
    expect(await refused(place, join(above, "out"))).toContain("uid 4321");
    fs.chownSync(above, 0, 0);
    fs.chownSync(join(above, "out"), 4321, 4321);
    expect(await refused(place, join(above, "out"))).toContain("uid 4321");
  });

  needs("root").test("another ordinary user's, for an ordinary user", async () => {
    const place = new Place(undefined, ordinary);
    fs.mkdirSync(place.output);
    fs.chownSync(place.output, 4321, 4321);
    expect(await refused(place, place.output, ordinary)).toContain("uid 4321");
  });
});
