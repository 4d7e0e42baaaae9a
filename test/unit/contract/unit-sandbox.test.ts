import { expect, test } from "vitest";
import { hiddenHint, hintIn, mayShowLater } from "../../../src/contract/unit-sandbox.ts";

/** As systemd 257 makes them for examples/systemd/fetcher@.service; a folder of the operator's is bound. */
const mounts = String.raw`1 0 8:1 / / ro,relatime - ext4 /dev/sda1 rw
2 1 0:24 / /run ro,nosuid,nodev - tmpfs tmpfs rw,size=802880k,nr_inodes=819200,mode=755
3 1 0:70 / /var ro,nodev - tmpfs tmpfs rw,size=401440k,nr_inodes=409600,mode=755
4 3 8:1 /var/lib/app /var/lib/app ro,relatime - ext4 /dev/sda1 rw
5 3 0:71 / /var/lib/keys ro,relatime - tmpfs tmpfs rw,size=64k
6 1 0:24 /systemd/inaccessible/dir /etc/ssl/private ro - tmpfs tmpfs rw,mode=755
7 1 0:24 /host/inaccessible/dir /root ro - tmpfs tmpfs rw,mode=755
8 1 8:1 /tmp/systemd-private-0123456789abcdef0123456789abcdef-x.service-AbCdEf/tmp /tmp rw - ext4 /dev/sda1 rw
9 1 0:72 / /srv/with\040space ro - tmpfs tmpfs ro,size=4096k,nr_inodes=1024,mode=755
11 1 0:73 / /srv/tmp rw - tmpfs tmpfs rw,size=401440k,nr_inodes=409600
10 1 0:70 / /etc/fetcher ro,nodev - tmpfs tmpfs rw,size=401440k,nr_inodes=409600,mode=755`;

test.each([
  ["/var/lib/other/secret", "TemporaryFileSystem=/var", "add BindReadOnlyPaths=/var/lib/other to the unit"],
  [
    "/etc/fetcher/secrets",
    "TemporaryFileSystem=/etc/fetcher",
    "add BindReadOnlyPaths=/etc/fetcher/secrets to the unit",
  ],
  ["/srv/with space/a/b", "TemporaryFileSystem=/srv/with space", "add BindReadOnlyPaths=/srv/with space/a to the unit"],
  [
    "/etc/ssl/private/key.pem",
    "InaccessiblePaths=/etc/ssl/private",
    "add an empty InaccessiblePaths= to the unit, and then those that may stay",
  ],
  ["/root/token", "ProtectHome=yes", "add ProtectHome=read-only to the unit"],
  ["/tmp/token", "PrivateTmp=yes", "keep it elsewhere than in /tmp"],
])("finds that %s is hidden by %s: %s", (path, setting, remedy) => {
  expect(hintIn(mounts, path)).toBe(`; hidden by this unit's sandbox (${setting}): ${remedy}`);
});

test.each(["/etc/app/token", "/srv/tmp/gone", "/var/lib/app/gone", "/var/lib/keys/gone", "/run/app/gone", "/"])(
  "finds that %s is missing but not hidden",
  (path) => {
    expect(hintIn(mounts, path)).toBe("");
  },
);

test("finds nothing hidden outside a unit, whatever is mounted", () => {
  expect(process.env["INVOCATION_ID"]).toBeUndefined();
  expect(hiddenHint("/proc/1/root/none")).toBe("");
});

test.each([
  ["/var/lib/other/secret", true],
  ["/etc/fetcher/secrets", true],
  ["/etc/ssl/private/key.pem", false],
  ["/root/token", false],
  ["/tmp/token", false],
  ["/srv/tmp/gone", false],
])("knows whether a new sandbox may show %s: %s", (path, may) => {
  expect(mayShowLater(`no file ${path}${hintIn(mounts, path)}`)).toBe(may);
});
