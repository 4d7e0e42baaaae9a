/** `fetcher status`, with a fake of systemctl(1): what it may not say, and what it may not break. */
import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Place } from "./daemon.ts";

/** A host's user with so many sidecars. @param systemctl a shell script, the fake. */
function host(sidecars: number, systemctl: string) {
  const place = new Place();
  fs.mkdirSync(place.path("config/fetcher"), { recursive: true });
  for (let index = 0; index < sidecars; index += 1)
    fs.writeFileSync(place.path(`config/fetcher/app${index}.json`), '{ "secrets": { "a": {} } }');
  fs.mkdirSync(place.path("bin"));
  fs.writeFileSync(place.path("bin/systemctl"), `#!/bin/sh\n${systemctl}\n`, { mode: 0o755 });
  const env = {
    ...{ PATH: `${place.path("bin")}:${process.env["PATH"] ?? ""}`, FETCHER_LOG_FORMAT: undefined },
    ...{ HOME: place.root, XDG_CONFIG_HOME: place.path("config"), XDG_RUNTIME_DIR: place.path("runtime") },
  };
  return { place, env, status: (...words: readonly string[]) => place.run(["status", "--user", ...words], { env }) };
}

/** As `systemctl show` prints it, with a problem of 500 letters. */
const allFailed = `
[ "$2" = show ] || exit 0
problem=$(head -c 500 /dev/zero | tr '\\0' x)
for unit; do case $unit in *.service) printf 'Id=%s\\nLoadState=loaded\\nActiveState=failed\\nStatusText=%s\\n\\n' "$unit" "$problem" ;; esac; done`;

test("on a host with 300 sidecars each failed one is shown as failed", async () => {
  const { status } = host(300, allFailed);
  const { code, stdout } = await status("--json");
  const states = (JSON.parse(stdout) as { state: string }[]).map(({ state }) => state);
  expect({ code, states }).toEqual({ code: 0, states: Array.from({ length: 300 }, () => "failed") });
});

test("without an answer of systemd it is 69 and one line, and no sidecar is said to be well", async () => {
  const { status } = host(1, "echo 'Failed to connect to bus: No medium found' >&2; exit 1");
  expect(await status()).toMatchObject({
    ...{ code: 69, stdout: "" },
    stderr: "error: status: systemd does not answer: Failed to connect to bus: No medium found\n",
  });
});

test("--metrics=FILE replaces files alone, keeps a link, and leaves nothing beside them", async () => {
  const { place, status } = host(1, allFailed);
  const directory = place.path("metrics");
  fs.mkdirSync(join(directory, "directory"), { recursive: true });
  fs.symlinkSync("/dev/null", join(directory, "device"));
  fs.writeFileSync(join(directory, "file"), "old");
  fs.symlinkSync("file", join(directory, "link"));
  for (const name of ["directory", "device"])
    expect(await status(`--metrics=${join(directory, name)}`)).toMatchObject({
      ...{ code: 74, stdout: "" },
      stderr: `error: status: cannot write ${join(directory, name)}: is not a regular file; --metrics alone prints them\n`,
    });
  expect(await status(`--metrics=${join(directory, "link")}`)).toMatchObject({ code: 0, stderr: "" });
  expect(fs.readFileSync(join(directory, "file"), "utf8")).toContain('fetcher_sidecar_up{name="app0"');
  expect(fs.readlinkSync(join(directory, "link"))).toBe("file");
  expect(fs.readlinkSync(join(directory, "device"))).toBe("/dev/null");
  expect(fs.readdirSync(directory).sort()).toEqual(["device", "directory", "file", "link"]);
});

test("names the directory for a user's files to a user without a sidecar", async () => {
  const { place, status } = host(0, allFailed);
  const directory = place.path("config/fetcher");
  expect((await status()).stdout).toBe(`no sidecar of yours: ${directory} has no file, and none runs\n`);
});

test("a directory that cannot be read is not taken for an empty one", async () => {
  const { place, status } = host(0, allFailed);
  const directory = place.path("config/fetcher");
  fs.rmdirSync(directory);
  fs.writeFileSync(directory, "");
  const line = `status: cannot read ${directory}: not a directory (ENOTDIR)`;
  for (const words of [[], ["app0"], ["--json"], ["--metrics"]])
    expect(await status(...words), words.join(" ")).toMatchObject({ code: 77, stdout: "", stderr: `error: ${line}\n` });
  // What runs has left its facts.
  const facts = {
    ...{
      program: "0.2.0",
      unit: null,
      services: ["app1.service"],
      backend: "folder",
      state: "ready",
      secrets: 1,
      wanted: 1,
    },
    ...{ startedAt: "", checkedAt: null, nextLookAt: null, leaseEndsAt: null, failingSince: null, problem: null },
    ...{ rotations: 0, publishedAt: null, actions: 0, actionsFailed: 0 },
  };
  fs.mkdirSync(place.path("runtime/app1-secrets"), { recursive: true, mode: 0o700 });
  fs.writeFileSync(place.path("runtime/app1-secrets/.fetcher-facts"), JSON.stringify(facts));
  expect(await status()).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^app1 /m) as string,
    stderr: `warning: ${line}; sidecars that do not run may be missing here\n`,
  });
  expect(await status("app0")).toMatchObject({ code: 77, stdout: "", stderr: `error: ${line}\n` });
});

test("all commands end alike where no service has the name, and offer the nearest", async () => {
  const { place, env, status } = host(1, allFailed);
  const answers = [
    await status("ap0"),
    await place.run(["check", "--user", "ap0"], { env }),
    await place.run(["units", "--user", "ap0"], { env }),
  ];
  for (const answer of answers)
    expect(answer).toMatchObject({
      code: 66,
      stdout: "",
      stderr: expect.stringContaining('; did you mean "app0"?') as string,
    });
});
