# A provider of the contract for secrets in files whose secrets are in the configuration, for tests of consumers: the
# values are in the Nix store, mode, owner and group are what the consumer asked for.
{ config, lib, ... }:

let
  contract = import ../lib/contract.nix { inherit lib; };
in
{
  imports = [ ./secrets-store.nix ];

  options.hardcodedSecrets = lib.mkOption {
    default = { };
    type = lib.types.attrsOf (
      lib.types.submodule (
        { name, ... }:
        {
          imports = [
            (contract.provider {
              path = config.secretsStore.files.${name}.result.path;
              defaultPath = ''"/run/secret-files/NAME/NAME"'';
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

  config.secretsStore = {
    enable = lib.mkIf (config.hardcodedSecrets != { }) true;
    files = lib.mapAttrs (name: secret: {
      inherit (secret) request;
      id = "content";
      secretsConfig = {
        backend = "static";
        config = {
          values.content = secret.content;
          allowInsecure = true;
        };
      };
    }) config.hardcodedSecrets;
  };
}
