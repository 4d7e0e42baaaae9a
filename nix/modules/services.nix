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
  inherit (import ../lib { inherit config lib pkgs; })
    types
    problems
    environment
    readers
    order
    render
    serviceOptions
    ;

  later = order.laterIn config.systemd.services;

  inherit (serviceOptions) filesOf;

  hostPathOf = service: file: "${render.publicDirectory service.sidecar}/${file}";

  pathOf = {
    credentials =
      name: _: file:
      "/run/credentials/${name}.service/${file}";
    private-tmp =
      _: _: file:
      "/tmp/${file}";
    files = _: hostPathOf;
  };

  service = lib.types.submodule (
    { config, name, ... }:
    {
      options =
        serviceOptions.options {
          service = config;
          hostPathOf = hostPathOf config;
          directory = "/run/NAME-secrets/pub";
          places = {
            path = {
              of = pathOf.${config.delivery} name config;
              text = ''"/run/credentials/NAME.service/FILE", or "/tmp/FILE"'';
              description = "Where the running service finds it: for its commands and configuration files.";
            };
            hostPath = {
              of = hostPathOf config;
              text = ''"/run/NAME-secrets/pub/FILE"'';
              description = ''
                Where systemd and root find it: for options of a module that end in `EnvironmentFile=`,
                `LoadCredential=` or a script that root runs, of this service or of its `consumers`. With
                `delivery = "files"` other users may read it, too, as `owner`, `group` and `mode` say.
              '';
            };
          };
        }
        // {
          delivery = mkOption {
            type = lib.types.enum [
              "credentials"
              "private-tmp"
              "files"
            ];
            default = "credentials";
            description = ''
              How the service sees them: as systemd credentials, copies that only it can read and that stay as they are
              while it runs; as files in a private /tmp, which follow a rotation while the service runs; or as files of
              the host, root's own with mode 0400 where nothing else is said, at `hostPath`.
            '';
          };
          consumers = mkOption {
            type = lib.types.listOf lib.types.str;
            default = [ ];
            example = [ "synapse-worker.service" ];
            description = ''
              Other units that read a `hostPath`: they start after the secrets are there, and get the action of
              `onChange`.
            '';
          };
          inherit (types) resident;
          sidecar = types.sidecar (render.sidecarOf name) "forgejo-store";
        };
    }
  );

  configOf =
    name: service:
    {
      service =
        if service.consumers == [ ] then "${name}.service" else [ "${name}.service" ] ++ service.consumers;
      output = {
        directory = render.publicDirectory service.sidecar;
        envFile = if service.environmentFile.enable then "secrets.env" else null;
      }
      // lib.optionalAttrs (service.delivery == "private-tmp") { links = "/tmp"; };
    }
    // serviceOptions.configOf {
      inherit service;
      store = cfg;
      option = "secretsStore.services.${name}.secretsConfig";
    };

  # The settings that the service's unit gets.
  halfOf =
    service:
    let
      inherit (service) sidecar;
      delivered = {
        credentials.serviceConfig = render.credentials {
          inherit sidecar;
          secrets = filesOf service;
        };
        private-tmp = render.privateTmp sidecar;
        files = { };
      };
      half = delivered.${service.delivery};
    in
    {
      unitConfig = half.unitConfig or { };
      # systemd reads the file itself, before it sets up the sandbox: the service needs no wrapper.
      serviceConfig =
        half.serviceConfig or { }
        // lib.optionalAttrs (environment.has service) {
          EnvironmentFile = [ service.environmentFile.hostPath ];
        };
    };

  unitsOf =
    name: service:
    let
      inherit (service) sidecar consumers;
      unit = "${sidecar}.service";
      target = config.systemd.services.${name};
      joins = lib.optionals (service.delivery == "private-tmp") (
        lib.filter (problems.mayShareTmp config.systemd.services) (
          lib.remove unit (problems.joinsOf target.unitConfig)
        )
      );
      half = halfOf service;
      # At the end: an empty line of another module removes the lines before it.
      last = lib.mapAttrs (_: lib.mkAfter);
      rendered = render.sidecar {
        name = sidecar;
        targets = [ "${name}.service" ] ++ consumers;
        inherit joins;
        joinsAfter = lib.intersectLists joins target.after;
        storeAfter = problems.decryptors config.systemd.services;
        inherit (target) restartIfChanged reloadIfChanged;
        description = "Secrets of ${name}.service";
        config = configOf name service;
      };
    in
    {
      ${name} = render.instance name target.serviceConfig // {
        requires = [ unit ];
        after = [ unit ];
        unitConfig = last half.unitConfig;
        serviceConfig =
          last half.serviceConfig
          // lib.optionalAttrs (service.delivery == "private-tmp") {
            # Wins over a module's mkDefault. A plain `false` wins over it, and the assertion names that.
            PrivateTmp = lib.mkOverride 900 true;
          };
      };
      "${sidecar}-act" = render.act {
        name = sidecar;
        targets = [ "${name}.service" ] ++ consumers;
        config = configOf name service;
      };
      ${sidecar} =
        rendered
        // lib.optionalAttrs (consumers != [ ]) {
          requiredBy = consumers;
          # A consumer's restart must not restart the service.
          partOf = lib.filter (unit: !lib.elem unit consumers) rendered.partOf;
        }
        // lib.optionalAttrs (service.delivery == "files") {
          # Each file's own mode decides who reads it.
          serviceConfig = rendered.serviceConfig // {
            RuntimeDirectoryMode = "0755";
          };
        };
    }
    // render.looks {
      name = sidecar;
      targets = [ "${name}.service" ] ++ consumers;
      config = configOf name service;
      sidecar = rendered;
    };

  # For readers.nix.
  read = {
    services = lib.mapAttrs (name: service: {
      option = "secretsStore.services.${name}";
      own = name;
      isFiles = service.delivery == "files";
      directory = "${render.publicDirectory service.sidecar}/";
      ownPlace = if service.delivery == "credentials" then "/run/credentials/${name}.service/" else null;
      # With other deliveries only root can enter the directory.
      files = lib.mapAttrs' (
        _: file:
        lib.nameValuePair file.file (
          service.delivery == "files" && (file.owner != null || file.group != null || file.mode != null)
        )
      ) (service.templates // service.secrets);
      environmentFile = lib.optional (!service.environmentFile.enable) service.environmentFile.hostPath;
      units = [ "${name}.service" ] ++ service.consumers;
    }) cfg.services;
    # Not the units that publish them.
    units = removeAttrs config.systemd.services (
      lib.concatMap (service: [
        service.sidecar
        "${service.sidecar}-act"
      ]) (lib.attrValues cfg.services)
    );
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
    in
    map fail (
      lib.optional (
        service.secrets == { }
      ) "${option}.secrets is empty: name a secret, or leave the service away"
      ++ lib.optional (lib.hasSuffix "@" name) "${option}: a template cannot have secrets, each instance has its own: name the instance, or where systemd makes the instances (a socket with Accept=yes, as sshd@), give the template LoadCredential of a path in secretsStore.files"
      ++ lib.optionals (!lib.hasSuffix "@" name) (
        problems.ofUndefined {
          inherit option name;
          definitions = options.systemd.services.definitionsWithLocations;
          own = ./services.nix;
        }
        ++ order.problemsOf {
          inherit option later;
          inherit (service.secretsConfig) backend;
          units = [ "${name}.service" ] ++ service.consumers;
        }
        ++ readers.lost {
          inherit option;
          unit = "systemd.services.${name}";
          sidecar = "${service.sidecar}.service";
          half = halfOf service;
          service = config.systemd.services.${name};
        }
        ++ lib.optionals credentials (
          readers.twice {
            inherit option;
            unit = "systemd.services.${name}";
            files = lib.attrNames (filesOf service);
            inherit (config.systemd.services.${name}) serviceConfig;
          }
        )
        ++ readers.tooEarly {
          inherit option;
          unit = "systemd.services.${name}";
          inherit (config.systemd.services.${name}) serviceConfig;
          places =
            {
              credentials = [
                "/run/credentials/${name}.service/"
                "/run/credentials/%n/"
                "/run/credentials/%N.service/"
                "%d/"
              ];
              private-tmp = map (file: "/tmp/${file}") (lib.attrNames (filesOf service));
              files = [ ];
            }
            .${service.delivery};
        }
      )
      ++ environment.problemsOf option service
      ++ problems.ofResident {
        option = "${option}.resident";
        follow = "${option}.secretsConfig.config.reloadOnChange";
        config = configOf name service;
      }
      ++ lib.optionals credentials (
        map (
          file:
          "${option}: \"${file}\" is not the name of a credential (ASCII, no colon, quote or backslash): set secrets.<id>.file or rename the template, or set delivery = \"private-tmp\""
        ) wide
        ++
          lib.optional (service.onChange.action == "signal")
            "${option}.onChange.action: a signal would find the old credentials, whose copies systemd makes at the start: use \"restart\", or delivery = \"private-tmp\""
      )
      ++ lib.optionals (service.delivery == "private-tmp") (
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
    systemd.services = lib.mkMerge (problems.unitsOfEach unitsOf cfg.services);
    assertions =
      map fail (
        problems.ofSidecars {
          option = "secretsStore.services";
          sidecars = lib.mapAttrs (_: service: service.sidecar) cfg.services;
          definitions = options.systemd.services.definitionsWithLocations;
          own = ./services.nix;
        }
        ++ readers.unordered read
        ++ readers.inCommands read
      )
      ++ lib.concatLists (lib.mapAttrsToList assertionsOf cfg.services);
  };
}
