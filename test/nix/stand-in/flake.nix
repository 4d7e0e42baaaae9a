# A stand-in for the flake of nixpkgs, of our own, beside a lib of nixpkgs: what flake.nix asks of it, in derivations
# that is never built.
{
  outputs =
    _:
    let
      lib = import ./lib;
      pkgsOf =
        system:
        let
          made =
            name:
            builtins.derivation {
              inherit name system;
              builder = "/bin/sh";
            };
          call =
            packages: file: more:
            let
              function = import file;
            in
            function (builtins.intersectAttrs (builtins.functionArgs function) packages // more);
          packages =
            lib.genAttrs [
              "cacert"
              "makeBinaryWrapper"
              "nixfmt"
              "nixfmt-tree"
              "nodejs-slim_24"
              "nodejs_24"
              "openbao"
              "python3"
              "systemd"
              "util-linux"
            ] made
            // {
              inherit lib;
              bun = made "bun" // {
                version = "99.0.0";
              };
              stdenv = {
                hostPlatform = {
                  inherit system;
                  node.arch = "any";
                };
                mkDerivation =
                  attributes:
                  let
                    given =
                      if builtins.isFunction attributes then attributes { finalPackage = package; } else attributes;
                    package = made (given.name or given.pname) // {
                      inherit (given) meta;
                    };
                  in
                  package;
              };
              mkShell = _: made "shell";
              testers = {
                runNixOSTest = test: made test.name;
                testVersion = _: made "version";
              };
              callPackage = call packages;
              extend =
                overlay:
                let
                  final = packages // { callPackage = call final; } // overlay final packages;
                in
                final;
            };
        in
        packages;
    in
    {
      lib = lib // {
        # A machine that never starts.
        nixosSystem =
          { system, modules }:
          assert builtins.all (module: builtins.isAttrs module || builtins.pathExists module) modules;
          {
            config.networking.hostName = "host";
            config.system.build.vm = builtins.derivation {
              name = "vm";
              inherit system;
              builder = "/bin/sh";
            };
          };
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] pkgsOf;
    };
}
