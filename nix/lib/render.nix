# What the units and the sidecar's configuration look like: pure functions from checked values to attribute sets of
# `systemd.services`. The wiring is that of examples/systemd; a test holds the two together.
{
  lib,
  pkgs,
  package,
}:

let
  inherit (import ./backends.nix { inherit lib; }) backendOf isModulePath open;

  # "foo@bar-secrets" would be an instance of foo@.service. A unit's name may have `\x2d` and `:` in it, which mean
  # something else in a path of a unit file, and the directories of the sidecar are called as it is.
  flat = lib.replaceStrings [ "@" "\\" ":" ] [ "-" "-" "-" ];

  # The package runs without Node: then what `npm run docs` writes of src/units/executable.ts holds for its units.
  executable = lib.optionalAttrs (package.isExecutable or false) (lib.importJSON ./executable.json);

  compact = lib.filterAttrs (_: value: value != null);

  # In a unit file `%` begins a specifier.
  escape = lib.replaceStrings [ "%" ] [ "%%" ];

  withoutSlash =
    path: if lib.hasSuffix "/" path then withoutSlash (lib.removeSuffix "/" path) else path;

  # A path as a unit file has it: spaces need quotes.
  unitPath = path: if lib.hasInfix " " path then builtins.toJSON (escape path) else escape path;
