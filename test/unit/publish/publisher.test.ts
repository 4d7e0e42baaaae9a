/** What one sidecar publishes, finds again, mends and removes: real files, without the engine around them. */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Publisher } from "../../../src/publish/publisher.ts";
import { configOf } from "../command-line.ts";
import { FailingDisk } from "../engine/failing-disk.ts";
import { block, freshDirectory } from "../engine/running-sidecar.ts";

const bytes = (entries: Readonly<Record<string, string>>) =>
  new Map(Object.entries(entries).map(([id, value]) => [id, Buffer.from(value)]));
const both = bytes({ a: "a1", b: "b1" });

interface Options {
  readonly directory?: string;
  readonly secrets?: object;
  readonly links?: string;
  readonly more?: object;
}

/** The secrets `a` and `b`, of which `b` is optional. */
async function opened({ directory = join(freshDirectory(), "pub"), links, more, ...options }: Options = {}) {
  const configWith = (secrets: object = { a: {}, b: { optional: true } }) =>
    configOf({ secrets, output: { directory, ...(links === undefined ? {} : { links }) }, ...more });
  const config = configWith(options.secrets);
  if (config.output === undefined) throw new Error("no output");
  const warnings: string[] = [];
  const publisher = await Publisher.open(config, config.output, (message) => warnings.push(message));
  const path = (name: string) => join(directory, name);
  return {
    ...{ publisher, directory, warnings, path },
    text: (name: string) => fs.readFileSync(path(name), "utf8"),
    state: () => JSON.parse(fs.readFileSync(path(".fetcher-state"), "utf8")) as Record<string, unknown>,
    inode: (name: string) => fs.statSync(path(name)).ino,
    names: () =>
      fs
        .readdirSync(directory)
        .filter((name) => !name.startsWith(".fetcher-state"))
        .sort(),
    publish: (values: ReadonlyMap<string, Buffer> = both, act = false) => {
      publisher.stage(values, act).commit();
    },
    /** Another configuration of the same output takes over. */
    take: async (secrets: object) => {
      const next = configWith(secrets);
      publisher.take(next, await publisher.layoutOf(next));
    },
  };
}

type Life = Awaited<ReturnType<typeof opened>>;

function template(text: string) {
  const path = join(freshDirectory(), "app.mustache");
  fs.writeFileSync(path, text);
  return {
    more: { templates: { "app.ini": { template: path } } },
    becomes: (next: string) => {
      fs.writeFileSync(path, next);
    },
  };
}

describe("a start", () => {
  const found = async (directory: string, options: Options = {}) => {
    const life = await opened({ ...options, directory });
    return { ...life, found: life.publisher.recover() };
  };

  test("calls a set with a removed part torn: nobody knows what the service runs with", async () => {
    const first = await opened();
    first.publish();
    fs.rmSync(first.path("b"));
    expect((await found(first.directory)).found).toMatchObject({ values: undefined, isTorn: true });
  });

  test("does not call a set torn that lacks a new secret", async () => {
    const first = await opened();
    first.publish();
    const { found: after } = await found(first.directory, { secrets: { a: {}, b: {}, c: {} } });
    expect(after).toMatchObject({ values: undefined, isTorn: false });
  });

  test("does not call a whole set torn for a removed secret, or for an optional one that never came", async () => {
    const first = await opened();
    first.publish(bytes({ a: "a1" }));
    const { found: after } = await found(first.directory);
    expect([after.isTorn, [...(after.values ?? [])].map(([id, value]) => `${id}=${value.toString()}`)]).toEqual([
      false,
      ["a=a1"],
    ]);
    first.publish();
    fs.rmSync(first.path("b"));
    expect((await found(first.directory, { secrets: { a: {} } })).found.values?.size).toBe(1);
  });

  test("finds no set and logs no warning in a new directory, and reports a damaged state", async () => {
    const first = await opened();
    expect(first.publisher.recover()).toEqual({
      values: undefined,
      isTorn: false,
      pending: undefined,
      starts: new Map(),
    });
    expect(first.warnings).toEqual([]);
    first.publish();
    fs.writeFileSync(first.path(".fetcher-state"), "{");
    const next = await found(first.directory);
    expect(next.found.values).toBeUndefined();
    expect(next.warnings).toEqual([
      `output: the state in ${first.directory} is damaged, so what was published before is unknown`,
    ]);
  });

  test("keeps a mark and the observed starts of a publish without an action", async () => {
    const first = await opened();
    first.publish(both, true);
    expect((await found(first.directory)).found.pending).toEqual({ publishedAt: null });
    first.publisher.setPending(7, new Map([["app.service", [5]]]));
    first.publish(bytes({ a: "a2", b: "b1" }));
    const { found: after } = await found(first.directory);
    expect([after.pending, after.starts]).toEqual([{ publishedAt: 7 }, new Map([["app.service", [5]]])]);
  });

  test("makes its links again", async () => {
    const links = freshDirectory();
    const first = await opened({ links });
    first.publish();
    fs.rmSync(join(links, "a"));
    await found(first.directory, { links });
    expect(fs.readdirSync(links).sort()).toEqual(["a", "b", "secrets.env"]);
  });
});

