# `nix run .#demo`: a virtual machine with a service, its secret, and root at the console to rotate it.
{
  config,
  lib,
  modulesPath,
  ...
}:

{
  imports = [ "${toString modulesPath}/virtualisation/qemu-vm.nix" ];

  networking.hostName = "fetcher-demo";
  system.stateVersion = lib.trivial.release;
  virtualisation.graphics = false;
  services.getty = {
    autologinUser = "root";
    helpLine = ''
      A service says what it reads:    journalctl -u hello -f &
      Rotate its secret:               echo "good evening" > /etc/secrets/greeting
      What the sidecar has to say:     systemctl status hello-secrets; fetcher status
      Leave:                           poweroff
    '';
  };

  # Only for this machine, and no real secret: what is written here is in the Nix store.
  systemd.tmpfiles.settings.demo = {
    "/etc/secrets".d.mode = "0700";
    "/etc/secrets/greeting".f = {
      mode = "0400";
      argument = "good morning";
    };
  };

  secretsStore.enable = true;
  secretsStore.folder.secretsDir = "/etc/secrets";
  secretsStore.services.hello = {
    secrets.greeting = { };
    secretsConfig.backend = "folder";
    secretsConfig.config.reloadOnChange = true;
  };
  systemd.services.hello = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.DynamicUser = true;
    script = ''
      echo "hello, $(cat ${config.secretsStore.services.hello.secrets.greeting.path})"
      exec sleep infinity
    '';
  };
}
