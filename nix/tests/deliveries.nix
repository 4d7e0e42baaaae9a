# How secrets reach a service, and where they come from.
{
  self,
  machine,
  scenario,
}:

{
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
        machine.wait_until_fails("ls -d /run/app-secrets/*")
      '';

  contract =
    name:
    scenario name
      (
        { config, ... }:
        {
          imports = [
            machine
            self.nixosModules.hardcoded-secrets
            ../../examples/nixos/contract-consumer.nix
          ];
          services.greeter.enable = true;
          secretsStore.files.token = {
            inherit (config.services.greeter.greetingFile) request;
            secretsConfig.backend = "folder";
            consumers = [ "greeter.service" ];
          };
          services.greeter.greetingFile = { inherit (config.secretsStore.files.token) result; };
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
        put("world")
        machine.succeed("systemctl start greeter")
        said("hello, world", "greeter")
        path = "/run/hardcoded-secrets/stash-password"
        assert "440 stash stash" == machine.succeed(f"stat -c '%a %U %G' {path}").strip()
        assert "p4ss" == machine.succeed(f"cat {path}")
      '';

  # An undeclared consumer finds the file at boot.
  early =
    name:
    scenario name
      (
        { config, ... }:
        {
          imports = [
            machine
            ../../examples/nixos/contract-consumer.nix
          ];
          systemd.tmpfiles.settings.secrets."/etc/secrets/token".f = {
            mode = "0400";
            argument = "early";
          };
          services.greeter.enable = true;
          systemd.services.greeter.wantedBy = [ "multi-user.target" ];
          secretsStore.files.token = {
            inherit (config.services.greeter.greetingFile) request;
            secretsConfig.backend = "folder";
          };
          services.greeter.greetingFile = { inherit (config.secretsStore.files.token) result; };
        }
      )
      ''
        said("hello, early", "greeter")
        assert "0" == machine.succeed("systemctl show -P NRestarts greeter").strip()
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

  template =
    name:
    scenario name
      {
        imports = [ machine ];
        systemd.services.app = {
          script = ''
            echo "file=$(cat $CREDENTIALS_DIRECTORY/app.ini)"
            exec sleep infinity
          '';
          serviceConfig.DynamicUser = true;
        };
        secretsStore.services.app = {
          secrets.token = { };
          templates."app.ini".text = "token = {{token}};";
          secretsConfig = {
            backend = "folder";
            config.reloadOnChange = true;
          };
        };
      }
      ''
        put("one")
        machine.succeed("systemctl start app")
        said("file=token = one;")
        put("two")
        said("file=token = two;")
      '';
}
