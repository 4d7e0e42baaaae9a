/** A reload that shows the service its old secrets would be a rotation that never arrives. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { getsCopies } from "../../../src/systemd/credential-copies.ts";
import { parseShow } from "../../../src/systemd/systemctl.ts";

let directory: string;
beforeEach(() => {
  // As in a unit of the system.
  vi.stubEnv("XDG_RUNTIME_DIR", undefined);
  directory = mkdtempSync(join(tmpdir(), "fetcher-copies-"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

function file(text: string): string {
  const path = join(directory, "secrets.conf");
  writeFileSync(path, text);
  return path;
}

for (const [line, unit, found] of [
  ["LoadCredential=a:/run/web-secrets/pub/a", "web.service", true],
  ["LoadCredential=a:/run/%N-secrets/pub/a", "web.service", true],
  ["  LoadCredential = a:/run/%p-secrets/pub/a", "web@1.service", true],
  ["LoadCredential=a:/run/%i-secrets/pub", "box@web.service", true],
  ["LoadCredential=pub:/run/web-secrets ", "web.service", true],
  ["LoadCredential=a:%t/%N-secrets/pub/a", "web.service", true],
  ["LoadCredential=a:/run/%p-secrets/pub/a", "web.service", true],
  ["LoadCredential=a:/run/web%i-secrets/pub/a", "web.service", true],
  ["LoadCredential=a:/run/web-secrets/100%%/a", "web.service", true],
  ["LoadCredential=a:/run/%n/pub", "web-secrets", true],
  ["LoadCredential=a:/run/web-%%secrets/a", "web.service", false],
  ["LoadCredential=a:/run/web-secrets-of-others/a", "web.service", false],
  ["LoadCredential=a:/etc/a\nBindReadOnlyPaths=/run/web-secrets/pub:/tmp/.secrets", "web.service", false],
  ["# LoadCredential=a:/run/web-secrets/pub/a", "web.service", false],
  ["LoadCredential=a:/run/%N-secrets/pub/a", "other.service", false],
  ["LoadCredential=a", "web.service", false],
] as const)
  test(`${JSON.stringify(line)} of ${unit} is ${found ? "a copy of ours" : "none of ours"}`, () => {
    expect(getsCopies(unit, ["", undefined, "/nowhere", file(line)], "/run/web-secrets")).toBe(found);
  });

test("uses a user manager's runtime directories", () => {
  vi.stubEnv("XDG_RUNTIME_DIR", "/run/user/7");
  const drop = file("LoadCredential=a:%t/%N-secrets/pub/a");
  expect(getsCopies("web.service", [drop], "/run/user/7/web-secrets")).toBe(true);
  expect(getsCopies("web.service", [drop], "/run/web-secrets")).toBe(false);
});

test("a unit with copies cannot reload, except where systemd refreshes them; without a directory of ours there are none", () => {
  const drop = file("LoadCredential=a:/run/%N-secrets/pub/a");
  const shown = `ActiveState=active\nCanReload=yes\nFragmentPath=/nowhere\nDropInPaths=/nowhere ${drop}\n`;
  const before = process.env["RUNTIME_DIRECTORY"];
  try {
    process.env["RUNTIME_DIRECTORY"] = "/run/web-secrets";
    expect(parseShow(shown, "web.service")?.canReload).toBe(false);
    expect(parseShow(shown, "other.service")?.canReload).toBe(true);
    expect(parseShow(`${shown}RefreshOnReload=extensions credentials\n`, "web.service")?.canReload).toBe(true);
    expect(parseShow(`${shown}RefreshOnReload=extensions\n`, "web.service")?.canReload).toBe(false);
    expect(parseShow(`ActiveState=active\nCanReload=yes\nFragmentPath=${drop}\n`, "web.service")?.canReload).toBe(
      false,
    );
    process.env["RUNTIME_DIRECTORY"] = "";
    expect(parseShow(shown, "web.service")?.canReload).toBe(true);
    delete process.env["RUNTIME_DIRECTORY"];
    expect(parseShow(shown, "web.service")?.canReload).toBe(true);
  } finally {
    if (before !== undefined) process.env["RUNTIME_DIRECTORY"] = before;
  }
});
