{
  description = "secrets-sidecar: the secrets sidecar for systemd services";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      outputs = import ./nix/outputs.nix { inherit lib; };
      eachSystem = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ];
      pkgsFor = system: nixpkgs.legacyPackages.${system}.extend self.overlays.default;
    in
    {
      inherit (outputs) nixosModules homeModules lib;
      overlays.default = outputs.overlay;

      packages = eachSystem (
        system:
        let
          pkgs = pkgsFor system;
        in
        {
          default = pkgs.secrets-sidecar;
          inherit (pkgs) secrets-sidecar secrets-sidecar-node;
        }
      );

      templates.default = {
        path = ./nix/template;
        description = "A NixOS host with a service of nixpkgs that gets its secrets";
      };

      # `nix run .#demo`: a virtual machine to look at.
      apps = eachSystem (
        system:
        let
          host = lib.nixosSystem {
            inherit system;
            modules = [
              self.nixosModules.default
              ./nix/demo.nix
            ];
          };
        in
        {
          demo = {
            type = "app";
            program = "${host.config.system.build.vm}/bin/run-${host.config.networking.hostName}-vm";
          };
        }
      );

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
