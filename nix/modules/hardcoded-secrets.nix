# A provider of the contract for secrets in files that takes the secrets from the configuration, for tests of consumers.
# The values are in the Nix store; mode, owner and group are as the consumer asks. Activation writes the files, so they
# exist before any unit starts.
{ config, lib, ... }:

let
  contract = import ../lib/contract.nix { inherit lib; };

  root = "/run/hardcoded-secrets";
  flat = lib.replaceStrings [ "/" ] [ "-" ];
  pathOf = name: "${root}/${flat name}";

  # Writes it beside its place first: no reader sees it half written or with another mode.
  write =
    name: secret:
    let
      new = lib.escapeShellArg "${root}/.new";
      inherit (secret.request) mode owner group;
    in
    ''
      rm -f ${new}
      install -m 0600 /dev/null ${new}
      printf %s ${lib.escapeShellArg secret.content} > ${new}
      chown ${lib.escapeShellArg "${owner}:${group}"} ${new}
      chmod ${mode} ${new}
      mv -f ${new} ${lib.escapeShellArg (pathOf name)}
    '';
in
{
  options.hardcodedSecrets = lib.mkOption {
    default = { };
    type = lib.types.attrsOf (
      lib.types.submodule (
        { name, ... }:
        {
          imports = [
            (contract.provider {
              path = pathOf name;
              defaultPath = ''"/run/hardcoded-secrets/NAME"'';
            })
          ];
          options.content = lib.mkOption {
            type = lib.types.str;
            description = "The secret, which everybody can read in the Nix store.";
          };
        }
      )
    );
    description = "Secrets for tests of consumers.";
  };

  config = lib.mkIf (config.hardcodedSecrets != { }) {
    system.activationScripts.hardcodedSecrets = {
      deps = [
        "users"
        "groups"
        "specialfs"
      ];
      text = ''
        install -d -m 0755 ${root}
        ${lib.concatStrings (lib.mapAttrsToList write config.hardcodedSecrets)}
      '';
    };
  };
}
