/** Names of services and of their sidecars, and what a sidecar takes over from its service. */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, namesOf, setting, waitsFor } from "./evaluation.ts";

needs("nix").describe("a sidecar", () => {
  const evaluation = new Evaluation();
  const host = (services: string, more = "") => `({ config, lib, pkgs, ... }: {
    secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; ${services} };
    ${more}
  })`;
  const service = (name: string, options = "") =>
    `services."${name}" = { secrets.a = { }; secretsConfig.backend = "folder"; ${options} };`;
  const started = (name: string) => `systemd.services."${name}".serviceConfig.ExecStart = "/bin/true";`;

  test.each([
    // As Nix and as systemd write it, and the names of its sidecar's unit and directories.
    [String.raw`foo\\x2dbar`, String.raw`foo\x2dbar`, "foo-x2dbar-secrets"],
    [String.raw`app@a\\x2db`, String.raw`app@a\x2db`, "app-a-x2db-secrets"],
    ["a:b", "a:b", "a-b-secrets"],
  ])("of %s has no special characters of unit files in its paths", (nix, name, sidecar) => {
    for (const delivery of ["credentials", "private-tmp"]) {
      const units = evaluation.units(host(service(nix, `delivery = "${delivery}";`), started(nix)));
      expect(namesOf(units).sort()).toEqual([`${sidecar}.service`, `${name}.service`].sort());
      expect(setting(units, `${sidecar}.service`, "RuntimeDirectory")).toEqual([
        `${sidecar} ${sidecar}-act ${sidecar}-act/inbox`,
      ]);
      expect(setting(units, `${sidecar}.service`, "BindPaths")).toEqual([
        `/run/${sidecar}`,
        `/run/${sidecar}-act/inbox`,
      ]);
      expect(setting(units, `${sidecar}.service`, "Before")).toEqual([`${name}.service`]);
      expect(setting(units, `${name}.service`, "Requires")).toEqual([`${sidecar}.service`]);
      expect(evaluation.config(units, `${sidecar}.service`)).toMatchObject({
        service: `${name}.service`,
        output: { directory: `/run/${sidecar}/pub` },
      });
    }
  });

  test("two services with one sidecar's name stop the build", () => {
    const both = `${service("a:b")} ${service("a-b")}`;
    expect(evaluation.complaint(host(both, `${started("a:b")} ${started("a-b")}`))).toContain(
      "secretsStore.services: a-b and a:b would share the unit a-b-secrets.service",
    );
  });

  const taken = `${started("forgejo")} ${started("forgejo-secrets")}`;
  test("the name of another module's unit stops the build, and the message names the option to set", () => {
    expect(evaluation.complaint(host(service("forgejo"), taken))).toContain(
      "secretsStore.services.forgejo: its sidecar would be forgejo-secrets.service",
    );
    const script = `${started("forgejo")} systemd.services.forgejo-secrets.script = lib.mkDefault "x";`;
    expect(evaluation.complaint(host(service("forgejo"), script))).toContain(
      "set secretsStore.services.forgejo.sidecar",
    );
    const container = `containers.web = { secrets.a = { }; secretsConfig.backend = "folder"; };`;
    expect(evaluation.complaint(host(container, started("container-web-secrets")))).toContain(
      "secretsStore.containers.web: its sidecar would be container-web-secrets.service",
    );
  });

  test("uses the option's name everywhere", () => {
    const units = evaluation.units(host(service("forgejo", `sidecar = "forgejo-store";`), taken));
    expect(namesOf(units).sort()).toEqual(["forgejo-secrets.service", "forgejo-store.service", "forgejo.service"]);
    expect(setting(units, "forgejo.service", "LoadCredential")).toEqual(["a:/run/forgejo-store/pub/a"]);
    expect(setting(units, "forgejo.service", "After")).toEqual(["forgejo-store.service"]);
    expect(units["forgejo-secrets.service"]?.text).not.toContain("fetcher");
    const container = `containers.web = { secrets.a = { }; secretsConfig.backend = "folder"; sidecar = "web-store"; };`;
    const ofContainer = evaluation.units(host(container, `containers.web.config.system.stateVersion = "26.05";`));
    expect(setting(ofContainer, "container@web.service", "Requires")).toEqual(["web-store.service"]);
  });

  test("accepts another module's settings without a conflict", () => {
    const more = `${started("app")} systemd.services.app-secrets.serviceConfig.Nice = 5;`;
    expect(setting(evaluation.units(host(service("app"), more)), "app-secrets.service", "Nice")).toEqual(["5"]);
  });

  test("a name too long for systemd stops the build", () => {
    const name = "n".repeat(180);
    expect(evaluation.complaint(host(service(name), started(name)))).toContain("longer than the 183 characters");
  });

  test("in a secrets scope gets its name from the service", () => {
    const units = evaluation.units(`({ config, lib, pkgs, ... }: {
      secretsStore = { enable = true; folder.secretsDir = "/s"; };
      systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope
        { loadSecrets = [ "a" ]; backendConfig.backend = "folder"; }
        (_: { app = { script = "x"; sidecar = "app-store"; reloadIfChanged = true; }; });
    })`);
    expect(namesOf(units).sort()).toEqual(["app-store.service", "app.service"]);
    expect(setting(units, "app.service", "BindReadOnlyPaths")).toEqual(["/run/app-store/pub:/tmp/.secrets"]);
    expect(setting(units, "app-store.service", "X-ReloadIfChanged")).toEqual(["true"]);
  });

  test("a switch that reloads a service reloads its sidecar too, if it has a process", () => {
    const reloaded = (options: string) => {
      const more = `${started("app")} systemd.services.app.reloadIfChanged = true;`;
      return setting(evaluation.units(host(service("app", options), more)), "app-secrets.service", "X-ReloadIfChanged");
    };
    expect(reloaded("")).toEqual(["true"]);
    expect(reloaded("resident = false;")).toEqual([]);
    const file = `files.f = { secretsConfig.backend = "folder"; secretsConfig.config.reloadOnChange = true; consumers = [ "app.service" "other.service" ]; };`;
    const units = evaluation.units(host(file, `${started("app")} systemd.services.app.reloadIfChanged = true;`));
    expect(setting(units, "secret-file-f.service", "X-ReloadIfChanged")).toEqual(["true"]);
  });

  test("startTimeout ends the start of a file's or a container's sidecar, too", () => {
    const one = (kind: string) =>
      `${kind} = { secretsConfig.backend = "folder"; startTimeout = 7; ${kind.startsWith("files") ? "" : "secrets.a = { };"} };`;
    const units = evaluation.units(
      host(`${one("files.f")} ${one("containers.web")}`, `containers.web.config.system.stateVersion = "26.05";`),
    );
    for (const sidecar of ["secret-file-f.service", "container-web-secrets.service"])
      expect(evaluation.config(units, sidecar), sidecar).toHaveProperty("startTimeout", 7);
  });

  test("waits for users from elsewhere if one gets a file, and not for root", () => {
    const after = (secret: string) =>
      waitsFor(
        evaluation.units(host(service("app", `secrets.b = { ${secret} };`), started("app"))),
        "app-secrets.service",
        "After",
      );
    expect(after(`owner = "grafana";`)).toEqual(["nss-user-lookup.target"]);
    expect(after(`group = 994;`)).toEqual(["nss-user-lookup.target"]);
    expect(after(`owner = "root"; group = 0;`)).toEqual([]);
    expect(after("")).toEqual([]);
  });
});
