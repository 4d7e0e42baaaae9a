# Who reads what: PID 1 reads for a unit (EnvironmentFile=, LoadCredential=, StandardInput=) before the unit's own
# credentials and /tmp exist. Then the unit's commands read, as its user.
{ lib }:

let
  commands = import ./commands.nix { inherit lib; };

  linesOf =
    serviceConfig: name:
    map toString (lib.concatMap lib.toList (lib.toList (serviceConfig.${name} or [ ])));

  # The path of `ID:PATH`; systemd itself searches for an ID alone.
  sourceOf =
    line:
    let
      parts = lib.splitString ":" line;
    in
    if lib.length parts < 2 then "" else lib.concatStringsSep ":" (builtins.tail parts);

  loads = [
    "LoadCredential"
    "LoadCredentialEncrypted"
  ];

  # [ { setting; path; } ], for a credential also its id.
  readsOf =
    serviceConfig:
    map (line: {
      setting = "StandardInput";
      path = lib.removePrefix "file:" line;
    }) (lib.filter (lib.hasPrefix "file:") (linesOf serviceConfig "StandardInput"))
    ++ map (line: {
      setting = "EnvironmentFile";
      path = lib.removePrefix "-" line;
    }) (linesOf serviceConfig "EnvironmentFile")
    ++ lib.concatMap (
      setting:
      map (line: {
        inherit setting;
        path = sourceOf line;
        id = lib.head (lib.splitString ":" line);
      }) (linesOf serviceConfig setting)
    ) loads;

  # Not by a regular expression, which fails on long scripts.
  mentions = needle: text: lib.replaceStrings [ needle ] [ "" ] text != text;

  # [ { setting; text; isRoot; } ]: the texts of a unit's commands and variables. The content of files that they name is
  # not known here.
  textsOf =
    unit:
    let
      serviceConfig = unit.serviceConfig or { };
      user = toString (serviceConfig.User or "root");
      runsAsRoot = lib.elem user [
        ""
        "0"
        "root"
      ];
      asRoot = runsAsRoot && !(serviceConfig.DynamicUser or false == true);
      settings =
        map
          (setting: {
            inherit setting;
            text = unit.${setting} or "";
            isRoot = asRoot;
          })
          [
            "script"
            "preStart"
            "postStart"
            "reload"
            "preStop"
            "postStop"
          ];
      variables = map (text: {
        setting = "environment";
        inherit text;
        isRoot = asRoot;
      }) (lib.attrValues (unit.environment or { }) ++ linesOf serviceConfig "Environment");
      isPrivileged =
        command:
        lib.any (prefix: commands.hasPrefix prefix command) [
          "+"
          "!"
        ];
      exec = map (
        { name, command }:
        {
          setting = "serviceConfig.${name}";
          text = toString command;
          isRoot = asRoot || isPrivileged command;
        }
      ) (commands.ofService serviceConfig);
    in
    lib.filter ({ text, ... }: text != null && text != "") (settings ++ variables ++ exec);

  notYours =
    unit: service:
    "${unit} names ${service.ownPlace}, where ${service.own} alone finds its secrets: use `hostPath' instead of `path' of ${service.option}";
  notMade =
    unit: path: service:
    "${unit} names ${path}, which is not made: set ${service.option}.environmentFile.enable = true";

  # In settings that are lists, an empty line removes everything before it.
  afterReset = lines: lib.foldl' (kept: line: if line == "" then [ ] else kept ++ [ line ]) [ ] lines;
