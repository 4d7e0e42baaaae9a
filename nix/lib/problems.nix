# Configurations that cannot work: each message has the option's name and the way out.
{ lib }:

let
  commands = import ./commands.nix { inherit lib; };

  # The last definition of a key that counts, or null.
  valueOf =
    section: name:
    let
      found = lib.concatMap (plain: commands.contents (plain.${name} or [ ])) (commands.contents section);
    in
    if found == [ ] then null else lib.last found;

  isFalse =
    value:
    lib.elem value [
      false
      "false"
      "no"
      "off"
      "0"
      "n"
      "f"
    ];

  ofPrivateTmp =
    option: service:
    let
      serviceConfig = service.serviceConfig or { };
      privateTmp = valueOf serviceConfig "PrivateTmp";
      plus = lib.findFirst ({ command, ... }: commands.hasPrefix "+" command) null (
        commands.ofService serviceConfig
      );
    in
    lib.optional (isFalse privateTmp) "${option}.serviceConfig.PrivateTmp is false, but its secrets are in a private /tmp: leave the option away, or use `delivery = \"credentials\"' of secretsStore.services"
    ++
      lib.optional (privateTmp == "disconnected")
        "${option}.serviceConfig.PrivateTmp is \"disconnected\", which no other unit can share: set it to true, or use `delivery = \"credentials\"' of secretsStore.services"
    ++
      lib.optional (isFalse (valueOf (service.unitConfig or { }) "DefaultDependencies"))
        "${option}.unitConfig.DefaultDependencies is false, which makes the private /tmp one that cannot be shared: leave the option away, or use `delivery = \"credentials\"' of secretsStore.services"
    ++
      lib.optional (plus != null)
        "${option}.serviceConfig.${plus.name} has a command with the prefix `+', which sees the /tmp of the host, where anybody can put a file in the place of a secret: use `!' for privileges, or `delivery = \"credentials\"' of secretsStore.services";
