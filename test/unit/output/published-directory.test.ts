import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { PublishError } from "../../../src/contract/errors.ts";
import { PublishedDirectory } from "../../../src/output/published-directory.ts";
import { type PublishedFile, SafeFiles } from "../../../src/output/safe-files.ts";
import { Publisher } from "../../../src/publish/publisher.ts";
import { needs } from "../../requirements.ts";
import { configOf } from "../command-line.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

const file = (name: string, content: string, mode = 0o400): PublishedFile => ({
  name,
  content: Buffer.from(content),
  mode,
  uid: undefined,
  gid: undefined,
});

function publish(output: PublishedDirectory, files: readonly PublishedFile[]): void {
  output.stage(files, { files: files.map(({ name }) => name), pending: null, starts: null }).commit();
}

const visible = (path: string) =>
  fs
    .readdirSync(path)
    .filter((name) => !name.startsWith(".fetcher-state"))
    .sort();
const text = (...path: readonly string[]) => fs.readFileSync(join(...path), "utf8");

describe("a publish", () => {
  test.each([
    ["/tmp", "sticky, as systemd-tmpfiles would delete what is old there", ["1400", "1444", "1440"]],
    ["/dev/shm", "as they were asked for", ["400", "444", "440"]],
  ])("in %s: writes files that are %s, and leaves nothing else", (parent, _, modes) => {
    const path = freshDirectory(parent);
    publish(new PublishedDirectory(path), [
      file("a", "1"),
      file("empty", "", 0o444),
      file("secrets.env", "A='1'\n", 0o440),
    ]);
    expect(visible(path)).toEqual(["a", "empty", "secrets.env"]);
    expect(visible(path).map((name) => (fs.statSync(join(path, name)).mode & 0o7777).toString(8))).toEqual(modes);
    expect(fs.statSync(join(path, ".fetcher-state")).mode & 0o777).toBe(0o600);
    expect(text(path, "a")).toBe("1");
  });

  test("keeps a staged set invisible until its commit, and removes a discarded one", () => {
    const path = freshDirectory();
    const output = new PublishedDirectory(path);
    publish(output, [file("a", "old")]);
    const staged = output.stage([file("a", "new")], { files: ["a"], pending: null, starts: null });
    expect(fs.statSync(staged.directory).mode & 0o777).toBe(0o700);
    expect(text(staged.directory, "a")).toBe("new");
    expect(text(path, "a")).toBe("old");
    staged.discard();
    expect(visible(path)).toEqual(["a"]);
    expect(text(path, "a")).toBe("old");
  });

  test("removes files that are no longer published, and keeps other people's files", () => {
    const path = freshDirectory();
    const output = new PublishedDirectory(path);
    publish(output, [file("a", "1"), file("b", "2")]);
    fs.writeFileSync(join(path, "mine"), "");
    publish(output, [file("a", "1")]);
    expect(visible(path)).toEqual(["a", "mine"]);
  });

  describe.each(["regular file", "symlink", "hard link", "dangling symlink"])("and a %s at a secret's name", (trap) => {
    function set(path: string, elsewhere: string) {
      if (trap === "regular file") fs.writeFileSync(path, "mine");
      if (trap !== "dangling symlink") fs.writeFileSync(elsewhere, "untouched");
      if (trap === "hard link") fs.linkSync(elsewhere, path);
      else if (trap !== "regular file") fs.symlinkSync(elsewhere, path);
      const { ino } = fs.lstatSync(path);
      return () => {
        expect(fs.existsSync(elsewhere) ? text(elsewhere) : "untouched").toBe("untouched");
        return fs.lstatSync(path).ino === ino;
      };
    }

    test("what no state lists is kept, and nothing is published", () => {
      const path = freshDirectory();
      const isThere = set(join(path, "a"), join(freshDirectory(), "elsewhere"));
      const attempt = () => {
        publish(new PublishedDirectory(path), [file("b", "secret"), file("a", "secret")]);
      };
      expect(attempt).toThrow(
        `output: ${join(path, "a")} already exists, and fetcher did not create it: move it away, or name another output`,
      );
      expect(isThere()).toBe(true);
      expect(visible(path)).toEqual(["a"]);
      fs.rmSync(join(path, "a"));
      attempt();
      expect(text(path, "a")).toBe("secret");
    });

    test("what appears while a verify command runs is kept", () => {
      const path = freshDirectory();
      const staged = new PublishedDirectory(path).stage([file("a", "1")], {
        files: ["a"],
        pending: null,
        starts: null,
      });
      const isThere = set(join(path, "a"), join(freshDirectory(), "elsewhere"));
      expect(() => {
        staged.commit();
      }).toThrow("already exists");
      expect(isThere()).toBe(true);
      expect(visible(path)).toEqual(["a"]);
    });

    test("what was ours is replaced, and nothing is written elsewhere", () => {
      const path = freshDirectory();
      publish(new PublishedDirectory(path), [file("a", "old")]);
      fs.rmSync(join(path, "a"));
      const isThere = set(join(path, "a"), join(freshDirectory(), "elsewhere"));
      publish(new PublishedDirectory(path), [file("a", "secret")]);
      expect(isThere()).toBe(false);
      expect(text(path, "a")).toBe("secret");
      expect(fs.lstatSync(join(path, "a")).isFile()).toBe(true);
    });
  });

  test("recognizes a set whose state 0.1.0 wrote", () => {
    const path = freshDirectory();
    fs.writeFileSync(join(path, "a"), "old");
    const state = { files: ["a"], pending: null, starts: null, obsolete: [] };
    fs.writeFileSync(join(path, ".fetcher-state"), JSON.stringify(state), { mode: 0o600 });
    const output = new PublishedDirectory(path);
    expect(output.recover()).toMatchObject({ files: ["a"] });
    publish(output, [file("a", "new")]);
    expect(text(path, "a")).toBe("new");
  });

  test("a dropped name keeps a stranger's later file", () => {
    const path = freshDirectory();
    const output = new PublishedDirectory(path);
    publish(output, [file("a", "1"), file("b", "2")]);
    publish(output, [file("a", "1")]);
    expect(output.obsolete).toEqual(["b"]);
    expect(output.tidy(true)).toEqual([]);
    expect(output.obsolete).toEqual([]);
    fs.writeFileSync(join(path, "b"), "mine");
    for (const again of [output, new PublishedDirectory(path)]) {
      again.recover();
      publish(again, [file("a", "3")]);
      expect(text(path, "b")).toBe("mine");
    }
    expect(output.remove().problems).toEqual([]);
    expect(visible(path)).toEqual(["b"]);
  });

  test("keeps a stranger's file at its name at the end", () => {
    const path = freshDirectory();
    const output = new PublishedDirectory(path);
    publish(output, [file("a", "1"), file("b", "2")]);
    output.remember(["a", "b"]);
    fs.writeFileSync(join(path, "new"), "mine");
    fs.renameSync(join(path, "new"), join(path, "a"));
    output.remove();
    expect(visible(path)).toEqual(["a"]);
    expect(text(path, "a")).toBe("mine");
  });

  test.each(["a", ".fetcher-state"])(
    "refuses a directory at %s: names it, keeps the old set whole, leaves nothing behind",
    (name) => {
      const path = freshDirectory();
      const output = new PublishedDirectory(path);
      publish(output, [file("b", "old")]);
      fs.rmSync(join(path, name), { force: true });
      fs.mkdirSync(join(path, name));
      const attempt = () => {
        publish(output, [file("a", "new"), file("b", "new")]);
      };
      expect(attempt).toThrow(PublishError);
      expect(attempt).toThrow(`output: ${join(path, name)} is a directory: remove it`);
      expect(text(path, "b")).toBe("old");
      expect(fs.readdirSync(path).filter((entry) => /stage|commit/.test(entry))).toEqual([]);
      fs.rmdirSync(join(path, name));
      attempt();
      expect(text(path, "a")).toBe("new");
    },
  );
});

