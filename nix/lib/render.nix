# The units and the sidecar's configuration: pure functions from checked values to attribute sets of `systemd.services`.
# The wiring is that of examples/systemd; a test compares the two.
{
  lib,
  pkgs,
  package,
}:

let
  inherit (import ./backends.nix { inherit lib; }) backendOf isModulePath open;

  # "foo@bar-secrets" would be an instance of foo@.service. A unit's name may contain `\x2d` and `:`, which mean
  # something else in a path of a unit file, and the sidecar's directories have the unit's name.
  flat = lib.replaceStrings [ "@" "\\" ":" ] [ "-" "-" "-" ];

  # If the package runs without Node, its units need what `npm run docs` writes from src/units/executable.ts.
  executable = lib.optionalAttrs (package.isExecutable or false) (lib.importJSON ./executable.json);

  compact = lib.filterAttrs (_: value: value != null);

  # In a unit file `%` begins a specifier.
  escape = lib.replaceStrings [ "%" ] [ "%%" ];

  withoutSlash =
    path: if lib.hasSuffix "/" path then withoutSlash (lib.removeSuffix "/" path) else path;

  # A path for a unit file: spaces need quotes.
  unitPath = path: if lib.hasInfix " " path then builtins.toJSON (escape path) else escape path;
in
rec {
  inherit escape;

  sidecarOf = service: "${flat service}-secrets";

  # The sidecar publishes there. Only root can enter the parent, except with the delivery `files`.
  publicDirectory = sidecar: "/run/${sidecar}/pub";

  # The part of the configuration that all deliveries share. `option`: where the service's settings are.
  configOf =
    {
      store,
      option,
      secretsConfig,
      startTimeout,
      resident,
    }:
    {
      inherit (secretsConfig) backend;
      config = settings {
        inherit store secretsConfig;
        path = option;
      };
    }
    // lib.optionalAttrs (startTimeout != null) { inherit startTimeout; }
    // lib.optionalAttrs (resident != true) { inherit resident; };

  # Whether a file of the configuration belongs to a user or a group other than root.
  hasOwner =
    config:
    lib.any (
      file:
      lib.any
        (
          name:
          !lib.elem (file.${name} or null) [
            null
            "root"
            "0"
            0
          ]
        )
        [
          "owner"
          "group"
        ]
    ) (lib.attrValues config.secrets ++ lib.attrValues (config.templates or { }));

  onChange =
    settings:
    compact (
      settings
      // {
        verify = lib.mapNullable (verify: { inherit (verify) command timeout; }) (settings.verify or null);
      }
    );

  # The store's settings; the service's own win over them.
  # `path`: where the service's are set, for messages.
  settings =
    {
      store,
      secretsConfig,
      path,
    }:
    let
      inherit (secretsConfig) backend;
      own = compact (secretsConfig.config or { });
      defaults = compact (store.${builtins.unsafeDiscardStringContext backend} or { });
      alternatives = (backendOf backend).alternatives or [ ];
      replaced = lib.optionals (lib.any (name: own ? ${name}) alternatives) alternatives;
      sections = lib.genAttrs (lib.filter (name: own ? ${name}) ((backendOf backend).sections or [ ])) (
        name: defaults.${name} or { } // own.${name}
      );
      both = removeAttrs (removeAttrs defaults replaced // own // sections) [
        "pollingInterval"
        "refreshInterval"
      ];
      interval =
        own.pollingInterval or own.refreshInterval or defaults.pollingInterval or defaults.refreshInterval
          or null;
      absent = lib.filter (name: !both ? ${name}) ((backendOf backend).required or [ ]);
    in
    if own ? pollingInterval && own ? refreshInterval then
      throw "${path}.config: `refreshInterval' is the older name of `pollingInterval': set one of them"
    else if absent != [ ] then
      throw "${path}.config.${lib.head absent} is not set, nor is `secretsStore.${backend}.${lib.head absent}'"
    else
      {
        reloadOnChange = false;
      }
      // both
      // lib.optionalAttrs (interval != null) { pollingInterval = interval; };

  # The configuration file, which the program itself has checked. At build time it cannot check somebody else's module
  # that is not in the Nix store.
  configFile =
    name: config:
    let
      json = builtins.toJSON config;
      checkable =
        (!isModulePath config.backend || lib.hasPrefix "${builtins.storeDir}/" config.backend)
        && (pkgs.stdenv.buildPlatform.canExecute or (_: true)) (pkgs.stdenv.hostPlatform or { });
    in
    pkgs.runCommand "${flat name}.json"
      {
        inherit json;
        passAsFile = [ "json" ];
        preferLocalBuild = true;
      }
      ''
        ${lib.optionalString checkable ''${package}/bin/fetcher --check=config --config "$jsonPath"''}
        cp "$jsonPath" "$out"
      '';

  # What the unit needs because of where its secrets come from.
  storeDependencies =
    {
      backend,
      config,
      secrets,
    }:
    let
      network = lib.optional ((backendOf backend).network or false) "network-online.target";
      keys = lib.optionals (backend == "nixops") (
        lib.mapAttrsToList (id: secret: "${secret.source.key or id}-key.service") secrets
      );
    in
    {
      wants = network ++ keys;
      after = network ++ keys;
      unitConfig = lib.optionalAttrs (backend == "folder") {
        RequiresMountsFor = unitPath config.secretsDir;
      };
    };

  # `targets`: the units that need it. `joins`: units whose namespaces the targets join too; `joinsAfter`: those of them
  # that the targets wait for. The unit that starts first makes the namespace: if the sidecar started at the same time
  # as them, it would make another.
  # `storeAfter`: units that fill a folder.
  # `restartIfChanged`: whether a switch may restart the targets, which restart with the sidecar.
  # `reloadIfChanged`: whether it reloads them instead; then it also reloads the sidecar, if that is resident.
  # `runtimeDirectory`: below /run, where it publishes.
  # `isEarly`: it needs nothing but the host's own files, and waits for sysinit.target alone.
  # `isSplit`: it may not talk to systemd, and `act` acts for it.
  sidecar =
    {
      name,
      config,
      targets,
      runtimeDirectory ? name,
      isEarly ? false,
      isSplit ? true,
      joins ? [ ],
      joinsAfter ? [ ],
      storeAfter ? [ ],
      restartIfChanged ? true,
      reloadIfChanged ? false,
      description ? "Secrets of ${lib.concatStringsSep ", " targets}",
    }:
    let
      store = storeDependencies {
        inherit (config) backend secrets;
        inherit (config) config;
      };
      stays = (config.resident or true) == true;
      directories = [
        runtimeDirectory
      ]
      ++ lib.optionals isSplit [
        "${name}-act"
        "${name}-act/inbox"
      ]
      # For notes, and for links to what systemd watches.
      ++ lib.optionals (isOnDemand config) [
        "${name}-refresh"
        "${name}-refresh/inbox"
        "${name}-refresh/ways"
      ];
    in
    {
      inherit description;
      wants =
        store.wants
        ++ lib.optional isSplit "${name}-act.path"
        ++ lib.optionals (isOnDemand config) (refreshers name config);
      after =
        store.after
        ++ lib.optional isSplit "${name}-act.path"
        ++ lib.optionals (config.backend == "folder") storeAfter
        ++ joinsAfter
        # Users may come from elsewhere than /etc/passwd.
        ++ lib.optional (hasOwner config && !isEarly) "nss-user-lookup.target"
        ++ lib.optional isEarly "sysinit.target";
      before = targets ++ lib.optional isEarly "shutdown.target";
      requires = lib.optional isEarly "sysinit.target";
      # With `reloadOnChange` the sidecar keeps the secrets fresh, and its own actions must not restart it.
      partOf = lib.optionals (!config.config.reloadOnChange) targets;
      # If a switch stopped the sidecar, its targets would stop too, and nothing would start them again.
      stopIfChanged = false;
      inherit restartIfChanged;
      reloadIfChanged = reloadIfChanged && stays;
      inherit environment;
      unitConfig = {
        StopWhenUnneeded = true;
        StartLimitIntervalSec = 0;
      }
      // assertFree (map (directory: "/run/${directory}") directories)
      // store.unitConfig
      # The default dependencies without basic.target.
      // lib.optionalAttrs isEarly {
        DefaultDependencies = false;
        Conflicts = "shutdown.target";
      }
      // lib.optionalAttrs (joins != [ ]) { JoinsNamespaceOf = joins; };
      serviceConfig = {
        NotifyAccess = executable.NotifyAccess or "all";
        ExecStart = "${package}/bin/fetcher --config ${configFile name config}${lib.optionalString isSplit " --actions ${actionsOf name}"}";
        PrivateTmp = true;
        RuntimeDirectory = lib.concatStringsSep " " directories;
        RuntimeDirectoryMode = "0700";
        RuntimeDirectoryPreserve = "restart";
        RestartMode = "direct";
        RestartSec = 1;
        RestartPreventExitStatus = "64 66 69 77 78 200 203 210 213 218 224 226 227 228 229 230 231 232 236 245";
        TimeoutStartSec = "infinity";
      }
      // (
        if stays then
          daemon // { ExecReload = "${package}/bin/fetcher reload --config ${configFile name config}"; }
        else
          once
      )
      # Otherwise the units that act for it refer to it, so systemd does not forget its directory.
      // lib.optionalAttrs (!isSplit) {
        ExecStopPost = "-${pkgs.bash}/bin/sh -c '${emptyWhenStopped "systemctl"}'";
      }
      // sandbox {
        inherit
          name
          config
          runtimeDirectory
          isSplit
          ;
      };
    };

  # The sidecar asks for actions there.
  actionsOf = name: "/run/${name}-act";

  # Starts these sidecars and waits for them before services start, but not forever: a missing secret must not end a
  # boot. After that the sidecars continue, and units that require one keep waiting. A switch does the same before it
  # starts services.
  early = sidecars: {
    description = "Secret files that are there before services start";
    wantedBy = earlyTargets;
    before = earlyTargets ++ [ "shutdown.target" ];
    after = [ "sysinit.target" ];
    requires = [ "sysinit.target" ];
    wants = sidecars;
    unitConfig = {
      DefaultDependencies = false;
      Conflicts = "shutdown.target";
    };
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "-${pkgs.coreutils}/bin/timeout ${toString earlySeconds} ${pkgs.systemd}/bin/systemctl start -- ${lib.concatStringsSep " " sidecars}";
    };
  };

  # Acts for the sidecar `name`, which itself may not talk to systemd. It sees systemd, but no store, no secret and no
  # network.
  act =
    {
      name,
      config,
      targets,
    }:
    let
      store = storeOf config;
      below = above: path: path == above || lib.hasPrefix "${above}/" path;
      paths = readsOf config ++ (store.stays or (_: [ ])) config.config;
      stores = lib.filter (
        path:
        !lib.any (place: below place path) (
          [
            "/run"
            "/var"
            "/home"
            "/root"
            "/etc/fetcher"
          ]
          ++ hostSecrets
        )
      ) paths;
    in
    {
      description = "Actions for the secrets of ${
        if targets == [ ] then name else lib.concatStringsSep " " targets
      }";
      # An action that is due stays due.
      restartIfChanged = false;
      stopIfChanged = false;
      environment = environment;
      unitConfig = {
        StartLimitIntervalSec = 0;
        # For the host's module, which makes the path unit.
        X-FetcherInbox = "${actionsOf name}/inbox";
      };
      serviceConfig = {
        # Not oneshot: while a start is in progress, systemd does not by itself stop a unit if that would end the start
        # too, and its own state stays `starting`. The service does not end with the sidecar, but when the inbox is
        # gone.
        Type = "exec";
        ExecStart = "${package}/bin/fetcher act --config ${configFile name config} --actions ${actionsOf name}";
        Restart = "on-failure";
        RestartSec = 10;
        MemoryMax = "256M";
        PrivateTmp = true;
        TemporaryFileSystem = "/run:ro /var:ro /etc/fetcher:ro";
        # The sidecar may have stopped, and its directories may be gone.
        BindPaths = "-${actionsOf name}";
        BindReadOnlyPaths = "/run/systemd:/run/systemd:norbind -/run/dbus";
        InaccessiblePaths = lib.concatMapStringsSep " " (place: "-${unitPath place}") (
          hostSecrets ++ stores
        );
        ProtectHome = true;
        # The service uses neither capability. But before systemd 257, which brought PrivateUsers=identity, a sidecar
        # may look into each process of root that has no capability beyond the sidecar's two (ptrace(2)), and would find
        # systemd's socket there. There are two because a container may keep only one of them.
        CapabilityBoundingSet = "CAP_NET_BROADCAST CAP_NET_BIND_SERVICE";
        PrivateNetwork = true;
        IPAddressDeny = "any";
        RestrictAddressFamilies = "AF_UNIX";
        SystemCallFilter = [
          "@system-service @pkey"
          "~@privileged @resources"
        ]
        ++ notNeeded;
      }
      // closedIn;
    };

  # The path unit that starts a unit that acts. It does so again while something is there: no request is lost that comes
  # as that unit ends.
  actPath = name: service: {
    inherit (service) description;
    # Before= also refers to the sidecar's unit: systemd 254+ may unload a unit that nothing refers to while its
    # directory is still there. No PartOf=: a path unit that is to stop starts nothing, and a sidecar that stops may
    # have a target started again.
    before = [ "${lib.removeSuffix "-act" name}.service" ];
    unitConfig.StopWhenUnneeded = true;
    pathConfig = {
      DirectoryNotEmpty = service.unitConfig.X-FetcherInbox;
      # A limit would end the path unit, and with it all actions.
      TriggerLimitIntervalSec = 0;
    };
  };

  # No process of the sidecar is resident: systemd starts one for each look at the store.
  isOnDemand = config: (config.resident or true) == "on-change";

  # The directory of notes that the store may have changed.
  notesOf = name: "/run/${name}-refresh";

  # Directories where inotify shows that the store may have changed: the store's, and those below it that hold a file.
  watchedOf =
    config:
    let
      local = {
        folder = withoutSlash (toString (config.config.secretsDir or ""));
        nixops = withoutSlash (toString (config.config.keysDir or "/run/keys"));
      };
      place = local.${builtins.unsafeDiscardStringContext config.backend} or null;
      below = lib.filter (path: path != ".") (
        map (secret: dirOf (secret.source.file or "")) (lib.attrValues config.secrets)
      );
    in
    lib.optionals (place != null) (
      lib.unique (
        [ place ] ++ lib.optionals (config.backend == "folder") (map (path: "${place}/${path}") below)
      )
    );

  # Seconds; null: the values cannot change.
  intervalOf =
    config:
    let
      interval = (backendOf config.backend).interval or 60;
    in
    if interval == null then
      null
    else
      config.config.pollingInterval or config.config.refreshInterval or interval;

  refreshers =
    name: config:
    [ "${name}-refresh.path" ]
    ++ lib.optional (watchedOf config != [ ]) "${name}-watch.path"
    ++ lib.optional (intervalOf config != null) "${name}-refresh.timer";

  # The units that look at the store for the sidecar `name`; none if it is resident. A systemd path unit misses changes
  # while its service runs (252 to 257, measured). So the path unit that watches the store starts a service that ends at
  # once: it leaves a note in an inbox. While there is a note, another path unit starts the look.
  # `sidecar`: its unit.
  looks =
    {
      name,
      config,
      targets,
      sidecar,
    }:
    let
      notes = notesOf name;
      watched = watchedOf config;
      interval = intervalOf config;
      of = lib.concatStringsSep " " targets;
      common = {
        restartIfChanged = false;
        stopIfChanged = false;
      };
      unit = {
        ConditionPathIsDirectory = "${notes}/inbox";
        StartLimitIntervalSec = 0;
      };
      own = lib.filterAttrs (
        option: _:
        lib.elem option [
          "Type"
          "RemainAfterExit"
          "ExecStart"
          "TimeoutStartSec"
        ]
        || lib.hasPrefix "Restart" option
        || lib.hasPrefix "RuntimeDirectory" option
      ) sidecar.serviceConfig;
    in
    lib.optionalAttrs (isOnDemand config) (
      {
        "${name}-refresh" = common // {
          description = "Look at the secrets of ${of}";
          # When the service that notes has ended, systemd watches the store again: a look after that misses nothing.
          after = [
            "${name}.service"
          ]
          ++ lib.optionals (watched != [ ]) [
            "${name}-watch.path"
            "${name}-watch.service"
          ];
          # No PartOf= the sidecar: with a start of this service queued, systemd would not stop an unneeded sidecar
          # (257, seen), and would not try again.
          environment = environment // {
            RUNTIME_DIRECTORY = "/run/${name}";
          };
          unitConfig =
            unit
            // {
              # For the host's module, which makes the units that start it.
              X-FetcherNotes = "${notes}/inbox";
            }
            // lib.optionalAttrs (interval != null) { X-FetcherInterval = interval; }
            // lib.optionalAttrs (config.output ? links) { JoinsNamespaceOf = [ "${name}.service" ]; };
          serviceConfig = removeAttrs sidecar.serviceConfig (lib.attrNames own) // {
            # Not oneshot: while a start is in progress, systemd does not by itself stop a unit if that would end the
            # start.
            Type = "exec";
            ExecStart = "${package}/bin/fetcher refresh --config ${configFile name config} --actions ${actionsOf name}";
            Restart = "on-failure";
            # While its notes are there, the path unit would start it again at once: Restart= does that after a pause.
            # When it ends with one of the statuses below, it has taken its notes.
            RestartSec = 5;
            RestartPreventExitStatus = "66 69 77 78";
          };
        };
      }
      // lib.optionalAttrs (watched != [ ]) {
        "${name}-watch" = common // {
          description = "Note of a change to the secrets of ${of}";
          unitConfig = unit // {
            X-FetcherWatch = watched ++ [
              "${notes}/ways"
              "${notes}/ways/0"
              "${notes}/ways/1"
            ];
          };
          serviceConfig = {
            Type = "oneshot";
            # Every note has a new name, so removing one never loses another.
            ExecStart = "${pkgs.coreutils}/bin/mktemp -q ${notes}/inbox/XXXXXXXXXX";
            # A change without its note would wait for the next poll.
            Restart = "on-failure";
            RestartSec = 1;
            # It reads nothing. Namespaces would take longer than the rest of its run, at each change.
            CapabilityBoundingSet = "";
            IPAddressDeny = "any";
            RestrictAddressFamilies = "none";
            SystemCallFilter = [
              "@system-service"
              "~@privileged @resources"
            ];
          }
          // lib.getAttrs [
            "LimitCORE"
            "UMask"
            "UnsetEnvironment"
            "NoNewPrivileges"
            "LockPersonality"
            "RestrictNamespaces"
            "RestrictRealtime"
            "RestrictSUIDSGID"
            "SystemCallArchitectures"
          ] closedIn;
        };
      }
    );

  # The units that start looks wait for the sidecar. The store may change before they start, so the sidecar leaves a
  # note.
  startsLooks = sidecar: {
    after = [ "${sidecar}.service" ];
    unitConfig = {
      StopWhenUnneeded = true;
      StartLimitIntervalSec = 0;
    };
  };

  refreshPath =
    name: service:
    startsLooks (lib.removeSuffix "-refresh" name)
    // {
      description = lib.replaceStrings [ "Look at" ] [ "Notes of changes to" ] service.description;
      pathConfig = {
        DirectoryNotEmpty = service.unitConfig.X-FetcherNotes;
        # A limit would end the unit, and with it all rotation.
        TriggerLimitIntervalSec = 0;
      };
    };

  watchPath =
    name: service:
    startsLooks (lib.removeSuffix "-watch" name)
    // {
      description = lib.replaceStrings [ "Note of a change to" ] [ "Watch over" ] service.description;
      pathConfig = {
        PathChanged = map escape service.unitConfig.X-FetcherWatch;
        TriggerLimitIntervalSec = 0;
      };
    };

  # Looks are about that many seconds apart, 10 % more or less, so that sidecars do not all look at once.
  refreshTimer =
    name: service:
    let
      milliseconds =
        factor: "${toString (builtins.floor (service.unitConfig.X-FetcherInterval * factor + 0.5))}ms";
    in
    startsLooks (lib.removeSuffix "-refresh" name)
    // {
      description = lib.replaceStrings [ "Look at" ] [ "Looks at" ] service.description;
      timerConfig = {
        OnActiveSec = milliseconds 900;
        OnUnitInactiveSec = milliseconds 900;
        RandomizedDelaySec = milliseconds 200;
        AccuracySec = "1s";
      };
    };

  # For all units that run this program.
  environment = {
    NODE_DISABLE_COMPILE_CACHE = "1";
    BUN_RUNTIME_TRANSPILER_CACHE_PATH = "0";
    # A heap for each thread takes too much memory for a program that mostly waits.
    MALLOC_ARENA_MAX = "1";
  }
  // executable.environment or { };

  # System calls of the runtime that the executable does not need.
  notNeeded = lib.optional (executable ? SystemCallFilter) executable.SystemCallFilter;

  closedIn = {
    LimitCORE = 0;
    MemorySwapMax = 0;
    UMask = "0077";
    UnsetEnvironment = "NODE_OPTIONS NODE_PATH NODE_DEBUG NODE_TLS_REJECT_UNAUTHORIZED DEBUG HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy";
    ProtectProc = "invisible";
    PrivateUsers = "identity";
    NoNewPrivileges = true;
    ProtectSystem = "strict";
    ProtectClock = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectControlGroups = true;
    PrivateDevices = true;
    LockPersonality = true;
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
  }
  // removeAttrs executable [
    "environment"
    "NotifyAccess"
    "SystemCallFilter"
  ];

  earlyTargets = [
    "basic.target"
    # A switch of NixOS restarts this before all else.
    "sysinit-reactivation.target"
  ];
  earlySeconds = 30;

  hostSecrets = [
    "/etc/shadow"
    "/etc/gshadow"
    "/etc/ssh"
    "/etc/ssl/private"
    "/etc/credstore"
    "/etc/credstore.encrypted"
  ];

  storeOf = config: if isModulePath config.backend then open else backendOf config.backend;

  # Paths of the store's settings that may be replaced at any time.
  readsOf =
    config:
    map withoutSlash (
      lib.filter (path: path != null) (((storeOf config).reads or (_: [ ])) config.config)
    );

  # With a file or a link in the place of a directory, each start would fail (233). systemd finds PathIsReadWrite true
  # if the name before the last is a file, and false if it is a directory or nothing.
  assertFree = paths: {
    AssertPathIsSymbolicLink = map (path: "!${path}") paths;
    AssertPathIsReadWrite = map (path: "!${path}/.none") paths;
  };

  # systemd 254+ can unload a unit that no loaded unit refers to before it removes the unit's directory.
  emptyWhenStopped =
    systemctl:
    lib.concatStringsSep " " [
      "${systemctl} list-jobs --full --no-legend | while read -r _ unit job _; do"
      ''if [ "$$unit $$job" = "%n stop" ]; then find "$$RUNTIME_DIRECTORY" -mindepth 1 -delete; fi; done''
    ];

  # It keeps watching for changes, and only systemd ends it.
  daemon = {
    Type = "notify";
    Restart = "always";
  };

  # It publishes and ends; its published set stays while the unit counts as active.
  once = {
    Type = "oneshot";
    RemainAfterExit = true;
    # systemd refuses `always` for oneshot; a run that ended well is done.
    Restart = "on-failure";
  };

  # The narrowest sandbox that works for this configuration; the part that depends on the store is in the store's table.
  sandbox =
    {
      name,
      config,
      runtimeDirectory ? name,
      isSplit ? true,
    }:
    let
      store = storeOf config;
      network = store.talks or store.network or false;
      seesAll = (store.sees or null) == "all";
      reads = readsOf config;
      hidesRun = lib.elem "/run" hidden;
      below = above: path: lib.hasPrefix "${above}/" path;
      hidden = lib.optionals (!seesAll) (
        # sops-nix and agenix swap a link in /run itself. A sidecar from which /run is hidden cannot see that.
        lib.optional (!lib.any (below "/run") reads) "/run"
        ++ lib.optional (!lib.any (path: dirOf path == "/var") reads) "/var"
      );
      # For the others, the directory above each, so that the sidecar sees it when the path itself is replaced.
      bound =
        lib.optionals (!seesAll) (map dirOf (lib.filter (path: below "/var" (dirOf path)) reads))
        ++ (store.stays or (_: [ ])) config.config;
      # The host's secrets, except for places that the store's settings name.
      closed = lib.filter (place: !lib.any (path: path == place || below place path) reads) hostSecrets;
      owners = lib.any (file: file.owner or null != null || file.group or null != null) (
        lib.attrValues config.secrets ++ lib.attrValues (config.templates or { })
      );
    in
    {
      # The last limit, behind those on what a store may send. The files in /run count.
      MemoryMax = "1G";
      # A command of the configuration that takes too much fails on its own.
      OOMPolicy = "continue";
      # The sidecar sees only its own of the host's secrets, and only the socket below of systemd and D-Bus. With `-`,
      # systemd does not bind a missing path, and reports no error.
      TemporaryFileSystem = lib.concatMapStringsSep " " (path: "${path}:ro") (
        hidden ++ lib.optional (isSplit && !hidesRun) "/run/systemd"
      );
      # The sidecar asks for actions there. It may not write what the unit that acts puts beside it.
      BindPaths = [
        "/run/${runtimeDirectory}"
      ]
      ++ lib.optional isSplit "${actionsOf name}/inbox"
      # Not their parent: there the sidecar could replace one with a link, and lead systemd or the service that notes a
      # change as root elsewhere.
      ++ lib.optionals (isOnDemand config) [
        "${notesOf name}/inbox"
        "${notesOf name}/ways"
      ];
      BindReadOnlyPaths =
        # READY=1 and STATUS= go there. systemd keeps it across a reexec. Access to its other sockets amounts to root.
        lib.optionals isSplit [
          "/run/systemd/notify"
          (actionsOf name)
        ]
        # For name resolution.
        ++ lib.optional (isSplit && network) "-/run/systemd/resolve"
        # The whole directory for systemd's sockets: systemd makes new ones when it is reexecuted, which a bind of the
        # sockets would miss.
        ++ lib.optional (!isSplit && hidesRun) "/run/systemd:/run/systemd:norbind -/run/dbus"
        ++ lib.optional hidesRun "-/run/nscd"
        ++ lib.optional (network && hidesRun) "-/run/resolvconf -/run/NetworkManager"
        ++ map (place: "-${unitPath place}") (lib.unique bound);
      InaccessiblePaths = [
        (lib.concatMapStringsSep " " (place: "-${place}") closed)
      ]
      # Other services' copies, if /run is not hidden as a whole.
      ++ lib.optional (!hidesRun) (
        "-/run/credentials" + lib.optionalString isSplit " -/run/dbus -/run/user"
      )
      ++ lib.optional network "-/run/NetworkManager/system-connections";
      ProtectHome =
        if lib.any (path: below "/home" path || below "/root" path) reads then "read-only" else true;
      # With an owner, the sidecar gives a file away.
      CapabilityBoundingSet = lib.optionalString owners "CAP_CHOWN " + "CAP_DAC_READ_SEARCH";
      PrivateNetwork = !network;
      RestrictAddressFamilies = if network then "AF_UNIX AF_INET AF_INET6" else "AF_UNIX";
      SystemCallFilter = [
        "@system-service @pkey"
        "~@privileged @resources"
        (if owners then "@chown" else "~@chown:EPERM")
      ]
      ++ notNeeded;
    }
    // closedIn
    // lib.optionalAttrs (!network) { IPAddressDeny = "any"; }
    // store.sandbox or { };

  # An instance without its own command is its template's unit with more lines. NixOS recognizes a template only if
  # it has the instance's own file. Otherwise it makes a whole unit of the lines, which hides the template.
  # `serviceConfig`: of all modules together.
  instance =
    name: serviceConfig:
    lib.optionalAttrs (lib.hasInfix "@" name) {
      overrideStrategy = lib.mkIf (!serviceConfig ? ExecStart) (lib.mkDefault "asDropin");
    };

  # The target's half: it needs the sidecar, and sees its files at /tmp/ID.
  privateTmp = sidecar: {
    unitConfig.JoinsNamespaceOf = [ "${sidecar}.service" ];
    serviceConfig.BindReadOnlyPaths = [ "${publicDirectory sidecar}:/tmp/.secrets" ];
  };

  # The target's half: systemd copies the files for it at every start.
  # `secrets`: file → whether it is optional.
  credentials = { sidecar, secrets }: credentialsIn (publicDirectory sidecar) secrets;
  credentialsIn =
    directory: secrets:
    let
      optional = lib.filterAttrs (_: isOptional: isOptional) secrets;
    in
    {
      LoadCredential = lib.mapAttrsToList (file: _: "${escape file}:${directory}/${escape file}") secrets;
    }
    // lib.optionalAttrs (optional != { }) {
      # The service finds this for a secret that is not there. systemd 252 and 257 refuse an empty value ("Invalid
      # syntax"); a shell's $(…) and most readers of passwords drop a newline.
      SetCredential = lib.mapAttrsToList (file: _: "${escape file}:\\n") optional;
    };
}
