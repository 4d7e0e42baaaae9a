/** What a module's author writes, as Nix renders it, booted: scripts, prefixes, every kind of command, files. */
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Evaluation, project, type RenderedUnits } from "../nix/evaluation.ts";
import { onEachGuest } from "./guests.ts";
import { installNix, removeNix } from "./nix-units.ts";

const evaluation = new Evaluation();

onEachGuest(
  "services in a secrets scope",
  (guest) => {
    const log = "/var/lib/nix-services.log";

    beforeAll(async () => {
      await guest.write("/etc/secrets/one", "it's one", 0o400);
      await guest.write("/etc/secrets/and two", "two", 0o400);
      await guest.write("/etc/secrets/three.key", "three", 0o400);
    });
    afterAll(async () => {
      await guest.run(["rm", "-rf", "/etc/secrets", log]);
      await removeNix(guest);
    });

    const scope = (service: string, more = "") =>
      evaluation.units(`({ config, lib, pkgs, ... }: {
        imports = [ { ${more} } ];
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "/etc/secrets";
        systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
          loadSecrets = [ "one" "and two" "three.key" ];
          backendConfig.backend = "folder";
        } (secrets: { app = ${service}; });
      })`);

    afterEach(async () => {
      await guest.run(["systemctl", "stop", "app.service", "other.service", "greeter.service"], { check: false });
    });

    /** Starts app.service, which may be done at once; @returns what it and its other commands have said until `last`. */
    async function start(units: RenderedUnits, last: RegExp, unit = "app.service"): Promise<string[]> {
      await guest.write(log, "", 0o666);
      await installNix(guest, evaluation, units);
      await guest.systemctl("daemon-reload");
      await guest.systemctl("start", unit);
      return await said(last);
    }
    async function said(last: RegExp): Promise<string[]> {
      const text = await guest.until(
        `it says ${String(last)}`,
        async () => await guest.read(log),
        (all) => last.test(all),
      );
      return text.split("\n").filter(Boolean);
    }

    test("a script has the files and the variables, also in what another module appends, and is the main process", async () => {
      const units = scope(
        `{
          script = ''
            echo "args=$# pid=$$ one=$one file=$(cat \${secrets.one}) marker=$(sh -c 'echo ''\${WITH_SECRETS-none}')"
          '';
          scriptArgs = "'a b' %n";
          serviceConfig = {
            Type = "notify"; NotifyAccess = "all"; DynamicUser = true; StandardOutput = "append:${log}";
          };
        }`,
        `systemd.services.app.script = lib.mkAfter ''
          systemd-notify --ready
          echo "appended $2 $three_key"
          exec sleep infinity
        '';`,
      );
      const lines = await start(units, /appended/);
      const pid = await guest.mainPid("app.service");
      expect(lines).toEqual([`args=2 pid=${pid} one=it's one file=it's one marker=none`, "appended app.service three"]);
    });

    test("each command of a list has them, whatever its prefix; quotes, specifiers and dollars arrive as written", async () => {
      const units = scope(`{
        serviceConfig = {
          Type = "oneshot";
          ExecStart = [
            "-/bin/sh -c 'echo \\"minus $$one\\" >> ${log}; exit 3'"
            ":/bin/sh -c 'echo \\"colon $one %n 100%%\\" >> ${log}'"
            "!/bin/sh -c 'echo \\"bang $$one $$0|$$1\\" >> ${log}' \\"a  b\\" 'c \\"d\\"'"
            "!!/bin/sh -c 'echo \\"last $$one $\${one}\\" >> ${log}'"
          ];
        };
      }`);
      expect(await start(units, /last/)).toEqual([
        "minus it's one",
        "colon it's one app.service 100%",
        `bang it's one a  b|c "d"`,
        "last it's one it's one",
      ]);
    });

    test("all other commands see the files, also while the service stops", async () => {
      const kinds = ["ExecCondition", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"];
      const commands = kinds.map(
        (kind) => `${kind} = "/bin/sh -c 'echo \\"${kind} $$(cat \\\\\\"\${secrets."and two"}\\\\\\")\\"'";`,
      );
      const units = scope(
        `{ serviceConfig = { DynamicUser = true; StandardOutput = "append:${log}"; ExecStart = "/bin/sleep infinity"; ${commands.join("\n")} }; }`,
      );
      await start(units, /ExecStartPost/);
      await guest.systemctl("reload", "app.service");
      await said(/ExecReload/);
      await guest.systemctl("stop", "app.service");
      expect(await said(/ExecStopPost/)).toEqual(kinds.map((kind) => `${kind} two`));
    });

    test("a service that shares its /tmp with a third unit goes on doing so, and still sees its secrets", async () => {
      const units = scope(
        `{
          requires = [ "other.service" ];
          after = [ "other.service" ];
          unitConfig.JoinsNamespaceOf = "other.service";
          serviceConfig.ExecStart = "/bin/sh -c 'cat /tmp/from-other /tmp/one >> ${log}; echo \\" end\\" >> ${log}; sleep infinity'";
        }`,
        `systemd.services.other.serviceConfig = {
          Type = "notify";
          NotifyAccess = "all";
          PrivateTmp = true;
          ExecStart = "/bin/sh -c 'echo -n \\"shared \\" > /tmp/from-other; systemd-notify --ready; sleep infinity'";
        };`,
      );
      expect(await start(units, /end/)).toEqual(["shared it's one end"]);
    });

    test.each(["credentials", "private-tmp"])(
      "a template is made of its secrets, and again when one rotates (%s)",
      async (delivery) => {
        const units = evaluation.units(`({ config, ... }: {
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "/etc/secrets";
        secretsStore.services.app = {
          delivery = "${delivery}";
          secrets = { one = { }; "three.key" = { }; absent.optional = true; };
          templates."app.ini".text = "one={{one}} three={{three.key}}{{#absent}} absent={{absent}}{{/absent}}";
          secretsConfig = { backend = "folder"; config.reloadOnChange = true; };
          onChange = { settle = 0.1; minInterval = 0; };
        };
        systemd.services.app = {
          script = "echo \\"$(cat \${config.secretsStore.services.app.templates."app.ini".path})\\"; exec sleep infinity";
          serviceConfig = { DynamicUser = true; StandardOutput = "append:${log}"; };
        };
      })`);
        expect(await start(units, /three/)).toEqual(["one=it's one three=three"]);
        await guest.replace("/etc/secrets/one", "another", 0o400);
        expect(await said(/another/)).toContain("one=another three=three");
        await guest.systemctl("stop", "app.service");
        await guest.replace("/etc/secrets/one", "it's one", 0o400);
      },
    );

    test("a template is a file of the contract, with the mode, owner and group that were asked for", async () => {
      const units = evaluation.units(`{
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "/etc/secrets";
        secretsStore.files."stash/app.ini" = {
          text = "one={{one}}";
          secrets.one = { };
          request = { mode = "0440"; owner = "daemon"; group = "mail"; };
          secretsConfig.backend = "folder";
        };
      }`);
      const path = "/run/secret-files/stash-app.ini/app.ini";
      await installNix(guest, evaluation, units);
      await guest.systemctl("daemon-reload");
      await guest.systemctl("start", "secret-file-stash-app.ini.service");
      expect(await guest.text(["stat", "-c", "%F %a %U %G", path])).toBe("regular file 440 daemon mail");
      expect(await guest.read(path)).toBe("one=it's one");
      // What it is made of, nobody but root can read.
      expect(await guest.text(["stat", "-c", "%a %U %G", "/run/secret-files/stash-app.ini/one"])).toBe("400 root root");
      await guest.systemctl("stop", "secret-file-stash-app.ini.service");
    });

    // The contract's generic test: whoever provides it, what is at `result.path` is what `request` asked for.
    test.each([
      [
        "secretsStore.files",
        "secretsStore.files",
        `secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; files."stash/one".secretsConfig.backend = "folder"; };`,
      ],
      ["the provider for tests", "hardcodedSecrets", `hardcodedSecrets."stash/one".content = "it's one";`],
    ])(
      "%s has the content, mode, owner and group that were asked for, and ends with its unit",
      async (_, provider, more) => {
        const asked: [mode: string, owner: string, group: string][] = [
          ["0440", "daemon", "mail"],
          ["0400", "root", "root"],
        ];
        for (const [mode, owner, group] of asked) {
          const { units, path } = evaluation.value(`
          let it = host [ (nix + "/modules/hardcoded-secrets.nix") {
            ${more}
            ${provider}."stash/one".request = { mode = "${mode}"; owner = "${owner}"; group = "${group}"; };
          } ]; in { inherit (it) units; inherit (it.config.${provider}."stash/one".result) path; }`) as {
            units: RenderedUnits;
            path: string;
          };
          const [unit = ""] = Object.keys(units);
          await installNix(guest, evaluation, units);
          await guest.systemctl("daemon-reload");
          await guest.systemctl("start", unit);
          expect(await guest.text(["stat", "-c", "%F 0%a %U %G", path])).toBe(`regular file ${mode} ${owner} ${group}`);
          expect(await guest.read(path)).toBe("it's one");
          await guest.systemctl("stop", unit);
          expect(await guest.exists(path)).toBe(false);
        }
      },
    );

    test("a file of the contract follows a rotation, and keeps its mode, owner and group", async () => {
      const units = evaluation.units(`{
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "/etc/secrets";
        secretsStore.files."stash/one" = {
          request = { mode = "0440"; owner = "daemon"; group = "mail"; };
          secretsConfig = { backend = "folder"; config.reloadOnChange = true; };
          onChange = { settle = 0.1; };
        };
      }`);
      const unit = "secret-file-stash-one.service";
      const path = "/run/secret-files/stash-one/one";
      await installNix(guest, evaluation, units);
      await guest.systemctl("daemon-reload");
      await guest.systemctl("start", unit);
      expect(await guest.read(path)).toBe("it's one");
      await guest.replace("/etc/secrets/one", "another", 0o400);
      await guest.until(
        "the new value is there",
        async () => await guest.read(path),
        (text) => text === "another",
      );
      expect(await guest.text(["stat", "-c", "%a %U %G", path])).toBe("440 daemon mail");
      await guest.systemctl("stop", unit);
      expect(await guest.exists("/run/secret-files/stash-one")).toBe(false);
      await guest.replace("/etc/secrets/one", "it's one", 0o400);
    });

    test("a consumer with DynamicUser gets it by LoadCredential, from the provider for tests", async () => {
      const units = evaluation.value(`(host [
        (nix + "/modules/hardcoded-secrets.nix")
        ${join(project, "examples/nixos/contract-consumer.nix")}
        ({ config, ... }: {
          services.greeter.enable = true;
          hardcodedSecrets.greeting = { content = "world"; inherit (config.services.greeter.greetingFile) request; };
          services.greeter.greetingFile = { inherit (config.hardcodedSecrets.greeting) result; };
          secretsStore.files.greeting.consumers = [ "greeter.service" ];
          systemd.services.greeter.serviceConfig.StandardOutput = "append:${log}";
        })
      ]).units`) as RenderedUnits;
      expect(await start(units, /hello/, "greeter.service")).toEqual(["hello, world"]);
      expect(await guest.text(["stat", "-c", "%a %U %G", "/run/secret-files/greeting/greeting"])).toBe("400 root root");
      await guest.systemctl("stop", "secret-file-greeting.service");
    });
  },
  {},
  ["nix"],
);
