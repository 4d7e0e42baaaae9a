{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.secrets-sidecar.url = "path:/path/to/this/repository";
  inputs.secrets-sidecar.inputs.nixpkgs.follows = "nixpkgs";

  outputs = { nixpkgs, secrets-sidecar, ... }: {
    nixosConfigurations.host = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [
        ./configuration.nix # the host's own
        secrets-sidecar.nixosModules.default
        ({ config, ... }: {
          secretsStore.enable = true;
          secretsStore.folder.secretsDir = "/etc/secrets"; # root's own, mode 0700

          services.vaultwarden.enable = true;
          services.vaultwarden.environmentFile =
            config.secretsStore.services.vaultwarden.environmentFile.hostPath;
          secretsStore.services.vaultwarden = {
            secrets.ADMIN_TOKEN = { }; # the file /etc/secrets/ADMIN_TOKEN
            environmentFile.enable = true;
            secretsConfig.backend = "folder";
            secretsConfig.config.reloadOnChange = true;
          };
        })
      ];
    };
  };
}
