/** Old Nix and new: hosts have any version from 2.8 on, and all must make the same units of the same configuration. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, project } from "./evaluation.ts";
import { hosts, rendered, store } from "./hosts.ts";
import { newerNix, nix, nixEnvironment } from "./programs.ts";
import { files } from "./text.ts";

needs("nix").test("all files parse with this machine's Nix", () => {
  expect(complaints(nix)).toBe("");
});

const newer = newerNix() ?? [];

needs("nix-newer").test("all files parse with a newer Nix", () => {
  expect(complaints(newer)).toBe("");
});

needs("nix", "nix-newer").describe("an older and a newer Nix", () => {
  const [older, other] = [new Evaluation(), new Evaluation(newer)];
  const version = (evaluation: Evaluation) => evaluation.value("builtins.nixVersion") as string;

  test("are two versions, the newer one at least 2.26", () => {
    expect(version(older)).not.toBe(version(other));
    expect(other.value(`builtins.compareVersions builtins.nixVersion "2.26" >= 0`)).toBe(true);
  });

  test.each(Object.entries(hosts))("make the same units and files of %s", (_, modules) => {
    const [ours, theirs] = [rendered(older, modules), rendered(other, modules)];
    expect(theirs).toEqual(ours);
    expect(ours.files.length).toBeGreaterThan(0);
  });

  needs("nixpkgs-lib").test("describe every option the same way", () => {
    const options = `import (nix + "/options.nix") { inherit lib; }`;
    expect(other.value(options)).toEqual(older.value(options));
  });

  test("stop at the same assertions", () => {
    const wrong = `{
      ${store}
      systemd.services.a.serviceConfig = { ExecStart = "+/bin/a"; PrivateTmp = false; };
      secretsStore.services.a = { secrets.x = { }; delivery = "private-tmp"; secretsConfig.backend = "folder"; };
    }`;
    for (const evaluation of [older, other]) {
      expect(evaluation.complaint(wrong)).toContain("serviceConfig.ExecStart has a command with the prefix `+'");
      expect(evaluation.complaint(wrong)).toContain("serviceConfig.PrivateTmp is false");
    }
  });
});

/** What a Nix says of all Nix files, when it only parses them. */
function complaints([program = "", ...given]: readonly string[]): string {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-parse-"));
  const { status, stderr } = spawnSync(program, [...given, "--parse", ...files], {
    cwd: project,
    encoding: "utf8",
    env: nixEnvironment(directory),
  });
  rmSync(directory, { recursive: true });
  const said = stderr.replace(/^warning: the group 'nixbld'.*\n/gm, "");
  return status === 0 ? said : `exit status ${String(status)}\n${said}`;
}
