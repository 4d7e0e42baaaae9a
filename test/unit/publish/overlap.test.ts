/** An output where the secrets come from would lose the originals: it is refused before anything is made. */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { refuseOverlap } from "../../../src/publish/overlap.ts";
import { configOf } from "../command-line.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

interface Output {
  readonly directory: string;
  readonly links?: string;
  readonly envFile?: string | null;
}

async function check(reads: readonly string[], output: Output, more: object = {}): Promise<void> {
  const config = configOf({ secrets: { a: {}, b: { file: "other" } }, ...more, output });
  if (config.output === undefined) throw new Error("no output");
  await refuseOverlap(config, config.output, reads);
}

/** A store of one file, and a folder beside it in which nothing is. */
function places() {
  const root = freshDirectory();
  const at = (...names: string[]) => join(root, ...names);
  for (const name of ["store", "free"]) fs.mkdirSync(at(name));
  fs.writeFileSync(at("store", "a"), "the original");
  return { root, at, store: at("store"), free: at("free") };
}

/** While the test runs, the system refuses to tell the real path of some, or what is there. */
function failing(call: "realpath" | "stat", code: string, isMeant: (path: string) => boolean): void {
  const holder =
    call === "realpath"
      ? (fs.realpath as unknown as Record<string, unknown>)
      : (fs as unknown as Record<string, unknown>);
  const name = call === "realpath" ? "native" : "stat";
  const real = holder[name] as (...args: unknown[]) => unknown;
  holder[name] = (path: string, ...args: unknown[]) => {
    const done = args.at(-1) as (error: Error) => void;
    if (!isMeant(path)) return real(path, ...args);
    done(Object.assign(new Error(code), { code, syscall: call, path }));
    return undefined;
  };
  syncBuiltinESMExports();
  onTestFinished(() => {
    holder[name] = real;
    syncBuiltinESMExports();
  });
}

/** While the test runs, `path` is another mount of `other`. No user but root can make a real one. */
function mounted(path: string, other: string): void {
  const holder = fs as unknown as Record<string, unknown>;
  const real = holder["stat"] as (...args: unknown[]) => void;
  holder["stat"] = (asked: string, ...args: unknown[]) => {
    real(asked === path ? other : asked, ...args);
  };
  syncBuiltinESMExports();
  onTestFinished(() => {
    holder["stat"] = real;
    syncBuiltinESMExports();
  });
}

