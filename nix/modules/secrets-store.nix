# The host's secrets: stores with their defaults, and consumers that get secrets without knowing it.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  inherit (import ../lib { inherit config lib pkgs; })
    types
    problems
    readers
    render
    ;

  # Problems that other modules cause in services of secrets scopes. `act`: name of the unit that acts; `unit`: that
  # unit.
  lostOfScope =
    act: unit:
    let
      name = unit.unitConfig.X-FetcherScope;
      sidecar = lib.removeSuffix "-act" act;
      service = config.systemd.services.${name};
    in
    readers.lost {
      option = "its secrets scope";
      unit = "systemd.services.${name}";
      sidecar = "${sidecar}.service";
      half = render.privateTmp sidecar;
      inherit service;
    }
    ++ problems.ofPrivateTmp "systemd.services.${name}" service;

  having =
    mark:
    lib.filterAttrs (
      _: service: service.enable && service.unitConfig ? ${mark}
    ) config.systemd.services;
in
{
  imports = [
    ./services.nix
    ./files.nix
    ./containers.nix
  ];

  options.secretsStore = {
    enable = lib.mkEnableOption "secrets for services, by a sidecar for each";

    package = lib.mkPackageOption {
      secrets-sidecar = pkgs.secrets-sidecar or (pkgs.callPackage ../package.nix { });
    } "secrets-sidecar" { };

    isDecided = lib.mkOption {
      type = lib.types.bool;
      internal = true;
      readOnly = true;
      default = options.secretsStore.enable.highestPrio < (lib.mkOptionDefault null).priority;
      description = "Whether `enable` was set, to either value.";
    };
  }
  // lib.mapAttrs (name: _: types.storeOptions name) types.backends;

  # `fetcher status` and the manual pages, for the operator.
  config.environment.systemPackages = lib.mkIf config.secretsStore.enable [
    config.secretsStore.package
  ];

  # The path unit of each unit that acts for a sidecar: a scope of RFC 59 makes only services.
  config.systemd.paths = lib.mkIf config.secretsStore.enable (
    lib.mapAttrs render.actPath (having "X-FetcherInbox")
    // lib.mapAttrs render.refreshPath (having "X-FetcherNotes")
    // lib.mapAttrs render.watchPath (having "X-FetcherWatch")
  );

  # The timer of each unit that looks at the store now and then.
  config.systemd.timers = lib.mkIf config.secretsStore.enable (
    lib.mapAttrs render.refreshTimer (having "X-FetcherInterval")
  );

  config.assertions =
    let
      used = lib.filter (name: config.secretsStore.${name} != { }) [
        "services"
        "files"
        "containers"
      ];
    in
    map (name: {
      assertion = false;
      message = "secretsStore.${name} has secrets, and secretsStore.enable is not set: set it to true, or to false to leave them out";
    }) (lib.optionals (!config.secretsStore.isDecided) used)
    ++
      map
        (message: {
          assertion = false;
          inherit message;
        })
        (
          lib.concatLists (
            lib.mapAttrsToList lostOfScope (
              lib.filterAttrs (_: service: service.unitConfig ? X-FetcherScope) config.systemd.services
            )
          )
        );
}
