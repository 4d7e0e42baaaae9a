# secretsStore.files: files that the whole host can see, with mode, owner and group: a provider of the contract for
# secrets in files.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) literalExpression mkOption;

  cfg = config.secretsStore;
  types = import ../lib/types.nix { inherit lib; };
  problems = import ../lib/problems.nix { inherit lib; };
  templates = import ../lib/templates.nix { inherit lib pkgs; };
  contract = import ../lib/contract.nix { inherit lib; };
  render = import ../lib/render.nix {
    inherit lib pkgs;
    inherit (cfg) package;
  };

  # "stash/password" is a fine name in the contract, and none of a unit.
  flat = lib.replaceStrings [ "/" "@" " " ] [ "-" "-" "-" ];
  unitOf = name: "secret-file-${flat name}";
  directoryOf = name: "secret-files/${flat name}";
  fileOf = name: baseNameOf name;
  root = "/run";

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
          path = "${root}/${directoryOf name}/${fileOf name}";
          defaultPath = ''"/run/secret-files/NAME/NAME"'';
        })
      ];
      options = templates.sourceOptions // {
        id = mkOption {
          type = types.component;
          default = fileOf name;
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
        inherit (types) resident startTimeout;
        unit = mkOption {
          type = lib.types.str;
          readOnly = true;
          default = "${unitOf name}.service";
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

  # The secret itself, or those of the template with what is made of them.
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

  configOf =
    name: file:
    {
      output = {
        directory = "${root}/${directoryOf name}";
        envFile = null;
      };
      onChange = render.onChange file.onChange;
    }
    // contentOf name file
    // lib.optionalAttrs (file.consumers != [ ]) { service = file.consumers; }
    // render.configOf {
      store = cfg;
      option = "secretsStore.files.${name}.secretsConfig";
      inherit (file) secretsConfig startTimeout resident;
    };

  # A unit that is not one of this host's systemd.services is anybody's.
  serviceOf = unit: config.systemd.services.${lib.removeSuffix ".service" unit} or { };
  mayRestart = unit: (serviceOf unit).restartIfChanged or true;
  isReloaded = unit: (serviceOf unit).reloadIfChanged or false;

  unitsOf =
    name: file:
    let
      sidecar = render.sidecar {
        name = unitOf name;
        targets = file.consumers;
        description = "Secret file ${name}";
        restartIfChanged = lib.all mayRestart file.consumers;
        # One that must not be restarted is enough: a restart of the sidecar would take all of them along.
        reloadIfChanged = lib.any isReloaded file.consumers;
        config = configOf name file;
      };
    in
    {
      # Wanted by the system, not by one consumer: it neither ends nor restarts with one.
      ${unitOf name} = sidecar // {
        wantedBy = [ "multi-user.target" ];
        requiredBy = file.consumers;
        partOf = [ ];
        unitConfig = removeAttrs sidecar.unitConfig [ "StopWhenUnneeded" ];
        serviceConfig = sidecar.serviceConfig // {
          RuntimeDirectory = directoryOf name;
          BindPaths = "${root}/${directoryOf name}";
          # The file's own mode decides who reads it.
          RuntimeDirectoryMode = "0755";
        };
      };
    };

  problemsOf =
    name: file:
    let
      option = "secretsStore.files.${name}";
    in
    lib.optional (builtins.match "[A-Za-z0-9_.-]+" (flat name) == null)
      "${option}: the name is in that of a unit, so it has letters, digits, spaces and _.-/@ only: rename it"
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
      config = configOf name file;
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
    systemd.services = lib.mkMerge (lib.mapAttrsToList unitsOf cfg.files);
    assertions =
      map
        (message: {
          assertion = false;
          inherit message;
        })
        (
          problems.ofSharedUnits {
            option = "secretsStore.files";
            names = lib.attrNames cfg.files;
            inherit unitOf;
          }
          ++ lib.concatLists (lib.mapAttrsToList problemsOf cfg.files)
        );
  };
}
