/** `resident = false`: a sidecar that publishes and is gone, for services that need no rotation. */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, setting, type RenderedUnits } from "./evaluation.ts";

needs("nix").describe("a non-resident sidecar", () => {
  const evaluation = new Evaluation();
  const folder = `secretsConfig.backend = "folder";`;
  /** One host with a sidecar of each kind; `also` goes into each but `ofScope`, `reload` beside the secrets' place. */
  const host = (also: string, reload = "", ofScope = also) => `({ config, lib, pkgs, ... }: {
    secretsStore = {
      enable = true;
      folder = { secretsDir = "/etc/secrets"; ${reload} };
      services.app = { secrets.a = { }; ${folder} ${also} };
      files.file = { ${folder} ${also} };
      containers.web = { secrets.a = { }; ${folder} ${also} };
    };
    containers.web.config.system.stateVersion = "26.05";
    systemd.services = lib.mkMerge [
      { app.serviceConfig.ExecStart = "/bin/app"; }
      ((import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
        loadSecrets = [ "a" ];
        backendConfig.backend = "folder";
        ${ofScope}
      } (_: { scoped.serviceConfig.ExecStart = "/bin/app"; }))
    ];
  })`;
  const sidecars = [
    ["app", "app-secrets.service"],
    ["scoped", "scoped-secrets.service"],
    ["a file", "secret-file-file.service"],
    ["a container", "container-web-secrets.service"],
  ] as const;
  let once: RenderedUnits | undefined;
  let staying: RenderedUnits | undefined;
  test.each(sidecars)("of %s is a oneshot that counts as active, and restarts only on failure", (_, sidecar) => {
    once ??= evaluation.units(host("resident = false;"));
    const of = (name: string) => setting(once ?? {}, sidecar, name);
    expect([of("Type"), of("RemainAfterExit"), of("Restart")]).toEqual([["oneshot"], ["true"], ["on-failure"]]);
    // There is no process to ask.
    expect(of("ExecReload")).toEqual([]);
    // The published set outlasts it, and a restart during an outage continues with it.
    expect(of("RuntimeDirectoryPreserve")).toEqual(["restart"]);
    expect(of("TimeoutStartSec")).toEqual(["infinity"]);
    expect(evaluation.config(once, sidecar)).toHaveProperty("resident", false);
  });

  test.each(sidecars)("of %s: stays when told to", (_, sidecar) => {
    staying ??= evaluation.units(host("resident = true;"));
    const of = (name: string) => setting(staying ?? {}, sidecar, name);
    expect([of("Type"), of("RemainAfterExit"), of("Restart")]).toEqual([["notify"], [], ["always"]]);
    expect(of("ExecReload")).toHaveLength(1);
    expect(evaluation.config(staying, sidecar)).not.toHaveProperty("resident");
  });

  test('with "on-change" systemd watches for it, for services and scopes; it needs reloadOnChange', () => {
    const looking = evaluation.units(`({ config, lib, pkgs, ... }: {
      secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; };
      secretsStore.services.app = {
        secrets.a = { };
        secretsConfig = { backend = "folder"; config.reloadOnChange = true; };
        resident = "on-change";
      };
      systemd.services = lib.mkMerge [
        { app.serviceConfig.ExecStart = "/bin/app"; }
        ((import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
          loadSecrets = [ "a" ];
          backendConfig = { backend = "folder"; config.reloadOnChange = true; };
          resident = "on-change";
        } (_: { scoped.serviceConfig.ExecStart = "/bin/app"; }))
      ];
    })`);
    for (const name of ["app", "scoped"]) {
      const of = (unit: string, option: string) => setting(looking, `${name}-secrets${unit}`, option);
      expect(of(".service", "Type")).toEqual(["oneshot"]);
      expect(of(".service", "Wants").join(" ")).toContain(`${name}-secrets-watch.path`);
      expect(of("-watch.path", "PathChanged")[0]).toBe("/etc/secrets");
      expect(of("-refresh.path", "DirectoryNotEmpty")).toEqual([`/run/${name}-secrets-refresh/inbox`]);
      expect(of("-refresh.timer", "OnUnitInactiveSec")).toEqual(["54000ms"]);
      expect(of("-refresh.service", "Environment").join(" ")).toContain(`RUNTIME_DIRECTORY=/run/${name}-secrets`);
    }
    const refused = `({ ... }: {
      secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; };
      secretsStore.services.app = { secrets.a = { }; ${folder} resident = "on-change"; };
      systemd.services.app.serviceConfig.ExecStart = "/bin/app";
    })`;
    expect(evaluation.complaint(refused)).toContain(
      'secretsStore.services.app.resident is "on-change", and reloadOnChange is false, so no change would count: set secretsStore.services.app.secretsConfig.config.reloadOnChange = true, or resident = false',
    );
  });

  test("is the default for a file only, as long as it neither follows changes nor renews leases", () => {
    const types = (reload: string) => {
      const units = evaluation.units(host("", reload));
      return sidecars.map(([, sidecar]) => setting(units, sidecar, "Type")[0]);
    };
    expect(types("")).toEqual(["notify", "notify", "oneshot", "notify"]);
    expect(types("reloadOnChange = true;")).toEqual(["notify", "notify", "notify", "notify"]);
  });

  test("changes nothing else in the units", () => {
    const rest = (units: RenderedUnits | undefined, sidecar: string) =>
      (units?.[sidecar]?.text ?? "")
        .split("\n")
        .filter((line) => !/^(Type|RemainAfterExit|ExecReload|Restart|ExecStart)=/.test(line));
    for (const [, sidecar] of sidecars) {
      expect(rest(once, sidecar)).toEqual(rest(staying, sidecar));
      expect(rest(once, sidecar).length).toBeGreaterThan(25);
    }
  });

  test("cannot follow changes: the evaluation names the option, and the way out", () => {
    const assertions = evaluation.complaint(host("resident = false;", "reloadOnChange = true;", ""));
    for (const option of ["services.app", "files.file", "containers.web"])
      expect(assertions).toContain(
        `secretsStore.${option}.resident is false, so nothing would see a change, but reloadOnChange is true: set secretsStore.${option}.secretsConfig.config.reloadOnChange = false, or leave resident away`,
      );
    // The scope has its own error.
    expect(
      evaluation.complaint(`({ config, lib, pkgs, ... }: {
        systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
          loadSecrets = [ "a" ];
          backendConfig = { backend = "folder"; config = { secretsDir = "/s"; reloadOnChange = true; }; };
          resident = false;
        } (_: { scoped.serviceConfig.ExecStart = "/bin/app"; });
        secretsStore.enable = true;
      })`),
    ).toContain(
      "resident is false, so nothing would see a change, but reloadOnChange is true: set backendConfig.config.reloadOnChange = false, or leave resident away",
    );
  });
});
