# Options that modules around ours set and nothing here reads: anything goes.
{ lib, ... }:

let
  anything = lib.mkOption {
    type = lib.types.anything;
    default = { };
  };
in
{
  options = {
    environment.variables = anything;
    specialisation = anything;
    systemd.tmpfiles = anything;
    users = anything;
  };
}
