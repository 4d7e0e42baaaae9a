# The host's secrets: stores with their defaults, and what gets secrets without knowing of it.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  types = import ../lib/types.nix { inherit lib; };
in
{
  imports = [
    ./services.nix
    ./files.nix
    ./containers.nix
  ];

  options.secretsStore = {
    enable = lib.mkEnableOption "secrets for services, by a sidecar for each";

    package = lib.mkPackageOption {
      secrets-sidecar = pkgs.secrets-sidecar or (pkgs.callPackage ../package.nix { });
    } "secrets-sidecar" { };
  }
  // lib.mapAttrs (name: _: types.storeOptions name) types.backends;
}