describe("a stage", () => {
  test("has the whole set for a verify command, and only the differences without one", async () => {
    for (const verify of [null, { command: ["true"] }]) {
      const life = await opened({ more: { onChange: { verify } } });
      life.publish();
      const staged = life.publisher.stage(bytes({ a: "a2", b: "b1" }), false);
      const names = fs
        .readdirSync(staged.directory)
        .filter((name) => !name.startsWith("."))
        .sort();
      expect(names).toEqual(verify === null ? ["a", "secrets.env"] : ["a", "b", "secrets.env"]);
      staged.discard();
      expect([life.text("a"), life.names()]).toEqual(["a1", ["a", "b", "secrets.env"]]);
    }
  });

  test("replaces a file that was renamed or replaced by a link, though its bytes are right", async () => {
    const life = await opened();
    life.publish();
    fs.renameSync(life.path("a"), life.path("x"));
    fs.symlinkSync("x", life.path("a"));
    life.publish();
    expect(fs.lstatSync(life.path("a")).isFile()).toBe(true);
  });

  test("a first set whose link's name is taken is removed, and nothing is published; later, the link waits", async () => {
    const links = freshDirectory();
    fs.writeFileSync(join(links, "a"), "mine");
    const life = await opened({ links });
    expect(() => {
      life.publish();
    }).toThrow(`output: ${join(links, "a")} already exists`);
    expect(fs.readdirSync(life.directory).filter((name) => name.includes("stage"))).toEqual([]);
    expect(life.names()).toEqual([]);
    fs.rmSync(join(links, "a"));
    life.publish();
    fs.rmSync(join(links, "a"));
    fs.writeFileSync(join(links, "a"), "mine");
    life.publish(bytes({ a: "a2", b: "b1" }));
    expect([life.text("a"), fs.readFileSync(join(links, "a"), "utf8")]).toEqual(["a2", "mine"]);
    expect(life.warnings).toEqual([expect.stringContaining(`${join(links, "a")} already exists`)]);
  });
});

test("a publish makes other files when a value, a name, or the number of files differs, or a value cannot be written", async () => {
  const life = await opened();
  const differs = (values: ReadonlyMap<string, Buffer> = both) => life.publisher.differs(values);
  expect(differs()).toBe(true);
  life.publish();
  expect(differs()).toBe(false);
  expect([differs(bytes({ a: "a2", b: "b1" })), differs(bytes({ a: "a1" }))]).toEqual([true, true]);
  await life.take({ a: { file: "other" }, b: { optional: true } });
  expect(differs()).toBe(true);
  await life.take({ a: { env: "A" }, b: { optional: true, env: null } });
  expect(differs(bytes({ a: "\0", b: "b1" }))).toBe(true);
  life.publish();
  expect(differs()).toBe(false);
  await life.take({ a: { env: "A" } });
  // All files that it makes are there, and one more is.
  expect(differs(bytes({ a: "a1" }))).toBe(true);
});

