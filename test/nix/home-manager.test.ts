/** The module for home-manager: secrets for services of one user, who is not root. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { userScope } from "../../src/config/scope.ts";
import { unitsOfFile } from "../../src/units/one-file-units.ts";
import { textOf } from "../../src/units/unit-file.ts";
import { temporary } from "../contract/temporary.ts";
import { blockWith } from "../markdown.ts";
import { needs } from "../requirements.ts";
import { Evaluation, lines, nixPath, type RenderedUnits, setting } from "./evaluation.ts";
import { standInNixpkgs } from "./nixpkgs.ts";

needs("nix").describe("home-manager", () => {
  const evaluation = new Evaluation();
  const home = (module: string) =>
    `(import ${nixPath(standInNixpkgs, "home-manager.nix")} { inherit lib pkgs; modules = [ (nix + "/home-manager.nix") (${module}) ]; })`;
  const mail = (options: string, more = "") => `({ config, lib, ... }: {
    imports = [ { ${more} } ];
    # As a module of home-manager might have it: with strings where lists could be.
    systemd.user.services.mail = {
      Unit = { Description = "mail"; After = "graphical-session.target"; Requires = [ "a.service" ]; };
      Service.ExecStart = "/bin/mail --password-file \${config.secretsStore.services.mail.secrets.imap.path or ""}";
    };
    secretsStore.enable = true;
    secretsStore.folder.secretsDir = "/home/ann/.config/secrets";
    secretsStore.services.mail = { ${options.includes("secretsConfig") ? "" : `secretsConfig.backend = "folder";`} ${options} };
  })`;
  const units = (module: string) => evaluation.value(`${home(module)}.units`) as RenderedUnits;
  const failed = (module: string) => (evaluation.value(`${home(module)}.failed`) as string[]).join("\n");

  test("a service gets its secrets as credentials, and depends only on the sidecar's unit", () => {
    const rendered = units(mail('secrets.imap = { }; consumers = [ "sync.service" ];'));
    expect(Object.keys(rendered).sort()).toEqual(["mail-secrets.service", "mail.service"]);
    const of = (unit: string, key: string) => setting(rendered, `${unit}.service`, key);
    expect(of("mail", "LoadCredential")).toEqual(["imap:%t/mail-secrets/pub/imap"]);
    expect(of("mail", "ExecStart")).toEqual(["/bin/mail --password-file %d/imap"]);
    expect([of("mail", "After"), of("mail", "Requires")]).toEqual([["graphical-session.target"], ["a.service"]]);
    expect(of("mail-secrets", "Before")).toEqual(["mail.service", "sync.service"]);
    expect(rendered["mail-secrets.service"]?.links).toEqual([
      "mail.service.requires/mail-secrets.service",
      "sync.service.requires/mail-secrets.service",
    ]);
    expect(evaluation.config(rendered, "mail-secrets.service")).toEqual({
      backend: "folder",
      config: { secretsDir: "/home/ann/.config/secrets", reloadOnChange: false },
      service: ["mail.service", "sync.service"],
      secrets: { imap: {} },
      output: { directory: "/run/user/self/mail-secrets/pub", envFile: null },
      onChange: { action: "restart" },
    });
    expect(of("mail-secrets", "ExecStart")[0]).toMatch(
      /^\/usr\/local\/bin\/fetcher --config \/nix\/store\/\S+-mail-secrets\.json --output %t\/mail-secrets\/pub$/,
    );
  });

  test("the user's PATH has fetcher, for fetcher status --user", () => {
    const packages = `map (one: one.outPath) ${home(mail("secrets.imap = { };"))}.config.home.packages`;
    expect(evaluation.value(packages)).toEqual(["/usr/local"]);
  });

  test("with files, it gets paths that follow a rotation, and variables from a file that systemd reads", () => {
    const rendered = units(
      mail(`delivery = "files"; environment.IMAP = "imap"; secrets = { imap = { }; smtp = { }; }; templates."rc".text = "{{smtp}}";
        secretsConfig = { backend = "folder"; config.reloadOnChange = true; }; onChange.action = "reload";`),
    );
    expect(setting(rendered, "mail.service", "EnvironmentFile")).toEqual(["%t/mail-secrets/pub/secrets.env"]);
    expect(setting(rendered, "mail.service", "ExecStart")).toEqual([
      "/bin/mail --password-file %t/mail-secrets/pub/imap",
    ]);
    expect(setting(rendered, "mail.service", "LoadCredential")).toEqual([]);
    expect(setting(rendered, "mail-secrets.service", "PartOf")).toEqual([]);
    expect(evaluation.config(rendered, "mail-secrets.service")).toMatchObject({
      secrets: { imap: { env: "IMAP" }, smtp: { env: null } },
      output: { envFile: "secrets.env" },
      onChange: { action: "reload" },
    });
  });

  test("the sidecar waits for the unit that fills a folder of sops-nix or agenix, if the home has one", () => {
    const after = (more: string) => setting(units(mail("secrets.imap = { };", more)), "mail-secrets.service", "After");
    expect(after("")).toEqual([]);
    for (const name of ["sops-nix", "agenix"])
      expect(after(`systemd.user.services.${name}.Service.ExecStart = "/bin/a";`)).toEqual([`${name}.service`]);
  });

  test.each([
    ["", "", "secretsStore.services.mail.secrets is empty"],
    [`secrets."a:b" = { };`, "", '"a:b" is not the name of a credential'],
    [`secrets.imap = { }; environment.X = "b";`, "", 'environment: "b" is not in'],
    [`secrets.imap = { }; onChange = { action = "signal"; signal = "HUP"; };`, "", 'delivery = "files"'],
    [
      `secrets.imap = { }; resident = false; secretsConfig = { backend = "folder"; config.reloadOnChange = true; };`,
      "",
      "secretsStore.services.mail.resident is false",
    ],
    [
      "secrets.imap = { };",
      `systemd.user.services.mail-secrets.Service.ExecStart = "/bin/theirs";`,
      "its sidecar would be mail-secrets.service",
    ],
    [
      "secrets.imap = { };",
      `secretsStore.services.mial = { secrets.a = { }; secretsConfig.backend = "folder"; };`,
      "no module defines the service mial",
    ],
    [
      "secrets.imap = { };",
      `systemd.user.services.mail.Service.LoadCredential = lib.mkForce [ "a:/b" ];`,
      "systemd.user.services.mail.Service.LoadCredential has lost the lines",
    ],
    [
      "secrets.imap = { };",
      `systemd.user.services.mail.Service.LoadCredential = [ "imap:/b" ];`,
      'loads the credential "imap" by a line of its own',
    ],
    [
      "secrets.imap = { };",
      `systemd.user.services.mail.Service.EnvironmentFile = [ "%d/imap" ];`,
      "use `hostPath' instead of `path'",
    ],
  ])("%s%s stops the build, with advice", (options, more, message) => {
    const module = mail(options, more);
    // A sidecar's name that is taken would be in conflict before an assertion is read.
    if (message.includes("its sidecar")) expect(() => units(module)).toThrow(/mail-secrets/);
    else expect(failed(module)).toContain(message);
  });

  test("a missing enable stops the build, and false leaves all out", () => {
    const unset = (enable: string) => mail("secrets.imap = { };").replace("secretsStore.enable = true;", enable);
    expect(failed(unset(""))).toContain("secretsStore.enable is not set: set it to true, or to false");
    const off = units(unset("secretsStore.enable = false;"));
    expect(Object.keys(off)).toEqual(["mail.service"]);
  });

  test.each([
    ["credentials of a folder", { delivery: "credentials", secrets: { a: {}, b: { optional: true } } }],
    ["files that follow rotations", { delivery: "files", secrets: { a: {} }, config: { reloadOnChange: true } }],
    [
      "variables, without a resident process",
      { delivery: "files", environment: true, secrets: { a: {} }, resident: false },
    ],
    [
      "a Vault",
      {
        delivery: "credentials",
        secrets: { a: {} },
        backend: "vault",
        config: { tokenPath: "/home/ann/t", path: "a" },
      },
    ],
  ] as const)("a home's units equal those that the generator makes for a user: %s", async (_, settings) => {
    const { path: directory, dispose } = await temporary();
    const { backend = "folder", config = {}, ...service } = { backend: undefined, config: undefined, ...settings };
    const whole = { ...(backend === "folder" ? { secretsDir: "/home/ann/s" } : {}), ...config };
    writeFileSync(join(directory, "hello.json"), JSON.stringify({ backend, ...service, config: whole }));
    const scope = userScope({ HOME: "/home/ann", XDG_RUNTIME_DIR: "/run/user/1" });
    const place = { directory, scope, program: ["/usr/local/bin/fetcher"], isExecutable: false, isTaken: () => false };
    const generated = Object.fromEntries((unitsOfFile("hello", place) ?? []).map((unit) => [unit.path, textOf(unit)]));
    await dispose();
    const json = JSON.stringify({ ...service, secretsConfig: { backend, config: whole } });
    const rendered = units(`{
      secretsStore.enable = true;
      systemd.user.services.hello.Service.ExecStart = "/bin/hello";
      secretsStore.services.hello = builtins.fromJSON ${JSON.stringify(json)};
    }`);
    const normal = (text: string, section: "Unit" | "Service") =>
      (text.includes(`[${section}]`) ? lines(text, section) : [])
        .flatMap((line) => {
          const [, values] = /^Environment=(.*)$/.exec(line) ?? [];
          return values?.split(" ").map((one) => `Environment=${one}`) ?? [line];
        })
        .filter(
          (line) =>
            !/^(?:Exec(?!StopPost)|Documentation=|SourcePath=|ConfigurationDirectory|Environment=PATH=)/.test(line),
        )
        .map((line) =>
          line
            .replace(/=true$/, "=yes")
            .replace(/=false$/, "=no")
            .replace("-/usr/bin/sh", "-sh"),
        )
        .map((line) => line.replaceAll("/run/user/1/", "%t/"))
        .sort();
    const ours = rendered["hello-secrets.service"]?.text ?? "";
    for (const section of ["Unit", "Service"] as const) {
      expect(normal(generated["hello-secrets.service"] ?? "", section)).toEqual(normal(ours, section));
    }
    const target = normal(generated["hello.service.d/50-hello-secrets.conf"] ?? "", "Service");
    expect(normal(rendered["hello.service"]?.text ?? "", "Service")).toEqual(target);
  });

  test("the documented example evaluates", () => {
    const { code } = blockWith("docs/how-to/user-units.md", "nix", "homeModules");
    const body = /\(\{ config, \.\.\. \}: \{[^]*\n {8}\}\)/.exec(code)?.[0] ?? "";
    const rendered = units(
      `{ imports = [ ${body} ]; options.xdg.configHome = lib.mkOption { default = "/home/ann/.config"; }; }`,
    );
    expect(setting(rendered, "feeds.service", "ExecStart")).toEqual(["/opt/feeds --token-file %d/token"]);
    expect(evaluation.config(rendered, "feeds-secrets.service")).toHaveProperty(
      "config.secretsDir",
      "/home/ann/.config/sops-nix/secrets",
    );
  });
});