describe("the remains of a crash", () => {
  /** A published set, and what a killed publish of a new one left in `.fetcher-KIND-*`. */
  function crashed(kind: "stage" | "commit", moved: readonly string[]) {
    const path = freshDirectory();
    publish(new PublishedDirectory(path), [file("a", "old a"), file("gone", "old"), file("secrets.env", "old env")]);
    const staged = new PublishedDirectory(path).stage(
      [file("a", "new a"), file("b", "new b"), file("secrets.env", "new env")],
      {
        files: ["a", "b", "secrets.env"],
        pending: { publishedAt: null, bootId: "boot" },
        starts: null,
      },
    );
    const left = join(path, `.fetcher-${kind}-0123456789ab`);
    fs.renameSync(staged.directory, left);
    for (const name of moved) fs.renameSync(join(left, name), join(path, name));
    return path;
  }

  test("are discarded before the decision", () => {
    const path = crashed("stage", []);
    expect(new PublishedDirectory(path).recover()).toMatchObject({
      files: ["a", "gone", "secrets.env"],
      pending: null,
      starts: null,
    });
    expect(visible(path)).toEqual(["a", "gone", "secrets.env"]);
    expect(text(path, "a")).toBe("old a");
  });

  test.each([
    [[]],
    [[".fetcher-state"]],
    [[".fetcher-state", "a"]],
    [[".fetcher-state", "a", "b"]],
    [[".fetcher-state", "a", "b", "secrets.env"]],
  ])("are completed after the decision, wherever it stopped: %j", (moved) => {
    const path = crashed("commit", moved);
    expect(new PublishedDirectory(path).recover()).toMatchObject({
      files: ["a", "b", "secrets.env"],
      pending: { publishedAt: null, bootId: "boot" },
      starts: null,
    });
    expect(visible(path)).toEqual(["a", "b", "secrets.env"]);
    expect([text(path, "a"), text(path, "b"), text(path, "secrets.env")]).toEqual(["new a", "new b", "new env"]);
  });

  test("do not replace a file created since at a new name", () => {
    const path = crashed("commit", [".fetcher-state", "a"]);
    fs.writeFileSync(join(path, "b"), "mine");
    const recover = () => new PublishedDirectory(path).recover();
    expect(recover).toThrow(`${join(path, "b")} already exists, and fetcher did not create it`);
    expect(text(path, "b")).toBe("mine");
    fs.rmSync(join(path, "b"));
    recover();
    expect([text(path, "b"), text(path, "secrets.env")]).toEqual(["new b", "new env"]);
  });

  test.each(["", "null", "{}", '{"files":"a"}', '{"files":["../x"],"obsolete":["../../x"]}', "{"])(
    "do not include a state that we did not write: %j",
    (json) => {
      const path = freshDirectory();
      fs.writeFileSync(join(path, ".fetcher-state"), json, { mode: 0o600 });
      expect(new PublishedDirectory(path).recover()).toBeUndefined();
    },
  );

  test("are not followed if they are a link or a file", () => {
    const path = freshDirectory();
    const elsewhere = freshDirectory();
    fs.writeFileSync(join(elsewhere, "a"), "untouched");
    fs.symlinkSync(elsewhere, join(path, ".fetcher-commit-0123456789ab"));
    fs.symlinkSync(elsewhere, join(path, ".fetcher-stage-0123456789ab"));
    new PublishedDirectory(path).recover();
    expect(text(elsewhere, "a")).toBe("untouched");
    expect(fs.existsSync(join(path, "a"))).toBe(false);
  });
});

