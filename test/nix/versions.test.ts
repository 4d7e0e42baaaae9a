/** Old Nix and new: hosts have anything from 2.8 on, and both must make the same units of the same configuration. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, project, type RenderedUnits } from "./evaluation.ts";
import { newerNix, nix, nixEnvironment } from "./programs.ts";
import { files } from "./text.ts";

needs("nix").test("all files parse with this machine's Nix", () => {
  expect(complaints(nix)).toBe("");
});

const newer = newerNix() ?? [];

needs("nix-newer").test("all files parse with a newer Nix", () => {
  expect(complaints(newer)).toBe("");
});

needs("nix", "nix-newer", "nixpkgs-lib").describe("an older and a newer Nix", () => {
  const [older, other] = [new Evaluation(), new Evaluation(newer)];
  const version = (evaluation: Evaluation) => evaluation.value("builtins.nixVersion") as string;

  test("are two versions, the newer one 2.26 at least", () => {
    expect(version(older)).not.toBe(version(other));
    expect(other.value(`builtins.compareVersions builtins.nixVersion "2.26" >= 0`)).toBe(true);
  });

  const rfc59 = join(import.meta.dirname, "rfc59");
  const store = `secretsStore.enable = true; secretsStore.folder.secretsDir = "/etc/secrets";`;
  const hosts: Record<string, string> = {
    "RFC 59's example": `${rfc59}/modules/test_service.nix ${rfc59}/config.nix`,
    "a scope with conditions, lists and a script": `({ config, lib, pkgs, ... }: {
      ${store}
      systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
        loadSecrets = { one = { }; "two.key" = { file = "2"; mode = "0400"; owner = "a"; env = null; }; };
        backendConfig = { backend = "folder"; config.reloadOnChange = true; };
      } ({ one, ... }@ids: {
        a = { serviceConfig = lib.mkMerge [ { ExecStart = [ "" "-/bin/a \${one}" ]; } (lib.mkIf true { User = "a"; }) ]; };
        b = { secrets = [ "one" ]; script = "cat \${one}"; unitConfig.JoinsNamespaceOf = "a.service"; };
      });
    })`,
    "services with either delivery": `{
      ${store}
      secretsStore.vault = { tokenPath = "/t"; tls.caFile = "/ca"; };
      systemd.services = { a.script = "a"; b.serviceConfig.ExecStart = "/bin/b"; };
      secretsStore.services = {
        a = { secrets = { "x y" = { optional = true; }; z.source.path = "p"; }; secretsConfig.backend = "vault"; };
        b = { secrets.a.env = "A"; environment = true; delivery = "private-tmp"; secretsConfig.backend = "folder";
              onChange = { action = "signal"; signal = "HUP"; verify.command = [ "true" ]; }; };
      };
    }`,
    "files and their consumer": `(nix + "/modules/hardcoded-secrets.nix")
      ${project}/examples/nixos/contract-consumer.nix
      ({ config, ... }: {
        services.greeter.enable = true;
        hardcodedSecrets.greeting = { content = "x"; inherit (config.services.greeter.greetingFile) request; };
        services.greeter.greetingFile = { inherit (config.hardcodedSecrets.greeting) result; };
      })`,
    "a container": `{
      ${store}
      containers.web.config.system.stateVersion = "26.05";
      secretsStore.containers.web = { secrets.a = { }; services.x = [ "a" ]; secretsConfig.backend = "folder"; };
    }`,
  };

  test.each(Object.entries(hosts))("make the same units and files of %s", (_, modules) => {
    const rendered = [older, other].map((evaluation) => {
      const units = evaluation.value(
        `(host [ (nix + "/modules/secrets-store.nix") ${modules} ]).units`,
      ) as RenderedUnits;
      const texts = Object.values(units).map(({ text }) => text);
      return { units, files: [...evaluation.closure(texts.join("\n"))] };
    });
    expect(rendered[1]).toEqual(rendered[0]);
    expect(rendered[0]?.files.length).toBeGreaterThan(0);
  });

  test("say the same of every option", () => {
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