in
rec {
  inherit escape;

  sidecarOf = service: "${flat service}-secrets";

  # Below it the sidecar publishes; its parent is closed to all but root.
  publicDirectory = sidecar: "/run/${sidecar}/pub";

  # What the configurations of all deliveries have in common. `option`: where the service's settings are.
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

  # Whether a file of the configuration is given to a user or a group other than root.
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

  # The store's settings with the service's own over them.
  # `path`: where the service's were set, for messages.
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

  # The configuration file, which the program itself has accepted. A module of somebody else's that is not in the store
  # cannot be asked at build time.
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

  # `targets`: units that it is there for. `joins`: units whose namespaces they join, too, and `joinsAfter`: those of
  # them that the targets wait for. What starts first makes the namespace: at one time with them, it would make another.
  # `storeAfter`: units that fill a folder.
  # `restartIfChanged`: whether a switch may restart the targets; they are restarted with it.
  # `reloadIfChanged`: whether it reloads them instead; then it reloads the sidecar, if a process is there for it.
  # `runtimeDirectory`: below /run, where it publishes.
  # `isEarly`: it needs nothing but the host's own files, and waits for sysinit.target alone.
  # `isSplit`: it may not talk to systemd, and `act` is there to act for it.
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
      # With it the sidecar keeps them fresh, and its own actions must not restart it.
      partOf = lib.optionals (!config.config.reloadOnChange) targets;
      # A sidecar that a switch stopped would take its targets along, and nothing would start them again.
      stopIfChanged = false;
      inherit restartIfChanged;
      reloadIfChanged = reloadIfChanged && stays;
      inherit environment;
      unitConfig = {
        StopWhenUnneeded = true;
        StartLimitIntervalSec = 0;
      }
      // store.unitConfig
      # What is left of the default dependencies without basic.target.
      // lib.optionalAttrs isEarly {
        DefaultDependencies = false;
        Conflicts = "shutdown.target";
      }
      // lib.optionalAttrs (joins != [ ]) { JoinsNamespaceOf = joins; };
      serviceConfig = {
        NotifyAccess = executable.NotifyAccess or "all";
        ExecStart = "${package}/bin/fetcher --config ${configFile name config}${lib.optionalString isSplit " --actions ${actionsOf name}"}";
        PrivateTmp = true;
        RuntimeDirectory =
          runtimeDirectory
          + lib.optionalString isSplit " ${name}-act ${name}-act/inbox"
          # For what is noted, and for links to what is watched.
          + lib.optionalString (isOnDemand config) " ${name}-refresh ${name}-refresh/inbox ${name}-refresh/ways";
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
      # With what acts for it something refers to it, and systemd does not forget its directory.
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

  # Where the sidecar asks for actions.
  actionsOf = name: "/run/${name}-act";

  # Starts these sidecars and waits for them before services start, but not for ever: a boot must not end at a secret
  # that is missing. They go on, and whoever requires one waits on. A switch does the same before it starts services.
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

  # Acts for the sidecar `name`, which may not talk to systemd itself. It sees systemd, and neither a store nor a secret
  # nor a network.
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
      # What is due stays due.
      restartIfChanged = false;
      stopIfChanged = false;
      environment = environment;
      unitConfig = {
        StartLimitIntervalSec = 0;
        # For the module of the host, which makes the path unit.
        X-FetcherInbox = "${actionsOf name}/inbox";
      };
      serviceConfig = {
        # Not oneshot: as long as a start is in progress, systemd stops nothing of its own accord that would end it too,
        # and calls itself starting. Nor does it end with the sidecar but when it sees that the inbox is gone.
        Type = "exec";
        ExecStart = "${package}/bin/fetcher act --config ${configFile name config} --actions ${actionsOf name}";
        Restart = "on-failure";
        RestartSec = 10;
        MemoryMax = "256M";
        PrivateTmp = true;
        TemporaryFileSystem = "/run:ro /var:ro /etc/fetcher:ro";
        # The sidecar may have stopped, and its directories be gone.
        BindPaths = "-${actionsOf name}";
        BindReadOnlyPaths = "/run/systemd:/run/systemd:norbind -/run/dbus";
        InaccessiblePaths = lib.concatMapStringsSep " " (place: "-${unitPath place}") (
          hostSecrets ++ stores
        );
        ProtectHome = true;
        # Neither is of use here. But where systemd has no PrivateUsers=identity (before 257), a sidecar may look into
        # each process of root's that has no more than its own two (ptrace(2)), and would find systemd's socket there.
        # Containers leave one or the other.
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

  # Of each unit that acts, what starts it: as long as something is there, again, so nothing is lost that comes while it
  # ends.
  actPath = name: service: {
    inherit (service) description;
    # As it says so itself, it refers to the sidecar's unit, which systemd 254+ may unload with its directory still
    # there where nothing does. And no PartOf=: one that is to stop starts nothing, and a sidecar that stops may have a
    # target started again.
    before = [ "${lib.removeSuffix "-act" name}.service" ];
    unitConfig.StopWhenUnneeded = true;
    pathConfig = {
      DirectoryNotEmpty = service.unitConfig.X-FetcherInbox;
      # A limit would end the path unit, and with it all actions.
      TriggerLimitIntervalSec = 0;
    };
  };

  # Nothing stays of the sidecar, and systemd starts a process for each look at the store.
  isOnDemand = config: (config.resident or true) == "on-change";

  # Where it is noted that the store may have changed.
  notesOf = name: "/run/${name}-refresh";

  # Directories of which inotify tells that the store may have changed: a file in a directory below is in that.
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

  # What looks at the store for the sidecar `name`, of which no process stays; nothing for one that does. A path unit of
  # systemd's loses what changes while its service runs (252 to 257, measured), so the one that watches the store starts
  # something that is over at once: a note in an inbox. As long as there is one, another starts the look.
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
          # Once its note is over, the store is watched again: a look after that misses nothing.
          after = [
            "${name}.service"
          ]
          ++ lib.optionals (watched != [ ]) [
            "${name}-watch.path"
            "${name}-watch.service"
          ];
          # No PartOf= the sidecar: where its start is queued, systemd would not stop a sidecar that nobody needs (257,
          # seen), nor try again.
          environment = environment // {
            RUNTIME_DIRECTORY = "/run/${name}";
          };
          unitConfig =
            unit
            // {
              # For the module of the host, which makes what starts it.
              X-FetcherNotes = "${notes}/inbox";
            }
            // lib.optionalAttrs (interval != null) { X-FetcherInterval = interval; }
            // lib.optionalAttrs (config.output ? links) { JoinsNamespaceOf = [ "${name}.service" ]; };
          serviceConfig = removeAttrs sidecar.serviceConfig (lib.attrNames own) // {
            # Not oneshot: as long as a start is in progress, systemd stops nothing of its own accord that would end it
            # too.
            Type = "exec";
            ExecStart = "${package}/bin/fetcher refresh --config ${configFile name config} --actions ${actionsOf name}";
            Restart = "on-failure";
            # As long as its notes are there it would be started again at once. These it ends with when it has taken
            # them.
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
            # A name is never used twice, so that taking one away loses no other.
            ExecStart = "${pkgs.coreutils}/bin/mktemp -q ${notes}/inbox/XXXXXXXXXX";
            # A change without its note would wait for the next poll.
            Restart = "on-failure";
            RestartSec = 1;
            # It reads nothing. Name spaces would take longer than all of it, at each change.
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

  # What starts them waits for the sidecar, which leaves a note: what it has published may have changed by then.
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

  # Looks are about that many seconds apart, and not all at one time: 10 % more or less.
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

  # Of all units that run this program.
  environment = {
    NODE_DISABLE_COMPILE_CACHE = "1";
    BUN_RUNTIME_TRANSPILER_CACHE_PATH = "0";
    # A heap for each thread is much memory for a program that mostly waits.
    MALLOC_ARENA_MAX = "1";
  }
  // executable.environment or { };

  # System calls of the runtime that the executable does without.
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
    # What a switch of NixOS restarts before all else.
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

  # systemd 254+ can forget the directory of a unit to which nothing loaded refers: it may be unloaded before that.
  emptyWhenStopped =
    systemctl:
    lib.concatStringsSep " " [
      "${systemctl} list-jobs --full --no-legend | while read -r _ unit job _; do"
      ''if [ "$$unit $$job" = "%n stop" ]; then find "$$RUNTIME_DIRECTORY" -mindepth 1 -delete; fi; done''
    ];

  # It stays to see rotation, and nothing but systemd ends it.
  daemon = {
    Type = "notify";
    Restart = "always";
  };

  # It publishes and is gone; what it has published stays as long as the unit counts as active.
  once = {
    Type = "oneshot";
    RemainAfterExit = true;
    # systemd refuses `always` for oneshot; what ended well is done.
    Restart = "on-failure";
  };

  # The narrowest that works for this configuration; what depends on the store is in its table.
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
        # sops-nix and agenix swap a link in /run itself, which cannot be seen from where /run is hidden.
        lib.optional (!lib.any (below "/run") reads) "/run"
        ++ lib.optional (!lib.any (path: dirOf path == "/var") reads) "/var"
      );
      # Of the others the directory above each: so it is seen when the path itself is replaced.
      bound =
        lib.optionals (!seesAll) (map dirOf (lib.filter (path: below "/var" (dirOf path)) reads))
        ++ (store.stays or (_: [ ])) config.config;
      # The host's secrets, but for places that the store's settings name.
      closed = lib.filter (place: !lib.any (path: path == place || below place path) reads) hostSecrets;
      owners = lib.any (file: file.owner or null != null || file.group or null != null) (
        lib.attrValues config.secrets ++ lib.attrValues (config.templates or { })
      );
    in
    {
      # The last wall, behind the limits on what a store may send. The files in /run count.
      MemoryMax = "1G";
      # A command of the configuration that takes too much fails by itself.
      OOMPolicy = "continue";
      # Of the host's secrets the sidecar sees its own, and of systemd and D-Bus nothing but the socket below. A `-`:
      # what is not there is not bound, and no error.
      TemporaryFileSystem = lib.concatMapStringsSep " " (path: "${path}:ro") (
        hidden ++ lib.optional (isSplit && !hidesRun) "/run/systemd"
      );
      # Where it asks for actions; what the unit that acts says beside is not its own to write.
      BindPaths = [
        "/run/${runtimeDirectory}"
      ]
      ++ lib.optional isSplit "${actionsOf name}/inbox"
      # Not their parent: a link in the place of one would lead systemd, or what notes a change as root, elsewhere.
      ++ lib.optionals (isOnDemand config) [
        "${notesOf name}/inbox"
        "${notesOf name}/ways"
      ];
      BindReadOnlyPaths =
        # READY=1 and STATUS= go there. systemd keeps it when it is reexecuted. Whoever reaches its other sockets is
        # root.
        lib.optionals isSplit [
          "/run/systemd/notify"
          (actionsOf name)
        ]
        # Where names are resolved.
        ++ lib.optional (isSplit && network) "-/run/systemd/resolve"
        # Of systemd, for its sockets: they are made anew when it is reexecuted, which a bind of the sockets would miss.
        ++ lib.optional (!isSplit && hidesRun) "/run/systemd:/run/systemd:norbind -/run/dbus"
        ++ lib.optional hidesRun "-/run/nscd"
        ++ lib.optional (network && hidesRun) "-/run/resolvconf -/run/NetworkManager"
        ++ map (place: "-${unitPath place}") (lib.unique bound);
      InaccessiblePaths = [
        (lib.concatMapStringsSep " " (place: "-${place}") closed)
      ]
      # Other services' copies, where /run is not hidden as a whole.
      ++ lib.optional (!hidesRun) (
        "-/run/credentials" + lib.optionalString isSplit " -/run/dbus -/run/user"
      )
      ++ lib.optional network "-/run/NetworkManager/system-connections";
      ProtectHome =
        if lib.any (path: below "/home" path || below "/root" path) reads then "read-only" else true;
      # With an owner a file is given away.
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

  # An instance without a command of its own is its template's unit with more lines. NixOS sees a template only where it
  # has the instance's own file, and else makes a whole unit of them, which hides the template.
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
      # What the service finds for a secret that is not there. systemd 252 and 257 refuse an empty value ("Invalid
      # syntax"); a newline is what a shell's $(…) and most readers of passwords drop.
      SetCredential = lib.mapAttrsToList (file: _: "${escape file}:\\n") optional;
    };
}