in
{
  # `places`: where the secrets of this unit appear only when it runs.
  tooEarly =
    {
      option,
      unit,
      serviceConfig,
      places,
    }:
    map
      (
        { setting, path, ... }:
        "${unit}.serviceConfig.${setting} names ${path}, which is there only when the service runs, and systemd reads it before that: use `hostPath' instead of `path' of ${option}"
      )
      (
        lib.filter ({ path, ... }: lib.any (place: lib.hasPrefix place path) places) (readsOf serviceConfig)
      );

  # What units' commands name of these services' secrets.
  # `services`: as below, with `own`, the unit itself; `ownPlace`, where only that unit finds them; `files`: name →
  # whether users other than root may read it.
  inCommands =
    { services, units }:
    let
      all = lib.attrValues services;
      places = lib.concatMap (
        service: [ service.directory ] ++ lib.optional (service.ownPlace != null) service.ownPlace
      ) all;
      mentionsAny = text: lib.replaceStrings places (map (_: "") places) text != text;
      # What PID 1 reads for a unit, its commands need not read: they only name it in messages. A credential with the
      # name of its file is our own line.
      loadedBy =
        unit:
        map (read: read.path) (
          lib.filter (read: read.id or "" != baseNameOf read.path) (readsOf (unit.serviceConfig or { }))
        );
      ofText =
        name: loaded:
        {
          setting,
          text,
          isRoot,
        }:
        let
          unit = "systemd.services.${name}.${setting}";
          of =
            service:
            let
              isOwn = service.own == name;
              isConsumer = lib.elem "${name}.service" service.units;
              # "tls" is also in "tls.key".
              longerThan =
                file:
                map (other: "${service.directory}${other}") (
                  lib.filter (other: other != file && lib.hasPrefix file other) (lib.attrNames service.files)
                );
              named = lib.filter (
                file:
                let
                  longer = longerThan file;
                in
                mentions "${service.directory}${file}" (lib.replaceStrings longer (map (_: "") longer) text)
              ) (lib.attrNames service.files);
            in
            lib.optional (!isOwn && service.ownPlace != null && mentions service.ownPlace text) (
              notYours unit service
            )
            ++
              map
                (
                  file:
                  if !isConsumer then
                    "${unit} names ${service.directory}${file}, and nothing orders it after the secrets: add \"${name}.service\" to ${service.option}.consumers"
                  else if isOwn && !service.isFiles then
                    "${unit} names ${service.directory}${file}, which its user cannot read: use `path' instead of `hostPath' of ${service.option}"
                  else
                    "${unit} names ${service.directory}${file}, which its user cannot read: set ${service.option}.delivery = \"files\", and the secret's `owner'"
                )
                (
                  lib.filter (
                    file:
                    !isConsumer || !(isRoot || service.files.${file} || lib.elem "${service.directory}${file}" loaded)
                  ) named
                )
            ++ lib.optional (isConsumer && lib.any (path: mentions path text) service.environmentFile) (
              notMade unit (lib.head service.environmentFile) service
            );
        in
        lib.concatMap of all;
    in
    lib.concatLists (
      lib.mapAttrsToList (
        name: unit:
        lib.concatMap (ofText name (loadedBy unit)) (
          lib.filter ({ text, ... }: mentionsAny text) (textsOf unit)
        )
      ) (if services == { } then { } else units)
    );

  # `services`: { option; directory; environmentFile; units; } by names. A unit that reads there must wait for the
  # sidecar.
  unordered =
    { services, units }:
    let
      all = lib.attrValues services;
      of =
        name:
        { setting, path, ... }:
        lib.concatMap (
          service:
          if service.own != name && service.ownPlace != null && lib.hasPrefix service.ownPlace path then
            [ (notYours "systemd.services.${name}.serviceConfig.${setting}" service) ]
          else if !lib.hasPrefix service.directory path then
            [ ]
          else if lib.elem path service.environmentFile then
            [ (notMade "systemd.services.${name}.serviceConfig.${setting}" path service) ]
          else
            lib.optional (!lib.elem "${name}.service" service.units)
              "systemd.services.${name}.serviceConfig.${setting} names ${path}, and nothing orders it after the secrets: add \"${name}.service\" to ${service.option}.consumers"
        ) all;
    in
    lib.optionals (services != { }) (
      lib.concatLists (
        lib.mapAttrsToList (name: unit: lib.concatMap (of name) (readsOf (unit.serviceConfig or { }))) units
      )
    );

  # Whether the unit, merged from all modules, still has all that we gave to it.
  lost =
    {
      option,
      unit,
      sidecar,
      half,
      service,
    }:
    let
      missing =
        section: name: wanted:
        let
          there = afterReset (linesOf service.${section} name);
          # Names of units may stand side by side on a line.
          words = lib.concatMap (lib.splitString " ") there;
        in
        lib.optional (!lib.all (line: lib.elem line there || lib.elem line words) wanted)
          "${unit}.${section}.${name} has lost the lines of ${option}: a mkForce, or an empty line after them, takes them away; leave it away, or add them there";
      of = section: lib.concatLists (lib.mapAttrsToList (missing section) half.${section});
      wiring =
        lib.optional (!lib.elem sidecar service.requires || !lib.elem sidecar service.after)
          "${unit}.requires and after must have ${sidecar}, which ${option} put there: a mkForce takes it away";
    in
    wiring ++ lib.concatMap of (lib.attrNames half);

  # If two lines are for one credential, systemd silently takes one. A repeated line changes nothing: some modules name
  # a credential after the end of its path.
  twice =
    {
      option,
      unit,
      files,
      serviceConfig,
    }:
    let
      ids = map (line: lib.head (lib.splitString ":" line)) (
        lib.concatMap (setting: lib.unique (linesOf serviceConfig setting)) loads
      );
      escaped = lib.replaceStrings [ "%" ] [ "%%" ];
    in
    map (
      file:
      "${unit} loads the credential \"${file}\" by a line of its own, and by ${option}: leave one of them away, or give the secret another name by secrets.<id>.file"
    ) (lib.filter (file: lib.count (id: id == escaped file) ids > 1) files);
}
