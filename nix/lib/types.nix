# The options and their types. The store's defaults and every service's own settings come from one table.
{ lib }:

let
  inherit (lib) literalExpression mkOption types;

  values = import ./values.nix { inherit lib; };
  inherit (values)
    component
    json
    mode
    positiveSeconds
    principal
    seconds
    ;
  table = import ./backends.nix { inherit lib; };
  inherit (table)
    backendOf
    backends
    isLocal
    isModulePath
    rotation
    said
    ;

  # Every setting is optional in a service's own configuration.
  settingOptions =
    settings: fallback:
    lib.mapAttrs (
      name: setting:
      mkOption (
        {
          type = types.nullOr setting.type;
          default = null;
          defaultText = fallback name;
          inherit (setting) description;
        }
        // lib.filterAttrs (key: _: key == "example" || key == "apply") setting
      )
    ) settings;

  # Options for the owner of a file, with the texts in `said`.
  ownershipSaid = said: {
    owner = mkOption {
      type = types.nullOr principal;
      default = null;
      example = "grafana";
      inherit (said.owner) description;
    };
    group = mkOption {
      type = types.nullOr principal;
      default = null;
      example = "grafana";
      inherit (said.group) description;
    };
  };

  # The same in the program's configuration.
  ownershipOf = config: {
    owner = lib.mapNullable toString config.owner;
    group = lib.mapNullable toString config.group;
  };
