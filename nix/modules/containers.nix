# secretsStore.containers: secrets of the host for NixOS containers, as credentials of the container's system.
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
    order
    readers
    render
    ;

  later = order.laterIn config.systemd.services;

  sidecarOf = name: "container-${name}-secrets";

  container = lib.types.submodule (
    { name, ... }:
    {
      options = {
        secrets = mkOption {
          type = lib.types.attrsOf types.secret;
          default = { };
          example = literalExpression "{ greeting = { }; }";
          description = "The container's secrets by their ids. Each is a credential of its system, named as `file`.";
        };
        secretsConfig = mkOption {
          type = types.secretsConfig;
          description = "Where they come from, on the host.";
        };
        services = mkOption {
          type = lib.types.attrsOf (lib.types.listOf lib.types.str);
          default = { };
          example = literalExpression ''{ hello = [ "greeting" ]; }'';
          description = ''
            Services inside the container with the ids that each gets, as `LoadCredential=ID:ID`: the files are in its
            `$CREDENTIALS_DIRECTORY`. For containers whose system is made by `config`; in one that is made by `path` or
            `flake`, say `LoadCredential` there.
          '';
        };
        onChange = mkOption {
          type = types.onChange;
          default = { };
          description = ''
            What is done to the container when a secret has changed and `reloadOnChange` is set. It sees new values
            after a restart only.
          '';
        };
        inherit (types) startTimeout;
        resident = types.resident // {
          type = lib.types.bool;
        };
        sidecar = types.sidecar (sidecarOf name) "web-store";
      };
    }
  );

  configOf =
    name: container:
    {
      service = "container@${name}.service";
      secrets = lib.mapAttrs (_: secret: secret.json) container.secrets;
      output = {
        directory = render.publicDirectory container.sidecar;
        envFile = null;
      };
      onChange = render.onChange (
        container.onChange
        // lib.optionalAttrs (container.onChange.action == "reload") { action = "restart"; }
      );
    }
    // render.configOf {
      store = cfg;
      option = "secretsStore.containers.${name}.secretsConfig";
      inherit (container) secretsConfig startTimeout resident;
    };

  flags =
    name: container:
    map (
      secret:
      "--load-credential=${secret.file}:${render.publicDirectory container.sidecar}/${secret.file}"
    ) (lib.attrValues container.secrets);

  unitsOf =
    name: container:
    let
      inherit (container) sidecar;
    in
    {
      "container@${name}" = {
        requires = [ "${sidecar}.service" ];
        after = [ "${sidecar}.service" ];
      };
      "${sidecar}-act" = render.act {
        name = sidecar;
        targets = [ "container@${name}.service" ];
        config = configOf name container;
      };
      ${sidecar} = render.sidecar {
        name = sidecar;
        targets = [ "container@${name}.service" ];
        inherit (config.systemd.services."container@${name}") restartIfChanged reloadIfChanged;
        storeAfter = problems.decryptors config.systemd.services;
        config = configOf name container;
      };
    };

  fail = message: {
    assertion = false;
    inherit message;
  };

  assertionsOf =
    name: container:
    let
      option = "secretsStore.containers.${name}";
      files = lib.mapAttrsToList (_: secret: secret.file) container.secrets;
      # Flags reach nspawn through a shell variable that the shell splits at spaces.
      wide = lib.filter (file: builtins.match "[A-Za-z0-9_.,@%+=~-]+" file == null) files;
      optional = lib.attrNames (lib.filterAttrs (_: secret: secret.optional) container.secrets);
      unknown = lib.filter (id: !container.secrets ? ${id}) (
        lib.concatLists (lib.attrValues container.services)
      );
    in
    map fail (
      lib.optional (
        container.secrets == { }
      ) "${option}.secrets is empty: name a secret, or leave the container away"
      ++ map (
        file:
        "${option}.secrets: \"${file}\" cannot be the name of a container's credential (letters, digits, _.,@%+=~-): set secrets.<id>.file"
      ) wide
      ++ map (
        id: "${option}.secrets.${id}.optional: a container does not start without one of its credentials"
      ) optional
      ++ map (id: "${option}.services: \"${id}\" is not in ${option}.secrets") unknown
      ++ problems.ofResident {
        option = "${option}.resident";
        follow = "${option}.secretsConfig.config.reloadOnChange";
        config = configOf name container;
      }
      ++ readers.lost {
        inherit option;
        unit = "systemd.services.\"container@${name}\"";
        sidecar = "${container.sidecar}.service";
        half = { };
        service = config.systemd.services."container@${name}";
      }
      ++ lib.optional (
        options ? containers
        && lib.subtractLists config.containers.${name}.extraFlags (flags name container) != [ ]
      ) "containers.${name}.extraFlags has lost the flags of ${option}: a mkForce takes them away"
      ++ order.problemsOf {
        inherit option later;
        inherit (container.secretsConfig) backend;
        units = [ "container@${name}.service" ];
      }
      ++ lib.optional (
        container.onChange.action == "signal"
      ) "${option}.onChange.action: a signal would find the old credentials: use \"restart\""
    );
in
{
  options.secretsStore.containers = mkOption {
    type = lib.types.attrsOf container;
    default = { };
    example = literalExpression ''
      {
        web = {
          secrets.greeting = { };
          secretsConfig.backend = "folder";
          services.hello = [ "greeting" ];
        };
      }
    '';
    description = "Secrets for NixOS containers, by the container's name.";
  };

  config = lib.mkIf cfg.enable (
    {
      systemd.services = lib.mkMerge (problems.unitsOfEach unitsOf cfg.containers);
      assertions =
        map fail (
          problems.ofSidecars {
            option = "secretsStore.containers";
            sidecars = lib.mapAttrs (_: container: container.sidecar) cfg.containers;
            definitions = options.systemd.services.definitionsWithLocations;
            own = ./containers.nix;
          }
        )
        ++ lib.concatLists (lib.mapAttrsToList assertionsOf cfg.containers);
    }
    # Not every system that has services has containers.
    // lib.optionalAttrs (options ? containers) {
      containers = lib.mapAttrs (
        name: container:
        {
          extraFlags = flags name container;
        }
        // lib.optionalAttrs (container.services != { }) {
          config.systemd.services = lib.mapAttrs (_: ids: {
            serviceConfig.LoadCredential = map (
              id:
              let
                file = render.escape container.secrets.${id}.file;
              in
              "${file}:${file}"
            ) ids;
          }) container.services;
        }
      ) cfg.containers;
    }
  );
}
