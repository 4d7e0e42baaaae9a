# A stand-in for the part of home-manager that nix/home-manager.nix talks to, of our own: systemd.user.services, whose
# sections are called as systemd does, and the unit files that it makes of them.
{
  lib,
  pkgs,
  modules,
}:

let
  inherit (lib) mkOption types;

  primitive = types.either types.bool (types.either types.number types.str);
  home = lib.evalModules {
    modules = [
      {
        options.assertions = mkOption {
          type = types.listOf types.unspecified;
          default = [ ];
        };
        options.home.packages = mkOption {
          type = types.listOf types.package;
          default = [ ];
        };
        options.systemd.user.services = mkOption {
          default = { };
          # A list and a string for the same key are in conflict here: they are not made one.
          type = types.attrsOf (
            types.attrsOf (types.attrsOf (types.either primitive (types.listOf primitive)))
          );
        };
        config._module.args.pkgs = pkgs;
      }
    ]
    ++ modules;
  };
  value = v: if builtins.isBool v then (if v then "true" else "false") else toString v;
  section =
    name: keys:
    "[${name}]\n"
    + lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (key: v: map (one: "${key}=${value one}\n") (lib.toList v)) keys
      )
    );
in
rec {
  inherit (home) config options;
  failed = map (one: one.message) (lib.filter (one: !one.assertion) home.config.assertions);
  units =
    if failed != [ ] then
      throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (message: "- ${message}") failed}"
    else
      lib.mapAttrs' (
        name: unit:
        lib.nameValuePair "${name}.service" {
          text = lib.concatStrings (lib.mapAttrsToList section (removeAttrs unit [ "Install" ]));
          links =
            map (other: "${other}.wants/${name}.service") (unit.Install.WantedBy or [ ])
            ++ map (other: "${other}.requires/${name}.service") (unit.Install.RequiredBy or [ ]);
        }
      ) home.config.systemd.user.services;
}
