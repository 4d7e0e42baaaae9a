# Without flakes: `(import PATH { }).nixosModules.default` is the NixOS module, `nix-build -A package` the package, and
# `nix-build -A tests.rotation` a test in a virtual machine. No argument is looked at for the modules.
{
  pkgs ? import <nixpkgs> { },
  lib ? pkgs.lib,
}:

let
  outputs = import ./nix/outputs.nix { inherit lib; };
in
outputs
// {
  package = pkgs.callPackage ./nix/package.nix { };
  package-node = pkgs.callPackage ./nix/package.nix { withNode = true; };
  tests = lib.mapAttrs (_: test: (pkgs.extend outputs.overlay).testers.runNixOSTest test) (
    import ./nix/tests {
      inherit lib;
      self = outputs;
    }
  );
}