in
rec {
  # `option`: the service's path. Returns no problem if its secrets can be in a private /tmp.
  inherit ofPrivateTmp;

  # The same for a scope, where it must also be possible to wrap ExecStart.
  ofScope =
    name: service:
    let
      option = "systemd.services.${name}";
      at = lib.any ({ name, command }: name == "ExecStart" && commands.hasPrefix "@" command) (
        commands.ofService (service.serviceConfig or { })
      );
    in
    lib.optional (lib.hasSuffix "@" name) "${option}: a template cannot be in a secrets scope, each instance has secrets of its own: name the instance"
    ++ lib.optional at "${option}.serviceConfig.ExecStart has the prefix `@', which names the program's argv[0]; the program is started by with-secrets, which cannot: leave the prefix away, or start it by `bash -c 'exec -a NAME PROGRAM'`"
    ++ ofPrivateTmp option service;

  # Returns the value, unless what a scope adds to it would be lost.
  notDefault =
    option: value:
    if commands.priorityOf value > 100 then
      throw "${option} has mkDefault around the whole of it, which is lost beside what the secrets scope adds: leave mkDefault away, or put it on the settings inside"
    else
      value;

  # `names`: of the option's attributes; `unitOf`: the names of their sidecars, in which some characters are replaced.
  ofSharedUnits =
    {
      option,
      names,
      unitOf,
    }:
    lib.concatLists (
      lib.mapAttrsToList (
        unit: sharing:
        lib.optional (lib.length sharing > 1)
          "${option}: ${lib.concatStringsSep " and " sharing} would share the unit ${unit}.service: rename one"
      ) (lib.groupBy unitOf names)
    );

  # The units of each attribute, by `unitsOf`. If several would share a sidecar, only the first gets it: otherwise Nix
  # would report contradicting definitions before the message of ofSharedUnits.
  unitsOfEach =
    unitsOf: attributes:
    let
      sharing = lib.groupBy (name: attributes.${name}.sidecar) (lib.attrNames attributes);
      isFirst = name: lib.head sharing.${attributes.${name}.sidecar} == name;
    in
    lib.mapAttrsToList (
      name: attribute:
      lib.filterAttrs (unit: _: isFirst name || !lib.hasPrefix attribute.sidecar unit) (
        unitsOf name attribute
      )
    ) attributes;

  # Problems of an option whose attributes each have a sidecar. `sidecars`: name of the attribute → its unit's name.
  ofSidecars =
    {
      option,
      sidecars,
      definitions,
      own,
    }:
    ofSharedUnits {
      inherit option;
      names = lib.attrNames sidecars;
      unitOf = name: sidecars.${name};
    }
    ++ ofTakenUnits {
      units = lib.mapAttrs' (name: unit: lib.nameValuePair unit "${option}.${name}") sidecars;
      inherit definitions own;
    };

  # `units`: name of a sidecar → the option that it is for; `definitions`: those of systemd.services by all modules;
  # `own`: the file of the module that asks.
  ofTakenUnits =
    {
      units,
      definitions,
      own,
    }:
    let
      starts =
        service:
        lib.any (
          plain:
          lib.any (text: text != "") (commands.contents (plain.script or ""))
          # In home-manager the section has systemd's name.
          || lib.any (section: section ? ExecStart) (
            commands.contents (plain.serviceConfig or plain.Service or { })
          )
        ) (commands.contents service);
      others = lib.filter (definition: toString definition.file != toString own) definitions;
    in
    lib.concatLists (
      lib.mapAttrsToList (
        unit: option:
        map (
          { file, ... }:
          "${option}: its sidecar would be ${unit}.service, and ${toString file} has a unit of that name: set ${option}.sidecar to another name"
        ) (lib.filter ({ value, ... }: value ? ${unit} && starts value.${unit}) others)
        ++
          lib.optional (builtins.stringLength "${unit}-refresh.service" > 199)
            "${option}: the name of its sidecar, ${unit}.service, is longer than the 183 characters that systemd takes with PrivateTmp: set ${option}.sidecar to a shorter one"
      ) units
    );

  # `name`: of a service that another module must define. Units that a package brings are not known here.
  ofUndefined =
    {
      option,
      name,
      definitions,
      own,
      way ? "if a package brings its unit (systemd.packages), say so by systemd.services.${builtins.toJSON name} = { }",
    }:
    let
      names = lib.concatMap (
        { file, value, ... }: lib.optionals (toString file != toString own) (lib.attrNames value)
      ) definitions;
      template = "${lib.head (lib.splitString "@" name)}@";
      isDefined = lib.elem name names || (lib.hasInfix "@" name && lib.elem template names);
      like = lib.unique (lib.filter (lib.hasPrefix (builtins.substring 0 3 name)) names);
      meant = lib.optionalString (like != [ ]) " (there is ${lib.concatStringsSep ", " like})";
    in
    lib.optional (
      !isDefined
    ) "${option}: no module defines the service ${name}${meant}: correct the name; ${way}";

  # Whether the unit has a /tmp to share, as far as `services` knows it: a unit that joins another also gets its
  # network.
  mayShareTmp =
    services: unit:
    let
      name = lib.removeSuffix ".service" unit;
      known = lib.filter (other: services ? ${other}) [
        name
        "${lib.head (lib.splitString "@" name)}@"
      ];
      hasOne =
        other:
        let
          value = valueOf (services.${other}.serviceConfig or { }) "PrivateTmp";
        in
        value != null && value != [ ] && !isFalse value;
    in
    known == [ ] || lib.any hasOne known;

  # Units that fill other tools' folders of secrets, if the host has them.
  decryptors =
    services:
    map (name: "${name}.service") (
      lib.filter (name: services ? ${name}) [
        "sops-install-secrets"
        "agenix"
        "agenix-install-secrets"
      ]
    );

  # `config`: the program's; `option`: where `resident` was set; `follow`: where `reloadOnChange` can be.
  ofResident =
    {
      option,
      follow,
      config,
    }:
    lib.optional ((config.resident or true) == false && config.config.reloadOnChange)
      "${option} is false, so nothing would see a change, but reloadOnChange is true: set ${follow} = false, or leave resident away"
    ++
      lib.optional ((config.resident or true) == "on-change" && !config.config.reloadOnChange)
        "${option} is \"on-change\", and reloadOnChange is false, so no change would count: set ${follow} = true, or resident = false";

  # Names of the units in JoinsNamespaceOf=, from strings, lists, and lists of strings with spaces.
  joinsOf =
    unitConfig:
    let
      definitions = lib.concatMap (
        plain: lib.concatMap lib.toList (commands.contents (plain.JoinsNamespaceOf or [ ]))
      ) (commands.contents unitConfig);
    in
    lib.unique (
      lib.concatMap (text: lib.filter (unit: unit != "") (lib.splitString " " text)) definitions
    );

  # Names of credentials allow less than those of files (systemd.exec(5): ASCII, no `:'); quotes and backslashes would
  # mean something in a unit file.
  isCredentialName = name: builtins.match "[]A-Za-z0-9 !#$%&()*+,.;<=>?@[^_`{|}~-]+" name != null;
}
