# RFC 59's functions for authors of service modules.
#
#   secrets = import ./secrets.nix { inherit pkgs lib config; };
{
  pkgs,
  lib,
  config,
}:

let
  types = import ./types.nix { inherit lib; };
  commands = import ./commands.nix { inherit lib; };
  problems = import ./problems.nix { inherit lib; };
  order = import ./order.nix { inherit lib; };
  templateFiles = import ./templates.nix { inherit lib pkgs; };

  store = config.secretsStore or { };
  package = store.package or pkgs.secrets-sidecar or (pkgs.callPackage ../package.nix { });
  render = import ./render.nix { inherit lib pkgs package; };

  # The caller's `config` need not be a whole host's.
  later = order.laterIn (config.systemd.services or { });

  # Returns a value of the type, or throws an error that names the argument.
  checked =
    name: type: value:
    (lib.evalModules {
      modules = [
        {
          options.${name} = lib.mkOption { inherit type; };
          config.${name} = value;
        }
      ];
    }).config.${name};

  withSecrets = "${package}/bin/with-secrets";

  # A service of the scope without the attributes that are ours and not systemd's.
  withoutOurs =
    service:
    removeAttrs service [
      "secrets"
      "templates"
      "sidecar"
    ];

  # The definition as it was, with the wiring added and ExecStart behind with-secrets. It evaluates the definition only
  # inside of its settings: the set of services must not depend on it, as the definition may depend on that set.
  # `wrong`: why it is not possible.
  target =
    name: sidecar: service: wrong:
    let
      half = render.privateTmp sidecar;
      unit = [ "${sidecar}.service" ];
      said =
        option: otherwise:
        problems.notDefault "systemd.services.${name}.${option}" (service.${option} or otherwise);
      # With definitions of other priorities than the author's, one side would be lost.
      beside =
        value: more:
        lib.mkMerge [
          value
          (lib.mkOverride (commands.priorityOf value) more)
        ];
      append =
        option:
        let
          value = said option [ ];
        in
        if value ? _type then beside value unit else value ++ unit;
      wrapped = commands.mapContent (command: commands.wrap withSecrets command);
      wrapAll = commands.mapContent (
        value: if builtins.isList value then map wrapped value else commands.wrap withSecrets value
      );
      # Plain sets stay plain; the module system merges definitions with conditions.
      add =
        section: extra:
        if section ? _type then
          beside section extra
        else
          section
          // lib.mapAttrs (
            name: value:
            let
              own = section.${name} or [ ];
              both = lib.concatMap lib.toList (commands.contents own) ++ value;
            in
            if !builtins.isList value then
              value
            else if commands.priorityOf own < 100 then
              lib.mkOverride (commands.priorityOf own) both
            else
              both
          ) extra;
      serviceConfig = commands.mapContent (
        plain: plain // lib.optionalAttrs (plain ? ExecStart) { ExecStart = wrapAll plain.ExecStart; }
      ) (said "serviceConfig" { });
      # The caller's `config` need not be a whole host's.
      serviceConfigOfAll = config.systemd.services.${name}.serviceConfig or { ExecStart = null; };
      unitConfig = said "unitConfig" { };
      script = service.script or "";
      # NixOS sets these two there as well, and mkForce around the whole removes them.
      forced = lib.optionalAttrs (commands.priorityOf unitConfig < 100) {
        Requires = unit;
        After = unit;
      };
    in
    render.instance name serviceConfigOfAll
    // withoutOurs service
    // {
      requires = if wrong == [ ] then append "requires" else throw (lib.concatStringsSep "\n" wrong);
      after = append "after";
      unitConfig = add unitConfig (half.unitConfig // forced);
      serviceConfig = add serviceConfig (half.serviceConfig // { PrivateTmp = true; });
      # For messages of with-secrets, which removes it from the environment.
      environment = add (said "environment" { }) { SECRETS_SIDECAR = "${sidecar}.service"; };
      script = lib.mkIf (lib.any (text: text != "") (commands.contents script)) (
        commands.mapContent (commands.wrapScript withSecrets) script
      );
    };
in
{
  # { loadSecrets; backendConfig; } → ({ secret1, ... }: attrsOf service) → attrsOf service
  #
  # loadSecrets: ids, or a set of ids with the options of each (`{ secret1 = { file = "s1"; }; }`).
  # templates: files with secrets in them, by their names; each is also an argument of the function.
  # Each service n of the result gets a sidecar n-secrets. A service with `secrets = [ "secret1" ];` gets only those,
  # and only those templates that it names (`templates = [ "app.ini" ];`).
  serviceSecretsScope =
    {
      loadSecrets,
      backendConfig,
      templates ? { },
      onChange ? { },
      startTimeout ? null,
      resident ? true,
    }:
    let
      secretsConfig = checked "backendConfig" types.secretsConfig backendConfig;
      actions = checked "onChange" types.onChange onChange;
      loaded = checked "loadSecrets" (lib.types.attrsOf types.secret) (
        if builtins.isList loadSecrets then lib.genAttrs loadSecrets (_: { }) else loadSecrets
      );
      invalid = lib.filter (id: !types.isComponent id) (lib.attrNames loaded);
      made = checked "templates" (lib.types.attrsOf templateFiles.template) templates;
      both = lib.attrNames (builtins.intersectAttrs loaded made);

      # The part of the scope that a service names.
      chosen =
        {
          option,
          names,
          all,
          from,
        }:
        let
          unknown = lib.filter (name: !all ? ${name}) names;
          quoted = lib.concatMapStringsSep ", " (name: "\"${name}\"") (lib.attrNames all);
        in
        if unknown != [ ] then
          throw "systemd.services.${option}: \"${lib.head unknown}\" is not in ${from} (${quoted})"
        else
          lib.genAttrs names (name: all.${name});
      secretsOf =
        name: service:
        chosen {
          option = "${name}.secrets";
          names = service.secrets or (lib.attrNames loaded);
          all = loaded;
          from = "loadSecrets";
        };
      templatesOf =
        name: service:
        chosen {
          option = "${name}.templates";
          names = service.templates or (if service ? secrets then [ ] else lib.attrNames made);
          all = made;
          from = "templates";
        };

      # `sidecar = "NAME";` in a service names its sidecar's unit, if the usual name is taken.
      sidecarOf = name: service: service.sidecar or (render.sidecarOf name);

      hasSidecar = name: service: secretsOf name service != { } || templatesOf name service != { };

      configOf =
        name: service:
        {
          service = "${name}.service";
          secrets = lib.mapAttrs (_: secret: secret.json) (secretsOf name service);
          output = {
            directory = render.publicDirectory (sidecarOf name service);
            links = "/tmp";
          };
          onChange = render.onChange actions;
        }
        // templateFiles.render (templatesOf name service)
        // render.configOf {
          option = "backendConfig";
          inherit
            store
            secretsConfig
            startTimeout
            resident
            ;
        };

      join =
        name: service:
        let
          sidecar = sidecarOf name service;
          config = configOf name service;
          wrong =
            problems.ofScope name service
            ++ order.problemsOf {
              option = "a secrets scope";
              inherit (secretsConfig) backend;
              units = [ "${name}.service" ];
              inherit later;
            }
            ++ problems.ofResident {
              option = "resident";
              follow = "backendConfig.config.reloadOnChange";
              inherit config;
            }
            ++
              lib.optional (!isSplit && resident == "on-change")
                "resident = \"on-change\" needs secretsStore.enable = true, whose module makes what watches the store";
          joins = problems.joinsOf (service.unitConfig or { });
          rendered = render.sidecar {
            name = sidecar;
            inherit isSplit;
            targets = [ "${name}.service" ];
            inherit joins;
            joinsAfter = lib.intersectLists joins (lib.concatLists (commands.contents (service.after or [ ])));
            restartIfChanged = service.restartIfChanged or true;
            reloadIfChanged = service.reloadIfChanged or false;
            inherit config;
          };
        in
        if service ? _type then
          throw "systemd.services.${name}: a service in a secrets scope is a plain set; put mkIf around the scope, or inside the service"
        else if !hasSidecar name service then
          { ${name} = withoutOurs service; }
        else
          {
            ${name} = target name sidecar service wrong;
            ${sidecar} = rendered;
          }
          // lib.optionalAttrs isSplit (
            {
              # For the host's module, which checks the merged definitions of the service.
              "${sidecar}-act" =
                lib.recursiveUpdate
                  {
                    unitConfig.X-FetcherScope = name;
                  }
                  (
                    render.act {
                      name = sidecar;
                      targets = [ "${name}.service" ];
                      inherit config;
                    }
                  );
            }
            // render.looks {
              name = sidecar;
              targets = [ "${name}.service" ];
              inherit config;
              sidecar = rendered;
            }
          );
      # The host's module makes the path units. Without it a sidecar acts itself.
      isSplit = store ? enable;
    in
    services:
    let
      named = services (lib.mapAttrs (_: file: "/tmp/${file.file}") (loaded // made));
      shared = problems.ofSharedUnits {
        option = "systemd.services";
        names = lib.attrNames (lib.filterAttrs hasSidecar named);
        unitOf = name: sidecarOf name named.${name};
      };
    in
    if invalid != [ ] then
      throw "loadSecrets: ${builtins.toJSON (lib.head invalid)} is not a secret id: expected one file name without a slash"
    else if both != [ ] then
      throw "templates: \"${lib.head both}\" is a secret in loadSecrets already: give one of them another name"
    else if !(store.enable or true) && !(store.isDecided or true) then
      throw "${lib.concatStringsSep ", " (lib.attrNames named)}: a secrets scope has secrets, and secretsStore.enable is not set: set it to true, or to false to leave these services out"
    else if !(store.enable or true) then
      lib.warn "secretsStore.enable is false: the services of this secrets scope are left out" { }
    else if shared != [ ] then
      throw (lib.head shared)
    else
      lib.concatMapAttrs join named;

  # The option with which a module's user says where the secrets come from.
  secretsBackendOption = lib.mkOption {
    type = types.secretsConfig;
    description = "Where this service's secrets come from.";
    example = lib.literalExpression ''
      {
        backend = "folder";
        config.reloadOnChange = true;
      }
    '';
  };
}
