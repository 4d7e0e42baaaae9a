# A sidecar below a user's service manager, as home-manager writes units: { Unit; Service; Install; }. It acts itself,
# as this manager obeys only that user. The units are those that src/units makes for a user; a test compares the two.
{
  lib,
  pkgs,
  package,
  render,
}:

let
  # A user's manager cannot make the namespaces that the system's makes. These settings need no privilege.
  kept = [
    "Type"
    "Restart"
    "RemainAfterExit"
    "NotifyAccess"
    "RuntimeDirectoryPreserve"
    "RestartMode"
    "RestartSec"
    "RestartPreventExitStatus"
    "TimeoutStartSec"
    "LimitCORE"
    "MemorySwapMax"
    "MemoryMax"
    "MemoryDenyWriteExecute"
    "OOMPolicy"
    "UMask"
    "UnsetEnvironment"
    "NoNewPrivileges"
    "LockPersonality"
    "RestrictNamespaces"
    "RestrictRealtime"
    "RestrictSUIDSGID"
    "RestrictAddressFamilies"
    "SystemCallArchitectures"
    "SystemCallFilter"
  ];

  # home-manager does not set it.
  path = lib.concatMapStringsSep ":" (one: "${one}/bin") [
    pkgs.coreutils
    pkgs.findutils
    pkgs.systemd
  ];
in
rec {
  # `%t` is $XDG_RUNTIME_DIR, which only systemd knows.
  publicDirectory = sidecar: "%t/${sidecar}/pub";

  # For the configuration. ExecStart overrides it.
  directoryIn = sidecar: "/run/user/self/${sidecar}/pub";

  sidecar =
    {
      name,
      config,
      targets,
      storeAfter,
      isOpen,
    }:
    let
      whole = render.sidecar {
        inherit name config targets;
        isSplit = false;
      };
      service = lib.filterAttrs (option: _: lib.elem option kept) whole.serviceConfig;
    in
    {
      Unit = {
        Description = whole.description;
        # With `RequiredBy` this is all that its targets need: the order that other modules set stays as it is.
        Before = targets;
        StopWhenUnneeded = true;
        StartLimitIntervalSec = 0;
      }
      // render.assertFree [ "%t/${name}" ]
      // lib.optionalAttrs (whole.partOf != [ ]) { PartOf = whole.partOf; }
      // lib.optionalAttrs (config.backend == "folder" && storeAfter != [ ]) { After = storeAfter; };
      Service =
        service
        // {
          ExecStart = "${whole.serviceConfig.ExecStart} --output ${publicDirectory name}";
          ExecStopPost = "-${pkgs.bash}/bin/sh -c '${render.emptyWhenStopped "systemctl --user"}'";
          RuntimeDirectory = name;
          RuntimeDirectoryMode = if isOpen then "0755" else "0700";
          Environment = [
            "PATH=${path}"
          ]
          ++ lib.mapAttrsToList (key: value: "${key}=${value}") whole.environment;
        }
        // lib.optionalAttrs (whole.serviceConfig ? ExecReload) {
          inherit (whole.serviceConfig) ExecReload;
        };
      Install.RequiredBy = targets;
    };
}
