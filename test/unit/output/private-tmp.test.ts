import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isPrivateTmp, tmpDirectoryOf } from "../../../src/output/private-tmp.ts";

/** Lines as Linux 6.1 and systemd 252 and 257 write them, shortened to one other mount. */
const mounts = (...lines: string[]): string =>
  ["22 27 0:21 / /proc rw,relatime - proc proc rw", ...lines, ""].join("\n");
const tmp = (root: string, place = "/tmp"): string =>
  `612 601 0:35 ${root} ${place} rw,nosuid,nodev shared:310 master:20 - tmpfs tmpfs rw,size=123k`;
const unit = "systemd-private-0123456789abcdef0123456789abcdef-grafana.service-AbCdEf";

describe("isPrivateTmp", () => {
  test.each([
    ["/tmp of the host in memory", tmp(`/${unit}/tmp`)],
    ["/tmp of the host on the root disk", tmp(`/tmp/${unit}/tmp`)],
    ["a host inside a directory of another", tmp(`/var/lib/machines/x/tmp/${unit}/tmp`)],
    ["a unit's name with escaped characters", tmp(String.raw`/tmp/systemd-private-0-a\134x2db\040c.service-x/tmp`)],
  ])("allows secrets in: %s", (_, line) => {
    expect(isPrivateTmp("/tmp", mounts(line))).toBe(true);
  });

  test.each([
    ["no mount on /tmp", ""],
    ["the host's own /tmp in memory", tmp("/")],
    ["PrivateTmp=disconnected, closed to the target", tmp("/")],
    ["a similar directory", tmp("/tmp/not-systemd-private-x/tmp")],
    ["another's bind mount", tmp("/srv/shared")],
    ["a mount further down", tmp(`/tmp/${unit}/tmp`, "/tmp/.secrets")],
    ["a mount of a longer name", tmp(`/tmp/${unit}/tmp`, "/tmpfoo")],
    ["only /var/tmp", tmp(`/var/tmp/${unit}/tmp`, "/var/tmp")],
    ["the name among the mount options", "612 601 0:35 / /tmp rw - tmpfs /systemd-private-x/tmp rw"],
    ["no mountinfo at all", "\n"],
    ["nonsense", "a b\n/tmp"],
  ])("refuses secrets that every user could see: %s", (_, line) => {
    expect(isPrivateTmp("/tmp", mounts(line))).toBe(false);
  });

  test("judges the topmost mount on /tmp", () => {
    const own = tmp(`/tmp/${unit}/tmp`);
    expect(isPrivateTmp("/tmp", mounts(own, tmp("/")))).toBe(false);
    expect(isPrivateTmp("/tmp", mounts(tmp("/"), own))).toBe(true);
    expect(isPrivateTmp("/tmp", mounts(own, tmp("/run/x/pub", "/tmp/.secrets")))).toBe(true);
  });

  test("checks /var/tmp by its own mount", () => {
    expect(isPrivateTmp("/var/tmp", mounts(tmp("/"), tmp(`/var/tmp/${unit}/tmp`, "/var/tmp")))).toBe(true);
  });
});

describe("tmpDirectoryOf", () => {
  let directory: string;
  beforeEach(() => {
    // Writable for everybody, and in neither of the two.
    directory = realpathSync(mkdtempSync("/dev/shm/private-tmp-"));
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
  });

  test.each([
    ["/tmp", "/tmp"],
    ["/tmp/", "/tmp"],
    ["//tmp/./x/y", "/tmp"],
    ["/usr/../tmp/x", "/tmp"],
    ["/tmp/not-there/../x", "/tmp"],
    ["/var/tmp", "/var/tmp"],
    ["/var/tmp/x", "/var/tmp"],
    ["/proc/self/root/tmp/x", "/tmp"],
    ["/tmpx", undefined],
    ["/tmp/../etc", undefined],
    ["/run/tmp", undefined],
    ["/", undefined],
  ])("%s is in %s", (path, expected) => {
    expect(tmpDirectoryOf(path)).toBe(expected);
  });

  test("does not mistake a linked path to the host's /tmp for another place", () => {
    symlinkSync("/tmp", join(directory, "absolute"));
    symlinkSync("absolute", join(directory, "second"));
    symlinkSync("/tmp/not-there-yet/x", join(directory, "dangling"));
    mkdirSync(join(directory, "sub"));
    symlinkSync("../../../".repeat(20) + "var/tmp", join(directory, "sub/relative"));
    expect(tmpDirectoryOf(join(directory, "second/new/file"))).toBe("/tmp");
    expect(tmpDirectoryOf(join(directory, "dangling"))).toBe("/tmp");
    expect(tmpDirectoryOf(join(directory, "sub/relative/new"))).toBe("/var/tmp");
    expect(tmpDirectoryOf(join(directory, "sub/new"))).toBeUndefined();
  });

  test("ends at circular links", () => {
    symlinkSync("b", join(directory, "a"));
    symlinkSync("a", join(directory, "b"));
    expect(tmpDirectoryOf(join(directory, "a/x"))).toBeUndefined();
  });
});
