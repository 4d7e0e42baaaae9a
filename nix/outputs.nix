# The outputs of this project, with flakes (flake.nix) or without (default.nix).
{ lib }:

{
  overlay = final: _: {
    secrets-sidecar = final.callPackage ./package.nix { };
    secrets-sidecar-node = final.callPackage ./package.nix { withNode = true; };
  };

  nixosModules = {
    # Not the bare paths, which `nix flake check` of Nix 2.8 refuses.
    default.imports = [ ./modules/secrets-store.nix ];
    # For tests of consumers: secrets that are in the configuration.
    hardcoded-secrets.imports = [ ./modules/hardcoded-secrets.nix ];
  };

  # For home-manager.
  homeModules.default.imports = [ ./home-manager.nix ];

  lib = {
    # RFC 59: `secrets-sidecar.lib.secrets { inherit pkgs lib config; }`.
    secrets = import ./lib/secrets.nix;
    # The contract for secrets in files: `consumer` and `provider`.
    contract = import ./lib/contract.nix { inherit lib; };
  };
}
