# Tests in virtual machines, one for each scenario: `nix build .#checks.x86_64-linux.NAME`. Each boots the module as
# a host would have it; none waits for a fixed time.
{ self, lib }:

let
  # What all of them share: a service that says what it reads, and a folder that is written before it starts.
  machine = {
    imports = [ self.nixosModules.default ];
    secretsStore = {
      enable = true;
      folder.secretsDir = "/etc/secrets";
    };
    systemd.tmpfiles.settings.secrets."/etc/secrets".d.mode = "0700";
  };
  scoped =
    {
      config,
      lib,
      pkgs,
      ...
    }:
    {
      imports = [ machine ];
      systemd.services =
        (self.lib.secrets { inherit pkgs lib config; }).serviceSecretsScope
          {
            loadSecrets = [ "token" ];
            backendConfig = {
              backend = "folder";
              config.reloadOnChange = true;
            };
          }
          (
            { token }:
            {
              app = {
                script = ''
                  echo "file=$(cat ${token}) variable=$token"
                  exec sleep infinity
                '';
                serviceConfig = {
                  DynamicUser = true;
                  Restart = "on-failure";
                };
              };
            }
          );
    };

  # Put secrets in place as root, atomically, and look at what a unit has said.
  helpers = ''
    def put(value, name="token"):
        machine.succeed(
            f"umask 077; printf %s '{value}' > /etc/secrets/.new && mv /etc/secrets/.new /etc/secrets/{name}"
        )

    def said(text, unit="app"):
        machine.wait_until_succeeds(f"journalctl -b -o cat -u {unit} | tail -n 1 | grep -F '{text}'")

    machine.wait_for_unit("multi-user.target")
  '';

  scenario = name: node: script: {
    inherit name;
    nodes.machine = node;
    testScript = helpers + script;
  };