describe("a repair", () => {
  const harms: readonly (readonly [string, (life: Life) => void, string])[] = [
    [
      "removed",
      (life) => {
        fs.rmSync(life.path("a"));
      },
      "missing",
    ],
    [
      "given another mode",
      (life) => {
        fs.chmodSync(life.path("a"), 0o666);
      },
      "permissions",
    ],
    [
      "written",
      (life) => {
        fs.rmSync(life.path("a"));
        fs.writeFileSync(life.path("a"), "x");
      },
      "altered",
    ],
  ];

  test.each(harms)("restores a file that was %s, and marks an action only for other bytes", async (_, harm, kind) => {
    for (const act of [true, false]) {
      const life = await opened();
      life.publish();
      const mode = fs.statSync(life.path("a")).mode;
      expect(life.publisher.repair(both, false, act)).toEqual(new Map());
      harm(life);
      expect(life.publisher.repair(both, false, act)).toEqual(new Map([["a", kind]]));
      expect([life.text("a"), fs.statSync(life.path("a")).mode]).toEqual(["a1", mode]);
      expect(life.state()["pending"] !== null).toBe(act && kind === "altered");
    }
  });

  test("sees damage that came before a mark was set", async () => {
    const life = await opened();
    life.publish();
    fs.rmSync(life.path("a"));
    life.publisher.setPending(7);
    expect([...life.publisher.repair(both, false, true).keys()]).toEqual(["a"]);
  });

  test("writes the state again when only that is gone, with the same content", async () => {
    const life = await opened();
    life.publish(both, true);
    life.publisher.setPending(7, new Map([["app.service", [5]]]));
    const before = life.state();
    fs.rmSync(life.path(".fetcher-state"));
    expect(life.publisher.repair(both, false, true).size).toBe(0);
    expect(life.state()).toMatchObject({
      files: before["files"],
      pending: before["pending"],
      starts: before["starts"],
    });
    // Then nothing is written any more, though all bytes are compared.
    const inode = life.inode(".fetcher-state");
    expect(life.publisher.repair(both, true, true).size).toBe(0);
    expect(life.inode(".fetcher-state")).toBe(inode);
  });

  test("leaves unpublished or unwritable files to the publish", async () => {
    const life = await opened();
    life.publish();
    await life.take({ a: {}, b: {}, c: { env: null } });
    expect(life.publisher.repair(bytes({ a: "a1", b: "b1", c: "c1" }), true, true).size).toBe(0);
    expect(life.names()).toEqual(["a", "b", "secrets.env"]);
    await life.take({ a: { env: "A" }, b: {} });
    fs.rmSync(life.path("b"));
    expect(life.publisher.repair(bytes({ a: "\0", b: "b1" }), false, true).size).toBe(0);
    expect([life.text("a"), fs.existsSync(life.path("b"))]).toEqual(["a1", false]);
    // It does not accept the damage.
    expect(life.publisher.repair(both, false, true).get("b")).toBe("missing");
  });

  test("compares bytes on request, though lstat(2) sees no difference", async () => {
    const life = await opened();
    life.publish();
    const others = bytes({ a: "a2", b: "b1" });
    expect(life.publisher.repair(others, false, true)).toEqual(new Map());
    // Nor does a mark make it look.
    life.publisher.setPending(7);
    expect(life.publisher.repair(others, false, true)).toEqual(new Map());
    expect(life.publisher.repair(others, true, true).get("a")).toBe("altered");
    expect(life.text("a")).toBe("a2");
  });

  test("leaves a partial publish to the next publish", async () => {
    const directory = join(freshDirectory(), "pub");
    const life = await opened({ directory });
    life.publish();
    const disk = new FailingDisk(directory);
    const staged = life.publisher.stage(bytes({ a: "a2", b: "b2" }), false);
    // The rename that decides, and that of the state.
    disk.fail(2);
    expect(() => {
      staged.commit();
    }).toThrow("no space left");
    expect(life.publisher.halfDone).toBe(true);
    disk.heal();
    fs.rmSync(life.path("b"));
    expect(life.publisher.repair(both, true, true).size).toBe(0);
    expect(fs.existsSync(life.path("b"))).toBe(false);
    life.publish();
    expect([life.publisher.halfDone, life.text("a"), life.text("b")]).toEqual([false, "a1", "b1"]);
  });
});

