# secretsStore.services: secrets for a service that some other module defines.
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
  types = import ../lib/types.nix { inherit lib; };
  problems = import ../lib/problems.nix { inherit lib; };
  templates = import ../lib/templates.nix { inherit lib pkgs; };
  render = import ../lib/render.nix {
    inherit lib pkgs;
    inherit (cfg) package;
  };

  pathOf = {
    credentials = name: file: "/run/credentials/${name}.service/${file}";
    private-tmp = _: file: "/tmp/${file}";
  };

  service = lib.types.submodule (
    { config, name, ... }:
    let
      withPath =
        type:
        lib.types.submodule [
          {
            imports = type.getSubModules;
          }
          (file: {
            options.path = mkOption {
              type = lib.types.str;
              readOnly = true;
              default = pathOf.${config.delivery} name file.config.file;
              defaultText = literalExpression ''"/run/credentials/NAME.service/FILE", or "/tmp/FILE"'';
              description = "Where the service finds it.";
            };
          })
        ];
    in
    {
      options = {
        secrets = mkOption {
          type = lib.types.attrsOf (withPath types.secret);
          default = { };
          example = literalExpression "{ db_password = { }; }";
          description = "The service's secrets by their ids.";
        };
        templates = mkOption {
          type = lib.types.attrsOf (withPath templates.template);
          default = { };
          example = literalExpression ''{ "app.ini".text = "password = {{db_password}}"; }'';
          description = ''
            Files with secrets in them, by their names: made of a template, delivered as the secrets are.
          '';
        };
        secretsConfig = mkOption {
          type = types.secretsConfig;
          description = "Where they come from.";
        };
        delivery = mkOption {
          type = lib.types.enum [
            "credentials"
            "private-tmp"
          ];
          default = "credentials";
          description = ''
            How the service sees them: as systemd credentials, copies that only it can read and that stay as they are
            while it runs; or as files in a private /tmp, which follow a rotation while the service runs.
          '';
        };
        environment = mkOption {
          type = lib.types.either lib.types.bool (lib.types.attrsOf lib.types.str);
          default = false;
          example = literalExpression ''{ DATABASE_PASSWORD = "db_password"; }'';
          description = ''
            Which secrets are environment variables, too: `true` for all of them, by the names in `secrets.<id>.env`;
            or a set of variables with the id of the secret for each.
          '';
        };
        onChange = mkOption {
          type = types.onChange;
          default = { };
          example = literalExpression ''{ action = "reload"; }'';
          description = "What is done when a secret has changed and `reloadOnChange` is set.";
        };
        inherit (types) resident startTimeout;
        sidecar = types.sidecar (render.sidecarOf name) "forgejo-store";
      };
    }
  );

  # The variables of one service: id → null or name; what is not in it is derived.
  variables =
    { environment, secrets, ... }:
    if builtins.isBool environment then
      lib.mapAttrs (
        _: secret: lib.optionalAttrs (secret.json ? env) { inherit (secret.json) env; }
      ) secrets
    else
      lib.mapAttrs (
        id: _:
        let
          names = lib.attrNames (lib.filterAttrs (_: wanted: wanted == id) environment);
        in
        {
          env = if names == [ ] then null else lib.head names;
        }
      ) secrets;

  hasEnvironment = service: service.environment != false && service.environment != { };

  configOf =
    name: service:
    {
      service = "${name}.service";
      secrets = lib.mapAttrs (id: env: service.secrets.${id}.json // env) (variables service);
      output = {
        directory = render.publicDirectory service.sidecar;
        envFile = if hasEnvironment service then "secrets.env" else null;
      }
      // lib.optionalAttrs (service.delivery == "private-tmp") { links = "/tmp"; };
      # A reload would see the old copies.
      onChange = render.onChange (
        service.onChange
        // lib.optionalAttrs (service.delivery == "credentials" && service.onChange.action == "reload") {
          action = "restart";
        }
      );
    }
    // templates.render service.templates
    // render.configOf {
      store = cfg;
      option = "secretsStore.services.${name}.secretsConfig";
      inherit (service) secretsConfig startTimeout resident;
    };

  # file → whether it may be missing.
  filesOf =
    service:
    lib.mapAttrs' (_: secret: lib.nameValuePair secret.file secret.optional) service.secrets
    // lib.mapAttrs' (_: template: lib.nameValuePair template.file false) service.templates;

  unitsOf =
    name: service:
    let
      inherit (service) sidecar;
      unit = "${sidecar}.service";
      target = config.systemd.services.${name};
      joins = lib.optionals (service.delivery == "private-tmp") (
        lib.remove unit (problems.joinsOf target.unitConfig)
      );
      half =
        if service.delivery == "credentials" then
          {
            serviceConfig = render.credentials {
              inherit sidecar;
              secrets = filesOf service;
            };
          }
        else
          lib.recursiveUpdate (render.privateTmp sidecar) {
            # Over a module's mkDefault, but a plain `false` wins and is named by the assertion.
            serviceConfig.PrivateTmp = lib.mkOverride 900 true;
          };
    in
    {
      ${name} = render.instance name target.serviceConfig // {
        requires = [ unit ];
        after = [ unit ];
        unitConfig = half.unitConfig or { };
        # systemd reads the file itself, before there is any sandbox: it needs no wrapper.
        serviceConfig =
          half.serviceConfig
          // lib.optionalAttrs (hasEnvironment service) {
            EnvironmentFile = [ "${render.publicDirectory sidecar}/secrets.env" ];
          };
      };
      ${sidecar} = render.sidecar {
        name = sidecar;
        targets = [ "${name}.service" ];
        inherit joins;
        joinsAfter = lib.intersectLists joins target.after;
        inherit (target) restartIfChanged reloadIfChanged;
        config = configOf name service;
      };
    };

  fail = message: {
    assertion = false;
    inherit message;
  };

  assertionsOf =
    name: service:
    let
      option = "secretsStore.services.${name}";
      credentials = service.delivery == "credentials";
      wide = lib.filter (file: !problems.isCredentialName file) (lib.attrNames (filesOf service));
      wanted = lib.optionals (!builtins.isBool service.environment) (lib.attrValues service.environment);
      unknown = lib.filter (id: !service.secrets ? ${id}) wanted;
      twice = lib.filter (id: lib.count (other: other == id) wanted > 1) wanted;
    in
    map fail (
      lib.optional (
        service.secrets == { }
      ) "${option}.secrets is empty: name a secret, or leave the service away"
      ++ lib.optional (lib.hasSuffix "@" name) "${option}: a template cannot have secrets, each instance has its own: name the instance"
      ++ map (
        id:
        "${option}.environment: \"${id}\" is not in ${option}.secrets (${lib.concatStringsSep ", " (lib.attrNames service.secrets)})"
      ) unknown
      ++ map (id: "${option}.environment: \"${id}\" is the value of two variables; a secret has one") (
        lib.unique twice
      )
      ++ problems.ofResident {
        option = "${option}.resident";
        follow = "${option}.secretsConfig.config.reloadOnChange";
        config = configOf name service;
      }
      ++ lib.optionals credentials (
        map (
          file:
          "${option}: \"${file}\" is no name of a credential (ASCII, no colon, quote or backslash): set secrets.<id>.file or rename the template, or set delivery = \"private-tmp\""
        ) wide
        ++
          lib.optional (service.onChange.action == "signal")
            "${option}.onChange.action: a signal would find the old credentials, whose copies systemd makes at the start: use \"restart\", or delivery = \"private-tmp\""
      )
      ++ lib.optionals (!credentials) (
        problems.ofPrivateTmp "systemd.services.${name}" config.systemd.services.${name}
      )
    );
in
{
  options.secretsStore.services = mkOption {
    type = lib.types.attrsOf service;
    default = { };
    example = literalExpression ''
      {
        grafana = {
          secrets.db_password = { };
          secretsConfig.backend = "folder";
        };
      }
    '';
    description = "Secrets for services that other modules define, by the service's name.";
  };

  config = lib.mkIf cfg.enable {
    systemd.services = lib.mkMerge (lib.mapAttrsToList unitsOf cfg.services);
    assertions =
      map fail (
        problems.ofSharedUnits {
          option = "secretsStore.services";
          names = lib.attrNames cfg.services;
          unitOf = name: cfg.services.${name}.sidecar;
        }
        ++ problems.ofTakenUnits {
          units = lib.mapAttrs' (
            name: service: lib.nameValuePair service.sidecar "secretsStore.services.${name}"
          ) cfg.services;
          definitions = options.systemd.services.definitionsWithLocations;
          own = ./services.nix;
        }
      )
      ++ lib.concatLists (lib.mapAttrsToList assertionsOf cfg.services);
  };
}
