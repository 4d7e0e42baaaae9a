# Code that the modules of secretsStore share.
{
  config,
  lib,
  pkgs,
}:

rec {
  types = import ./types.nix { inherit lib; };
  problems = import ./problems.nix { inherit lib; };
  order = import ./order.nix { inherit lib; };
  environment = import ./environment.nix { inherit lib; };
  readers = import ./readers.nix { inherit lib; };
  templates = import ./templates.nix { inherit lib pkgs; };
  contract = import ./contract.nix { inherit lib; };
  render = import ./render.nix {
    inherit lib pkgs;
    inherit (config.secretsStore) package;
  };
  serviceOptions = import ./service-options.nix {
    inherit
      lib
      types
      templates
      environment
      render
      ;
  };
}
