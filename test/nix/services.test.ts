/** secretsStore.services: secrets for services that other modules define. */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, setting } from "./evaluation.ts";

needs("nix").describe("secretsStore.services", () => {
  const evaluation = new Evaluation();
  const folder = `secretsStore.services.app.secretsConfig.backend = "folder";`;
  const module = (options: string, more = folder) => `({ config, lib, ... }: {
    imports = [ { ${more} } ];
    # As a module of nixpkgs might have it.
    systemd.services.app = {
      script = "exec app";
      serviceConfig = { DynamicUser = true; LoadCredential = [ "own:/etc/own" ]; };
    };
    secretsStore.enable = true;
    secretsStore.folder.secretsDir = "/etc/secrets";
    secretsStore.services.app = { ${options} };
  })`;
  const units = (options: string, more = folder) => evaluation.units(module(options, more));
  const config = (options: string) => evaluation.config(units(options), "app-secrets.service");

  test("passes credentials by default, and keeps the service's own lines", () => {
    const rendered = units(`secrets = { password = { }; "tls.key" = { }; "100 %" = { }; };`);
    expect(setting(rendered, "app.service", "LoadCredential")).toEqual([
      "own:/etc/own",
      "100 %%:/run/app-secrets/pub/100 %%",
      "password:/run/app-secrets/pub/password",
      "tls.key:/run/app-secrets/pub/tls.key",
    ]);
    const wiring = ["Requires", "After"].map((name) => setting(rendered, "app.service", name));
    expect(wiring).toEqual([["app-secrets.service"], ["app-secrets.service"]]);
    for (const absent of ["PrivateTmp", "BindReadOnlyPaths", "JoinsNamespaceOf", "EnvironmentFile", "SetCredential"])
      expect(setting(rendered, "app.service", absent)).toEqual([]);
    expect(setting(rendered, "app.service", "ExecStart")[0]).toMatch(/unit-script-app-start/);
    expect(evaluation.config(rendered, "app-secrets.service")).toMatchObject({
      service: "app.service",
      secrets: { password: {}, "tls.key": {}, "100 %": {} },
      output: { directory: "/run/app-secrets/pub", envFile: null },
    });
  });

  test("makes an optional secret a newline when the store has none", () => {
    const rendered = units("secrets = { a = { }; b.optional = true; };");
    expect(setting(rendered, "app.service", "SetCredential")).toEqual([String.raw`b:\n`]);
    expect(setting(rendered, "app.service", "LoadCredential")).toContain("b:/run/app-secrets/pub/b");
  });

  test("names the credential like the file", () => {
    const rendered = units(`secrets.tls = { file = "key.pem"; source.file = "web/key"; };`);
    expect(setting(rendered, "app.service", "LoadCredential")).toContain("key.pem:/run/app-secrets/pub/key.pem");
  });

  test("systemd itself reads variables, all or only the listed ones", () => {
    const all = units(`environment = true; secrets = { a = { }; b.env = "B"; c.env = null; };`);
    expect(setting(all, "app.service", "EnvironmentFile")).toEqual(["/run/app-secrets/pub/secrets.env"]);
    expect(evaluation.config(all, "app-secrets.service")).toMatchObject({
      secrets: { a: {}, b: { env: "B" }, c: { env: null } },
      output: { envFile: "secrets.env" },
    });
    expect(config(`environment.DB = "a"; secrets = { a = { }; b.env = "B"; };`)).toHaveProperty("secrets", {
      a: { env: "DB" },
      b: { env: null },
    });
  });

  test("uses links in a private /tmp to files that follow a rotation", () => {
    const rendered = units(`delivery = "private-tmp"; environment = true; secrets.a = { };`);
    expect(setting(rendered, "app.service", "PrivateTmp")).toEqual(["true"]);
    expect(setting(rendered, "app.service", "JoinsNamespaceOf")).toEqual(["app-secrets.service"]);
    expect(setting(rendered, "app.service", "BindReadOnlyPaths")).toEqual(["/run/app-secrets/pub:/tmp/.secrets"]);
    expect(setting(rendered, "app.service", "EnvironmentFile")).toEqual(["/run/app-secrets/pub/secrets.env"]);
    expect(setting(rendered, "app.service", "LoadCredential")).toEqual(["own:/etc/own"]);
    expect(evaluation.config(rendered, "app-secrets.service")).toHaveProperty("output", {
      directory: "/run/app-secrets/pub",
      envFile: "secrets.env",
      links: "/tmp",
    });
  });

  test("the sidecar joins the namespaces that the service joins already", () => {
    const rendered = units(
      `delivery = "private-tmp"; secrets.a = { };`,
      `${folder} systemd.services.app.unitConfig.JoinsNamespaceOf = [ "other.service" ];`,
    );
    expect(setting(rendered, "app.service", "JoinsNamespaceOf").sort()).toEqual([
      "app-secrets.service",
      "other.service",
    ]);
    expect(setting(rendered, "app-secrets.service", "JoinsNamespaceOf")).toEqual(["other.service"]);
  });

  test("other options can use the path of a secret", () => {
    const path = (delivery: string) =>
      evaluation.value(
        `(host [ (nix + "/modules/secrets-store.nix") (${module(`delivery = "${delivery}"; secrets.a.file = "x";`)}) ])
          .config.secretsStore.services.app.secrets.a.path`,
      );
    expect(path("credentials")).toBe("/run/credentials/app.service/x");
    expect(path("private-tmp")).toBe("/tmp/x");
  });

  test("turns a reload into a restart for a service with credentials, which it would not show", () => {
    const reload = `secrets.a = { }; onChange.action = "reload";`;
    expect(config(reload)).toHaveProperty("onChange.action", "restart");
    expect(config(`${reload} delivery = "private-tmp";`)).toHaveProperty("onChange.action", "reload");
  });

  test("passes on all of onChange", () => {
    expect(
      config(`secrets.a = { }; startTimeout = 60; delivery = "private-tmp"; onChange = {
        action = "signal"; signal = "SIGUSR1"; settle = 1; minInterval = 10; splay = 0.5;
        verify.command = [ "/bin/check" "--all" ];
      };`),
    ).toMatchObject({
      startTimeout: 60,
      onChange: {
        action: "signal",
        signal: "SIGUSR1",
        settle: 1,
        minInterval: 10,
        splay: 0.5,
        verify: { command: ["/bin/check", "--all"], timeout: 30 },
      },
    });
  });

  test("the sidecar's own unit accepts more settings: credentials encrypted for this host", () => {
    const rendered = units(
      `secrets.a = { }; secretsConfig.backend = "credentials";`,
      `systemd.services.app-secrets.serviceConfig.LoadCredentialEncrypted = [ "a:/etc/credstore.encrypted/a" ];`,
    );
    expect(setting(rendered, "app-secrets.service", "LoadCredentialEncrypted")).toEqual([
      "a:/etc/credstore.encrypted/a",
    ]);
    expect(evaluation.config(rendered, "app-secrets.service")).toMatchObject({
      backend: "credentials",
      config: { reloadOnChange: false },
    });
  });

  test.each([
    ["true", ["/usr/local"]],
    ["false", []],
  ])("with enable = %s, an operator's PATH has these packages: %j", (enable, packages) => {
    const { systemPackages } = evaluation.value(
      `{ systemPackages = map (one: one.outPath) (host [ (nix + "/modules/secrets-store.nix") { secretsStore.enable = ${enable}; } ]).config.environment.systemPackages; }`,
    ) as { systemPackages: string[] };
    expect(systemPackages).toEqual(packages);
  });

  test("does nothing when turned off", () => {
    const rendered = units("secrets.a = { };", `${folder} secretsStore.enable = lib.mkForce false;`);
    expect(Object.keys(rendered)).toEqual(["app.service"]);
    expect(rendered["app.service"]?.text).not.toContain("secrets");
  });

  const privateTmp = `secrets.a = { }; delivery = "private-tmp";`;
  test.each([
    ["", "", "secretsStore.services.app.secrets is empty"],
    [`secrets."a:b" = { };`, "", `"a:b" is not the name of a credential`],
    [`secrets."ä" = { };`, "", "set secrets.<id>.file"],
    [`secrets."a'b" = { };`, "", 'delivery = "private-tmp"'],
    [
      `secrets.a = { }; onChange = { action = "signal"; signal = "HUP"; };`,
      "",
      "a signal would find the old credentials",
    ],
    [`secrets.a = { }; environment.X = "b";`, "", `secretsStore.services.app.environment: "b" is not in`],
    [`secrets.a = { }; environment = { X = "a"; Y = "a"; };`, "", "the value of two variables"],
    [privateTmp, "systemd.services.app.serviceConfig.PrivateTmp = false;", "app.serviceConfig.PrivateTmp is false"],
    [privateTmp, `systemd.services.app.serviceConfig.PrivateTmp = "disconnected";`, `PrivateTmp is "disconnected"`],
    [
      privateTmp,
      "systemd.services.app.unitConfig.DefaultDependencies = false;",
      "unitConfig.DefaultDependencies is false",
    ],
    [
      privateTmp,
      `systemd.services.app.serviceConfig.ExecStartPre = [ "-+/bin/a" ];`,
      "ExecStartPre has a command with the prefix `+'",
    ],
  ])("%s%s stops the evaluation, with advice", (options, more, message) => {
    expect(evaluation.complaint(module(options, `${folder} ${more}`))).toContain(message);
  });

  test("refuses a template", () => {
    expect(
      evaluation.complaint(
        `{ secretsStore.enable = true; secretsStore.services."a@" = { secrets.a = { }; secretsConfig.backend = "vault"; }; }`,
      ),
    ).toContain(`secretsStore.services.a@: a template cannot have secrets`);
  });

  test("refuses two services with the same sidecar", () => {
    expect(
      evaluation.complaint(
        `({ lib, ... }: { secretsStore.enable = true; secretsStore.services = lib.genAttrs [ "a@b" "a-b" "c" ] (_: {
          secrets.a = { }; secretsConfig.backend = "vault";
        }); })`,
      ),
    ).toContain("secretsStore.services: a-b and a@b would share the unit a-b-secrets.service: rename one");
  });

  test.each([
    ["the template alone", `"a@".serviceConfig.ExecStart = "/bin/a %i";`, "asDropin"],
    ["a command", `"a@b".serviceConfig.ExecStart = "/bin/a";`, "asDropinIfExists"],
    ["a script", `"a@b".script = "a";`, "asDropinIfExists"],
    ["another strategy", `"a@b".overrideStrategy = "asDropinIfExists";`, "asDropinIfExists"],
  ])("for an instance that has %s, no unit hides the template", (_, services, strategy) => {
    const strategies = evaluation.value(`lib.mapAttrs (_: service: service.overrideStrategy) (host [
      (nix + "/modules/secrets-store.nix")
      {
        secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; };
        secretsStore.services."a@b" = { secrets.a = { }; secretsConfig.backend = "folder"; };
        systemd.services = { ${services} };
      }
    ]).config.systemd.services`);
    expect(strategies).toMatchObject({ "a@b": strategy, "a-b-secrets": "asDropinIfExists" });
  });

  test.each(["+/bin/a", "@/bin/a b"])("credentials accept any command: %s", (command) => {
    const rendered = units(
      "secrets.a = { };",
      `${folder} systemd.services.app = { script = lib.mkForce ""; serviceConfig.ExecStart = "${command}"; };`,
    );
    expect(setting(rendered, "app.service", "ExecStart")).toEqual([command]);
  });
});