describe("an output directory", () => {
  test("may lie beside what is read, whether it exists already or not", async () => {
    const { store, free, at } = places();
    await check([store, at("store", "a")], { directory: free });
    await check([store, at("store", "a")], { directory: at("new", "pub") });
    await check([], { directory: store });
  });

  test("may share the beginning of its name with what is read", async () => {
    const { store } = places();
    await check([store], { directory: `${store}-pub` });
    await check([`${store}-pub`], { directory: store });
  });

  test("may not be what is read", async () => {
    const { store } = places();
    await expect(check([store], { directory: store })).rejects.toMatchObject({
      exitCode: 78,
      message: `configuration: output.directory: is where the secrets come from (${store}): name another directory`,
    });
  });

  test("may not be it under another name, nor where neither exists yet", async () => {
    const { store, at } = places();
    fs.symlinkSync(store, at("way"));
    await expect(check([store], { directory: at("way") })).rejects.toThrow("is where the secrets come from");
    await expect(check([at("way")], { directory: store })).rejects.toThrow("is where the secrets come from");
    const [none, other] = [join(store, "none"), join(at("way"), "none")];
    await expect(check([none], { directory: other })).rejects.toThrow("is where the secrets come from");
  });

  test("may not lie in it, however deep and however little of it exists", async () => {
    const { store, at } = places();
    fs.mkdirSync(join(store, "sub"));
    fs.symlinkSync(join(store, "sub"), at("way"));
    for (const directory of [join(store, "sub"), join(store, "new", "pub"), at("way", "pub"), at("way")])
      await expect(check([store], { directory })).rejects.toThrow(
        `output.directory: lies in ${store}, where the secrets come from: name a directory elsewhere`,
      );
    const none = join(store, "none");
    await expect(check([none], { directory: join(none, "new", "pub") })).rejects.toThrow(`lies in ${none}`);
  });

  test("may not be it, nor lie in it, where it has another mount, which only its identity tells", async () => {
    const { store, at } = places();
    fs.mkdirSync(at("mount"));
    mounted(at("mount"), store);
    const source = at("mount");
    await expect(check([source], { directory: store })).rejects.toThrow("is where the secrets come from");
    await expect(check([source], { directory: join(store, "new", "pub") })).rejects.toThrow(`lies in ${source}`);
    await expect(check([join(source, "none")], { directory: join(store, "none") })).rejects.toThrow(
      "is where the secrets come from",
    );
    await expect(check([join(source, "a")], { directory: store })).rejects.toThrow(`holds ${join(source, "a")}`);
  });

  test("may lie beside it where neither exists yet, under other names at each level", async () => {
    const { at } = places();
    await check([at("x", "y")], { directory: at("y", "x") });
    await check([at("x", "y")], { directory: at("x", "z") });
    await check([at("xy", "z")], { directory: at("x", "yz") });
  });

  test("may not hold it, nor a link to it, nor what a link in it leads to", async () => {
    const { root, store, free, at } = places();
    const says = (source: string) =>
      `output.directory: holds ${source}, where the secrets come from: name a directory elsewhere`;
    await expect(check([store], { directory: root })).rejects.toThrow(says(store));
    await expect(check([at("none", "yet")], { directory: root })).rejects.toThrow(says(at("none", "yet")));
    fs.symlinkSync(store, join(free, "link"));
    await expect(check([join(free, "link")], { directory: free })).rejects.toThrow(says(join(free, "link")));
    await expect(check([join(free, "link", "a")], { directory: store })).rejects.toThrow(says(join(free, "link", "a")));
  });

  test("may be none of several, nor where a template is", async () => {
    const { store, free, at } = places();
    await expect(check([free, store], { directory: store })).rejects.toThrow("is where the secrets come from");
    fs.writeFileSync(at("free", "app.mustache"), "{{a}}");
    const templates = { "app.ini": { template: at("free", "app.mustache") } };
    await check([store], { directory: at("new") }, { templates });
    await expect(check([store], { directory: free }, { templates })).rejects.toThrow(
      `output.directory: holds ${at("free", "app.mustache")}, a template`,
    );
  });

  test("is refused as a shared /tmp first, also by another name for it, and before any source", async () => {
    const { at } = places();
    fs.symlinkSync("/tmp", at("way"));
    for (const directory of ["/tmp", at("way")])
      await expect(check(["/tmp"], { directory })).rejects.toMatchObject({
        exitCode: 78,
        message: "output: refusing to write to the shared /tmp; set PrivateTmp=true in the unit",
      });
  });

  test("shows no control characters of a path", async () => {
    const { store } = places();
    const odd = join(store, "a\nb");
    await expect(check([odd], { directory: odd })).rejects.toThrow("a\\nb");
  });
});

