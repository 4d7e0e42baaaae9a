# What PID 1 reads for a unit (EnvironmentFile=, LoadCredential=, StandardInput=) before the unit's own credentials and
# /tmp are there.
{ lib }:

let
  linesOf =
    serviceConfig: name:
    map toString (lib.concatMap lib.toList (lib.toList (serviceConfig.${name} or [ ])));

  # Of `ID:PATH` the path; an ID alone is looked for by systemd.
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

  # [ { setting; path; } ]
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
      }) (linesOf serviceConfig setting)
    ) loads;

  # In the settings that are lists an empty line takes away all before it.
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
        { setting, path }:
        "${unit}.serviceConfig.${setting} names ${path}, which is there only when the service runs, and systemd reads it before that: use `hostPath' instead of `path' of ${option}"
      )
      (
        lib.filter ({ path, ... }: lib.any (place: lib.hasPrefix place path) places) (readsOf serviceConfig)
      );

  # `services`: { option; directory; environmentFile; units; } by names. Who reads there must wait for the sidecar.
  unordered =
    { services, units }:
    let
      all = lib.attrValues services;
      of =
        name:
        { setting, path }:
        lib.concatMap (
          service:
          if !lib.hasPrefix service.directory path then
            [ ]
          else if lib.elem path service.environmentFile then
            [
              "systemd.services.${name}.serviceConfig.${setting} names ${path}, which is not made: set ${service.option}.environmentFile.enable = true"
            ]
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

  # Whether all that was given to the unit is in what came of all modules.
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
    wiring ++ of "unitConfig" ++ of "serviceConfig";

  # Of two lines for one credential systemd takes one without a word.
  twice =
    {
      option,
      unit,
      files,
      serviceConfig,
    }:
    let
      ids = map (line: lib.head (lib.splitString ":" line)) (lib.concatMap (linesOf serviceConfig) loads);
      escaped = lib.replaceStrings [ "%" ] [ "%%" ];
    in
    map (
      file:
      "${unit} loads the credential \"${file}\" by a line of its own, and by ${option}: leave one of them away, or give the secret another name by secrets.<id>.file"
    ) (lib.filter (file: lib.count (id: id == escaped file) ids > 1) files);
}
