# What may be said: the types of all options. Backends are listed here once; the store's defaults and every service's
# own settings come from the same list.
{ lib }:

let
  inherit (lib) literalExpression mkOption types;

  # A mistake that only shows on the host is found here: a Nix path, or a string that points into the store, would have
  # copied the secret to where everybody reads it.
  secretPath = lib.mkOptionType {
    name = "secretPath";
    description = "absolute path outside the Nix store, as a string";
    descriptionClass = "noun";
    check =
      value:
      builtins.isString value
      && lib.hasPrefix "/" value
      && !lib.hasPrefix "${builtins.storeDir}/" (toString value)
      && value != builtins.storeDir;
    merge = lib.mergeEqualOption;
  };

  seconds = types.addCheck types.number (value: value >= 0) // {
    description = "number of seconds";
  };
  positiveSeconds = types.addCheck types.number (value: value > 0) // {
    description = "number of seconds, more than 0";
  };

  json = lib.mkOptionType {
    name = "json";
    description = "value that JSON can carry";
    descriptionClass = "noun";
    check =
      value:
      !builtins.isFunction value
      && !builtins.isPath value
      && (
        if builtins.isList value then
          lib.all json.check value
        else if lib.isDerivation value then
          false
        else if builtins.isAttrs value then
          lib.all json.check (lib.attrValues value)
        else
          true
      );
    merge = types.anything.merge;
  };

  # One path component, as the program has it.
  isComponent =
    name:
    builtins.isString name
    && name != ""
    && name != "."
    && name != ".."
    && !lib.hasInfix "/" name
    && builtins.stringLength name <= 255
    && !lib.hasPrefix ".fetcher-" name
    && builtins.match ".*[[:cntrl:]].*" name == null;
  component = types.addCheck types.str isComponent // {
    description = "file name without a slash, at most 255 bytes";
  };

  principal = types.either types.str types.ints.unsigned;
  mode = types.strMatching "0?[0-7]{3}" // {
    description = "octal mode, \"0400\"";
  };

  # Settings that all backends share (RFC 59). `null` says nothing.
  rotation = {
    reloadOnChange = {
      type = types.bool;
      description = ''
        Whether a change in the store is followed: published, and then acted on by `onChange`. Otherwise the service
        gets fresh secrets whenever it is restarted.
      '';
    };
    pollingInterval = {
      type = positiveSeconds;
      example = 30;
      description = "How often to ask the store, in seconds; also behind a backend that is told of changes.";
    };
    refreshInterval = {
      type = positiveSeconds;
      example = 30;
      description = "Older name of `pollingInterval`, in seconds.";
    };
  };

  backends = {
    folder = {
      description = "a directory of files that only root can read: /etc/secrets, sops-nix, agenix";
      required = [ "secretsDir" ];
      settings.secretsDir = {
        type = secretPath;
        example = "/run/secrets";
        description = "Directory with one file for each secret.";
      };
    };

    vault = {
      description = "HashiCorp Vault or OpenBao";
      network = true;
      settings = {
        url = {
          type = types.str;
          default = "http://localhost:8200";
          description = "Address of the server.";
        };
        mount = {
          type = types.str;
          default = "secret";
          description = "Where the secrets engine is mounted.";
        };
        path = {
          type = types.str;
          example = "nixos-testsecrets";
          description = "Path below `mount` whose keys are the secrets' ids, unless a secret's `source` says otherwise.";
        };
        tokenPath = {
          type = secretPath;
          example = "/etc/secrets/service_secrets_token";
          description = "File with the token; read again when it changes.";
        };
        kvVersion = {
          type = types.enum [
            1
            2
          ];
          description = "Version of the key/value engine; the server is asked where this is not set.";
        };
        namespace = {
          type = types.str;
          description = "Namespace on the server.";
        };
        auth = {
          type = types.attrsOf json;
          description = "How to log in, instead of `tokenPath`.";
        };
        tls = {
          type = types.attrsOf json;
          description = "Certificates: whom to trust, and what to show.";
        };
        revokeOnStop = {
          type = types.bool;
          description = "Whether leases end with the sidecar.";
        };
      };
      intervals.refreshInterval = 60;
    };

    nixops = {
      description = "keys that NixOps uploads after boot";
      settings.keysDir = {
        type = secretPath;
        example = "/run/keys";
        description = "Where the keys arrive (the program's default is `/run/keys`).";
      };
    };

    aws = {
      description = "AWS Secrets Manager";
      network = true;
      settings = {
        region = {
          type = types.str;
          example = "eu-central-1";
          description = "Region of the secrets.";
        };
        endpoint = {
          type = types.str;
          description = "Address of the service, where it is not the region's own.";
        };
        profile = {
          type = types.str;
          description = "Profile in the AWS configuration files.";
        };
        roleArn = {
          type = types.str;
          description = "Role to assume.";
        };
      };
    };

    credentials = {
      description = "systemd credentials of the sidecar's own unit (LoadCredentialEncrypted=, ImportCredential=)";
      settings = { };
    };

    command = {
      description = "what a command prints: `sops -d`, `pass`, `keyctl pipe`";
      required = [ "command" ];
      settings = {
        command = {
          type = types.nonEmptyListOf types.str;
          example = [
            "/run/current-system/sw/bin/pass"
            "show"
          ];
          description = "The command, its arguments each an element; no shell is involved.";
        };
        timeout = {
          type = positiveSeconds;
          description = "Seconds that it may take.";
        };
      };
    };

    static = {
      description = "values that are in the Nix store, for everybody to read; for tests only";
      required = [
        "values"
        "allowInsecure"
      ];
      settings = {
        values = {
          type = types.attrsOf types.str;
          description = "The secrets by their ids.";
        };
        allowInsecure = {
          type = types.bool;
          description = "Must be `true`.";
        };
      };
    };
  };

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
        // lib.optionalAttrs (setting ? example) { inherit (setting) example; }
      )
    ) settings;

  # What is in the table for a name; nothing for a module's path, which may be one in the store.
  backendOf = name: backends.${builtins.unsafeDiscardStringContext name} or { };

  isModulePath = name: lib.hasInfix "/" name || lib.hasSuffix ".mjs" name || lib.hasSuffix ".js" name;
