/** One wiring: Nix renders examples/systemd/fetcher@.service, with the differences listed here. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, lines, project, type RenderedUnits } from "./evaluation.ts";

const example = readFileSync(join(project, "examples/systemd/fetcher@.service"), "utf8");

const emptyWhenStopped = `sh -c '${[
  "systemctl list-jobs --full --no-legend | while read -r _ unit job _; do",
  'if [ "$$unit $$job" = "%n stop" ]; then find "$$RUNTIME_DIRECTORY" -mindepth 1 -delete; fi; done',
].join(" ")}'`;

needs("nix").describe("a rendered sidecar", () => {
  const evaluation = new Evaluation();
  const units = (config: string, backend = "folder"): RenderedUnits =>
    evaluation.units(`{
      secretsStore.enable = true;
      secretsStore.folder.secretsDir = "/etc/secrets";
      systemd.services = (import (nix + "/lib/secrets.nix") {
        inherit pkgs lib;
        config.secretsStore = { inherit (pkgs) secrets-sidecar; folder.secretsDir = "/etc/secrets"; };
      }).serviceSecretsScope {
        loadSecrets = [ "a" ];
        backendConfig = { backend = "${backend}"; config = { ${config} }; };
      } (_: { NAME.serviceConfig.ExecStart = "/bin/true"; });
    }`);

  /** As the example's instance NAME, with `true` for `yes`. */
  function normal(text: string, section: "Unit" | "Service"): string[] {
    return lines(text.replaceAll(/\\\n\s*/g, ""), section)
      .flatMap((line) => {
        // One setting on several lines, or several values on one.
        const [, key, values] = /^((?:Bind|Inaccessible|Temporary)\w+)=(.*)$/.exec(line) ?? [];
        return values === undefined ? [line] : values.split(" ").map((value) => `${key ?? ""}=${value}`);
      })
      .map((line) => line.replaceAll("%i", "NAME").replace(/=yes$/, "=true"))
      .sort();
  }

  /** Each value of the settings of one name. */
  const values = (text: string, key: string) =>
    normal(text, "Service").flatMap((line) => (line.startsWith(`${key}=`) ? [line.slice(key.length + 1)] : []));

  function differences(rendered: string, section: "Unit" | "Service") {
    const [ours, theirs] = [normal(rendered, section), normal(example, section)];
    return {
      rendered: ours.filter((line) => !theirs.includes(line)),
      example: theirs.filter((line) => !ours.includes(line)),
    };
  }

  test("has the example's wiring and sandbox, line by line", () => {
    const text = units("reloadOnChange = true;")["NAME-secrets.service"]?.text ?? "";
    expect(differences(text, "Unit")).toEqual({
      // A folder may be on its own mount; the example says so in a comment.
      rendered: ["RequiresMountsFor=/etc/secrets"],
      // Only the template has it: systemd may not support some instances.
      example: [
        "AssertPathExists=|!/etc/fetcher/NAME.json",
        "AssertPathExists=|!/usr/lib/systemd/systemd-executor",
        "AssertPathExistsGlob=|/etc/fetcher/NAME.json",
      ],
    });
    expect(differences(text, "Service")).toEqual({
      rendered: [
        // Users and hosts are looked up there.
        "BindReadOnlyPaths=-/run/nscd",
        // No secret has an owner here.
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
        // NixOS: quotes, its path, and how switch-to-configuration treats the unit.
        'Environment="BUN_RUNTIME_TRANSPILER_CACHE_PATH=0"',
        'Environment="MALLOC_ARENA_MAX=1"',
        'Environment="NODE_DISABLE_COMPILE_CACHE=1"',
        'Environment="PATH=/usr/bin:/usr/local/bin"',
        expect.stringMatching(
          /^ExecReload=\/usr\/local\/bin\/fetcher reload --config \/nix\/store\/\w{32}-NAME-secrets\.json$/,
        ),
        expect.stringMatching(
          /^ExecStart=\/usr\/local\/bin\/fetcher --config \/nix\/store\/\w{32}-NAME-secrets\.json$/,
        ),
        `ExecStopPost=-/usr/bin/${emptyWhenStopped}`,
        "SystemCallFilter=~@chown:EPERM",
        "X-StopIfChanged=false",
      ],
      example: [
        // The configuration is in the Nix store, and the secrets are in their own folder.
        "BindReadOnlyPaths=-/etc/fetcher/NAME.json",
        "BindReadOnlyPaths=/etc/fetcher/NAME",
        "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_READ_SEARCH",
        "ConfigurationDirectory=fetcher/NAME",
        "ConfigurationDirectoryMode=0700",
        "Environment=BUN_RUNTIME_TRANSPILER_CACHE_PATH=0",
        "Environment=MALLOC_ARENA_MAX=1",
        "Environment=NODE_DISABLE_COMPILE_CACHE=1",
        "ExecReload=fetcher reload --config /etc/fetcher/NAME.json",
        "ExecStart=fetcher --config /etc/fetcher/NAME.json",
        `ExecStopPost=-${emptyWhenStopped}`,
        "SystemCallFilter=@chown",
        "TemporaryFileSystem=/etc/fetcher:ro",
      ],
    });
    expect(normal(example, "Service").length).toBeGreaterThan(35);
    for (const unit of [text, example]) expect(unit).toMatch(/^MemoryMax=1G$/m);
  });

  for (const [place, hidden, bound] of [
    ["/etc/secrets", ["/run:ro", "/var:ro"], []],
    // A link that is swapped in /run could not be seen from where /run is hidden.
    ["/run/secrets", ["/var:ro"], []],
    ["/var/lib/app/secrets", ["/run:ro", "/var:ro"], ["-/var/lib/app"]],
    ["/var/secrets", ["/run:ro"], []],
    ["/var/lib/app/secrets/", ["/run:ro", "/var:ro"], ["-/var/lib/app"]],
    ["/var/secrets//", ["/run:ro"], []],
  ] as const)
    test(`can see a folder ${place}, even after its replacement`, () => {
      const text = units(`secretsDir = "${place}";`)["NAME-secrets.service"]?.text ?? "";
      expect(values(text, "TemporaryFileSystem")).toEqual(hidden);
      const credentials = values(text, "InaccessiblePaths").includes("-/run/credentials");
      expect(credentials, "other services' credentials are hidden, with /run or by themselves").toBe(
        !(hidden as readonly string[]).includes("/run:ro"),
      );
      expect(values(text, "BindReadOnlyPaths").filter((path) => !/\/run\b/.test(path))).toEqual(bound);
    });

  test.each([
    [`url = "unix:/run/vault/agent.sock";`, ["/var:ro"], []],
    [`url = "unix:///run/vault/agent.sock";`, ["/var:ro"], []],
    [`url = "unix:/var/lib/vault/agent.sock";`, ["/run:ro", "/var:ro"], ["-/var/lib/vault"]],
    [
      `auth = { method = "kubernetes"; role = "r"; };`,
      ["/run:ro", "/var:ro"],
      ["-/var/run/secrets/kubernetes.io/serviceaccount"],
    ],
    [
      `auth = { method = "kubernetes"; role = "r"; jwtPath = "/var/lib/token/jwt"; };`,
      ["/run:ro", "/var:ro"],
      ["-/var/lib/token"],
    ],
  ])("can see what Vault needs: %s", (settings, hidden, bound) => {
    const text = units(settings, "vault")["NAME-secrets.service"]?.text ?? "";
    expect(values(text, "TemporaryFileSystem")).toEqual(hidden);
    expect(values(text, "BindReadOnlyPaths").filter((path) => path.includes("/var/"))).toEqual(bound);
  });

  const closed = ["/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/ssl/private", "/etc/credstore"];
  test.each([
    ["folder", `secretsDir = "/etc/secrets";`, []],
    ["folder", `secretsDir = "/etc/ssl/private/";`, ["/etc/ssl/private"]],
    ["folder", `secretsDir = "/etc/ssl/private-too";`, []],
    ["vault", `tls = { certFile = "/etc/ssl/c.pem"; keyFile = "/etc/ssl/private/k.pem"; };`, ["/etc/ssl/private"]],
    ["command", `command = [ "age" "-d" ];`, ["/etc/ssh"]],
    ["/etc/fetcher/my.mjs", "", ["/etc/ssh"]],
  ])("opens, of the closed places, only those that its store needs: %s %s", (backend, settings, open) => {
    const text = units(settings, backend)["NAME-secrets.service"]?.text ?? "";
    const places = values(text, "InaccessiblePaths").map((path) => path.slice(1));
    expect(closed.filter((place) => !places.includes(place))).toEqual(open);
  });

  test("without reloadOnChange, includes the drop-in fetch-on-restart.conf", () => {
    const dropIn = readFileSync(join(project, "examples/systemd/fetch-on-restart.conf"), "utf8");
    const text = units("")["NAME-secrets.service"]?.text ?? "";
    expect(normal(text, "Unit")).toEqual(expect.arrayContaining(normal(dropIn, "Unit")));
    expect(normal(dropIn, "Unit")).toEqual(["PartOf=NAME.service"]);
  });

  test("without a resident process, follows the drop-in no-resident.conf", () => {
    const dropIn = readFileSync(join(project, "examples/systemd/no-resident.conf"), "utf8");
    const rendered = evaluation.units(`{
      secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; };
      secretsStore.services.NAME = { secrets.a = { }; secretsConfig.backend = "folder"; resident = false; };
      systemd.services.NAME.script = "x";
    }`);
    const text = rendered["NAME-secrets.service"]?.text ?? "";
    const said = (section: "Unit" | "Service") => normal(dropIn, section).filter((line) => line !== "ExecReload=");
    expect(normal(text, "Unit")).toEqual(expect.arrayContaining(said("Unit")));
    expect(normal(text, "Service")).toEqual(expect.arrayContaining(said("Service")));
    expect(said("Service").length).toBeGreaterThan(2);
    expect(text).not.toContain("ExecReload=");
  });

  test("a package without Node brings the drop-in executable.conf", () => {
    const dropIn = readFileSync(join(project, "examples/systemd/executable.conf"), "utf8");
    const of = (isExecutable: boolean) =>
      evaluation.units(`{
        secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; };
        secretsStore.package = pkgs.secrets-sidecar // { isExecutable = ${String(isExecutable)}; };
        secretsStore.services.NAME = {
          secrets.a = { };
          secretsConfig = { backend = "folder"; config.reloadOnChange = true; };
        };
        systemd.services.NAME.script = "x";
      }`);
    const quoted = normal(dropIn, "Service").map((line) => line.replace(/^Environment=(.*)/, 'Environment="$1"'));
    expect(quoted.length).toBe(10);
    const service = (name: string, isExecutable: boolean) => normal(of(isExecutable)[name]?.text ?? "", "Service");
    const sidecar = service("NAME-secrets.service", true);
    // Of two values of one setting the drop-in's is the only one.
    expect(sidecar.filter((line) => !service("NAME-secrets.service", false).includes(line))).toEqual(quoted);
    expect(sidecar).not.toContain("NotifyAccess=all");
    const acts = service("NAME-secrets-act.service", true);
    expect(acts.filter((line) => !service("NAME-secrets-act.service", false).includes(line))).toEqual(
      quoted.filter((line) => line !== "NotifyAccess=main"),
    );
  });

  test("gives the target the example's half", () => {
    const text = units("")["NAME.service"]?.text ?? "";
    const secrets = readFileSync(join(project, "examples/systemd/hello.service.d/secrets.conf"), "utf8")
      .replaceAll("%N", "NAME")
      .replaceAll("fetcher@NAME", "NAME-secrets");
    const wiring = (section: "Unit" | "Service") =>
      normal(secrets, section)
        .filter((line) => !line.startsWith("ExecStart="))
        .map((line) => line.replace(/^Environment=(.*)/, 'Environment="$1"'));
    expect(normal(text, "Unit")).toEqual(expect.arrayContaining(wiring("Unit")));
    expect(normal(text, "Service")).toEqual(expect.arrayContaining(wiring("Service")));
    expect(wiring("Unit")).toHaveLength(3);
    expect(wiring("Service")).toHaveLength(3);
  });
});
