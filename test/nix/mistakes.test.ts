/** Silent mistakes in a host's configuration: each stops the build, and the message says what to do. */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, setting, waitsFor } from "./evaluation.ts";

needs("nix").describe("secretsStore.services", () => {
  const evaluation = new Evaluation();
  const store = `secretsStore.enable = true; secretsStore.folder.secretsDir = "/etc/secrets";`;
  const host = (options: string, service = "", more = "") => `({ config, lib, ... }: {
    imports = [ { ${more} } ];
    ${store}
    systemd.services.app = { serviceConfig.ExecStart = "/bin/app"; };
    secretsStore.services.app = { secrets.key = { }; ${options.includes("secretsConfig") ? "" : `secretsConfig.backend = "folder";`} ${options} };
    systemd.services.other = { ${service} };
  })`;
  const complaint = (options: string, service = "", more = "") => evaluation.complaint(host(options, service, more));

  test("an undefined service stops the build, and the message suggests a similar name", () => {
    const wrong = `{ ${store} systemd.services.grafana.script = "g";
      secretsStore.services.grafanna = { secrets.a = { }; secretsConfig.backend = "folder"; }; }`;
    expect(evaluation.complaint(wrong)).toContain(
      "secretsStore.services.grafanna: no module defines the service grafanna (there is grafana): correct the name",
    );
    // An instance of a template is defined with it, and a unit of a package by an empty definition.
    const instance = (name: string, defined: string) =>
      evaluation.units(`{ ${store} systemd.services."${defined}" = { };
        secretsStore.services."${name}" = { secrets.a = { }; secretsConfig.backend = "folder"; }; }`);
    expect(instance("web@a", "web@")["web-a-secrets.service"]).toBeDefined();
    expect(instance("fwupd", "fwupd")["fwupd-secrets.service"]).toBeDefined();
  });

  test.each(["services.app", "files.f", "containers.web"])(
    "%s without enable stops the build, and does nothing where enable is false",
    (option) => {
      const secrets = option.startsWith("files") ? "" : "secrets.a = { };";
      const unset = (enable: string) =>
        `{ ${enable} systemd.services.app.script = "a"; containers.web.config.system.stateVersion = "26.05";
         secretsStore.${option} = { ${secrets} secretsConfig.backend = "folder"; }; }`;
      expect(evaluation.complaint(unset(""))).toContain("and secretsStore.enable is not set: set it to true");
      expect(Object.keys(evaluation.units(unset("secretsStore.enable = false;")))).toEqual(["app.service"]);
    },
  );

  test.each([
    ["credentials", "EnvironmentFile", "/run/credentials/app.service/key"],
    ["credentials", "EnvironmentFile", "-%d/key"],
    ["credentials", "LoadCredential", "x:/run/credentials/app.service/key"],
    ["private-tmp", "EnvironmentFile", "/tmp/key"],
    ["private-tmp", "LoadCredentialEncrypted", "x:/tmp/key"],
    ["credentials", "StandardInput", "file:/run/credentials/%n/key"],
    ["credentials", "LoadCredential", "x:/run/credentials/%N.service/key"],
  ])("the path of delivery %s in the service's own %s stops the build", (delivery, name, value) => {
    expect(
      complaint(`delivery = "${delivery}";`, "", `systemd.services.app.serviceConfig.${name} = "${value}";`),
    ).toContain(
      `systemd.services.app.serviceConfig.${name} names ${value.replace(/^(-|x:|file:)/, "")}, which is there only when the service runs`,
    );
  });

  test("an option of a module that ends in an EnvironmentFile accepts `hostPath`, not `path`", () => {
    const given = (path: string) => host("", "", `systemd.services.app.serviceConfig.EnvironmentFile = ${path};`);
    expect(
      evaluation.complaint(
        given("config.secretsStore.services.app.secrets.key.path")
          .replace("{ system", "({ config, ... }: { system")
          .replace("; } ];", "; }) ];"),
      ),
    ).toContain("use `hostPath' instead of `path'");
    const units = evaluation.units(
      given("config.secretsStore.services.app.secrets.key.hostPath")
        .replace("{ system", "({ config, ... }: { system")
        .replace("; } ];", "; }) ];"),
    );
    expect(setting(units, "app.service", "EnvironmentFile")).toEqual(["/run/app-secrets/pub/key"]);
  });

  test("another unit that reads secrets must be a consumer, which waits for them and gets the action", () => {
    const reads = `serviceConfig.LoadCredential = [ "k:/run/app-secrets/pub/key" ];`;
    expect(complaint("", reads)).toContain(
      'nothing orders it after the secrets: add "other.service" to secretsStore.services.app.consumers',
    );
    const units = evaluation.units(host(`consumers = [ "other.service" ];`, reads));
    expect(setting(units, "app-secrets.service", "Before")).toEqual(["app.service other.service"]);
    expect(units["app-secrets.service"]?.links).toEqual(["other.service.requires/app-secrets.service"]);
    expect(setting(units, "app-secrets.service", "PartOf")).toEqual(["app.service"]);
    expect(evaluation.config(units, "app-secrets.service")).toHaveProperty("service", ["app.service", "other.service"]);
  });

  test("a unit that reads a secrets.env that no unit makes stops the build", () => {
    const reads = `systemd.services.app.serviceConfig.EnvironmentFile = "/run/app-secrets/pub/secrets.env";`;
    expect(complaint("", "", reads)).toContain("set secretsStore.services.app.environmentFile.enable = true");
    const units = evaluation.units(host("environmentFile.enable = true;", "", reads));
    expect(setting(units, "app.service", "EnvironmentFile")).toEqual(["/run/app-secrets/pub/secrets.env"]);
    expect(evaluation.config(units, "app-secrets.service")).toMatchObject({
      secrets: { key: {} },
      output: { envFile: "secrets.env" },
    });
  });

  test("host files belong to root, or to the owner of each", () => {
    const units = evaluation.units(host(`delivery = "files"; secrets.tls.owner = "web"; onChange.action = "reload";`));
    expect(setting(units, "app-secrets.service", "RuntimeDirectoryMode")).toEqual(["0755"]);
    expect(setting(units, "app.service", "LoadCredential")).toEqual([]);
    expect(setting(units, "app.service", "Requires")).toEqual(["app-secrets.service"]);
    expect(evaluation.config(units, "app-secrets.service")).toMatchObject({
      secrets: { key: {}, tls: { owner: "web" } },
      onChange: { action: "reload" },
    });
    const path = `(host [ (nix + "/modules/secrets-store.nix") (${host(`delivery = "files";`)}) ]).config.secretsStore.services.app.secrets.key`;
    expect(evaluation.value(`{ inherit (${path}) path hostPath; }`)).toEqual({
      path: "/run/app-secrets/pub/key",
      hostPath: "/run/app-secrets/pub/key",
    });
  });

  test.each([
    ["LoadCredential", `systemd.services.app.serviceConfig.LoadCredential = lib.mkForce [ "own:/etc/own" ];`],
    ["requires and after", `systemd.services.app.after = lib.mkForce [ ];`],
  ])("a mkForce that removes our lines stops the build: %s", (name, more) => {
    const forced = host("").replace("imports = [ {  } ];", more);
    expect(evaluation.complaint(forced)).toContain("systemd.services.app.");
    expect(evaluation.complaint(forced)).toContain(name);
    expect(evaluation.complaint(forced)).toContain("mkForce");
  });

  test("an empty line after them does, too", () => {
    const erased = `systemd.services.app.serviceConfig.LoadCredential = lib.mkOrder 2000 [ "" ];`;
    expect(complaint("", "", erased)).toContain("serviceConfig.LoadCredential has lost the lines");
  });

  test.each([
    ["BindReadOnlyPaths", `serviceConfig.BindReadOnlyPaths = lib.mkForce [ "/srv" ];`, "has lost the lines"],
    ["BindReadOnlyPaths", `serviceConfig.BindReadOnlyPaths = lib.mkAfter [ "" ];`, "has lost the lines"],
    ["JoinsNamespaceOf", `unitConfig.JoinsNamespaceOf = lib.mkForce [ ];`, "has lost the lines"],
    ["requires", `requires = lib.mkForce [ ];`, "must have app-secrets.service"],
    ["PrivateTmp", `serviceConfig.PrivateTmp = lib.mkForce false;`, "PrivateTmp is false"],
    ["DefaultDependencies", `unitConfig.DefaultDependencies = false;`, "DefaultDependencies is false"],
    ["ExecStartPre", `serviceConfig.ExecStartPre = "+/bin/a";`, "has a command with the prefix `+'"],
  ])("another module's %s that breaks a service of a secrets scope stops the build: %s", (name, other, said) => {
    const scope = `({ config, pkgs, ... }: { imports = [ { systemd.services.app = { ${other} }; } ];
      systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
        loadSecrets = [ "key" ]; backendConfig.backend = "folder";
      } (_: { app.serviceConfig.ExecStart = "/bin/app"; }); })`;
    const [found] = failures([scope]) as [string[]];
    expect(found.join("\n")).toContain("systemd.services.app.");
    expect(found.join("\n")).toContain(name);
    expect(found.join("\n")).toContain(said);
  });

  test.each([
    ["the flags", `containers.web.extraFlags = lib.mkForce [ "--a" ];`, "containers.web.extraFlags has lost the flags"],
    [
      "the order",
      `systemd.services."container@web".after = lib.mkForce [ ];`,
      "must have container-web-secrets.service",
    ],
  ])("a mkForce that removes %s from a container stops the build", (_, more, said) => {
    const container = `{ ${more} containers.web.config.system.stateVersion = "26.05";
      secretsStore.containers.web = { secrets.a = { }; secretsConfig.backend = "folder"; }; }`;
    expect(failures([container, container.replace(more, "")])).toEqual([[expect.stringContaining(said)], []]);
  });

  test("another module's empty line removes none of our lines, because ours come last", () => {
    const units = evaluation.units(
      host("", "", `systemd.services.app.serviceConfig.LoadCredential = [ "a:/etc/a" "" ];`),
    );
    expect(setting(units, "app.service", "LoadCredential").at(-1)).toBe("key:/run/app-secrets/pub/key");
  });

  test.each(["LoadCredential", "LoadCredentialEncrypted"])(
    "a credential already defined by %s stops the build",
    (name) => {
      expect(complaint("", "", `systemd.services.app.serviceConfig.${name} = [ "key:/etc/key" ];`)).toContain(
        'systemd.services.app loads the credential "key" by a line of its own, and by secretsStore.services.app',
      );
    },
  );

  test("a service that starts before something its sidecar waits for stops the build", () => {
    const before = (target: string) => `systemd.services.app.before = [ "${target}" ];`;
    const vault = `secretsConfig.backend = "vault"; secretsConfig.config.tokenPath = "/t";`;
    expect(complaint(vault, "", before("network.target"))).toContain(
      "systemd.services.app starts before network.target, and its secrets come over the network",
    );
    expect(evaluation.units(host("", "", before("network.target")))["app-secrets.service"]).toBeDefined();
    for (const delivery of ["credentials", "private-tmp", "files"])
      for (const target of ["sysinit.target", "swap.target", "sockets.target"])
        expect(complaint(`delivery = "${delivery}";`, "", before(target))).toContain(
          `systemd.services.app starts before ${target}, and its sidecar after it`,
        );
  });

  /** What stops each of these hosts, by assertions. */
  const failures = (modules: readonly string[]) =>
    evaluation.value(
      `map (module: (host [ (nix + "/modules/secrets-store.nix") { ${store} } module ]).failed) [ ${modules.join(" ")} ]`,
    );
  const network = 'secretsConfig.backend = "vault"; secretsConfig.config.tokenPath = "/t";';
  test.each([
    // wireguard-wg0 says so itself; of networkd it is in the file of a package.
    ["wireguard-wg0", `systemd.services.wireguard-wg0 = { before = [ "network.target" ]; };`, "network.target"],
    ["systemd-networkd", `systemd.services.systemd-networkd = { };`, "network.target"],
    ["systemd-resolved", `systemd.services.systemd-resolved = { };`, "network.target"],
    ["firewall", `systemd.services.firewall.before = [ "network-pre.target" ];`, "network-pre.target"],
    ["feeds", `systemd.services.feeds.before = [ "systemd-networkd.service" ];`, "network.target"],
    // Whoever waits for it is before the network itself.
    [
      "led",
      `systemd.services = { led = { }; follows = { after = [ "led.service" ]; before = [ "b.service" ]; }; b.before = [ "network.target" ]; };`,
      "network.target",
    ],
  ])("a network store for %s stops the build, for every delivery", (name, services, target) => {
    const of = (more: string) => `{ ${services} secretsStore.services.${name} = { secrets.key = { }; ${more} }; }`;
    const said = [
      expect.stringContaining(
        `systemd.services.${name} starts before ${target}, and its secrets come over the network`,
      ) as string,
    ];
    const deliveries = ["credentials", "private-tmp", "files"].map((one) => `delivery = "${one}";`);
    expect(failures(deliveries.map((delivery) => of(`${network} ${delivery}`)))).toEqual([said, said, said]);
    // A local store it may have.
    expect(failures(deliveries.map((one) => of(`secretsConfig.backend = "folder"; ${one}`)))).toEqual([[], [], []]);
    const consumers = `{ ${services} systemd.services.app.script = "a";
      secretsStore.services.app = { secrets.key = { }; consumers = [ "${name}.service" ]; ${network} }; }`;
    const file = `{ ${services} secretsStore.files.key = { consumers = [ "${name}.service" ]; ${network} }; }`;
    expect(failures([consumers, file])).toEqual([said, said]);
    const scope = `({ config, pkgs, ... }: { imports = [ { ${services} } ]; ${store}
      systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
        loadSecrets = [ "key" ]; backendConfig = { backend = "vault"; config.tokenPath = "/t"; };
      } (_: { ${name} = { }; }); })`;
    expect(evaluation.complaint(scope)).toContain(`systemd.services.${name} starts before ${target}`);
  });

  test.each([
    ["early", `early = { before = [ "sysinit.target" ]; unitConfig.DefaultDependencies = false; };`, "sysinit.target"],
    ["systemd-timesyncd", `systemd-timesyncd = { };`, "sysinit.target"],
    ["sock", `sock = { before = [ "sockets.target" ]; unitConfig.DefaultDependencies = false; };`, "sockets.target"],
  ])("a service that starts before basic.target gets no sidecar: %s", (name, service, target) => {
    const folder = `secretsConfig.backend = "folder";`;
    const of = (delivery: string) => `{ systemd.services.${service}
      secretsStore.services.${name} = { secrets.key = { }; ${folder} delivery = "${delivery}"; }; }`;
    const said = [expect.stringContaining(`systemd.services.${name} starts before ${target}`) as string];
    expect(failures([of("credentials"), of("files")])).toEqual([said, said]);
    // A file of the host is there once sysinit.target is reached.
    const file = `{ systemd.services.${service} secretsStore.files.key = { consumers = [ "${name}.service" ]; ${folder} }; }`;
    expect(failures([file])).toEqual([target === "sockets.target" ? [] : said]);
  });

  test("a service without default dependencies and Before= accepts every possible delivery", () => {
    const of = (delivery: string) =>
      host(`delivery = "${delivery}";`, "", `systemd.services.app.unitConfig.DefaultDependencies = false;`);
    for (const delivery of ["credentials", "files"])
      expect(evaluation.units(of(delivery))["app-secrets.service"]).toBeDefined();
    expect(evaluation.complaint(of("private-tmp"))).toContain("DefaultDependencies is false");
  });

  test("a container that starts before the network gets no store there", () => {
    const container = `{ ${store} containers.web.config.system.stateVersion = "26.05";
      systemd.services."container@web".before = [ "network.target" ];
      secretsStore.containers.web = { secrets.a = { }; ${network} }; }`;
    expect(evaluation.complaint(container)).toContain("container@web starts before network.target");
  });

  test("a secrets scope without enable stops the build, and does nothing where enable is false", () => {
    const scope = (enable: string) => `({ config, pkgs, ... }: { ${enable}
      systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
        loadSecrets = [ "key" ]; backendConfig = { backend = "folder"; config.secretsDir = "/s"; };
      } (_: { app.script = "a"; }); })`;
    expect(evaluation.complaint(scope(""))).toContain(
      "app: a secrets scope has secrets, and secretsStore.enable is not set",
    );
    expect(evaluation.units(scope("secretsStore.enable = false;"))).toEqual({});
    expect(Object.keys(evaluation.units(scope("secretsStore.enable = true;")))).toContain("app.service");
  });

  test("the sidecar joins a shared /tmp of its service, but not a shared network namespace", () => {
    const joined = (other: string) =>
      setting(
        evaluation.units(
          host(
            `delivery = "private-tmp";`,
            "",
            `systemd.services.app.unitConfig.JoinsNamespaceOf = [ "netns@a.service" ]; systemd.services."netns@" = { ${other} };`,
          ),
        ),
        "app-secrets.service",
        "JoinsNamespaceOf",
      );
    expect(joined("serviceConfig.PrivateNetwork = true;")).toEqual([]);
    expect(joined("serviceConfig.PrivateTmp = true;")).toEqual(["netns@a.service"]);
  });

  test("the sidecar waits for the unit that fills a folder of sops-nix or agenix, if the host has one", () => {
    const after = (units: ReturnType<Evaluation["units"]>) => waitsFor(units, "app-secrets.service", "After");
    expect(after(evaluation.units(host("")))).toEqual([]);
    for (const name of ["sops-install-secrets", "agenix", "agenix-install-secrets"])
      expect(after(evaluation.units(host("", "", `systemd.services.${name}.script = "s";`)))).toEqual([
        `${name}.service`,
      ]);
  });
});