in
lib.mapAttrs (name: test: test name) {
  start =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      said("file=one variable=one")
      machine.succeed("systemctl stop app")
      machine.wait_until_fails("systemctl is-active app-secrets")
      machine.fail("ls -d /run/app-secrets /tmp/systemd-private-*app*")
    '';

  stopSidecar =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      machine.succeed("systemctl stop app-secrets")
      machine.wait_until_fails("systemctl is-active app")
      machine.succeed("systemctl start app")
    '';

  killTarget =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      machine.succeed("mv /etc/secrets /etc/away")
      pid = machine.succeed("systemctl show -P MainPID app").strip()
      machine.succeed("systemctl kill -s KILL --kill-whom=main app")
      machine.wait_until_succeeds(f"systemctl is-active app && test $(systemctl show -P MainPID app) != {pid}")
      said("file=one variable=one")
    '';

  killSidecar =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      target = machine.succeed("systemctl show -P MainPID app").strip()
      pid = machine.succeed("systemctl show -P MainPID app-secrets").strip()
      machine.succeed("systemctl kill -s KILL --kill-whom=main app-secrets")
      machine.wait_until_succeeds(
          f"systemctl is-active app-secrets && test $(systemctl show -P MainPID app-secrets) != {pid}"
      )
      assert target == machine.succeed("systemctl show -P MainPID app").strip()
      put("two")
      said("file=two variable=two")
    '';

  rotation =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      said("file=one variable=one")
      put("two")
      said("file=two variable=two")
    '';

  missingSecret =
    name:
    scenario name scoped ''
      machine.fail("systemctl start app")
      assert "66" == machine.succeed("systemctl show -P ExecMainStatus app-secrets").strip()
      machine.succeed("systemctl status app-secrets | grep -F 'no file /etc/secrets/token' || [ $? = 3 ]")
      put("one")
      machine.succeed("systemctl start app")
    '';

  lateStore =
    name:
    scenario name scoped ''
      machine.succeed("mv /etc/secrets /etc/away")
      machine.succeed("systemctl start --no-block app")
      machine.wait_until_succeeds("systemctl show -P StatusText app-secrets | grep waiting")
      machine.succeed("mv /etc/away /etc/secrets")
      put("one")
      said("file=one variable=one")
    '';

  credentials =
    name:
    scenario name
      {
        imports = [ machine ];
        systemd.services.app = {
          script = ''
            echo "file=$(cat $CREDENTIALS_DIRECTORY/token) variable=$TOKEN"
            exec sleep infinity
          '';
          serviceConfig.DynamicUser = true;
        };
        secretsStore.services.app = {
          secrets = {
            token = { };
            absent.optional = true;
          };
          secretsConfig = {
            backend = "folder";
            config.reloadOnChange = true;
          };
          environment.TOKEN = "token";
        };
      }
      ''
        put("one")
        machine.succeed("systemctl start app")
        said("file=one variable=one")
        put("two")
        said("file=two variable=two")
        machine.succeed("systemctl stop app")
        machine.wait_until_fails("test -e /run/app-secrets")
      '';

  contract =
    name:
    scenario name
      (
        { config, ... }:
        {
          imports = [
            self.nixosModules.hardcoded-secrets
            ../../examples/nixos/contract-consumer.nix
          ];
          services.greeter.enable = true;
          systemd.services.greeter.wantedBy = [ "multi-user.target" ];
          hardcodedSecrets.greeting = {
            content = "world";
            inherit (config.services.greeter.greetingFile) request;
          };
          services.greeter.greetingFile = { inherit (config.hardcodedSecrets.greeting) result; };
          secretsStore.files.greeting.consumers = [ "greeter.service" ];
          users.users.stash = {
            isSystemUser = true;
            group = "stash";
          };
          users.groups.stash = { };
          hardcodedSecrets."stash/password" = {
            content = "p4ss";
            request = {
              mode = "0440";
              owner = "stash";
              group = "stash";
            };
          };
        }
      )
      ''
        said("hello, world", "greeter")
        machine.wait_for_unit("secret-file-stash-password")
        path = "/run/secret-files/stash-password/password"
        assert "440 stash stash" == machine.succeed(f"stat -c '%a %U %G' {path}").strip()
        assert "p4ss" == machine.succeed(f"cat {path}")
      '';

  vault =
    name:
    scenario name
      (
        { pkgs, ... }:
        {
          imports = [ machine ];
          environment.systemPackages = [ pkgs.openbao ];
          environment.variables.BAO_ADDR = "http://127.0.0.1:8200";
          systemd.services.bao = {
            wantedBy = [ "multi-user.target" ];
            environment.HOME = "/run/bao";
            serviceConfig = {
              RuntimeDirectory = "bao";
              ExecStart = "${pkgs.openbao}/bin/bao server -dev -dev-root-token-id=root";
            };
          };
          systemd.services.app = {
            script = ''
              echo "file=$(cat $CREDENTIALS_DIRECTORY/token)"
              exec sleep infinity
            '';
          };
          secretsStore.vault.tokenPath = "/etc/secrets/vault-token";
          secretsStore.services.app = {
            secrets.token = { };
            secretsConfig = {
              backend = "vault";
              config = {
                path = "app";
                reloadOnChange = true;
                pollingInterval = 1;
              };
            };
          };
        }
      )
      ''
        machine.wait_for_open_port(8200)
        put("root", "vault-token")
        machine.succeed("BAO_TOKEN=root bao kv put secret/app token=one")
        machine.succeed("systemctl start app")
        said("file=one")
        machine.succeed("BAO_TOKEN=root bao kv put secret/app token=two")
        said("file=two")
        machine.succeed("systemctl stop bao")
        assert "active" == machine.succeed("systemctl is-active app").strip()
      '';

  container =
    name:
    scenario name
      {
        imports = [ machine ];
        containers.inner = {
          config = {
            system.stateVersion = "25.05";
            systemd.services.app = {
              wantedBy = [ "multi-user.target" ];
              script = ''
                echo "file=$(cat $CREDENTIALS_DIRECTORY/token)"
                exec sleep infinity
              '';
              serviceConfig.DynamicUser = true;
            };
          };
        };
        secretsStore.containers.inner = {
          secrets.token = { };
          services.app = [ "token" ];
          secretsConfig = {
            backend = "folder";
            config.reloadOnChange = true;
          };
        };
      }
      ''
        put("one")
        machine.succeed("systemctl start container@inner")
        machine.wait_until_succeeds("journalctl -M inner -o cat -u app | grep -F file=one")
        put("two")
        machine.wait_until_succeeds("journalctl -M inner -o cat -u app | grep -F file=two")
      '';
}
