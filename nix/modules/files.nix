# secretsStore.files: files that the whole host can see, with mode, owner and group: a provider of the contract for
# secrets in files.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  inherit (lib) literalExpression mkOption;

  cfg = config.secretsStore;
  inherit (import ../lib { inherit config lib pkgs; })
    types
    problems
    templates
    contract
    order
    render
    ;

  later = order.laterIn config.systemd.services;

  # "stash/password" is a valid name in the contract, but not for a unit.
  flat = lib.replaceStrings [ "/" "@" " " ] [ "-" "-" "-" ];
  unitOf = name: "secret-file-${flat name}";
  root = "/run/secret-files";

  # Files of one sidecar lie side by side: there a file's name is the whole name.
  isShared = name: cfg.files.${name}.sidecar != unitOf name;
  fileOf = name: if isShared name then flat name else baseNameOf name;
  directoryOf = name: "${root}/${if isShared name then cfg.files.${name}.sidecar else flat name}";

  # sidecar → names of its files.
  groups = lib.groupBy (name: cfg.files.${name}.sidecar) (lib.attrNames cfg.files);
  early = lib.attrNames (lib.filterAttrs (_: isEarly) groups);
  consumersOf = file: lib.unique (file.consumers ++ file.request.restartUnits);
  follows =
    name: file:
    (render.settings {
      store = cfg;
      path = "secretsStore.files.${name}.secretsConfig";
      inherit (file) secretsConfig;
    }).reloadOnChange;

  # Users and groups from elsewhere than this configuration may exist only later.
  isKnown =
    { kind, name }:
    builtins.match "root|[0-9]+" name != null || (config.users or { }).${kind} or { } ? ${name};
  ownersOf =
    file:
    lib.filter ({ name, ... }: name != "") (
      lib.concatMap (
        { owner, group, ... }:
        [
          {
            kind = "users";
            name = toString owner;
          }
          {
            kind = "groups";
            name = toString group;
          }
        ]
      ) ([ file.request ] ++ lib.attrValues file.secrets)
    );
  isEarly = lib.all (name: cfg.files.${name}.early);

  file = lib.types.submodule (
    {
      config,
      name,
      options,
      ...
    }:
    {
      imports = [
        (contract.provider {
          path = "${directoryOf name}/${fileOf name}";
          defaultPath = ''"/run/secret-files/NAME/NAME"'';
        })
      ];
      options = templates.sourceOptions // {
        id = mkOption {
          type = types.component;
          default = baseNameOf name;
          defaultText = literalExpression "the last part of the name";
          description = "The secret's id in the store.";
        };
        source = mkOption {
          type = lib.types.attrsOf types.json;
          default = { };
          description = "Where it lives in the store, in the backend's words; derived from the id where empty.";
        };
        secrets = mkOption {
          type = lib.types.attrsOf types.secret;
          default = { };
          example = literalExpression "{ db_password = { }; }";
          description = ''
            With `template` or `text`: the secrets in it, by their ids. They are files beside it that only root can
            read.
          '';
        };
        secretsConfig = mkOption {
          type = types.secretsConfig;
          description = "Where it comes from.";
        };
        consumers = mkOption {
          type = lib.types.listOf lib.types.str;
          default = [ ];
          example = [ "stash.service" ];
          description = ''
            Units that read the file: they start after it is there, and get the action of `onChange`.
          '';
        };
        onChange = mkOption {
          type = types.onChange;
          default = { };
          description = "What is done to the consumers when the secret has changed and `reloadOnChange` is set.";
        };
        early = mkOption {
          type = lib.types.bool;
          default = types.isLocal config.secretsConfig.backend && lib.all isKnown (ownersOf config);
          defaultText = literalExpression "whether the store is in files of this host, and so are the owners";
          description = ''
            Whether the file is there before services start, so that its consumers need not be named: `basic.target`,
            and a switch, wait up to 30 seconds for it. A boot goes on without a secret that is missing for longer.
          '';
        };
        inherit (types) startTimeout;
        resident = types.resident // {
          type = lib.types.bool;
          default = follows name config;
          defaultText = literalExpression "whether `reloadOnChange` is true: nothing else needs a process";
        };
        sidecar = types.sidecar (unitOf name) "web-files" // {
          # The assertions check the name.
          type = lib.types.str;
          defaultText = literalExpression ''"secret-file-NAME"'';
          description = ''
            Name of the unit that keeps the file, without `.service`. Files with the same name here share one, in
            `/run/secret-files/UNIT/`; what they say of the store and of `onChange` must be the same.
          '';
        };
        unit = mkOption {
          type = lib.types.str;
          readOnly = true;
          default = "${config.sidecar}.service";
          defaultText = literalExpression ''"secret-file-NAME.service"'';
          description = "The unit after which the file is there, for a consumer that is not in `consumers`.";
        };
        isTemplate = mkOption {
          type = lib.types.bool;
          internal = true;
          readOnly = true;
          default = options.template.isDefined;
          description = "Whether it is made of a template.";
        };
      };
      config.template = lib.mkIf (config.text != null) (
        templates.fromText {
          name = fileOf name;
          inherit options;
        }
      );
    }
  );

  # The secret itself, or the template's secrets and the template.
  contentOf =
    name: file:
    if file.isTemplate then
      {
        secrets = lib.mapAttrs (_: secret: secret.json) file.secrets;
        templates.${fileOf name} = {
          inherit (file) template;
          inherit (file.request) mode owner group;
        };
      }
    else
      {
        secrets.${file.id} = {
          file = fileOf name;
          env = null;
          inherit (file.request) mode owner group;
        }
        // lib.optionalAttrs (file.source != { }) { inherit (file) source; };
      };

  # For all files of one sidecar; the settings that they share come from the first.
  configOf =
    names:
    let
      name = lib.head names;
      file = cfg.files.${name};
      contents = map (name: contentOf name cfg.files.${name}) names;
      consumers = lib.unique (lib.concatMap (name: consumersOf cfg.files.${name}) names);
    in
    {
      output = {
        directory = directoryOf name;
        envFile = null;
      };
      onChange = render.onChange file.onChange;
    }
    // lib.foldl' lib.recursiveUpdate { } contents
    // lib.optionalAttrs (consumers != [ ]) { service = consumers; }
    // render.configOf {
      store = cfg;
      option = "secretsStore.files.${name}.secretsConfig";
      inherit (file) secretsConfig startTimeout resident;
    };

  # For a unit that is not in this host's systemd.services, the defaults apply.
  serviceOf = unit: config.systemd.services.${lib.removeSuffix ".service" unit} or { };
  mayRestart = unit: (serviceOf unit).restartIfChanged or true;
  isReloaded = unit: (serviceOf unit).reloadIfChanged or false;

  unitOfGroup =
    sidecar: names:
    let
      config' = configOf names;
      directory = directoryOf (lib.head names);
      consumers = config'.service or [ ];
      rendered = render.sidecar {
        name = sidecar;
        runtimeDirectory = lib.removePrefix "/run/" directory;
        targets = consumers;
        description = "Secret file${
          lib.optionalString (lib.length names > 1) "s"
        } ${lib.concatStringsSep ", " names}";
        storeAfter = problems.decryptors config.systemd.services;
        isEarly = isEarly names;
        restartIfChanged = lib.all mayRestart consumers;
        # One consumer that must not restart is enough: a restart of the sidecar would restart all of them.
        reloadIfChanged = lib.any isReloaded consumers;
        config = config';
      };
    in
    # The system wants it, not one consumer: it neither ends nor restarts with one.
    rendered
    // {
      wantedBy = [ "multi-user.target" ];
      requiredBy = consumers;
      partOf = [ ];
      unitConfig = removeAttrs rendered.unitConfig [ "StopWhenUnneeded" ];
      serviceConfig = rendered.serviceConfig // {
        # The file's own mode decides who reads it.
        RuntimeDirectoryMode = "0755";
      };
    };

  # Problems of files that share a sidecar.
  problemsOfGroup =
    sidecar: names:
    let
      all = lib.concatStringsSep " and " names;
      of = name: cfg.files.${name};
      differs =
        what: lib.any (name: (of name).${what} != (of (lib.head names)).${what}) (builtins.tail names);
      ids = lib.concatMap (name: lib.attrNames (contentOf name (of name)).secrets) names;
      twice = lib.unique (lib.filter (id: lib.count (other: other == id) ids > 1) ids);
    in
    lib.optionals (lib.length names > 1) (
      map
        (
          what:
          "secretsStore.files: ${all} share the sidecar ${sidecar}, and their ${what} differs: say the same, or give one of them another sidecar"
        )
        (
          lib.filter differs [
            "secretsConfig"
            "onChange"
            "startTimeout"
            "resident"
          ]
        )
      ++ map (
        id:
        "secretsStore.files: ${all} share the sidecar ${sidecar}, and the secret ${builtins.toJSON id} is in two of them: give one of them another id, with its source"
      ) twice
    );

  problemsOf =
    name: file:
    let
      option = "secretsStore.files.${name}";
    in
    lib.optional (builtins.match "[A-Za-z0-9_.-]+" (flat name) == null)
      "${option}: the name is in that of a unit, so it has letters, digits, spaces and _.-/@ only: rename it"
    ++
      lib.optional (isShared name && builtins.match "[A-Za-z0-9_.-]+" file.sidecar == null)
        "${option}.sidecar: ${builtins.toJSON file.sidecar} is not the name of a unit: letters, digits and _.- only"
    ++ lib.optional (
      file.sidecar == "secret-files"
    ) "${option}.sidecar: secret-files.service waits for all of them at boot: take another name"
    ++ lib.optional (
      file.isTemplate && file.secrets == { }
    ) "${option} is made of a template: name the secrets in it in ${option}.secrets"
    ++ lib.optional (
      file.isTemplate && file.source != { }
    ) "${option}.source is that of a single secret: with a template, set ${option}.secrets.<id>.source"
    ++
      lib.optional (!file.isTemplate && file.secrets != { })
        "${option}.secrets are those of a template: set ${option}.template or text, or id for a single secret"
    ++ problems.ofResident {
      option = "${option}.resident";
      follow = "${option}.secretsConfig.config.reloadOnChange";
      config = configOf [ name ];
    }
    ++
      lib.optional (file.early && (types.backendOf file.secretsConfig.backend).network or false)
        "${option}.early is true, and its secret comes over the network, which is there after services start: leave it away, and name the units that read the file in ${option}.consumers"
    ++ order.problemsOf {
      inherit option later;
      inherit (file.secretsConfig) backend;
      isEarly = file.early;
      units = consumersOf file;
    };
