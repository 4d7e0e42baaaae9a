# A module that takes a secret as a file, by the contract: it says what mode and owner it needs, not where the file
# comes from. With DynamicUser there is no owner in advance: systemd reads the file as root and hands over a copy.
{ config, lib, ... }:

let
  contract = import ../../nix/lib/contract.nix { inherit lib; };
  cfg = config.services.greeter;
in
{
  options.services.greeter = {
    enable = lib.mkEnableOption "a service that greets with a secret";
    greetingFile = contract.consumer {
      mode = "0400";
      owner = "root";
      group = "root";
      description = "File with the greeting.";
    };
  };

  config = lib.mkIf cfg.enable {
    systemd.services.greeter = {
      serviceConfig = {
        DynamicUser = true;
        LoadCredential = [ "GREETING:${cfg.greetingFile.result.path}" ];
      };
      environment.GREETING = "%d/GREETING";
      script = ''
        echo "hello, $(cat "$GREETING")"
        exec sleep infinity
      '';
    };
  };
}
