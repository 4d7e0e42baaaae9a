/** Tries the examples of the pages for NixOS, so that no reader copies one that does not work. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blocksOf, blockWith } from "../markdown.ts";
import { needs } from "../requirements.ts";
import { Evaluation, project, setting, type RenderedUnits } from "./evaluation.ts";

const names = ["nixos", "nixos-stores", "nixos-files", "nixos-containers", "nixos-migration", "nixos-modules"];
const examples = names.flatMap((name) => blocksOf(`docs/how-to/${name}.md`, "nix"));

needs("nix").describe("the examples of the pages for NixOS", () => {
  const evaluation = new Evaluation();
  /** What they take for granted: services that nixpkgs has, the options of sops-nix. */
  const around = `{ config, lib, ... }: {
    options.sops.secrets = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; };
    options.services.stash.passwordFile = (import (nix + "/lib/contract.nix") { inherit lib; }).consumer { owner = "stash"; };
    config._module.args.pkgs = lib.mkForce (pkgs // { myapp = "/myapp"; });
    config.secretsStore.enable = true;
    options.services = {
      vaultwarden.enable = lib.mkEnableOption "it";
      vaultwarden.environmentFile = lib.mkOption { type = lib.types.str; default = ""; };
      miniflux.adminCredentialsFile = lib.mkOption { type = lib.types.str; default = ""; };
      grafana.settings = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; };
    };
    config.systemd.services = {
      grafana.environment.SETTINGS = builtins.toJSON config.services.grafana.settings;
      miniflux.serviceConfig.EnvironmentFile = config.services.miniflux.adminCredentialsFile;
      stash = { };
      vaultwarden.serviceConfig.EnvironmentFile = config.services.vaultwarden.environmentFile;
    };
  }`;
  const units = (module: string, more = "{ }") =>
    evaluation.value(
      `(host [ (nix + "/modules/secrets-store.nix") (${around}) (${module}) (${more}) ]).units`,
    ) as RenderedUnits;
  const block = (has: string) => {
    const [found, ...others] = examples.filter(({ code }) => code.includes(has));
    if (found === undefined || others.length > 0) throw new Error(`not one example has ${has}`);
    return found.code;
  };

  test("the flake builds a host with a nixpkgs service and its sidecar, in 30 lines", () => {
    const code = block("nixosConfigurations");
    expect(code.split("\n").filter((line) => line.trim() !== "").length).toBeLessThanOrEqual(30);
    const rendered = evaluation.value(`((${code.replace("./configuration.nix", "{ }")}).outputs {
      nixpkgs.lib.nixosSystem = { system, modules }: host (modules ++ [ (${around}) ]);
      secrets-sidecar.nixosModules.default = nix + "/modules/secrets-store.nix";
    }).nixosConfigurations.host.units`) as RenderedUnits;
    const file = "/run/vaultwarden-secrets/pub/secrets.env";
    expect(setting(rendered, "vaultwarden.service", "EnvironmentFile")).toEqual([file]);
    expect(evaluation.config(rendered, "vaultwarden-secrets.service")).toHaveProperty("secrets", { ADMIN_TOKEN: {} });
  });

  test("`nix flake init` writes the flake", () => {
    const template = readFileSync(join(project, "nix/template/flake.nix"), "utf8");
    expect(`${block("nixosConfigurations").trim()}\n`).toBe(template);
  });

  test("a program's own configuration names a path in the running service", () => {
    const rendered = units(block("$__file{"), `{ secretsStore.folder.secretsDir = "/s"; }`);
    expect(rendered["grafana.service"]?.text).toContain("$__file{/run/credentials/grafana.service/secret_key}");
  });

  test("the demo machine has a service with a sidecar", () => {
    const rendered = evaluation.value(`(host [
      (nix + "/modules/secrets-store.nix")
      ({ lib, ... }: {
        options = lib.genAttrs [ "networking" "virtualisation" "services" ] (_: lib.mkOption {
          type = lib.types.attrsOf lib.types.anything;
        }) // {
          system.stateVersion = lib.mkOption { };
          systemd.tmpfiles.settings = lib.mkOption { type = lib.types.attrsOf lib.types.anything; };
        };
      })
      ({ config, lib, ... }: removeAttrs (import (nix + "/demo.nix") {
        inherit config lib;
        modulesPath = "/nixpkgs/nixos/modules";
      }) [ "imports" ])
    ]).units`) as RenderedUnits;
    expect(setting(rendered, "hello.service", "LoadCredential")).toEqual(["greeting:/run/hello-secrets/pub/greeting"]);
    const script = setting(rendered, "hello.service", "ExecStart")[0]?.trim() ?? "";
    expect(evaluation.read(script)).toContain("cat /run/credentials/hello.service/greeting");
  });

  test("the module works the same without flakes, and needs no package set", () => {
    const rendered = evaluation.value(`(host [
      (import (nix + "/../default.nix") { pkgs = throw "nobody asks for packages"; inherit lib; }).nixosModules.default
      { secretsStore.enable = true; systemd.services.web = { };
        secretsStore.services.web = { secrets.a = { }; secretsConfig = { backend = "folder"; config.secretsDir = "/s"; }; }; }
    ]).units`) as RenderedUnits;
    expect(Object.keys(rendered)).toContain("web-secrets.service");
  });

  test.each([
    ["miniflux.adminCredentialsFile", `{ secretsStore.folder.secretsDir = "/s"; }`, "miniflux-secrets.service"],
    ["environment.GF_DATABASE_PASSWORD", `{ secretsStore.folder.secretsDir = "/s"; }`, "grafana-secrets.service"],
    ["sops.secrets.db_password", "{ }", "grafana-secrets.service"],
    ['templates."secrets.ini"', `{ secretsStore.folder.secretsDir = "/s"; }`, "grafana-secrets.service"],
    ["secretsStore.vault =", "{ }", "grafana-secrets.service"],
    ["LoadCredentialEncrypted", "{ }", "grafana-secrets.service"],
    [
      "secretsStore.containers.web",
      `{ containers.web.config.system.stateVersion = "26.05"; }`,
      "container-web-secrets.service",
    ],
    ["passwordFile.request", "{ }", "secret-file-stash-password.service"],
  ])("renders the one with %s", (has, more, sidecar) => {
    const rendered = units(block(has), more);
    expect(rendered[sidecar]?.text).toContain("[Service]");
  });

  test("renders the module", () => {
    const code = block("secretsBackendOption").replace("./nix/lib/secrets.nix", '(nix + "/lib/secrets.nix")');
    const rendered = units(code, block("services.myapp.enable"));
    expect(setting(rendered, "myapp.service", "ExecStart")).toEqual([
      "/usr/local/bin/with-secrets /myapp/bin/myapp --password-file /tmp/db_password --key /tmp/tls.key",
    ]);
    expect(evaluation.config(rendered, "myapp-migrate-secrets.service")).toHaveProperty("secrets", { db_password: {} });
  });

  test.each([
    ["secretsStore.folder.secretsDir", ["PASSWORD"]],
    ["secretsStore.vault =", ["PGUSER", "PGPASSWORD"]],
  ])("the tutorial's service with %s has its variables", (has, variables) => {
    const rendered = evaluation.value(
      `(host [ (nix + "/modules/secrets-store.nix") { config._module.args.pkgs = lib.mkForce (pkgs // { postgresql = "/postgresql"; }); } (${blockWith("docs/tutorial/nixos.md", "nix", has).code}) ]).units`,
    ) as RenderedUnits;
    const config = evaluation.config(rendered, "shop-secrets.service") as { secrets: Record<string, { env?: string }> };
    expect(rendered["shop.service"]?.text).toContain("shop-secrets.service");
    expect(Object.values(config.secrets).map(({ env }) => env)).toEqual(expect.arrayContaining(variables));
  });

  test("the README's example gives hello its variable, from /etc/secrets", () => {
    const rendered = units(blockWith("README.md", "nix", "secretsStore").code, "{ systemd.services.hello = { }; }");
    expect(evaluation.config(rendered, "hello-secrets.service")).toMatchObject({
      config: { secretsDir: "/etc/secrets", reloadOnChange: true },
      secrets: { db_password: {} },
    });
    expect(setting(rendered, "hello.service", "EnvironmentFile")).toEqual(["/run/hello-secrets/pub/secrets.env"]);
  });

  test("the tutorial's flake and its database make one host with shop's sidecar", () => {
    const page = "docs/tutorial/nixos.md";
    const flake = blockWith(page, "nix", "nixosConfigurations").code;
    const [service, database] = ["secretsStore.folder.secretsDir", "services.postgresql.enable"].map(
      (has) => `(${blockWith(page, "nix", has).code})`,
    );
    const around = `({ lib, ... }: {
      config._module.args.pkgs = lib.mkForce (pkgs // { openbao = "/openbao"; });
      options.services.postgresql.enable = lib.mkEnableOption "it";
    })`;
    const rendered =
      evaluation.value(`((${flake.replace("./configuration.nix", around).replace("./shop.nix", `${service ?? ""} ${database ?? ""}`)}).outputs {
      nixpkgs.lib.nixosSystem = { system, modules }: host modules;
      secrets-sidecar.nixosModules.default = nix + "/modules/secrets-store.nix";
    }).nixosConfigurations.host.units`) as RenderedUnits;
    expect(rendered["shop-secrets.service"]?.text).toContain("[Service]");
  });

  test("docs/how-to/sops.md: its service gets the variable, and its sidecar reads secrets that sops-nix decrypts", () => {
    const rendered = units(
      blockWith("docs/how-to/sops.md", "nix", "sops.secrets").code,
      `{ systemd.services.app = { }; systemd.services.sops-install-secrets = { }; }`,
    );
    expect(evaluation.config(rendered, "app-secrets.service")).toMatchObject({
      config: { secretsDir: "/run/secrets" },
      secrets: { db_password: { env: "DB_PASSWORD" } },
    });
    expect(setting(rendered, "app-secrets.service", "After").join(" ")).toContain("sops-install-secrets.service");
  });

  test("has no other examples", () => {
    expect(examples).toHaveLength(12);
  });
});
