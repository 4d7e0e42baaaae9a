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

  test("a file has the requested mode, owner and group, and stays without a consumer", () => {
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

  test("consumers wait for the file and get the action", () => {
    const units = file("a", `consumers = [ "x.service" "y.service" ]; onChange.action = "reload"; id = "b";`);
    const unit = "secret-file-a.service";
    expect(setting(units, unit, "Before")).toEqual(["x.service y.service shutdown.target"]);
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
  ])("consumer and provider connect by %s", (_, link) => {
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

  test("activation creates the test provider's file before any unit, without a store", () => {
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

  test("the units listed to restart become consumers", () => {
    const units = file("a", `request.restartUnits = [ "x.service" ]; consumers = [ "y.service" ];`);
    expect(evaluation.config(units, "secret-file-a.service")).toHaveProperty("service", ["y.service", "x.service"]);
    expect(setting(units, "secret-file-a.service", "Before")).toEqual(["y.service x.service shutdown.target"]);
  });

  const early = "secret-files.service";
  test("a local store's file exists before services start, at boot and at a switch", () => {
    const units = file("a", "");
    const unit = "secret-file-a.service";
    expect(units[early]?.links).toEqual([`basic.target.wants/${early}`, `sysinit-reactivation.target.wants/${early}`]);
    const of = (name: string) =>
      ["DefaultDependencies", "After", "Requires", "Conflicts"].map((key) => setting(units, name, key).join(" "));
    expect(of(early)).toEqual(["false", "sysinit.target", "sysinit.target", "shutdown.target"]);
    expect(setting(units, early, "Before")).toEqual(["basic.target sysinit-reactivation.target shutdown.target"]);
    // Not for ever, and it does not fail itself.
    expect(setting(units, early, "ExecStart")).toEqual([`-/usr/bin/timeout 30 /usr/bin/systemctl start -- ${unit}`]);
    // The sidecar itself is not before basic.target: one that waits would hold up the boot.
    expect(of(unit)).toEqual([
      "false",
      `${unit.replace(".service", "-act.path")} sysinit.target`,
      "sysinit.target",
      "shutdown.target",
    ]);
    expect(setting(units, unit, "Before")).toEqual(["shutdown.target"]);
  });

  test.each([
    ["its store is another host", `secretsConfig.backend = "vault"; secretsConfig.config.tokenPath = "/t";`],
    ["its store is a command", `secretsConfig.backend = "command"; secretsConfig.config.command = [ "age" ];`],
    ["its keys are sent later", `secretsConfig.backend = "nixops";`],
    ["its owner may be somebody else's", `request.owner = "ldap-user";`],
    ["its group may be somebody else's", `request.group = "ldap-group";`],
    ["it is not to be", `early = false;`],
  ])("a boot does not wait for a file where %s", (_, options) => {
    const backend = options.includes("backend") ? "" : `secretsConfig.backend = "folder";`;
    const units = evaluation.units(`{ ${store} secretsStore.files.a = { ${backend} ${options} }; }`);
    expect(Object.keys(units)).not.toContain(early);
    expect(setting(units, "secret-file-a.service", "DefaultDependencies")).toEqual([]);
  });

  test("a boot waits for a file whose owner the host itself defines", () => {
    const owned = `({ lib, ... }: { ${store}
      options.users = lib.mkOption { type = lib.types.attrsOf lib.types.anything; };
      config.users = { users.stash = { }; groups.web = { }; };
      config.secretsStore = { enable = true; files.a = {
        secretsConfig.backend = "folder"; request = { owner = "stash"; group = "web"; };
      }; folder.secretsDir = "/s"; }; })`;
    const units = evaluation.units(owned.replace(store, ""));
    expect(Object.keys(units)).toContain(early);
    // Nobody waits for other users, who may be on the network.
    expect(setting(units, "secret-file-a.service", "After").join()).not.toContain("nss-user-lookup");
  });

  test("refuses an early file that comes over the network, with advice", () => {
    const late = `secretsConfig.backend = "vault"; secretsConfig.config.tokenPath = "/t"; early = true;`;
    const module = `({ lib, ... }: { ${store} secretsStore.files.a = { ${late} }; })`;
    expect(evaluation.complaint(module)).toContain(
      "name the units that read the file in secretsStore.files.a.consumers",
    );
  });

  // As nixpkgs and others have them, in words of our own: options that know nothing but what is here.
  const strict = (names: string) =>
    `lib.mkOption { default = { }; type = lib.types.submodule {
      options = lib.genAttrs [ ${names} ] (name: lib.mkOption { default = if name == "mode" then "0400" else "root"; }); }; }`;
  const theirConsumer = (names: string) => `{
    options.services.theirs.passwordFile = lib.mkOption { default = { }; type = lib.types.submodule { options = {
      request = ${strict(names)};
      response = lib.mkOption { type = lib.types.submodule { options.path = lib.mkOption { type = lib.types.str; }; }; };
    }; }; };
  }`;
  test.each([
    ["nixpkgs", `"mode" "owner" "group"`, ""],
    [
      "selfhostblocks",
      `"mode" "owner" "group" "restartUnits"`,
      `services.theirs.passwordFile.request.restartUnits = [ "theirs.service" ];`,
    ],
  ])("a consumer with %s accepts either provider", (_, names, more) => {
    const path = (provider: string, has: string) =>
      evaluation.value(`(host [
        (nix + "/modules/secrets-store.nix") (nix + "/modules/hardcoded-secrets.nix")
        (${theirConsumer(names)})
        { ${store} ${more} }
        ({ config, ... }: {
          ${provider}.pass = { request = config.services.theirs.passwordFile.request; ${has} };
          services.theirs.passwordFile.response = config.${provider}.pass.response;
        })
      ]).config.services.theirs.passwordFile.response.path`);
    expect(path("hardcodedSecrets", `content = "x";`)).toBe("/run/hardcoded-secrets/pass");
    expect(path("secretsStore.files", `secretsConfig.backend = "folder";`)).toBe("/run/secret-files/pass/pass");
  });

  test("our consumer accepts nixpkgs' provider, which has no restartUnits", () => {
    const request = (defaults: string) =>
      evaluation.value(`(host [
        { options.testing.secret = lib.mkOption { type = lib.types.submodule { options.request = ${strict(`"mode" "owner" "group"`)}; }; };
          options.mine = (import (nix + "/lib/contract.nix") { inherit lib; }).consumer { ${defaults} }; }
        ({ config, ... }: { testing.secret.request = config.mine.request; })
      ]).config.testing.secret.request`);
    expect(request(`owner = "stash"; mode = "0440";`)).toEqual({ mode: "0440", owner: "stash", group: "root" });
    expect(() => request(`restartUnits = [ "a.service" ];`)).toThrow("restartUnits");
  });

  // The contract's generic test: whatever the provider is and by whichever names it is asked, it answers by all.
  test.each([
    ["hardcodedSecrets", `content = "x";`, "/run/hardcoded-secrets/my-secret"],
    ["secretsStore.files", `secretsConfig.backend = "folder";`, "/run/secret-files/my-secret/secret"],
  ])("%s answers by every name of the contract, whichever one is asked", (provider, has, path) => {
    const asked = `{ owner = "user"; group = "group"; mode = "640"; }`;
    const of = (question: string) =>
      evaluation.value(`let it = (host [
        (nix + "/modules/secrets-store.nix") (nix + "/modules/hardcoded-secrets.nix")
        { ${store} ${provider}."my/secret" = { ${has} ${question} }; }
      ]).config.${provider}."my/secret"; in {
        inherit (it.request) owner group mode;
        paths = [ it.result.path it.response.path it.output.path it.path ];
      }`);
    const answer = { owner: "user", group: "group", mode: "640", paths: [path, path, path, path] };
    for (const question of [`request = ${asked};`, `input = ${asked};`, asked.slice(1, -1)])
      expect(of(question)).toEqual(answer);
  });

  test("one sidecar keeps several files, whose settings must be compatible", () => {
    const both = (a: string, b: string) =>
      `{ ${store} secretsStore.files = {
        "web/cert" = { sidecar = "web-files"; secretsConfig.backend = "folder"; consumers = [ "x.service" ]; ${a} };
        "web/key" = { sidecar = "web-files"; secretsConfig.backend = "folder"; consumers = [ "x.service" ]; ${b} };
      }; }`;
    const units = evaluation.units(both(`request.owner = "web";`, `text = "k: {{k}}"; secrets.k = { };`));
    expect(namesOf(units)).toEqual(["web-files.service"]);
    expect(evaluation.complaint(both("", "").replaceAll("web-files", "secret-files"))).toContain("take another name");
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
      '.sidecar: "a b" is not the name of a unit',
    );
  });

  test("refuses two names that would share a unit, and settings that the contract lacks", () => {
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