describe("links", () => {
  test("may be in a directory that holds what is read", async () => {
    const { root, store, free } = places();
    await check([store], { directory: free, links: root });
  });

  test("may not be in what is read", async () => {
    const { store, free } = places();
    await expect(check([store], { directory: free, links: store })).rejects.toThrow(
      `output.links: is where the secrets come from (${store}): name another directory`,
    );
    await expect(check([store], { directory: free, links: join(store, "sub") })).rejects.toThrow(
      `output.links: lies in ${store}, where the secrets come from`,
    );
  });

  test.each([
    ["a secret", "a", {}],
    ["a secret with a file of its own name", "other", {}],
    ["a template", "app.ini", {}],
    ["secrets.env", "secrets.env", {}],
    ["another file of variables", "app.env", { envFile: "app.env" }],
  ])("may not take the place of a file that is read and has the name of %s", async (_, name, more) => {
    const { at, free } = places();
    fs.mkdirSync(at("keys"));
    fs.writeFileSync(at("keys", name), "the original");
    fs.writeFileSync(at("free", "app.mustache"), "");
    const templates = { "app.ini": { template: at("free", "app.mustache") } };
    const output = { directory: at("pub"), links: at("keys"), ...more };
    await expect(check([at("keys", name)], output, { templates })).rejects.toThrow(
      `configuration: output.links: would put a link in place of ${at("keys", name)}, where the secrets come from: name a directory elsewhere`,
    );
    fs.symlinkSync(at("keys"), at("way"));
    await expect(check([at("keys", name)], { ...output, links: at("way") }, { templates })).rejects.toThrow(
      "would put a link in place of",
    );
    await check([at("keys", name)], { ...output, links: free }, { templates });
  });

  test("may be beside a file that is read under a name that no link gets", async () => {
    const { at } = places();
    fs.mkdirSync(at("keys"));
    for (const name of ["b", "secrets.env"]) fs.writeFileSync(at("keys", name), "the original");
    await check([at("keys", "b")], { directory: at("pub"), links: at("keys") });
    await check([at("keys", "secrets.env")], { directory: at("pub"), links: at("keys"), envFile: null });
  });

  test("may be beside a directory of a secret's name, whose place no link takes", async () => {
    const { at } = places();
    fs.mkdirSync(at("keys", "a"), { recursive: true });
    await check([at("keys", "a")], { directory: at("pub"), links: at("keys") });
    // What is not there yet may become a file.
    await expect(check([at("keys", "other")], { directory: at("pub"), links: at("keys") })).rejects.toThrow(
      "would put a link in place of",
    );
  });
});

describe("a place that cannot be looked at", () => {
  test.each(["ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG"])(
    "counts by its name where that is %s",
    async (code) => {
      const { store, at } = places();
      failing("realpath", code, (path) => path === store);
      await check([store], { directory: at("pub") });
      await expect(check([store], { directory: store })).rejects.toThrow("is where the secrets come from");
    },
  );

  test("below a file, or in a loop of links, counts by its name, too", async () => {
    const { store, at } = places();
    await check([join(store, "a", "key")], { directory: at("pub") });
    fs.symlinkSync(at("loop"), at("loop"));
    await check([at("loop", "key")], { directory: at("pub") });
    await expect(check([at("loop", "key")], { directory: at("loop") })).rejects.toThrow("output.directory: holds");
  });

  test("ends the start where nothing is known of it, and says which", async () => {
    const { store, at } = places();
    failing("realpath", "EIO", (path) => path === store);
    await expect(check([store], { directory: at("pub") })).rejects.toMatchObject({
      exitCode: 73,
      message: `output: cannot read ${store}: i/o error (EIO)`,
    });
  });

  test("ends the start where it is there, and the system does not say what it is", async () => {
    const { store, at } = places();
    failing("stat", "EIO", (path) => path === store);
    await expect(check([store], { directory: at("pub") })).rejects.toMatchObject({
      exitCode: 73,
      message: `output: cannot read ${store}: i/o error (EIO)`,
    });
  });

  test.each(["ENOENT", "ENOTDIR"])("counts by its name where it is removed meanwhile (%s)", async (code) => {
    const { store, at } = places();
    failing("stat", code, (path) => path === store);
    await check([store], { directory: at("pub") });
    await expect(check([store], { directory: join(store, "new") })).rejects.toThrow(`lies in ${store}`);
  });
});

test("the whole of a file system counts as holding all of it", async () => {
  const { store } = places();
  await expect(check([store], { directory: "/" })).rejects.toThrow(`output.directory: holds ${store}`);
  await expect(check(["/"], { directory: store })).rejects.toThrow("output.directory: lies in /, ");
});
