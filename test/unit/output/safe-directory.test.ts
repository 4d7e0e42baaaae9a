/** Where files and links may be, and where their directories are made. */
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { LinkDirectory } from "../../../src/output/links.ts";
import { PublishedDirectory } from "../../../src/output/published-directory.ts";
import { needs } from "../../requirements.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

describe("writes only where it may", () => {
  test("refuses a place where anyone can replace the directory", () => {
    const open = join(freshDirectory(), "open");
    fs.mkdirSync(open);
    fs.chmodSync(open, 0o777);
    expect(() => new PublishedDirectory(open)).toThrow("everybody can change");
    expect(() => new PublishedDirectory(join(open, "pub"))).toThrow(`lies in ${open}, which everybody can change`);
  });
  test("creates nothing in a refused place: another user could redirect a new directory and its mode", () => {
    const open = join(freshDirectory(), "open");
    fs.mkdirSync(open);
    fs.chmodSync(open, 0o777);
    for (const path of [join(open, "pub"), join(open, "a", "b", "pub")])
      expect(() => new PublishedDirectory(path), path).toThrow("everybody can change");
    expect(fs.readdirSync(open)).toEqual([]);
  });
  needs("root").test("refuses another user's directory, and creates nothing there", () => {
    const home = join(freshDirectory(), "home");
    fs.mkdirSync(home);
    fs.chownSync(home, 65_534, 65_534);
    expect(() => new PublishedDirectory(join(home, "out", "pub"))).toThrow(
      `lies in ${home}, which uid 65534 can change`,
    );
    expect(fs.readdirSync(home)).toEqual([]);
  });
  test("lets the target enter created directories, whatever the umask is", () => {
    const path = join(freshDirectory(), "a", "pub");
    const before = process.umask(0o077);
    onTestFinished(() => void process.umask(before));
    new PublishedDirectory(path);
    expect((fs.statSync(path).mode & 0o777).toString(8)).toBe("755");
  });
  test("lets a file's owner enter every directory created above it", () => {
    const path = join(freshDirectory(), "a", "b", "pub");
    const before = process.umask(0o077);
    onTestFinished(() => void process.umask(before));
    new PublishedDirectory(path);
    for (const above of [join(path, ".."), join(path, "..", "..")])
      expect((fs.statSync(above).mode & 0o777).toString(8)).toBe("755");
  });
  test("removes the directories that it created, unless somebody else uses them", () => {
    const directory = freshDirectory();
    const output = new PublishedDirectory(join(directory, "a", "b", "pub"));
    output.writeState({ files: [], pending: null, starts: null });
    fs.writeFileSync(join(directory, "a", "mine"), "");
    expect(output.remove()).toEqual({ names: [], problems: [] });
    expect(fs.readdirSync(join(directory, "a"))).toEqual(["mine"]);
  });
  test("follows an operator's link above, but not a dangling one", () => {
    const directory = freshDirectory();
    fs.mkdirSync(join(directory, "real"));
    fs.symlinkSync("real", join(directory, "link"));
    new PublishedDirectory(join(directory, "link", "x", "pub"));
    expect(fs.readdirSync(join(directory, "real", "x"))).toEqual(["pub"]);
    fs.symlinkSync("nowhere", join(directory, "dangling"));
    const dangling = join(directory, "dangling");
    expect(() => new PublishedDirectory(join(dangling, "pub"))).toThrow(
      `lies in ${dangling}, which is a symbolic link`,
    );
    expect(fs.existsSync(join(directory, "nowhere"))).toBe(false);
  });
  test("writes where it checked, even if somebody moves a link on the way", () => {
    const directory = freshDirectory();
    for (const name of ["real", "trap"]) {
      fs.mkdirSync(join(directory, name, "pub"), { recursive: true });
      fs.mkdirSync(join(directory, name, "links"));
    }
    const link = join(directory, "link");
    fs.symlinkSync("real", link);
    const output = new PublishedDirectory(join(link, "pub"));
    const links = new LinkDirectory(join(link, "links"), "/run/x/pub");
    fs.unlinkSync(link);
    fs.symlinkSync("trap", link);
    output.writeState({ files: [], pending: null, starts: null });
    links.ensure(["a"]);
    expect(fs.readdirSync(join(directory, "real", "pub"))).toEqual([".fetcher-state"]);
    expect(fs.readdirSync(join(directory, "real", "links"))).toEqual(["a"]);
    for (const name of ["pub", "links"]) expect(fs.readdirSync(join(directory, "trap", name))).toEqual([]);
  });
  test("refuses a link that somebody could move", () => {
    const directory = freshDirectory();
    fs.symlinkSync("/var", join(directory, "link"));
    expect(() => new PublishedDirectory(join(directory, "link"))).toThrow("is a symbolic link");
  });
  test("refuses a file", () => {
    const path = join(freshDirectory(), "file");
    fs.writeFileSync(path, "");
    expect(() => new PublishedDirectory(path)).toThrow("is not a directory");
  });
  test("makes files readable for all only in a directory that others cannot enter", () => {
    const directory = freshDirectory("/dev/shm");
    expect(new PublishedDirectory(join(directory, "pub")).defaultMode).toBe(0o444);
    fs.chmodSync(directory, 0o755);
    expect(new PublishedDirectory(join(directory, "pub")).defaultMode).toBe(0o400);
  });
});

