{
  description = "secrets-sidecar: the secrets sidecar for systemd services";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsFor = system: nixpkgs.legacyPackages.${system}.extend self.overlays.default;
    in
    {
      overlays.default = final: _: {
        secrets-sidecar = final.callPackage ./nix/package.nix { };
      };

      packages = eachSystem (
        system:
        let
          pkgs = pkgsFor system;
        in
        {
          default = pkgs.secrets-sidecar;
          inherit (pkgs) secrets-sidecar;
        }
      );

      nixosModules = {
        # Not the bare paths, which the `nix flake check` of 2.8 refuses.
        default.imports = [ ./nix/modules/secrets-store.nix ];
        # For tests of consumers: secrets that are in the configuration.
        hardcoded-secrets.imports = [ ./nix/modules/hardcoded-secrets.nix ];
      };

      lib = {
        # RFC 59: `inputs.secrets-sidecar.lib.secrets { inherit pkgs lib config; }`.
        secrets = import ./nix/lib/secrets.nix;
        # The contract for secrets in files: `consumer` and `provider`.
        contract = import ./nix/lib/contract.nix { inherit lib; };
      };

      checks = eachSystem (
        system:
        let
          pkgs = pkgsFor system;
        in
        lib.mapAttrs (_: test: pkgs.testers.runNixOSTest test) (import ./nix/tests { inherit self lib; })
        // {
          package = pkgs.secrets-sidecar;
        }
      );

      devShells = eachSystem (
        system:
        let
          pkgs = pkgsFor system;
        in
        {
          default = pkgs.mkShell {
            inputsFrom = [ pkgs.secrets-sidecar ];
            packages = [
              pkgs.nixfmt
              pkgs.openbao
            ];
            # For the evaluation tests.
            NIXPKGS = "${nixpkgs}";
          };
        }
      );

      formatter = eachSystem (system: nixpkgs.legacyPackages.${system}.nixfmt-tree);
    };
}