describe("a file that cannot be read", () => {
  /** A fake of a disk that fails, or of a fault in the program itself, where `name` is read. */
  function failing(path: string, error: Error) {
    const { openSync } = fs;
    const end = () => {
      fs.openSync = openSync;
      syncBuiltinESMExports();
    };
    fs.openSync = (at, ...more) => {
      if (at === path) throw error;
      return openSync(at, ...more);
    };
    syncBuiltinESMExports();
    onTestFinished(end);
  }

  test("causes another write", async () => {
    const life = await opened();
    life.publish();
    const inode = life.inode("a");
    failing(life.path("a"), Object.assign(new Error("i/o error"), { code: "EIO", syscall: "open" }));
    expect(life.publisher.differs(both)).toBe(true);
    life.publish();
    expect(life.inode("a")).not.toBe(inode);
  });

  test("a bug in reading a file causes an error", async () => {
    const life = await opened();
    life.publish();
    failing(life.path("a"), new TypeError("bug"));
    expect(() => life.publisher.differs(both)).toThrow(TypeError);
  });
});

test("does not take a bug in laying out files for a value that does not fit", async () => {
  const life = await opened({ more: template("{{a}}").more });
  life.publish();
  const wrong = new Map([["a", 5]]) as unknown as ReadonlyMap<string, Buffer>;
  expect(() => life.publisher.differs(wrong)).toThrow(TypeError);
  expect(() => life.publisher.repair(wrong, true, true)).toThrow(TypeError);
  expect(() => life.publisher.outdated(wrong)).toThrow(TypeError);
});

test("does not write the state to remove a mark that does not exist: a full disk does not matter", async () => {
  const life = await opened();
  life.publish();
  const inode = life.inode(".fetcher-state");
  life.publisher.setPending(null);
  expect(life.inode(".fetcher-state")).toBe(inode);
  life.publisher.setPending(7);
  // A time of CLOCK_MONOTONIC means nothing in another boot.
  const bootId = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  expect(life.state()["pending"]).toEqual({ publishedAt: 7, bootId });
  life.publisher.setPending(null);
  expect(life.state()["pending"]).toBeNull();
});

describe("links", () => {
  async function linked() {
    const links = freshDirectory();
    const life = await opened({ links });
    life.publish();
    return { ...life, links, blocks: (name: string) => block(join(links, name)) };
  }

  test("report an obstacle at their names once, keep it in STATUS, and end it when it is gone", async () => {
    const { publisher, warnings, blocks, links } = await linked();
    expect([publisher.problem, publisher.needsCare]).toEqual([undefined, true]);
    const free = blocks("a");
    publisher.maintain();
    publisher.maintain();
    const a = `output: ${join(links, "a")} is a directory: remove it`;
    expect([warnings, publisher.problem]).toEqual([[a], a]);
    const freeB = blocks("b");
    publisher.maintain();
    expect(warnings).toEqual([a, `output: ${join(links, "b")} is a directory: remove it`]);
    expect(publisher.problem).toBe(`${a} (and 1 more)`);
    free();
    freeB();
    publisher.maintain();
    expect([publisher.problem, publisher.needsCare]).toEqual([undefined, true]);
    blocks("a");
    publisher.maintain();
    expect(warnings).toHaveLength(3);
  });

  test("remember a name that is no longer published until its link can be removed, even by another life", async () => {
    const { publisher, blocks, state, take, publish, directory, links } = await linked();
    const free = blocks("a");
    await take({ a: {} });
    publish(bytes({ a: "a1" }));
    expect(state()["obsolete"]).toEqual(["b"]);
    free();
    publisher.maintain();
    expect(state()["obsolete"]).toEqual([]);
    expect([fs.readdirSync(links).sort(), fs.existsSync(join(directory, "b"))]).toEqual([["a", "secrets.env"], false]);
  });

  test("need no care in a sidecar without links and without leftovers", async () => {
    const life = await opened();
    for (const publish of [() => undefined, life.publish]) {
      publish();
      expect([life.publisher.needsCare, life.publisher.problem]).toEqual([false, undefined]);
    }
  });

  test("need care for a leftover that cannot be removed, even without links", async () => {
    const life = await opened();
    life.publish();
    const disk = new FailingDisk(life.path("b"));
    disk.fail(0);
    await life.take({ a: {} });
    life.publish(bytes({ a: "a1" }));
    expect([life.publisher.needsCare, life.warnings]).toEqual([true, [life.publisher.problem]]);
    disk.heal();
    life.publisher.maintain();
    expect([life.publisher.needsCare, fs.existsSync(life.path("b"))]).toEqual([false, false]);
  });
});

