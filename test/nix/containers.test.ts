/** secretsStore.containers: secrets of the host for NixOS containers. */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, setting } from "./evaluation.ts";

needs("nix").describe("secretsStore.containers", () => {
  const evaluation = new Evaluation();
  const module = (options: string) =>
    `{
    secretsStore.enable = true;
    secretsStore.folder.secretsDir = "/run/secrets";
    secretsStore.containers.helloing-container = { secretsConfig.backend = "folder"; ${options} };
    containers.helloing-container = {
      autoStart = true;
      extraFlags = [ "--quiet" ];
      config = { config, ... }: {
        system.stateVersion = "23.05";
        systemd.services.hello-sayer = {
          serviceConfig = {
            LoadCredential = [ "target:hello-target" ];
            Environment = [ "GREETING_TARGET_FILE=%d/target" ];
            User = "hello-sayer";
            DynamicUser = true;
          };
          script = ''
            echo "Hello, $(cat \${CREDENTIALS_DIRECTORY}/target)!"
          '';
        };
      };
    };
  }`.replace("${CRED", "''${CRED");
  const configured = (options: string, what: string) =>
    evaluation.value(`let it = host [ (nix + "/modules/secrets-store.nix") (${module(options)}) ]; in ${what}`);

  test("passes each secret as a credential to the container, which waits for it and restarts with new ones", () => {
    const options = `secrets = { hello-target = { }; b = { file = "c"; source.file = "d"; }; }; secretsConfig.config.reloadOnChange = true;`;
    expect(configured(options, "it.config.containers.helloing-container.extraFlags")).toEqual(
      expect.arrayContaining([
        "--quiet",
        "--load-credential=c:/run/container-helloing-container-secrets/pub/c",
        "--load-credential=hello-target:/run/container-helloing-container-secrets/pub/hello-target",
      ]),
    );
    const units = evaluation.units(module(options));
    const sidecar = "container-helloing-container-secrets.service";
    for (const name of ["Requires", "After"])
      expect(setting(units, "container@helloing-container.service", name)).toEqual([sidecar]);
    expect(setting(units, sidecar, "Before")).toEqual(["container@helloing-container.service"]);
    expect(evaluation.config(units, sidecar)).toEqual({
      service: "container@helloing-container.service",
      backend: "folder",
      config: { secretsDir: "/run/secrets", reloadOnChange: true },
      secrets: { "hello-target": {}, b: { file: "c", source: { file: "d" } } },
      output: { directory: "/run/container-helloing-container-secrets/pub", envFile: null },
      onChange: { action: "restart" },
    });
  });

  test("gives flags but no `config`, which would replace it, to a container whose system is built elsewhere", () => {
    const options = (services: string) =>
      evaluation.value(`map (containers: builtins.attrNames containers.web) (host [
        (nix + "/modules/secrets-store.nix")
        {
          secretsStore = { enable = true; folder.secretsDir = "/run/secrets"; };
          secretsStore.containers.web = { secrets.a = { }; secretsConfig.backend = "folder"; ${services} };
        }
      ]).options.containers.definitions`);
    expect(options("")).toEqual([["extraFlags"]]);
    expect(options(`services.x = [ "a" ];`)).toEqual([["config", "extraFlags"]]);
  });

  test("gives services inside the ids listed for them", () => {
    expect(
      configured(
        `secrets = { hello-target = { }; b.file = "c"; "1%d" = { }; }; services.hello-sayer = [ "b" "1%d" ];`,
        "it.config.containers.helloing-container.config.systemd.services.hello-sayer.serviceConfig.LoadCredential",
      ),
    ).toEqual(expect.arrayContaining(["target:hello-target", "c:c", "1%%d:1%%d"]));
  });

  test.each([
    ["", "secretsStore.containers.helloing-container.secrets is empty"],
    [`secrets."a b" = { };`, `"a b" cannot be the name of a container's credential`],
    [`secrets.a.optional = true;`, "secrets.a.optional: a container does not start without"],
    [`secrets.a = { }; services.x = [ "b" ];`, `.services: "b" is not in`],
    [`secrets.a = { }; onChange = { action = "signal"; signal = "HUP"; };`, "a signal would find the old credentials"],
  ])("%s stops the evaluation, with advice", (options, message) => {
    expect(evaluation.complaint(module(options))).toContain(message);
  });
});
