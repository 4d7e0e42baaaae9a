/** Files with secrets in them: where an author can ask for them, and what the program gets. */
import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { configPath, Evaluation, nixPath, project, setting } from "./evaluation.ts";

needs("nix").describe("templates", () => {
  const evaluation = new Evaluation();
  const store = `secretsStore.enable = true; secretsStore.folder.secretsDir = "/etc/secrets";`;
  const inStore = expect.stringMatching(/^\/nix\/store\/\w{32}-\S+$/) as string;
  /** What the template of a rendered configuration says. */
  const content = (config: unknown, file: string) =>
    evaluation.read((config as { templates: Record<string, { template: string }> }).templates[file]?.template ?? "");

  const service = (options: string) => `({ lib, ... }: {
    ${store}
    systemd.services.app.serviceConfig.ExecStart = "/bin/app";
    secretsStore.services.app = { secrets.a = { }; secretsConfig.backend = "folder"; ${options} };
  })`;

  test("a service gets its templates as its secrets, with the requested mode and owner", () => {
    const units = evaluation.units(
      service(`templates."app.ini" = { text = "password = {{a}}\\n"; mode = "0440"; owner = "app"; group = 12; };`),
    );
    expect(setting(units, "app.service", "LoadCredential")).toEqual([
      "a:/run/app-secrets/pub/a",
      "app.ini:/run/app-secrets/pub/app.ini",
    ]);
    const config = evaluation.config(units, "app-secrets.service");
    expect(config).toHaveProperty("templates", {
      "app.ini": { template: inStore, mode: "0440", owner: "app", group: "12" },
    });
    expect(content(config, "app.ini")).toBe("password = {{a}}\n");
  });

  test("a service without templates has none in its configuration", () => {
    const units = evaluation.units(service(""));
    expect(evaluation.config(units, "app-secrets.service")).not.toHaveProperty("templates");
  });

  test("have a path that other options can use", () => {
    const path = (delivery: string) =>
      evaluation.value(
        `(host [ (nix + "/modules/secrets-store.nix") (${service(`delivery = "${delivery}"; templates.x.text = "";`)}) ])
          .config.secretsStore.services.app.templates.x.path`,
      );
    expect(path("credentials")).toBe("/run/credentials/app.service/x");
    expect(path("private-tmp")).toBe("/tmp/x");
  });

  test("can be files: a Nix path is copied to the store, and a file in the store stays in place", () => {
    const config = evaluation.config(
      evaluation.units(
        service(`templates = {
          a.template = ${nixPath(import.meta.dirname, "stand-in/template.mustache")};
          b.template = builtins.toFile "b" "{{a}} of a file";
        };`).replace("secrets.a", "secrets.s"),
      ),
      "app-secrets.service",
    );
    expect(config).toHaveProperty("templates", { a: { template: inStore }, b: { template: inStore } });
    expect(content(config, "a")).toBe("password = {{a}}\n");
    expect(content(config, "b")).toBe("{{a}} of a file");
  });

  const scope = (given: string, services: string) => `({ config, lib, pkgs, ... }: {
    ${store}
    systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
      loadSecrets = [ "a" "b" ];
      backendConfig.backend = "folder";
      ${given}
    } (${services});
  })`;

  test("a scope's templates are arguments, and a service that lists its secrets gets no others", () => {
    const units = evaluation.units(
      scope(
        `templates = { "app.ini".text = "{{a}}"; other.text = "{{b}}"; };`,
        `ids: {
          all.serviceConfig.ExecStart = "/bin/app --config \${ids."app.ini"}";
          some = { secrets = [ "a" ]; templates = [ "app.ini" ]; serviceConfig.ExecStart = "/bin/app"; };
          none = { secrets = [ "a" ]; serviceConfig.ExecStart = "/bin/app"; };
        }`,
      ),
    );
    expect(setting(units, "all.service", "ExecStart")).toEqual([
      "/usr/local/bin/with-secrets /bin/app --config /tmp/app.ini",
    ]);
    const names = (sidecar: string) =>
      Object.keys((evaluation.config(units, sidecar) as { templates?: object }).templates ?? {});
    expect(["all", "some", "none"].map((name) => names(`${name}-secrets.service`))).toEqual([
      ["app.ini", "other"],
      ["app.ini"],
      [],
    ]);
  });

  const file = (options: string) => `{
    ${store}
    secretsStore.files."app/app.ini" = { secretsConfig.backend = "folder"; ${options} };
  }`;

  test("are checked by the program at build time: an unknown secret never reaches the host", () => {
    const check = (text: string) => {
      const units = evaluation.units(
        service(`templates."app.ini" = { text = "${text}"; mode = "0440"; group = 12; };`),
      );
      const config = evaluation.physical(configPath(units, "app-secrets.service"));
      // The test's store is not at its place.
      const moved = `${config}.moved`;
      const json = readFileSync(config, "utf8").replaceAll("/nix/store", evaluation.physical("/nix/store"));
      writeFileSync(moved, json);
      const flags = ["--check=config", "--log-format=text", "--config", moved];
      return spawnSync(process.execPath, [join(project, "dist/fetcher.js"), ...flags], { encoding: "utf8" });
    };
    chmodSync(evaluation.physical("/nix/store"), 0o755);
    expect(check("{{a}}")).toMatchObject({ status: 0, stderr: "" });
    const { status, stderr } = check("{{b}}");
    expect(status).toBe(78);
    expect(stderr).toContain('templates["app.ini"].template');
    expect(stderr).toContain('there is no secret "b"');
  });

  test("can be a file of the contract, with the mode, owner and group of the request", () => {
    const units = evaluation.units(
      file(`text = "{{a}}"; secrets.a.source.file = "x"; request = { mode = "0440"; owner = "app"; group = "web"; };`),
    );
    const config = evaluation.config(units, "secret-file-app-app.ini.service");
    expect(config).toMatchObject({
      secrets: { a: { source: { file: "x" } } },
      templates: { "app.ini": { template: inStore, mode: "0440", owner: "app", group: "web" } },
      output: { directory: "/run/secret-files/app-app.ini", envFile: null },
    });
    expect(content(config, "app.ini")).toBe("{{a}}");
  });

  test.each([
    [
      "`secretsStore.services.app.templates.x.template' was accessed but has no value defined",
      service(`templates.x = { };`),
    ],
    ["file, as a path of Nix or in the Nix store", service(`templates.x.template = "/etc/x";`)],
    [`.templates."a/b".file' is not of type \`file name without a slash`, service(`templates."a/b".text = "";`)],
    ["`secretsStore.services.app.templates.x.mode' is not", service(`templates.x = { text = ""; mode = "rw"; };`)],
    [
      "`secretsStore.services.app.templates.x.optional' does not exist",
      service(`templates.x = { text = ""; optional = true; };`),
    ],
    [`"a:b" is not the name of a credential`, service(`templates."a:b".text = "";`)],
    [
      "`secretsStore.services.app.templates.x.template' has conflicting definition",
      service(`templates.x = { text = ""; template = builtins.toFile "x" ""; };`),
    ],
    ["name the secrets in it in secretsStore.files.app/app.ini.secrets", file(`text = "{{a}}";`)],
    [
      "set secretsStore.files.app/app.ini.secrets.<id>.source",
      file(`text = "{{a}}"; secrets.a = { }; source.file = "x";`),
    ],
    ["set secretsStore.files.app/app.ini.template or text", file(`secrets.a = { };`)],
    [`templates: "a" is a secret in loadSecrets already`, scope(`templates.a.text = "";`, `_: { x.script = "x"; }`)],
    [
      `systemd.services.x.templates: "z" is not in templates ("y")`,
      scope(`templates.y.text = "";`, `_: { x = { templates = [ "z" ]; script = "x"; }; }`),
    ],
  ])("%s: stops the evaluation, with advice", (message, module) => {
    expect(evaluation.complaint(module)).toContain(message);
  });
});
