/**
 * The tests in virtual machines, which need a machine with Nix's builders and KVM. This checks what it can without
 * them: it evaluates what they boot, and checks their scripts as NixOS would.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, nixPath, project, type RenderedUnits } from "./evaluation.ts";

needs("nix").describe("the tests in virtual machines", () => {
  const evaluation = new Evaluation();
  const tests = `(import (nix + "/tests") {
    inherit lib;
    self.nixosModules = { default = nix + "/modules/secrets-store.nix"; hardcoded-secrets = nix + "/modules/hardcoded-secrets.nix"; };
    self.lib.secrets = import (nix + "/lib/secrets.nix");
  })`;
  const scripts = () =>
    evaluation.value(`lib.mapAttrs (_: test: test.testScript) ${tests}`) as Readonly<Record<string, string>>;

  test("exist for each scenario of the matrix, every delivery, and upgrades", () => {
    expect(Object.keys(scripts())).toEqual([
      ...[
        "container",
        "contract",
        "credentials",
        "early",
        "killBothWithoutStore",
        "killSidecar",
        "killTarget",
        "lateStore",
      ],
      ...[
        "manyRotations",
        "missingSecret",
        "once",
        "reexec",
        "restartSidecar",
        "restartTarget",
        "restartTargetFetches",
      ],
      ...["rotation", "start", "stopSidecar", "template", "upgrade", "vault"],
    ]);
  });

  test("boot hosts that evaluate, each with the unit that its script starts, and a sidecar", () => {
    const hosts = evaluation.value(`
      lib.mapAttrs (_: test: (host [
        ${nixPath(import.meta.dirname, "stand-in/elsewhere.nix")}
        { config._module.args.pkgs = lib.mkForce (pkgs // { openbao = "/bao"; }); }
        test.nodes.machine
      ]).units) ${tests}`) as Readonly<Record<string, RenderedUnits>>;
    for (const [name, units] of Object.entries(hosts)) {
      const started = /systemctl start (?:--no-block )?(\S+)"/.exec(scripts()[name] ?? "")?.[1] ?? "greeter";
      expect(Object.keys(units), name).toContain(`${started}.service`);
      expect(Object.values(units).filter(({ text }) => text.includes("/fetcher --config"))).not.toEqual([]);
    }
  });

  needs("python").test("have scripts that define every name they use", () => {
    const checked = (given: Readonly<Record<string, string>>): unknown => {
      const checker = join(import.meta.dirname, "vm-scripts.py");
      const { stdout, stderr } = spawnSync("python3", [checker], { input: JSON.stringify(given), encoding: "utf8" });
      expect(stderr).toBe("");
      return JSON.parse(stdout);
    };
    expect(checked(scripts())).toEqual({});
    // It does see what is wrong.
    expect(checked({ a: "machine.succeed('x'\n", b: "x = 1\nassert x == y\n" })).toEqual({
      a: ["line 1: '(' was never closed"],
      b: ["line 2: y is not defined"],
    });
  });
});

test("wait for states, never for a time", () => {
  const { stdout } = spawnSync("grep", ["-rnE", "sleep\\([0-9]|time\\.sleep", join(project, "nix/tests")]);
  expect(stdout.toString()).toBe("");
});