describe("at the end without systemd", () => {
  test("removes all files, links and the lock, and its own directory", async () => {
    const links = freshDirectory();
    const life = await opened({ links });
    await life.publisher.lock(() => 0);
    life.publish();
    life.publisher.remove();
    expect([fs.existsSync(life.directory), fs.readdirSync(links)]).toEqual([false, []]);
  });

  test.each([
    ["one file", "a", /cannot remove [^ ]*\/a: no space left on device \(ENOSPC\)$/],
    ["several", "", /cannot remove .* \(and [2-9] more\)$/],
  ])(
    "%s that cannot be removed: an error names the first, with the status of a failed disk",
    async (_, name, message) => {
      const life = await opened();
      life.publish();
      new FailingDisk(life.path(name)).fail(0);
      const remove = () => {
        life.publisher.remove();
      };
      expect(remove).toThrow(message);
      expect(remove).toThrow(expect.objectContaining({ exitCode: 74 }) as Error);
    },
  );

  test("a start that published nothing leaves no lock and no directory; one that did keeps them", async () => {
    const unused = await opened();
    await unused.publisher.lock(() => 0);
    expect(unused.names()).toEqual([".fetcher-lock"]);
    unused.publisher.releaseUnused();
    unused.publisher.releaseUnused();
    expect(fs.existsSync(unused.directory)).toBe(false);
    const life = await opened();
    await life.publisher.lock(() => 0);
    life.publish();
    life.publisher.releaseUnused();
    expect(life.names()).toContain(".fetcher-lock");
  });

  test("a lock that cannot be removed does not change the end of a start", async () => {
    const life = await opened();
    await life.publisher.lock(() => 0);
    new FailingDisk(life.directory).fail(0);
    life.publisher.releaseUnused();
    expect(life.names()).toEqual([".fetcher-lock"]);
  });
});

describe("templates", () => {
  const values = bytes({ a: "a1", b: "b1" });

  test("a template that was read again makes another file until that is published", async () => {
    const { more, becomes } = template("old {{a}}");
    const life = await opened({ more });
    life.publish();
    expect(life.publisher.outdated(values)).toEqual([]);
    becomes("new {{a}}");
    expect(life.publisher.outdated(values)).toEqual([]);
    await life.publisher.reloadTemplates(values, new AbortController().signal);
    expect(life.publisher.outdated(values)).toEqual(["app.ini"]);
    expect(life.publisher.render(values).map(({ name, content }) => [name, content.toString()])).toEqual([
      ["app.ini", "new a1"],
    ]);
    life.publish();
    expect([life.publisher.outdated(values), life.text("app.ini")]).toEqual([[], "new a1"]);
  });

  test("a template that cannot carry a value leaves that to the publish", async () => {
    const life = await opened({ more: template("{{a}}").more });
    life.publish();
    expect(life.publisher.outdated(bytes({ a: "\0", b: "b1" }))).toEqual([]);
  });
});

test("finds a secret's file by its id", async () => {
  const life = await opened({ secrets: { a: { file: "a.key" }, b: {} } });
  expect(["a", "b", "c"].map((id) => life.publisher.fileOf(id))).toEqual(["a.key", "b", undefined]);
  expect(life.publisher.directory).toBe(life.directory);
});

test("does not create the directory of a stopped service again", async () => {
  const life = await opened();
  life.publish();
  const above = join(life.directory, "..");
  life.publisher.staysBelow(above);
  fs.rmSync(above, { recursive: true });
  expect(() => {
    life.publish();
  }).toThrow("is gone: restart the sidecar");
  expect(fs.existsSync(above)).toBe(false);
});

test("refuses a set with an unknown account before it touches anything", async () => {
  const life = await opened();
  life.publish();
  await expect(life.take({ a: { owner: "nobody-has-this-name" } })).rejects.toThrow(/owner/);
  life.publish(bytes({ a: "a2", b: "b1" }));
  expect(life.text("a")).toBe("a2");
});
