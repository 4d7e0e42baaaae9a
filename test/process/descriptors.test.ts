/** A unit with a small LimitNOFILE=: fetcher then reads many secrets one after the other, and loses none. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { programCommand } from "../program.ts";
import { needs } from "../requirements.ts";
import { Place } from "./daemon.ts";

test("publishes 200 secrets under LimitNOFILE=40", () => {
  const place = mkdtempSync(join(tmpdir(), "fetcher-descriptors-"));
  onTestFinished(() => {
    rmSync(place, { recursive: true });
  });
  const [secretsDir, directory] = [join(place, "secrets"), join(place, "out")];
  mkdirSync(secretsDir);
  mkdirSync(directory, { mode: 0o700 });
  const ids = Array.from({ length: 200 }, (_, number) => `secret-${number}`);
  for (const id of ids) writeFileSync(join(secretsDir, id), `value of ${id}`);
  const config = join(place, "config.json");
  const secrets = Object.fromEntries(ids.map((id) => [id, {}]));
  writeFileSync(config, JSON.stringify({ backend: "folder", config: { secretsDir }, secrets }));
  const limited = [
    "-c",
    'ulimit -n 40; exec "$0" "$@"',
    ...programCommand(),
    "--config",
    config,
    "--once",
    "--output",
    directory,
  ];
  const { status, stderr } = spawnSync("sh", limited, { encoding: "utf8" });
  expect({ status, stderr: stderr.slice(0, 500) }).toMatchObject({ status: 0 });
  expect(readdirSync(directory).filter((name) => name.startsWith("secret-"))).toHaveLength(200);
  expect(readFileSync(join(directory, "secret-199"), "utf8")).toBe("value of secret-199");
});

for (const [limit, value, words] of [
  ["max_inotify_instances", "0", "no inotify instances left: raise fs.inotify.max_user_instances"],
  ["max_inotify_watches", "1", "no inotify watches left: raise fs.inotify.max_user_watches"],
] as const)
  needs("mount-namespace").test(`names the limit of inotify that is used up: ${limit}`, async () => {
    const place = new Place();
    place.put({ a: "1" });
    // The kernel counts these for a user namespace, too.
    const script = `echo ${value} > /proc/sys/user/${limit} && exec "$0" "$@"`;
    const wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", script];
    const daemon = place.start(place.config(["a"]), { wrapper });
    await daemon.says(new RegExp(`cannot watch .*: ${words.replaceAll(".", "\\.")}; polling continues`));
  });