in
{
  inherit ownershipOf ownershipSaid;

  inherit (values)
    component
    isComponent
    json
    positiveSeconds
    ;
  inherit (table)
    backendOf
    backends
    isLocal
    isModulePath
    said
    ;

  # `secretsStore.NAME`: the defaults of one backend for the whole host.
  storeOptions =
    name:
    let
      backend = backends.${name};
      intervals = backend.intervals or { };
    in
    lib.mapAttrs (
      key: setting:
      mkOption (
        {
          type = if setting ? default then setting.type else types.nullOr setting.type;
          default = setting.default or intervals.${key} or null;
          inherit (setting) description;
        }
        // lib.filterAttrs (key: _: key == "example" || key == "apply") setting
      )
    ) (backend.settings // rotation);

  # `{ backend; config; }`: where the secrets of one service come from.
  secretsConfig = types.submodule (
    { config, options, ... }:
    let
      # There is none when only the documentation is made.
      backend = if options.backend.isDefined then backendOf config.backend else { };
    in
    {
      options = {
        backend = mkOption {
          type =
            # Nix copies a path to its store.
            types.coercedTo types.path (path: "${path}") (
              types.either (types.enum (lib.attrNames backends)) (
                types.addCheck types.str isModulePath
                // {
                  description = "path of an ES module";
                }
              )
            )
            // {
              description = "one of ${lib.concatStringsSep ", " (lib.attrNames backends)}, or the path of an ES module";
            };
          example = "folder";
          description = ''
            Where the secrets come from.

            ${lib.concatStringsSep "\n" (
              lib.mapAttrsToList (name: backend: "- `${name}`: ${backend.description}") backends
            )}
          '';
        };
        config = mkOption {
          type =
            if backend != { } then
              types.submodule {
                options = settingOptions (backend.settings // rotation) (
                  key: literalExpression "config.secretsStore.${config.backend}.${key}"
                );
              }
            else
              types.submodule {
                freeformType = types.attrsOf json;
                options = settingOptions rotation (_: literalExpression "null");
              };
          apply = lib.filterAttrs (_: value: value != null);
          default = { };
          example = literalExpression ''
            {
              secretsDir = "/etc/secrets_other";
              reloadOnChange = true;
            }
          '';
          description = ''
            The backend's settings, over those of `secretsStore.BACKEND`, and `reloadOnChange` and `pollingInterval`.
          '';
        };
      };
    }
  );

  # One secret, by its id.
  secret = types.submodule (
    {
      config,
      name,
      options,
      ...
    }:
    {
      options = ownershipSaid said.secret // {
        source = mkOption {
          type = types.attrsOf json;
          default = { };
          example = literalExpression ''{ path = "grafana/tls"; key = "key"; }'';
          inherit (said.secret.source) description;
        };
        file = mkOption {
          type = component;
          default = name;
          defaultText = literalExpression "the secret's id";
          description = "${said.secret.file.description} It is the name of its credential, too.";
        };
        env = mkOption {
          type = types.nullOr types.str;
          defaultText = literalExpression "derived from the id";
          inherit (said.secret.env) description;
        };
        mode = mkOption {
          type = types.nullOr mode;
          default = null;
          example = "0400";
          inherit (said.secret.mode) description;
        };
        optional = mkOption {
          type = types.bool;
          default = false;
          description = "${said.secret.optional.description} The credential is then a newline.";
        };
        empty = mkOption {
          type = types.bool;
          default = false;
          inherit (said.secret.empty) description;
        };
        decode = mkOption {
          type = types.nullOr (types.enum [ "base64" ]);
          default = null;
          example = "base64";
          inherit (said.secret.decode) description;
        };
        join = mkOption {
          type = types.bool;
          default = false;
          inherit (said.secret.join) description;
        };
        all = mkOption {
          type = types.bool;
          default = false;
          inherit (said.secret.all) description;
        };
        prefix = mkOption {
          type = types.str;
          default = "";
          example = "app_";
          inherit (said.secret.prefix) description;
        };
        json = mkOption {
          type = types.raw or types.unspecified;
          internal = true;
          readOnly = true;
          default =
            lib.filterAttrs (_: value: value != null) (
              ownershipOf config
              // {
                source = if config.source == { } then null else config.source;
                file = if config.file == name then null else config.file;
                inherit (config) mode;
                optional = if config.optional then true else null;
                empty = if config.empty then true else null;
                inherit (config) decode;
                join = if config.join then true else null;
                all = if config.all then true else null;
                prefix = if config.prefix == "" then null else config.prefix;
              }
            )
            // lib.optionalAttrs options.env.isDefined { inherit (config) env; };
          description = "As the program's configuration has it.";
        };
      };
    }
  );

  startTimeout = mkOption {
    type = types.nullOr positiveSeconds;
    default = null;
    inherit (said.startTimeout) description;
  };

  sidecar =
    default: example:
    mkOption {
      type = types.strMatching "[A-Za-z0-9_.-]+" // {
        description = "name of a unit: letters, digits, `_`, `.` and `-`";
      };
      inherit default example;
      defaultText = literalExpression ''"NAME-secrets", "container-NAME-secrets" for a container'';
      description = ''
        Name of the sidecar's unit, without `.service`: set another one where a module of somebody else has a unit of
        that name.
      '';
    };

  resident = mkOption {
    type = types.either types.bool (types.enum [ "on-change" ]);
    default = true;
    description = "${said.resident.description} The secrets are loaded again when the service is restarted.";
  };

  onChange = types.submodule {
    options = {
      action = mkOption {
        type = types.enum said.onChange.action.values;
        inherit (said.onChange.action) default;
        description = ''
          ${said.onChange.action.description} With `delivery = "credentials"`, whose copies systemd makes at the start
          only, `reload` is a restart.
        '';
      };
      signal = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "SIGHUP";
        inherit (said.onChange.signal) description;
      };
      settle = mkOption {
        type = types.nullOr seconds;
        default = null;
        inherit (said.onChange.settle) description;
      };
      minInterval = mkOption {
        type = types.nullOr seconds;
        default = null;
        inherit (said.onChange.minInterval) description;
      };
      splay = mkOption {
        type = types.nullOr seconds;
        default = null;
        example = 60;
        inherit (said.onChange.splay) description;
      };
      verify = mkOption {
        type = types.nullOr (
          types.submodule {
            options = {
              command = mkOption {
                type = types.nonEmptyListOf types.str;
                inherit (said.verify.command) description;
              };
              timeout = mkOption {
                type = positiveSeconds;
                inherit (said.verify.timeout) default description;
              };
            };
          }
        );
        default = null;
        description = "A command that must succeed with the new set before it is published.";
      };
    };
  };
}
