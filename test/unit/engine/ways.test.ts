/** Links on the path to a store: where systemd must look for a new generation. */
import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { linksOnWays } from "../../../src/engine/ways.ts";
import { freshDirectory } from "./running-sidecar.ts";

test("a path without links needs only the store's own directory", async () => {
  const root = freshDirectory();
  fs.mkdirSync(join(root, "secrets"));
  expect(await linksOnWays([join(root, "secrets/a"), join(root, "not/there")], [])).toEqual([]);
});

test("lists where each link is and leads: a generation of sops-nix, agenix, Kubernetes", async () => {
  const root = freshDirectory();
  fs.mkdirSync(join(root, "secrets.d/1"), { recursive: true });
  fs.writeFileSync(join(root, "secrets.d/1/a"), "");
  fs.symlinkSync(join(root, "secrets.d/1"), join(root, "secrets"));
  expect(await linksOnWays([join(root, "secrets/a")], [])).toEqual([root, join(root, "secrets.d")]);
  // Relative, by way of another, and to nothing.
  fs.symlinkSync("../elsewhere/b", join(root, "secrets.d/1/b"));
  expect(await linksOnWays([join(root, "secrets/b")], [root])).toEqual([
    join(root, "secrets.d"),
    join(root, "secrets.d/1"),
    join(root, "secrets.d/elsewhere"),
  ]);
});

test("ends at circular links, and leaves out busy directories", async () => {
  const root = freshDirectory();
  fs.symlinkSync("one", join(root, "two"));
  fs.symlinkSync("two", join(root, "one"));
  fs.symlinkSync("/etc/hostname", join(root, "host"));
  expect(await linksOnWays([join(root, "one/a"), join(root, "host")], [])).toEqual([root]);
});
