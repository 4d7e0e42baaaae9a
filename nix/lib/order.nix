# Which units start before which. A sidecar starts after basic.target, and after the network if its store needs that. A
# service that must start earlier would wait for itself, and systemd would break such a cycle by leaving out one of the
# units.
{ lib }:

let
  inherit (import ./backends.nix { inherit lib; }) backendOf;

  targets = rec {
    # The targets that sysinit.target waits for (systemd 252 to 257). basic.target does not wait for timers.target.
    sysinit = map (name: "${name}.target") [
      "sysinit"
      "local-fs"
      "local-fs-pre"
      "cryptsetup"
      "cryptsetup-pre"
      "swap"
    ];
    basic =
      sysinit
      ++ map (name: "${name}.target") [
        "basic"
        "paths"
        "slices"
        "sockets"
      ];
    network = map (name: "${name}.target") [
      "network-pre"
      "network"
      "network-online"
    ];
  };

  # Units of packages have their Before= in files that Nix does not evaluate (systemd 252 to 257, NetworkManager, iwd).
  ofPackages = lib.concatMapAttrs (target: names: lib.genAttrs names (_: [ target ])) {
    "sysinit.target" = [
      "systemd-binfmt"
      "systemd-journald"
      "systemd-modules-load"
      "systemd-pstore"
      "systemd-sysctl"
      "systemd-sysusers"
      "systemd-timesyncd"
      "systemd-tmpfiles-setup"
      "systemd-tmpfiles-setup-dev"
      "systemd-udevd"
      "systemd-update-utmp"
    ];
    "local-fs.target" = [ "systemd-remount-fs" ];
    "network-pre.target" = [ "systemd-network-generator" ];
    "network.target" = [
      "NetworkManager"
      "iwd"
      "systemd-networkd"
      "systemd-resolved"
    ];
    "network-online.target" = [
      "NetworkManager-wait-online"
      "systemd-networkd-wait-online"
    ];
  };

  nameOf = lib.removeSuffix ".service";
in
{
  # `services`: of all modules. Returns unit → all units that start after it, by its own Before= or by their After=.
  laterIn =
    services:
    let
      edges = lib.concatLists (
        lib.mapAttrsToList (
          name: service:
          map (unit: {
            inherit unit;
            later = "${name}.service";
          }) (service.after or [ ])
        ) services
      );
      afterIt = lib.groupBy (edge: edge.unit) edges;
      next =
        unit:
        (services.${nameOf unit}.before or [ ])
        ++ ofPackages.${nameOf unit} or [ ]
        ++ map (edge: edge.later) (afterIt.${unit} or [ ]);
    in
    unit:
    map (item: item.key) (
      builtins.genericClosure {
        startSet = map (key: { inherit key; }) (next unit);
        operator = item: map (key: { inherit key; }) (next item.key);
      }
    );

  # `units`: those that wait for the sidecar; `later`: the result of laterIn; `isEarly`: the sidecar waits for
  # sysinit.target alone.
  problemsOf =
    {
      option,
      backend,
      units,
      later,
      isEarly ? false,
    }:
    let
      isOnNetwork = (backendOf backend).network or false;
      of =
        unit:
        let
          before = later unit;
          early = lib.intersectLists (if isEarly then targets.sysinit else targets.basic) before;
          network = lib.intersectLists targets.network before;
        in
        lib.optional (early != [ ])
          "${option}: systemd.services.${nameOf unit} starts before ${lib.head early}, and its sidecar after it: systemd would break the circle by leaving one of them out; use LoadCredentialEncrypted, which needs no sidecar"
        ++
          lib.optional (isOnNetwork && early == [ ] && network != [ ])
            "${option}: systemd.services.${nameOf unit} starts before ${lib.head network}, and its secrets come over the network: each would wait for the other; take a store of this host (folder, credentials)";
    in
    lib.concatMap of units;
}
