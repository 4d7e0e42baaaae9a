# Evaluates a host of the stand-in with these modules.
{ nixpkgs, modules }:

let
  lib = import (nixpkgs + "/lib");
  pkgs = import ./pkgs.nix { inherit lib; };
  host = lib.evalModules {
    modules = [ (import ./nixos.nix { inherit lib pkgs; }) ] ++ modules;
  };
  starters =
    kind:
    lib.mapAttrs' (
      name: unit:
      lib.nameValuePair "${name}.${kind}" {
        inherit (unit) text;
        links = [ ];
      }
    );
  failed = map (one: one.message) (lib.filter (one: !one.assertion) host.config.assertions);
in
{
  inherit lib pkgs host;
  inherit (host) config options;
  inherit failed;

  # What a test reads: the units by their file names, as NixOS would write them. The first error ends it, as it ends a
  # build.
  units =
    if failed != [ ] then
      throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (message: "- ${message}") failed}"
    else
      starters "path" host.config.systemd.paths
      // starters "timer" host.config.systemd.timers
      // lib.mapAttrs' (
        name: service:
        lib.nameValuePair "${name}.service" {
          inherit (service) text;
          # Links beside the unit files: multi-user.target.wants/NAME.
          links =
            map (other: "${other}.wants/${name}.service") service.wantedBy
            ++ map (other: "${other}.requires/${name}.service") service.requiredBy;
        }
      ) (lib.filterAttrs (_: service: service.enable) host.config.systemd.services);
}
