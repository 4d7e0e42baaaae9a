# The contract for secrets in files: a consumer asks for a file with a mode, an owner and a group (`request`), and a
# provider answers with its path (`result`). Others call that `response`; older texts use `input` and `output`, or have
# all fields side by side. Both sides accept these other names.
{ lib }:

let
  inherit (lib) mkOption types;
  values = import ./values.nix { inherit lib; };

  fieldsOf = withUnits: lib.optionalAttrs withUnits { inherit restartUnits; } // permissions;

  permissions = {
    mode = {
      type = values.mode;
      default = "0400";
      example = "0440";
      description = "Mode of the file.";
    };
    owner = {
      type = types.str;
      default = "root";
      example = "stash";
      description = "Owner of the file.";
    };
    group = {
      type = types.str;
      default = "root";
      example = "stash";
      description = "Group of the file.";
    };
  };
  restartUnits = {
    type = types.listOf types.str;
    default = [ ];
    example = [ "stash.service" ];
    description = "Units that read the file: they are restarted when it has changed.";
  };

  # Options with their own type, not nested options: Nix evaluates the fields only on demand, so that consumer and
  # provider can each refer to the other.
  requestOf =
    fields: defaults:
    types.submodule {
      options = lib.mapAttrs (
        name: field: mkOption (field // { default = defaults.${name} or field.default; })
      ) fields;
    };
  result = types.submodule {
    options.path = mkOption {
      type = types.str;
      description = "Where the file is on the host.";
    };
  };

  # Another name to set it by.
  written =
    target: type:
    mkOption {
      type = types.nullOr type;
      default = null;
      description = "Other name of `${target}`.";
    };
  # Another name to read it by.
  read =
    target: type: value:
    mkOption {
      inherit type;
      default = value;
      readOnly = true;
      defaultText = lib.literalExpression target;
      description = "Other name of `${target}`.";
    };
  ifSet = value: lib.mkIf (value != null);
in
{
  # A module for the provider's side. Its file is at `path`.
  provider =
    { path, defaultPath }:
    { config, ... }:
    let
      fields = fieldsOf true;
      request = requestOf fields;
    in
    {
      options = {
        request = mkOption {
          type = request { };
          default = { };
          description = "What the consumer asks for.";
        };
        result = mkOption {
          type = result;
          readOnly = true;
          default = { inherit path; };
          defaultText = lib.literalExpression "{ path = ${defaultPath}; }";
          description = "What the consumer gets.";
        };
        input = written "request" (request { });
        output = read "result" result config.result;
        response = read "result" result config.result;
        path = read "result.path" types.str config.result.path;
      }
      // lib.mapAttrs (name: field: written "request.${name}" field.type) fields;

      config.request = lib.mkMerge (
        [ (ifSet config.input config.input) ]
        ++ lib.mapAttrsToList (name: _: { ${name} = ifSet config.${name} config.${name}; }) fields
      );
    };

  # An option for the consumer's side: it says what it needs, and its user says where that is. Not every provider has
  # restartUnits, so only a consumer that names some has them in its request.
  #
  #   passwordFile = contract.consumer { owner = "stash"; group = "stash"; description = "…"; };
  #
  #   secretsStore.files.stash.request = config.services.stash.passwordFile.request;
  #   services.stash.passwordFile.result = config.secretsStore.files.stash.result;
  consumer =
    {
      description ? "A file with a secret.",
      ...
    }@defaults:
    let
      fields = fieldsOf (defaults ? restartUnits);
      request = requestOf fields;
    in
    mkOption {
      inherit description;
      default = { };
      type = types.submodule (
        { config, ... }:
        {
          options = {
            request = mkOption {
              type = request defaults;
              default = { };
              description = "What is asked for.";
            };
            result = mkOption {
              type = result;
              description = "What the provider has answered.";
            };
            input = read "request" (request defaults) config.request;
            output = written "result" result;
            response = written "result" result;
            path = written "result.path" types.str;
          }
          // lib.mapAttrs (name: field: read "request.${name}" field.type config.request.${name}) fields;

          config.result = lib.mkMerge [
            (ifSet config.output config.output)
            (ifSet config.response config.response)
            (ifSet config.path { inherit (config) path; })
          ];
        }
      );
    };
}
