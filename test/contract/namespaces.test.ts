import { spawnSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, expect } from "vitest";
import { needs } from "../requirements.ts";
import { temporary } from "./temporary.ts";

let root: Awaited<ReturnType<typeof temporary>>;

beforeAll(async () => {
  root = await temporary();
  await build({
    entryPoints: [join(import.meta.dirname, "fixtures/namespace.ts")],
    bundle: true,
    format: "esm",
    platform: "node",
    outfile: join(root.path, "namespace.mjs"),
  });
});
afterAll(() => root.dispose());

async function inNamespace(scenario: string, ...prefix: string[]): Promise<unknown> {
  const directory = join(root.path, scenario);
  await mkdir(directory);
  await writeFile(join(directory, "key"), "value");
  const program = [process.execPath, join(root.path, "namespace.mjs"), scenario, directory];
  // Root inside the namespace, whoever runs the tests.
  const { stdout, stderr, status } = spawnSync("unshare", ["-Urm", ...prefix, ...program], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return JSON.parse(stdout);
}

const limited = (limit: string) => ["sh", "-c", `echo 0 >/proc/sys/user/max_inotify_${limit} && exec "$0" "$@"`];

needs("user-namespaces").test(
  "misses a mount over the directory until the next fetch or poll, and watches it from then on",
  async () => {
    expect(await inNamespace("mount")).toEqual({
      armed: true,
      mountHints: false,
      fetched: "above",
      writeHints: true,
      unmountHints: true,
      fetchedAfter: "below",
    });
  },
);

needs("inotify-limits").test(
  "ends the watch with the limit's name when no inotify watches are left, and keeps fetching",
  async () => {
    expect(await inNamespace("watches", ...limited("watches"))).toEqual({
      watches: ["unavailable", "cannot watch /: no inotify watches left: raise fs.inotify.max_user_watches"],
      hints: 0,
      fetched: "value",
    });
  },
);

needs("inotify-limits").test("does the same when no inotify instances are left", async () => {
  expect(await inNamespace("instances", ...limited("instances"))).toMatchObject({
    instances: ["unavailable", "cannot watch /: no inotify instances left: raise fs.inotify.max_user_instances"],
    fetched: "value",
  });
});

needs("user-namespaces").test(
  "no descriptors left, which is the same error of the system: the watch names the unit's own limit",
  async () => {
    expect(await inNamespace("descriptors")).toMatchObject({
      descriptors: ["unavailable", "cannot watch /: no file descriptors left: raise LimitNOFILE= of the unit"],
      fetched: "value",
    });
  },
);