describe("a system call without permission", () => {
  const explained = (work: (path: string) => void) => {
    const path = freshDirectory();
    return () => {
      new SafeFiles(path, false, false).io("a", () => {
        work(join(path, "a"));
      });
    };
  };

  test("is not reported as a problem of the file's owner if the operator has set none", () => {
    // link(2) of a directory, for rename(2) in one that is immutable.
    expect(
      explained((path) => {
        fs.linkSync(dirname(path), path);
      }),
    ).toThrow(/cannot write .*: operation not permitted \(EPERM\)$/);
  });

  needs("root").test("is reported as the sidecar's missing capability if it concerns the owner", () => {
    const giveAway = explained((path) => {
      const fd = fs.openSync(path, "w");
      process.seteuid?.(65_534);
      try {
        fs.fchownSync(fd, 0, 0);
      } finally {
        process.seteuid?.(0);
        fs.closeSync(fd);
      }
    });
    expect(giveAway).toThrow("not allowed to set its mode or owner");
  });
});

describe("publisher", () => {
  const values = (entries: Readonly<Record<string, string>>) =>
    new Map(Object.entries(entries).map(([id, value]) => [id, Buffer.from(value)]));

  async function open(directory: string, secrets: object = { a: {}, b: { optional: true } }, links?: string) {
    const config = configOf({ secrets, output: { directory, ...(links === undefined ? {} : { links }) } });
    if (config.output === undefined) throw new Error("no output");
    return await Publisher.open(config, config.output);
  }

  test("finds its own set again, whole, and the mark of this boot with its time", async () => {
    const directory = freshDirectory();
    const publisher = await open(directory);
    expect(publisher.recover()).toEqual({ values: undefined, isTorn: false, pending: undefined, starts: new Map() });
    publisher.stage(values({ a: "1" }), true).commit();
    publisher.setPending(42);
    publisher.setPending(43, new Map([["app.service", [40, 41]]]));
    publisher.setPending(42);
    const found = (await open(directory)).recover();
    expect([...(found.values ?? [])].map(([id, bytes]) => [id, bytes.toString()])).toEqual([["a", "1"]]);
    expect(found.pending).toEqual({ publishedAt: 42 });
    expect(found.starts).toEqual(new Map([["app.service", [40, 41]]]));
    const state = join(directory, ".fetcher-state");
    fs.writeFileSync(state, fs.readFileSync(state, "utf8").replaceAll(/"bootId":"[^"]*"/g, '"bootId":"another"'));
    expect((await open(directory)).recover()).toMatchObject({ pending: { publishedAt: null }, starts: new Map() });
  });

  test.each([
    [
      "a file is missing",
      (path: string) => {
        fs.rmSync(path);
      },
    ],
    [
      "a file is a link",
      (path: string) => {
        fs.renameSync(path, `${path}.x`);
        fs.symlinkSync(`${path}.x`, path);
      },
    ],
    [
      "a file has another name too",
      (path: string) => {
        fs.linkSync(path, `${path}.x`);
      },
    ],
    [
      "a file is a directory",
      (path: string) => {
        fs.rmSync(path);
        fs.mkdirSync(path);
      },
    ],
  ])("adopts nothing where %s", async (_, spoil) => {
    const directory = freshDirectory();
    (await open(directory)).stage(values({ a: "1" }), false).commit();
    spoil(join(directory, "a"));
    expect((await open(directory)).recover().values).toBeUndefined();
  });

  test("adopts no set that lacks a required secret of the current configuration", async () => {
    const directory = freshDirectory();
    (await open(directory)).stage(values({ a: "1" }), false).commit();
    fs.writeFileSync(join(directory, "c"), "not published by us");
    expect((await open(directory, { a: {}, c: {} })).recover().values).toBeUndefined();
  });

  test("removes the file and link of a renamed or dropped secret", async () => {
    const directory = join(freshDirectory(), "pub");
    const links = freshDirectory();
    (await open(directory, { a: {}, b: {} }, links)).stage(values({ a: "1", b: "2" }), false).commit();
    expect(fs.readdirSync(links).sort()).toEqual(["a", "b", "secrets.env"]);
    const next = await open(directory, { a: { file: "renamed" } }, links);
    next.recover();
    next.stage(values({ a: "1" }), false).commit();
    expect(visible(directory)).toEqual(["renamed", "secrets.env"]);
    expect(fs.readdirSync(links).sort()).toEqual(["renamed", "secrets.env"]);
    next.remove();
    expect(visible(directory)).toEqual([]);
    expect(fs.readdirSync(links)).toEqual([]);
  });

  test("leaves out a variable that an optional secret would take back when it comes", async () => {
    const directory = freshDirectory();
    const publisher = await open(directory, {
      B: {},
      x: { env: "B", optional: true },
      "a-b": { optional: true },
      a_b: {},
    });
    publisher.stage(values({ B: "1", a_b: "2" }), false).commit();
    expect(text(directory, "secrets.env")).toBe("");
    publisher.stage(values({ B: "1", a_b: "2", x: "3", "a-b": "4" }), false).commit();
    expect(text(directory, "secrets.env")).toBe("B='3'\n");
  });

  needs("root").describe("an owner or a group", () => {
    test.each([
      ["a group", { mode: "0440", group: 1 }, "0:1"],
      ["an owner", { mode: "0440", owner: 65_534 }, "65534:0"],
    ])("is taken from a file with equal bytes once it is no longer configured (%s)", async (_, was, before) => {
      const directory = freshDirectory();
      const ownerOf = () => {
        const { uid, gid } = fs.statSync(join(directory, "a"));
        return `${uid}:${gid}`;
      };
      (await open(directory, { a: was })).stage(values({ a: "1" }), false).commit();
      expect(ownerOf()).toBe(before);
      const next = await open(directory, { a: { mode: "0440" } });
      next.recover();
      next.stage(values({ a: "1" }), false).commit();
      expect(ownerOf()).toBe("0:0");
    });
  });

  needs("root").test("writes only differing files in a set-group-ID directory too", async () => {
    const directory = freshDirectory();
    fs.chownSync(directory, 0, 1);
    fs.chmodSync(directory, 0o2755);
    const publisher = await open(directory, { a: {}, b: { owner: 65_534 } });
    const look = () => ["a", "b"].map((name) => fs.statSync(join(directory, name)));
    publisher.stage(values({ a: "1", b: "1" }), false).commit();
    const before = look();
    expect(before.map(({ uid, gid }) => `${uid}:${gid}`)).toEqual(["0:1", "65534:0"]);
    publisher.stage(values({ a: "1", b: "1" }), false).commit();
    expect(look().map(({ ino }) => ino)).toEqual(before.map(({ ino }) => ino));
  });

  test("writes only differing files", async () => {
    const directory = freshDirectory();
    const publisher = await open(directory, { a: {}, b: {} });
    publisher.stage(values({ a: "1", b: "1" }), false).commit();
    const { ino } = fs.statSync(join(directory, "a"));
    publisher.stage(values({ a: "1", b: "2" }), false).commit();
    expect(fs.statSync(join(directory, "a")).ino).toBe(ino);
    expect(text(directory, "b")).toBe("2");
  });
});
