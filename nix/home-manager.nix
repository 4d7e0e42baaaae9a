# The module for home-manager: `secretsStore.services.NAME` gives secrets to `systemd.user.services.NAME`, with the
# options that the NixOS module has for the host's services.
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
  inherit (import ./lib { inherit config lib pkgs; })
    types
    problems
    environment
    readers
    render
    serviceOptions
    ;
  user = import ./lib/render-user.nix {
    inherit lib pkgs render;
    inherit (cfg) package;
  };

  units = config.systemd.user.services;
  unitName = name: "systemd.user.services.${name}";

  inherit (serviceOptions) filesOf;

  hostPathOf = service: file: "${user.publicDirectory service.sidecar}/${file}";

  service = lib.types.submodule (
    { config, name, ... }:
    {
      options =
        serviceOptions.options {
          service = config;
          hostPathOf = hostPathOf config;
          directory = "%t/NAME-secrets/pub";
          places = {
            path = {
              of = file: if config.delivery == "credentials" then "%d/${file}" else hostPathOf config file;
              text = ''"%d/FILE", or "%t/NAME-secrets/pub/FILE"'';
              description = ''
                Where the running service finds it, for lines of its unit: systemd fills in `%d` and `%t`. A script
                has the same as `$CREDENTIALS_DIRECTORY/FILE`, or `$XDG_RUNTIME_DIR/NAME-secrets/pub/FILE`.
              '';
            };
            hostPath = {
              of = hostPathOf config;
              text = ''"%t/NAME-secrets/pub/FILE"'';
              description = ''
                Where systemd finds it: for `EnvironmentFile=` and `LoadCredential=` of this unit or of `consumers`.
              '';
            };
          };
        }
        // {
          delivery = mkOption {
            type = lib.types.enum [
              "credentials"
              "files"
            ];
            default = "credentials";
            description = ''
              How the service sees them: as systemd credentials, copies that stay as they are while it runs; or as
              files, which follow a rotation. A private /tmp needs the system's manager.
            '';
          };
          consumers = mkOption {
            type = lib.types.listOf lib.types.str;
            default = [ ];
            example = [ "mbsync.service" ];
            description = ''
              Other units of this user that read a `hostPath`: they start after the secrets are there, and get the
              action of `onChange`.
            '';
          };
          # `"on-change"` needs the system's manager.
          resident = types.resident // {
            type = lib.types.bool;
          };
          sidecar = types.sidecar (render.sidecarOf name) "mail-store";
        };
    }
  );

  targetsOf = name: service: [ "${name}.service" ] ++ service.consumers;
  configOf =
    name: service:
    {
      service = targetsOf name service;
      output = {
        directory = user.directoryIn service.sidecar;
        envFile = if service.environmentFile.enable then "secrets.env" else null;
      };
    }
    // serviceOptions.configOf {
      inherit service;
      store = cfg;
      option = "secretsStore.services.${name}.secretsConfig";
    };

  # The settings that the service's unit gets.
  halfOf =
    service:
    lib.optionalAttrs (service.delivery == "credentials") (
      render.credentialsIn (user.publicDirectory service.sidecar) (filesOf service)
    )
    // lib.optionalAttrs (environment.has service) {
      EnvironmentFile = [ service.environmentFile.hostPath ];
    };

  unitsOf = name: service: {
    # At the end: an empty line of another module removes the lines before it.
    ${name}.Service = lib.mapAttrs (_: lib.mkAfter) (halfOf service);
    ${service.sidecar} = user.sidecar {
      name = service.sidecar;
      config = configOf name service;
      targets = targetsOf name service;
      isOpen = service.delivery == "files";
      # The units of sops-nix and agenix, if this home has them.
      storeAfter = map (unit: "${unit}.service") (
        lib.filter (unit: units ? ${unit}) [
          "sops-nix"
          "agenix"
        ]
      );
    };
  };

  problemsOf =
    name: service:
    let
      option = "secretsStore.services.${name}";
      credentials = service.delivery == "credentials";
      files = lib.attrNames (filesOf service);
      unit = unitName name;
      sections = units.${name}.Service or { };
    in
    lib.optional (
      service.secrets == { }
    ) "${option}.secrets is empty: name a secret, or leave the service away"
    ++ lib.optional (lib.hasSuffix "@" name) "${option}: a template cannot have secrets, each instance has its own: name the instance"
    ++ problems.ofUndefined {
      inherit option name;
      definitions = options.systemd.user.services.definitionsWithLocations;
      own = ./home-manager.nix;
      way = "a unit that a package brings cannot be changed from here: use ~/.config/fetcher/${name}.json";
    }
    ++ readers.lost {
      inherit option unit;
      sidecar = "${service.sidecar}.service";
      half.Service = halfOf service;
      # The sidecar's own unit sets these two, so no module can remove them.
      service = {
        requires = [ "${service.sidecar}.service" ];
        after = [ "${service.sidecar}.service" ];
        Service = sections;
      };
    }
    ++ lib.optionals credentials (
      readers.twice {
        inherit option unit files;
        serviceConfig = sections;
      }
      ++ map (
        file:
        "${option}: \"${file}\" is not the name of a credential (ASCII, no colon, quote or backslash): set secrets.<id>.file or rename the template, or set delivery = \"files\""
      ) (lib.filter (file: !problems.isCredentialName file) files)
      ++
        lib.optional (service.onChange.action == "signal")
          "${option}.onChange.action: a signal would find the old credentials, whose copies systemd makes at the start: use \"restart\", or delivery = \"files\""
    )
    ++ readers.tooEarly {
      inherit option unit;
      serviceConfig = sections;
      places = lib.optional credentials "%d/";
    }
    ++ environment.problemsOf option service
    ++ problems.ofResident {
      option = "${option}.resident";
      follow = "${option}.secretsConfig.config.reloadOnChange";
      config = configOf name service;
    };
in
{
  options.secretsStore = {
    enable = lib.mkEnableOption "secrets for the user's services, by a sidecar for each";

    package = lib.mkPackageOption {
      secrets-sidecar = pkgs.secrets-sidecar or (pkgs.callPackage ./package.nix { });
    } "secrets-sidecar" { };

    services = mkOption {
      type = lib.types.attrsOf service;
      default = { };
      description = "Secrets for `systemd.user.services`, by the service's name.";
    };
  }
  // lib.mapAttrs (name: _: types.storeOptions name) types.backends;

  config = lib.mkMerge [
    {
      assertions =
        lib.optional
          (
            cfg.services != { }
            && options.secretsStore.enable.highestPrio >= (lib.mkOptionDefault null).priority
          )
          {
            assertion = false;
            message = "secretsStore.services has secrets, and secretsStore.enable is not set: set it to true, or to false to leave them out";
          };
    }
    (lib.mkIf cfg.enable {
      home.packages = [ cfg.package ];
      systemd.user.services = lib.mkMerge (problems.unitsOfEach unitsOf cfg.services);
      assertions =
        map
          (message: {
            assertion = false;
            inherit message;
          })
          (
            problems.ofSidecars {
              option = "secretsStore.services";
              sidecars = lib.mapAttrs (_: service: service.sidecar) cfg.services;
              definitions = options.systemd.user.services.definitionsWithLocations;
              own = ./home-manager.nix;
            }
            ++ lib.concatLists (lib.mapAttrsToList problemsOf cfg.services)
          );
    })
  ];
}