describe("links", () => {
  test("lead to the files, are repaired, and a crash's remains are removed", () => {
    const path = freshDirectory();
    fs.symlinkSync("x", join(path, ".fetcher-link-0123456789ab"));
    // Of another output, before the configuration was changed.
    new LinkDirectory(path, "/run/elsewhere").ensure(["a"]);
    expect(fs.readlinkSync(join(path, "a"))).toMatch(/elsewhere\/a$/);
    const links = new LinkDirectory(path, join(path, ".secrets"));
    expect(links.ensure(["a", "b c"])).toEqual([]);
    expect(fs.readlinkSync(join(path, "a"))).toBe(".secrets/a");
    fs.rmSync(join(path, "b c"));
    links.ensure(["a", "b c"]);
    expect(fs.readlinkSync(join(path, "b c"))).toBe(".secrets/b c");
    expect(fs.readdirSync(path).filter((name) => name.includes("link-"))).toEqual([]);
  });

  test("lead to the files from a directory behind a link to another depth", () => {
    const directory = freshDirectory();
    fs.mkdirSync(join(directory, "deep", "er", "srv"), { recursive: true });
    fs.symlinkSync("deep/er/srv", join(directory, "srv"));
    const files = join(directory, "srv", "pub");
    fs.mkdirSync(files);
    fs.writeFileSync(join(files, "a"), "the value");
    const place = join(directory, "srv", "links");
    for (const reader of [files, join(directory, "deep", "er", "srv", "pub")]) {
      new LinkDirectory(place, reader).ensure(["a"]);
      expect(fs.readFileSync(join(place, "a"), "utf8")).toBe("the value");
      expect(fs.readlinkSync(join(place, "a"))).toMatch(/^\.\./);
    }
  });

  test("never age, so systemd-tmpfiles keeps them", () => {
    const path = freshDirectory();
    const links = new LinkDirectory(path, "/run/x/pub");
    links.ensure(["a"]);
    const inTenYears = Date.now() + 10 * 365 * 24 * 3600 * 1000;
    expect(fs.lstatSync(join(path, "a")).mtimeMs).toBeGreaterThan(inTenYears);
    const now = new Date();
    fs.lutimesSync(join(path, "a"), now, now);
    links.ensure(["a"]);
    expect(fs.lstatSync(join(path, "a")).mtimeMs).toBeGreaterThan(inTenYears);
  });

  test("name what is in the way, keep other people's files, and do not block the other links", () => {
    const path = freshDirectory();
    const links = new LinkDirectory(path, "/run/x/pub");
    fs.mkdirSync(join(path, "a"));
    fs.writeFileSync(join(path, "b"), "mine");
    fs.symlinkSync("/etc/shadow", join(path, "c"));
    expect(links.ensure(["a", "b", "c", "d"])).toEqual([
      `output: ${join(path, "a")} is a directory: remove it`,
      expect.stringContaining(`${join(path, "b")} already exists, and fetcher did not create it`),
      expect.stringContaining(`${join(path, "c")} already exists, and fetcher did not create it`),
    ]);
    expect(links.remove(["a", "b", "c", "none"])).toEqual([]);
    expect(fs.readdirSync(path).sort()).toEqual(["a", "b", "c", "d"]);
    expect(fs.readlinkSync(join(path, "c"))).toBe("/etc/shadow");
  });
});
