/** A unit with a small LimitNOFILE=: fetcher then reads many secrets one after the other, and loses none. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { programCommand } from "../program.ts";

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
