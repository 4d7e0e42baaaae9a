/** What a module's author may write in a secrets scope. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, lines, namesOf, setting } from "./evaluation.ts";

needs("nix").describe("a secrets scope", () => {
  const evaluation = new Evaluation();
  const directory = mkdtempSync(join(tmpdir(), "fetcher-scope-"));
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  /** A module with a scope of three secrets; `service` is NAME's definition, `more` goes beside it into the module. */
  const module = (service: string, more = "", scope = "") => `({ config, lib, pkgs, ... }: {
    imports = [ { ${more} } ];
    secretsStore.enable = true;
    secretsStore.folder.secretsDir = "/etc/secrets";
    systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope ({
      loadSecrets = [ "one" "two.key" "and three" ];
      backendConfig = { backend = "folder"; };
      ${scope}
    }) (secrets: { NAME = ${service}; });
  })`;
  const units = (service: string, more = "", scope = "") => evaluation.units(module(service, more, scope));
  const exec = (value: string) =>
    setting(units(`{ serviceConfig.ExecStart = ${value}; }`), "NAME.service", "ExecStart");

  test("keeps the command behind with-secrets unchanged: words, quotes, specifiers, variables", () => {
    const command = String.raw`/bin/prog --user "%u %%" 'a b' $HOME \"x\" "\x41;" a;b %h`;
    expect(exec(`''${command}''`)).toEqual([`/usr/local/bin/with-secrets ${command}`]);
    expect(exec(`"\\n  /bin/a --long \\\\\\n  --line"`)[0]).toBe("/usr/local/bin/with-secrets /bin/a --long \\");
  });

  test.each([
    ["/bin/a ; -/bin/b b ; :/bin/c", "W /bin/a ; -W /bin/b b ; :W /bin/c"],
    ["/bin/a\t;\t/bin/b ;", "W /bin/a\t; W /bin/b ; "],
    [`/bin/a ';' " ; " ' " ; ' \\; a; ;b`, `W /bin/a ';' " ; " ' " ; ' \\; a; ;b`],
    [`/bin/sh -c '/bin/a ; /bin/b'`, `W /bin/sh -c '/bin/a ; /bin/b'`],
    [`/bin/a 'it\\' ; ' ; /bin/b`, `W /bin/a 'it\\' ; ' ; W /bin/b`],
  ])("%j: wraps each of several commands on one line, and takes no other `;` for a separator", (line, wrapped) => {
    expect(exec(JSON.stringify(line))).toEqual([wrapped.replaceAll("W", "/usr/local/bin/with-secrets")]);
  });

  test.each(["-", ":", "!", "!!", "-:", ":!!", "!!-:"])("keeps the prefix %s in front", (prefix) => {
    expect(exec(`"${prefix}/bin/prog a"`)).toEqual([`${prefix}/usr/local/bin/with-secrets /bin/prog a`]);
  });

  test("wraps each command of a list, and not the line that resets it", () => {
    expect(exec(`[ "" "/bin/a" "-/bin/b" ]`)).toEqual([
      "",
      "/usr/local/bin/with-secrets /bin/a",
      "-/usr/local/bin/with-secrets /bin/b",
    ]);
  });

  test("keeps definitions with conditions and priorities", () => {
    const rendered = units(
      `{
        serviceConfig = lib.mkMerge [
          { ExecStart = lib.mkDefault "/bin/lost"; }
          (lib.mkIf false { ExecStart = lib.mkForce "/bin/never"; })
          (lib.mkIf true { ExecStart = "/bin/prog"; })
        ];
        requires = lib.mkIf true [ "a.service" ];
        after = [ "b.service" ];
      }`,
    );
    expect(setting(rendered, "NAME.service", "ExecStart")).toEqual(["/usr/local/bin/with-secrets /bin/prog"]);
    expect(setting(rendered, "NAME.service", "Requires")).toEqual(["a.service NAME-secrets.service"]);
    expect(setting(rendered, "NAME.service", "After")).toEqual(["b.service NAME-secrets.service"]);
    expect(setting(rendered, "NAME.service", "PrivateTmp")).toEqual(["true"]);
  });

  test("adds the sidecar to a forced list, or one whose condition is false", () => {
    const rendered = units(
      `{
        serviceConfig.ExecStart = "/bin/a";
        requires = lib.mkForce [ "a.service" ];
        after = lib.mkIf false (lib.mkForce [ "never.service" ]);
      }`,
      `systemd.services.NAME = { requires = [ "lost.service" ]; after = [ "b.service" ]; };`,
    );
    expect(setting(rendered, "NAME.service", "Requires")).toEqual(["a.service NAME-secrets.service"]);
    expect(setting(rendered, "NAME.service", "After").join(" ").split(" ").sort()).toEqual([
      "NAME-secrets.service",
      "b.service",
    ]);
  });

  test("adds the wiring to a forced section, and nothing of other modules", () => {
    const rendered = units(
      `{
        serviceConfig = lib.mkMerge [ (lib.mkForce { ExecStart = "/bin/a"; User = "a"; }) { Group = "lost"; } ];
        unitConfig = lib.mkForce { Documentation = "man:a"; After = "b.service"; };
        environment = lib.mkForce { A = "a"; };
      }`,
      `systemd.services.NAME = {
        serviceConfig.Nice = 1;
        unitConfig.ConditionHost = "lost";
        environment.LOST = "1";
      };`,
    );
    const { text = "" } = rendered["NAME.service"] ?? {};
    expect(lines(text, "Unit").sort()).toEqual([
      "After=NAME-secrets.service",
      "After=b.service",
      "Documentation=man:a",
      "JoinsNamespaceOf=NAME-secrets.service",
      "Requires=NAME-secrets.service",
    ]);
    expect(lines(text, "Service").sort()).toEqual([
      "BindReadOnlyPaths=/run/NAME-secrets/pub:/tmp/.secrets",
      `Environment="A=a"`,
      `Environment="SECRETS_SIDECAR=NAME-secrets.service"`,
      "ExecStart=/usr/local/bin/with-secrets /bin/a",
      "PrivateTmp=true",
      "User=a",
    ]);
  });

  test.each([
    ["environment = config.systemd.services.other.environment;", "Environment", '"A=b"'],
    [`after = lib.optional (config.systemd.services ? other) "other.service";`, "After", "other.service"],
    ["after = config.systemd.services.other.after;", "After", "x.service"],
    [`after = lib.mkIf (config.systemd.services ? other) [ "other.service" ];`, "After", "other.service"],
    [`serviceConfig = lib.optionalAttrs (config.systemd.services ? other) { User = "x"; };`, "User", "x"],
    [`serviceConfig.User = config.systemd.services.other.serviceConfig.User;`, "User", "somebody"],
    [`script = lib.mkIf (config.systemd.services ? other) "a";`, "ExecStart", "unit-script-NAME-start"],
  ])("lets a service refer to others: %s", (definition, name, value) => {
    const other = `{ environment.A = "b"; after = [ "x.service" ]; serviceConfig = { User = "somebody"; ExecStart = "/bin/x"; }; }`;
    const rendered = units(`{ ${definition} }`, `systemd.services.other = ${other};`);
    expect(setting(rendered, "NAME.service", name).join("\n")).toContain(value);
    expect(setting(rendered, "NAME.service", "Requires")).toEqual(["NAME-secrets.service"]);
  });

  test("keeps a forced list inside a section, with the wiring", () => {
    const rendered = units(
      `{ serviceConfig = { ExecStart = "/bin/a"; BindReadOnlyPaths = lib.mkForce [ "/srv" ]; }; }`,
      `systemd.services.NAME.serviceConfig.BindReadOnlyPaths = [ "/lost" ];`,
    );
    expect(setting(rendered, "NAME.service", "BindReadOnlyPaths")).toEqual([
      "/srv",
      "/run/NAME-secrets/pub:/tmp/.secrets",
    ]);
  });

  test("starts a script with with-secrets, and keeps what other modules append", () => {
    const rendered = units(
      `{ script = "cat \${secrets.one}"; scriptArgs = "%i"; }`,
      `systemd.services.NAME.script = lib.mkAfter "echo appended";`,
    );
    const [start = ""] = setting(rendered, "NAME.service", "ExecStart");
    expect(start).toMatch(/^\/nix\/store\/\S+-unit-script-NAME-start %i$/);
    expect(evaluation.read(start.split(" ")[0] ?? "")).toBe(`#!/bin/sh
set -e

if [ "\${WITH_SECRETS-}" != "$$" ]; then
  WITH_SECRETS=$$ exec /usr/local/bin/with-secrets "$0" "$@"
fi
unset WITH_SECRETS
WITH_SECRETS=$$
cat /tmp/one
echo appended
`);
  });

  test("starts a script of several definitions behind with-secrets once, and runs each of them once", () => {
    const rendered = units(
      `{ script = lib.mkMerge [ "echo a" (lib.mkBefore "echo before") (lib.mkIf false "echo never") "sh -c 'echo b:\\$WITH_SECRETS'" ]; }`,
    );
    const [start = ""] = setting(rendered, "NAME.service", "ExecStart");
    // A stand-in that is heard.
    const program = join(directory, "with-secrets");
    writeFileSync(program, '#!/bin/sh\necho wrapped\nexec "$@"\n', { mode: 0o755 });
    const script = join(directory, "start");
    const text = evaluation.read(start.trim()).replaceAll("/usr/local/bin/with-secrets", program);
    writeFileSync(script, text, { mode: 0o755 });
    const { stdout, signal } = spawnSync(script, { encoding: "utf8", timeout: 10_000 });
    expect({ stdout, signal }).toEqual({ stdout: "wrapped\nbefore\na\nb:\n", signal: null });
  });

  test("leaves other commands alone, which see the plain files", () => {
    const rendered = units(
      `{ serviceConfig = { ExecStart = "/bin/a"; ExecStartPre = "/bin/cat \${secrets.one}"; ExecReload = "!/bin/b"; }; }`,
    );
    expect(setting(rendered, "NAME.service", "ExecStartPre")).toEqual(["/bin/cat /tmp/one"]);
    expect(setting(rendered, "NAME.service", "ExecReload")).toEqual(["!/bin/b"]);
  });

  test("turns ids with dots, dashes and spaces into files in /tmp", () => {
    const rendered = units(`{ serviceConfig.ExecStart = "/bin/a \${secrets."two.key"} '\${secrets."and three"}'"; }`);
    expect(setting(rendered, "NAME.service", "ExecStart")).toEqual([
      "/usr/local/bin/with-secrets /bin/a /tmp/two.key '/tmp/and three'",
    ]);
    expect(evaluation.config(rendered, "NAME-secrets.service")).toHaveProperty("secrets", {
      one: {},
      "two.key": {},
      "and three": {},
    });
  });

  test("accepts ids that are not the names of files and variables", () => {
    const rendered = units(
      `{ serviceConfig.ExecStart = "/bin/a \${secrets.tls}"; }`,
      "",
      `loadSecrets = {
        tls = { file = "tls.key"; env = null; mode = "0400"; owner = "web"; group = 12; source.file = "web/tls"; };
        password = { env = "PGPASSWORD"; optional = true; };
      };`.replace(/^/, "} // { "),
    );
    expect(setting(rendered, "NAME.service", "ExecStart")).toEqual(["/usr/local/bin/with-secrets /bin/a /tmp/tls.key"]);
    expect(evaluation.config(rendered, "NAME-secrets.service")).toHaveProperty("secrets", {
      tls: { file: "tls.key", env: null, mode: "0400", owner: "web", group: "12", source: { file: "web/tls" } },
      password: { env: "PGPASSWORD", optional: true },
    });
  });

  test("gives a service only the secrets that it lists, and no sidecar if it lists none", () => {
    const some = units(`{ secrets = [ "one" ]; serviceConfig.ExecStart = "/bin/a"; }`);
    expect(evaluation.config(some, "NAME-secrets.service")).toHaveProperty("secrets", { one: {} });
    const none = units(`{ secrets = [ ]; serviceConfig.ExecStart = "/bin/a"; }`);
    expect(Object.keys(none)).toEqual(["NAME.service"]);
    expect(none["NAME.service"]?.text).not.toContain("PrivateTmp");
    expect(evaluation.complaint(module(`{ secrets = [ "for" ]; }`))).toContain(
      'systemd.services.NAME.secrets: "for" is not in loadSecrets ("and three", "one", "two.key")',
    );
  });

  test("keeps a namespace that a service already shares, and adds its sidecar", () => {
    for (const joins of [
      `"a.service b.service"`,
      `[ "a.service" "b.service" ]`,
      `lib.mkForce [ "a.service b.service" ]`,
    ]) {
      const rendered = units(`{ serviceConfig.ExecStart = "/bin/a"; unitConfig.JoinsNamespaceOf = ${joins}; }`);
      const target = setting(rendered, "NAME.service", "JoinsNamespaceOf").join(" ").split(" ");
      expect(target).toEqual(["a.service", "b.service", "NAME-secrets.service"]);
      expect(setting(rendered, "NAME-secrets.service", "JoinsNamespaceOf")).toEqual(["a.service", "b.service"]);
    }
  });

  test("keeps mounts that the service already binds", () => {
    const rendered = units(`{ serviceConfig = { ExecStart = "/bin/a"; BindReadOnlyPaths = [ "/srv" ]; }; }`);
    expect(setting(rendered, "NAME.service", "BindReadOnlyPaths")).toEqual([
      "/srv",
      "/run/NAME-secrets/pub:/tmp/.secrets",
    ]);
  });

  test("gives a template's instance a sidecar that is not a template", () => {
    const rendered = evaluation.units(module("{ }").replace("{ NAME =", `{ "a@b" =`));
    expect(namesOf(rendered)).toEqual(["a-b-secrets.service", "a@b.service"]);
    expect(setting(rendered, "a-b-secrets.service", "Before")).toEqual(["a@b.service"]);
    expect(setting(rendered, "a@b.service", "BindReadOnlyPaths")).toEqual(["/run/a-b-secrets/pub:/tmp/.secrets"]);
    expect(evaluation.complaint(module("{ }").replace("{ NAME =", `{ "a@" =`))).toContain("name the instance");
  });

  test.each([
    [`{ environment.A = "1"; }`, "asDropin"],
    [`{ serviceConfig.ExecStart = "/bin/a"; }`, "asDropinIfExists"],
    [`{ script = "a"; }`, "asDropinIfExists"],
    [`{ overrideStrategy = "asDropinIfExists"; }`, "asDropinIfExists"],
  ])("renders an instance %s as %s: no unit hides its template", (service, strategy) => {
    const instance = module(service, `systemd.services."a@".serviceConfig.ExecStart = "/bin/a %i";`);
    expect(
      evaluation.value(
        `(host [ (nix + "/modules/secrets-store.nix") (${instance.replace("{ NAME =", `{ "a@b" =`)}) ])
          .config.systemd.services."a@b".overrideStrategy`,
      ),
    ).toBe(strategy);
  });

  test("refuses two services with the same sidecar: each would get the other's secrets", () => {
    const two = (other: string) => module("{ }").replace("{ NAME =", `{ "a@b" = { }; a-b = ${other}; NAME =`);
    expect(evaluation.complaint(two("{ }"))).toContain(
      "systemd.services: a-b and a@b would share the unit a-b-secrets.service: rename one",
    );
    expect(Object.keys(evaluation.units(two("{ secrets = [ ]; }")))).toContain("a-b.service");
  });

  test.each([
    [`{ serviceConfig.ExecStart = "@/bin/a b"; }`, "serviceConfig.ExecStart has the prefix `@'"],
    [`{ serviceConfig.ExecStart = "-@/bin/a b"; }`, "exec -a"],
    [`{ serviceConfig.ExecStart = "/bin/a ; -@/bin/b b"; }`, "serviceConfig.ExecStart has the prefix `@'"],
    [`{ serviceConfig.ExecStart = "/bin/a ; -+/bin/b"; }`, "serviceConfig.ExecStart has a command with the prefix `+'"],
    [`{ serviceConfig.ExecStart = [ "+/bin/a" ]; }`, "serviceConfig.ExecStart has a command with the prefix `+'"],
    [`{ serviceConfig.ExecStartPre = [ "/bin/b" "-+/bin/a" ]; }`, "serviceConfig.ExecStartPre has a command with"],
    [`{ serviceConfig.ExecReload = lib.mkIf true "+/bin/a"; }`, "serviceConfig.ExecReload has a command with"],
    [`{ serviceConfig.ExecStopPost = "+/bin/a"; }`, "use `!' for privileges"],
    [`{ serviceConfig.PrivateTmp = false; }`, "serviceConfig.PrivateTmp is false"],
    [`{ serviceConfig.PrivateTmp = lib.mkForce "no"; }`, "leave the option away"],
    [`{ serviceConfig.PrivateTmp = "disconnected"; }`, 'serviceConfig.PrivateTmp is "disconnected"'],
    [`{ unitConfig.DefaultDependencies = false; }`, "unitConfig.DefaultDependencies is false"],
    [`{ requires = lib.mkDefault [ "a.service" ]; }`, "requires has mkDefault around the whole of it"],
    [`{ serviceConfig = lib.mkIf true (lib.mkDefault { User = "a"; }); }`, "put it on the settings inside"],
    [`lib.mkIf true { }`, "put mkIf around the scope"],
  ])("%s stops the evaluation, with advice", (service, message) => {
    const complaint = evaluation.complaint(module(service));
    expect(complaint).toContain(message);
    expect(complaint).toContain("systemd.services.NAME");
  });

  test.each(["", ".", "..", "a/b", ".fetcher-a"])("refuses %j as an id", (id) => {
    expect(evaluation.complaint(module("{ }", "", `} // { loadSecrets = [ ${JSON.stringify(id)} ];`))).toContain(
      "is not a secret id",
    );
  });

  test("supports onChange and startTimeout", () => {
    const rendered = units(
      "{ }",
      "",
      `onChange = { action = "signal"; signal = "SIGHUP"; splay = 30; }; startTimeout = 90;`,
    );
    expect(evaluation.config(rendered, "NAME-secrets.service")).toMatchObject({
      onChange: { action: "signal", signal: "SIGHUP", splay: 30 },
      startTimeout: 90,
    });
  });
});
