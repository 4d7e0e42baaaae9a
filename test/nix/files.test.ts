/** secretsStore.files: a provider of the contract for secrets in files. */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, namesOf, nixPath, project, setting } from "./evaluation.ts";

const consumer = nixPath(project, "examples/nixos/contract-consumer.nix");

needs("nix").describe("secretsStore.files", () => {
  const evaluation = new Evaluation();
  const store = `secretsStore.enable = true; secretsStore.folder.secretsDir = "/etc/secrets";`;
  const file = (name: string, options: string) =>
    evaluation.units(
      `({ config, ... }: { ${store} secretsStore.files."${name}" = { secretsConfig.backend = "folder"; ${options} }; })`,
    );

  test("a file has the mode, owner and group that were asked for, and stays without a consumer", () => {
    const units = file("stash/password", `request = { mode = "0440"; owner = "stash"; group = "web"; };`);
    const unit = "secret-file-stash-password.service";
    expect(namesOf(units)).toEqual([unit]);
    expect(evaluation.config(units, unit)).toEqual({
      backend: "folder",
      config: { secretsDir: "/etc/secrets", reloadOnChange: false },
      secrets: { password: { file: "password", env: null, mode: "0440", owner: "stash", group: "web" } },
      output: { directory: "/run/secret-files/stash-password", envFile: null },
      onChange: { action: "restart" },
      // Nothing is left to do when it is there.
      resident: false,
    });
    expect(units[unit]?.links).toEqual([`multi-user.target.wants/${unit}`]);
    const lines = ["StopWhenUnneeded", "PartOf", "RuntimeDirectory", "RuntimeDirectoryMode", "Restart"];
    expect(lines.map((name) => setting(units, unit, name))).toEqual([
      [],
      [],
      ["secret-files/stash-password secret-file-stash-password-act secret-file-stash-password-act/inbox"],
      ["0755"],
      ["on-failure"],
    ]);
  });

  test("its consumers wait for it and get the action", () => {
    const units = file("a", `consumers = [ "x.service" "y.service" ]; onChange.action = "reload"; id = "b";`);
    const unit = "secret-file-a.service";
    expect(setting(units, unit, "Before")).toEqual(["x.service y.service"]);
    expect(units[unit]?.links).toEqual(
      expect.arrayContaining([`x.service.requires/${unit}`, `y.service.requires/${unit}`]),
    );
    expect(evaluation.config(units, unit)).toMatchObject({
      service: ["x.service", "y.service"],
      secrets: { b: { file: "a", mode: "0400", owner: "root", group: "root" } },
      onChange: { action: "reload" },
    });
  });

  const wired = (link: string) =>
    evaluation.units(`({ config, ... }: {
      imports = [ ${consumer} ];
      ${store}
      services.greeter.enable = true;
      secretsStore.files."greeter/greeting".secretsConfig.backend = "folder";
      ${link}
    })`);

  test.each([
    [
      "request and result",
      `secretsStore.files."greeter/greeting".request = config.services.greeter.greetingFile.request;
       services.greeter.greetingFile.result = config.secretsStore.files."greeter/greeting".result;`,
    ],
    [
      "the older input and output",
      `secretsStore.files."greeter/greeting".input = config.services.greeter.greetingFile.input;
       services.greeter.greetingFile.output = config.secretsStore.files."greeter/greeting".output;`,
    ],
    [
      "all four side by side",
      `secretsStore.files."greeter/greeting" = { inherit (config.services.greeter.greetingFile) mode owner group; };
       services.greeter.greetingFile.path = config.secretsStore.files."greeter/greeting".path;`,
    ],
  ])("consumer and provider fit together by %s", (_, link) => {
    const units = wired(link);
    expect(setting(units, "greeter.service", "LoadCredential")).toEqual([
      "GREETING:/run/secret-files/greeter-greeting/greeting",
    ]);
    expect(evaluation.config(units, "secret-file-greeter-greeting.service")).toHaveProperty("secrets.greeting", {
      file: "greeting",
      env: null,
      mode: "0400",
      owner: "root",
      group: "root",
    });
  });

  test("the provider for tests of consumers is there before any unit, by activation, and needs no store", () => {
    const { units, script } = evaluation.value(`let it = host [
      (nix + "/modules/hardcoded-secrets.nix")
      ${consumer}
      ({ config, ... }: {
        services.greeter.enable = true;
        hardcodedSecrets."greeter/greeting" = {
          content = "it's \${"$"}{from} the store";
          inherit (config.services.greeter.greetingFile) request;
        };
        services.greeter.greetingFile = { inherit (config.hardcodedSecrets."greeter/greeting") response; };
      })
    ]; in { inherit (it) units; script = it.config.system.activationScripts.hardcodedSecrets; }`) as {
      units: ReturnType<Evaluation["units"]>;
      script: { deps: string[]; text: string };
    };
    expect(Object.keys(units)).toEqual(["greeter.service"]);
    expect(setting(units, "greeter.service", "LoadCredential")).toEqual([
      "GREETING:/run/hardcoded-secrets/greeter-greeting",
    ]);
    expect(script.deps).toEqual(["users", "groups", "specialfs"]);
    expect(script.text).toContain(String.raw`printf %s 'it'\''s ${"$"}{from} the store' > `);
  });

  test("one that says which units to restart has them as consumers", () => {
    const units = file("a", `request.restartUnits = [ "x.service" ]; consumers = [ "y.service" ];`);
    expect(evaluation.config(units, "secret-file-a.service")).toHaveProperty("service", ["y.service", "x.service"]);
    expect(setting(units, "secret-file-a.service", "Before")).toEqual(["y.service x.service"]);
  });

  test("one sidecar keeps several files, and what they say must fit together", () => {
    const both = (a: string, b: string) =>
      `{ ${store} secretsStore.files = {
        "web/cert" = { sidecar = "web-files"; secretsConfig.backend = "folder"; consumers = [ "x.service" ]; ${a} };
        "web/key" = { sidecar = "web-files"; secretsConfig.backend = "folder"; consumers = [ "x.service" ]; ${b} };
      }; }`;
    const units = evaluation.units(both(`request.owner = "web";`, `text = "k: {{k}}"; secrets.k = { };`));
    expect(namesOf(units)).toEqual(["web-files.service"]);
    expect(evaluation.config(units, "web-files.service")).toMatchObject({
      service: ["x.service"],
      secrets: { cert: { file: "web-cert", owner: "web" }, k: {} },
      templates: { "web-key": { mode: "0400", owner: "root", group: "root" } },
      output: { directory: "/run/secret-files/web-files", envFile: null },
    });
    expect(setting(units, "web-files.service", "RuntimeDirectory")).toEqual([
      "secret-files/web-files web-files-act web-files-act/inbox",
    ]);
    expect(evaluation.complaint(both("", `id = "cert";`))).toContain('the secret "cert" is in two of them');
    expect(evaluation.complaint(both("", `startTimeout = 3;`))).toContain(
      "web/cert and web/key share the sidecar web-files, and their startTimeout differs",
    );
    expect(evaluation.complaint(both("", "").replace('"web-files"', '"a b"'))).toContain(
      '.sidecar: "a b" is no name of a unit',
    );
  });

  test("two names that would share a unit are refused, and so is what the contract has not", () => {
    expect(
      evaluation.complaint(
        `{ ${store} secretsStore.files = { "a/b".secretsConfig.backend = "folder"; a-b.secretsConfig.backend = "folder"; }; }`,
      ),
    ).toContain("secretsStore.files: a-b and a/b would share the unit secret-file-a-b.service: rename one");
    for (const name of ["a:b", "100%", "ä"])
      expect(() => file(name, "")).toThrow(`secretsStore.files.${name}: the name is in that of a unit`);
    expect(() => file("a", `request.mode = "rw";`)).toThrow("`secretsStore.files.a.request.mode' is not of type");
    expect(() => file("a", `request.user = "x";`)).toThrow("`secretsStore.files.a.request.user' does not exist");
    expect(() => file("a", `consumers = [ config.secretsStore.files.a.result.path ]; result.path = "/x";`)).toThrow(
      "read-only",
    );
  });
});
