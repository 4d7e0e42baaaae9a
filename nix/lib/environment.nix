# Which secrets of a service are also variables: its options `environment` and `environmentFile`.
{ lib }:

let
  inherit (lib) literalExpression mkOption types;
in
rec {
  has = service: service.environment != false && service.environment != { };

  option = mkOption {
    type = types.either types.bool (types.attrsOf types.str);
    default = false;
    example = literalExpression ''{ DATABASE_PASSWORD = "db_password"; }'';
    description = ''
      Which secrets are environment variables, too: `true` for all of them, by the names in `secrets.<id>.env`;
      or a set of variables with the id of the secret for each.
    '';
  };

  # `service`: its configuration; `directory`: where it is, for documents.
  fileOptions =
    {
      service,
      path,
      directory,
    }:
    {
      enable = mkOption {
        type = types.bool;
        default = has service;
        defaultText = literalExpression "whether `environment` names a variable";
        description = ''
          Whether there is a file with a line `NAME='value'` for each variable, at `environmentFile.hostPath`.
          Without `environment` it has all secrets, and the service's unit does not read it by itself.
        '';
      };
      hostPath = mkOption {
        type = types.str;
        readOnly = true;
        default = path;
        defaultText = literalExpression ''"${directory}/secrets.env"'';
        description = "Where it is: for a module's own option that takes an environment file.";
      };
    };

  # The secrets for the program's configuration, each with its variable: null, a name, or derived.
  secretsOf =
    { environment, secrets, ... }:
    lib.mapAttrs (
      id: secret:
      let
        names = lib.attrNames (lib.filterAttrs (_: wanted: wanted == id) environment);
      in
      secret.json
      // lib.optionalAttrs (!builtins.isBool environment && environment != { }) {
        env = if names == [ ] then null else lib.head names;
      }
    ) secrets;

  # Problems of these options. `option`: the service's.
  problemsOf =
    option:
    { environment, secrets, ... }:
    let
      wanted = lib.optionals (!builtins.isBool environment) (lib.attrValues environment);
      unknown = lib.filter (id: !secrets ? ${id}) wanted;
      twice = lib.filter (id: lib.count (other: other == id) wanted > 1) wanted;
    in
    map (
      id:
      "${option}.environment: \"${id}\" is not in ${option}.secrets (${lib.concatStringsSep ", " (lib.attrNames secrets)})"
    ) unknown
    ++ map (id: "${option}.environment: \"${id}\" is the value of two variables; a secret has one") (
      lib.unique twice
    );
}