in
{
  options.secretsStore.files = mkOption {
    type = lib.types.attrsOf file;
    default = { };
    example = literalExpression ''
      {
        "stash/password" = {
          request = config.services.stash.passwordFile.request;
          secretsConfig.backend = "vault";
          consumers = [ "stash.service" ];
        };
      }
    '';
    description = "Secrets as files on the host, for consumers that take a path.";
  };

  config = lib.mkIf cfg.enable {
    systemd.services =
      lib.mapAttrs unitOfGroup groups
      // lib.mapAttrs' (
        sidecar: names:
        let
          config' = configOf names;
        in
        lib.nameValuePair "${sidecar}-act" (
          render.act {
            name = sidecar;
            targets = config'.service or [ ];
            config = config';
          }
        )
      ) groups
      // lib.optionalAttrs (early != [ ]) {
        secret-files = render.early (map (sidecar: "${sidecar}.service") early);
      };
    assertions =
      map
        (message: {
          assertion = false;
          inherit message;
        })
        (
          problems.ofSharedUnits {
            option = "secretsStore.files";
            # Other code checks those that share a sidecar on purpose.
            names = lib.filter (name: !isShared name) (lib.attrNames cfg.files);
            inherit unitOf;
          }
          ++ problems.ofTakenUnits {
            units = lib.mapAttrs (_: names: "secretsStore.files.${lib.head names}") groups;
            definitions = options.systemd.services.definitionsWithLocations;
            own = ./files.nix;
          }
          ++ lib.concatLists (lib.mapAttrsToList problemsOfGroup groups)
          ++ lib.concatLists (lib.mapAttrsToList problemsOf cfg.files)
        );
  };
}
