# The module of RFC 59's text ("Module author facing API"), as it is there; around it only what the RFC leaves out.
{
  config,
  lib,
  pkgs,
  ...
}:

with lib;

let
  secrets = import ../lib/secrets.nix { inherit pkgs; inherit lib; inherit config; };
  cfg = config.services.secrets_test;

  secretsScope = secrets.serviceSecretsScope {
    loadSecrets = [ "secret1" "secret2" ];
    backendConfig = cfg.secretsConfig;
  };

in {

  options.services.secrets_test = {
    enable = mkEnableOption "Enable secrets store";
    secretsConfig = secrets.secretsBackendOption;
  };

  config = mkIf cfg.enable {

    systemd.services = secretsScope ({ secret1, ... }: {

      # A simple service consuming secrets from files
      secrets_test_file = {
        description = "Simple test service using a secret";
        serviceConfig = {
          ExecStart = "${pkgs.bash}/bin/bash -c '${pkgs.coreutils}/bin/cat ${secret1}; sleep infinity'";
          DynamicUser = true;
        };
      };
    });
  };
}