in
{
  inherit
    backendOf
    backends
    component
    isComponent
    isModulePath
    json
    mode
    principal
    secretPath
    seconds
    positiveSeconds
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
        // lib.optionalAttrs (setting ? example) { inherit (setting) example; }
      )
    ) (backend.settings // rotation);

  # `{ backend; config; }`: where the secrets of one service come from.
  secretsConfig = types.submodule (
    { config, options, ... }:
    let
      # There is none where only the documentation is made.
      backend = if options.backend.isDefined then backendOf config.backend else { };
    in
    {
      options = {
        backend = mkOption {
          type =
            # A path of Nix is copied to the store.
            types.coercedTo types.path (path: "${path}") (types.either (types.enum (lib.attrNames backends)) (
              types.addCheck types.str isModulePath
              // {
                description = "path of an ES module";
              }
            ))
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
      options = {
        source = mkOption {
          type = types.attrsOf json;
          default = { };
          example = literalExpression ''{ path = "grafana/tls"; key = "key"; }'';
          description = "Where it lives in the store, in the backend's words; derived from the id where empty.";
        };
        file = mkOption {
          type = component;
          default = name;
          defaultText = literalExpression "the secret's id";
          description = "Its file name, and the name of its credential.";
        };
        env = mkOption {
          type = types.nullOr types.str;
          defaultText = literalExpression "derived from the id";
          description = "Its variable in secrets.env; `null`: none.";
        };
        mode = mkOption {
          type = types.nullOr mode;
          default = null;
          example = "0400";
          description = "Mode of the file; what only the service can reach is 0444.";
        };
        owner = mkOption {
          type = types.nullOr principal;
          default = null;
          example = "grafana";
          description = "Owner of the file, a name or a number; root where not set.";
        };
        group = mkOption {
          type = types.nullOr principal;
          default = null;
          example = "grafana";
          description = "Group of the file, a name or a number.";
        };
        optional = mkOption {
          type = types.bool;
          default = false;
          description = ''
            Whether the service starts without it. The file in a private /tmp is then missing, the credential a newline.
          '';
        };
        json = mkOption {
          type = types.raw or types.unspecified;
          internal = true;
          readOnly = true;
          default =
            lib.filterAttrs (_: value: value != null) {
              source = if config.source == { } then null else config.source;
              file = if config.file == name then null else config.file;
              inherit (config) mode;
              owner = lib.mapNullable toString config.owner;
              group = lib.mapNullable toString config.group;
              optional = if config.optional then true else null;
            }
            // lib.optionalAttrs options.env.isDefined { inherit (config) env; };
          description = "As the program's configuration has it.";
        };
      };
    }
  );

  onChange = types.submodule {
    options = {
      action = mkOption {
        type = types.enum [
          "restart"
          "reload"
          "signal"
          "none"
        ];
        default = "restart";
        description = ''
          What happens to the service when its new secrets are in place. `reload` restarts a unit that cannot reload,
          and with `delivery = "credentials"`, whose copies systemd makes at the start only.
        '';
      };
      signal = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "SIGHUP";
        description = "For the action `signal`: what the main process gets.";
      };
      settle = mkOption {
        type = types.nullOr seconds;
        default = null;
        description = "Seconds in which all changes make one publish and one action (the program's default is 0.5).";
      };
      minInterval = mkOption {
        type = types.nullOr seconds;
        default = null;
        description = ''
          Least number of seconds between two actions (the program's default is 3); the unit's own start limit is
          kept, too.
        '';
      };
      splay = mkOption {
        type = types.nullOr seconds;
        default = null;
        example = 60;
        description = "Wait a random time of up to so many seconds, so that a fleet does not restart at once.";
      };
      verify = mkOption {
        type = types.nullOr (
          types.submodule {
            options = {
              command = mkOption {
                type = types.nonEmptyListOf types.str;
                description = "The command and its arguments; it finds the new set in `$SECRETS_DIRECTORY`.";
              };
              timeout = mkOption {
                type = positiveSeconds;
                default = 30;
                description = "Seconds after which the new set counts as refused.";
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
