/** Hosts for which two evaluations must make the same units. */
import { type Evaluation, nixPath, project, type RenderedUnits } from "./evaluation.ts";

const rfc59 = (name: string) => nixPath(import.meta.dirname, "rfc59", name);
/** The settings that each of them has. */
export const store = `secretsStore.enable = true; secretsStore.folder.secretsDir = "/etc/secrets";`;
/** Modules of hosts by their content; together, they use most of the options. */
export const hosts: Readonly<Record<string, string>> = {
  "RFC 59's example": `${rfc59("modules/test_service.nix")} ${rfc59("config.nix")}`,
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
    ${nixPath(project, "examples/nixos/contract-consumer.nix")}
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

/** The units of such a host, and all files that they name. */
export function rendered(evaluation: Evaluation, modules: string) {
  const units = evaluation.value(`(host [ (nix + "/modules/secrets-store.nix") ${modules} ]).units`) as RenderedUnits;
  const texts = Object.values(units).map(({ text }) => text);
  return { units, files: [...evaluation.closure(texts.join("\n"))] };
}
