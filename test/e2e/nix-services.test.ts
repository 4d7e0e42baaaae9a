/** What the author of a module writes, rendered by Nix and booted: scripts, prefixes, every kind of command, files. */
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Evaluation, namesOf, project, type RenderedUnits } from "../nix/evaluation.ts";
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

    test("a script gets files and variables, even in lines that another module appends, and is the main process", async () => {
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

    test("each command of a list gets them, whatever its prefix; quotes, specifiers and dollars arrive as written", async () => {
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

    test("all other commands see the files, even while the service stops", async () => {
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

    test("a service keeps sharing its /tmp with a third unit, and still sees its secrets", async () => {
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
      "builds a template from its secrets, and again when one rotates (%s)",
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

    test("publishes a template as a file of the contract, with the requested mode, owner and group", async () => {
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
      // Only root can read the secrets in it.
      expect(await guest.text(["stat", "-c", "%a %U %G", "/run/secret-files/stash-app.ini/one"])).toBe("400 root root");
      await guest.systemctl("stop", "secret-file-stash-app.ini.service");
    });

    // The contract's generic test: for every provider, the file at `result.path` is as `request` asks.
    const asked = [
      ["0440", "daemon", "mail"],
      ["0400", "root", "root"],
    ] as const;
    test.each(asked)(
      "a file of the contract has mode %s, owner %s and group %s, and goes with its unit",
      async (...of) => {
        const [mode, owner, group] = of;
        const { units, path } = evaluation.value(`
        let it = host [ (nix + "/modules/secrets-store.nix") {
          secretsStore = { enable = true; folder.secretsDir = "/etc/secrets"; };
          secretsStore.files."stash/one" = {
            secretsConfig.backend = "folder";
            request = { mode = "${mode}"; owner = "${owner}"; group = "${group}"; };
          };
        } ]; in { inherit (it) units; inherit (it.config.secretsStore.files."stash/one".result) path; }`) as {
          units: RenderedUnits;
          path: string;
        };
        const [unit = ""] = namesOf(units);
        await installNix(guest, evaluation, units);
        await guest.systemctl("daemon-reload");
        await guest.systemctl("start", unit);
        expect(await guest.text(["stat", "-c", "%F 0%a %U %G", path])).toBe(`regular file ${mode} ${owner} ${group}`);
        expect(await guest.read(path)).toBe("it's one");
        await guest.systemctl("stop", unit);
        expect(await guest.exists(path)).toBe(false);
      },
    );

    test.each(asked)(
      "the provider for tests: activation gives the file mode %s, owner %s and group %s",
      async (...of) => {
        const [mode, owner, group] = of;
        const { script, path } = evaluation.value(`
        let it = host [ (nix + "/modules/hardcoded-secrets.nix") {
          hardcodedSecrets."stash/one" = {
            content = "it's one, $HOME and two";
            request = { mode = "${mode}"; owner = "${owner}"; group = "${group}"; };
          };
        } ]; in { script = it.config.system.activationScripts.hardcodedSecrets.text; inherit (it.config.hardcodedSecrets."stash/one".result) path; }`) as {
          script: string;
          path: string;
        };
        // A second activation finds the first one's files.
        for (let activation = 0; activation < 2; activation++) {
          await guest.run(["bash", "-euc", script]);
          expect(await guest.text(["stat", "-c", "%F 0%a %U %G", path])).toBe(`regular file ${mode} ${owner} ${group}`);
          expect(await guest.read(path)).toBe("it's one, $HOME and two");
        }
        expect(await guest.text(["ls", "-A", "/run/hardcoded-secrets"])).toBe("stash-one");
        await guest.run(["rm", "-r", "/run/hardcoded-secrets"]);
      },
    );

    test("a module's own option ending in EnvironmentFile= takes hostPath, in another unit too, and follows rotations", async () => {
      const unit = (path: string) => `{
        serviceConfig = { EnvironmentFile = ${path}; StandardOutput = "append:${log}"; DynamicUser = true; };
        script = ''echo "%n $PASSWORD"; exec sleep infinity'';
      }`;
      await guest.write("/etc/secrets/env", "PASSWORD=first\n", 0o400);
      const units = evaluation.units(`({ config, ... }: {
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "/etc/secrets";
        secretsStore.services.app = {
          secrets.env = { };
          secretsConfig = { backend = "folder"; config.reloadOnChange = true; };
          consumers = [ "other.service" ];
          onChange = { settle = 0.1; minInterval = 0; };
        };
        systemd.services.app = ${unit("config.secretsStore.services.app.secrets.env.hostPath").replace("%n", "app")};
        systemd.services.other = ${unit("config.secretsStore.services.app.secrets.env.hostPath").replace("%n", "other")};
      })`);
      // The other one alone: it brings the sidecar along.
      expect(await start(units, /other/, "other.service")).toEqual(["other first"]);
      await guest.systemctl("start", "app.service");
      await said(/app first/);
      await guest.replace("/etc/secrets/env", "PASSWORD=second\n", 0o400);
      await said(/app second/);
      expect((await said(/other second/)).sort()).toEqual(["app first", "app second", "other first", "other second"]);
      await guest.systemctl("stop", "app.service", "other.service");
      await guest.until(
        "the files are gone with the last reader",
        async () => await guest.run(["ls", "-A", "/run/app-secrets"], { check: false }),
        ({ stdout }) => stdout === "",
      );
    });

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

    /** A consumer that nothing orders after the file, and one transaction that starts it with basic.target, as a boot does. */
    const booting = async (seconds: number) => {
      const units = evaluation.units(`({ config, ... }: {
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "/etc/secrets";
        # The sidecar waits for a missing folder, but only a moment for a secret missing in it.
        secretsStore.files.late = {
          secretsConfig = { backend = "folder"; config.secretsDir = "/etc/late-secrets"; };
        };
        systemd.services.app = {
          script = "cat \${config.secretsStore.files.late.result.path}";
          serviceConfig = { Type = "oneshot"; RemainAfterExit = true; StandardOutput = "append:${log}"; };
        };
      })`);
      await guest.write(log, "", 0o666);
      const early = units["secret-files.service"];
      if (early === undefined) throw new Error("nothing waits for the file");
      const short = { ...early, text: early.text.replace("timeout 30 ", `timeout ${seconds} `) };
      await installNix(guest, evaluation, { ...units, "secret-files.service": short });
      const etc = "/etc/systemd/system";
      await guest.write(
        `${etc}/boot-test.target`,
        "[Unit]\nRequires=basic.target\nWants=app.service\nAfter=basic.target app.service\n",
      );
      await guest.write(`${etc}/sysinit-reactivation.target`, "[Unit]\nDefaultDependencies=no\n");
      await guest.systemctl("daemon-reload");
    };
    const come = async () => {
      await guest.write("/etc/late-secrets.new/late", "late", 0o400);
      await guest.run("mv /etc/late-secrets.new /etc/late-secrets");
    };
    const ended = async () => {
      await guest.systemctl("stop", "boot-test.target", "app.service", "secret-file-late.service");
      await guest.run(
        "rm -rf /etc/late-secrets /etc/systemd/system/boot-test.target /etc/systemd/system/sysinit-reactivation.target",
      );
      await guest.systemctl("daemon-reload");
    };
    const state = async (unit: string) => (await guest.show(unit, "ActiveState")).ActiveState;

    test("a file of the contract exists before an undeclared consumer starts, at boot and at a switch", async () => {
      await booting(300);
      await guest.systemctl("stop", "basic.target");
      await guest.systemctl("start", "--no-block", "boot-test.target");
      await guest.until(
        "the sidecar waits for the file",
        async () => (await state("secret-files.service")) === "activating",
      );
      expect([await state("basic.target"), await state("app.service")]).toEqual(["inactive", "inactive"]);
      await come();
      expect(await said(/late/)).toEqual(["late"]);
      expect(await state("basic.target")).toBe("active");
      // At a switch it exists before any service starts; the switch waits for the call to return.
      await guest.systemctl("stop", "boot-test.target", "app.service", "secret-file-late.service");
      await guest.systemctl("restart", "sysinit-reactivation.target");
      expect(await guest.read("/run/secret-files/late/late")).toBe("late");
      await ended();
    });

    test("a boot does not wait for ever for such a file, and the sidecar keeps trying", async () => {
      await booting(5);
      await guest.systemctl("stop", "basic.target");
      await guest.systemctl("start", "basic.target");
      expect([await state("basic.target"), await state("secret-file-late.service")]).toEqual(["active", "activating"]);
      await come();
      await guest.until("it has come", async () => (await state("secret-file-late.service")) === "active");
      expect(await guest.read("/run/secret-files/late/late")).toBe("late");
      await ended();
    });

    test("a consumer with DynamicUser gets it through LoadCredential", async () => {
      const units = evaluation.value(`(host [
        (nix + "/modules/secrets-store.nix")
        ${join(project, "examples/nixos/contract-consumer.nix")}
        ({ config, ... }: {
          services.greeter.enable = true;
          secretsStore.enable = true;
          secretsStore.folder.secretsDir = "/etc/secrets";
          secretsStore.files.one = {
            inherit (config.services.greeter.greetingFile) request;
            secretsConfig.backend = "folder";
            consumers = [ "greeter.service" ];
          };
          services.greeter.greetingFile = { inherit (config.secretsStore.files.one) result; };
          systemd.services.greeter.serviceConfig.StandardOutput = "append:${log}";
        })
      ]).units`) as RenderedUnits;
      expect(await start(units, /hello/, "greeter.service")).toEqual(["hello, it's one"]);
      expect(await guest.text(["stat", "-c", "%a %U %G", "/run/secret-files/one/one"])).toBe("400 root root");
      await guest.systemctl("stop", "secret-file-one.service");
    });
  },
  {},
  ["nix"],
);
