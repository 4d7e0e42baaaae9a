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

  store = config.secretsStore or { };
  package = store.package or pkgs.fetcher or (pkgs.callPackage ../package.nix { });
  render = import ./render.nix { inherit lib pkgs package; };

  # A value of the type, or an error that names the argument.
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

  # The definition as it was, with the wiring added and ExecStart behind with-secrets.
  target =
    sidecar: service:
    let
      half = render.privateTmp sidecar;
      append =
        name:
        let
          value = service.${name} or [ ];
          more = [ "${sidecar}.service" ];
        in
        if value ? _type then
          lib.mkMerge [
            value
            more
          ]
        else
          value ++ more;
      wrapped = commands.mapContent (command: commands.wrap withSecrets command);
      wrapAll = commands.mapContent (
        value: if builtins.isList value then map wrapped value else commands.wrap withSecrets value
      );
      # Plain sets stay plain; definitions with conditions are merged by the module system.
      add =
        section: extra:
        if section ? _type then
          lib.mkMerge [
            section
            extra
          ]
        else
          section
          // lib.mapAttrs (
            name: value:
            if builtins.isList value then
              lib.concatMap lib.toList (commands.contents (section.${name} or [ ])) ++ value
            else
              value
          ) extra;
      serviceConfig = commands.mapContent (
        plain: plain // lib.optionalAttrs (plain ? ExecStart) { ExecStart = wrapAll plain.ExecStart; }
      ) (service.serviceConfig or { });
    in
    removeAttrs service [ "secrets" ]
    // {
      requires = append "requires";
      after = append "after";
      unitConfig = add (service.unitConfig or { }) half.unitConfig;
      serviceConfig = add serviceConfig (half.serviceConfig // { PrivateTmp = true; });
      # For with-secrets' messages; it takes it out of the environment.
      environment = add (service.environment or { }) { SECRETS_SIDECAR = "${sidecar}.service"; };
    }
    // lib.optionalAttrs (hasScript service) {
      script = commands.mapContent (commands.wrapScript withSecrets) service.script;
    };

  hasScript = service: lib.any (text: text != "") (commands.contents (service.script or ""));
in
{
  # { loadSecrets; backendConfig; } → ({ secret1, ... }: attrsOf service) → attrsOf service
  #
  # loadSecrets: ids, or a set of ids with what there is to say about each (`{ secret1 = { file = "s1"; }; }`).
  # Each service n of the result is joined by n-secrets. A service with `secrets = [ "secret1" ];` gets those only.
  serviceSecretsScope =
    {
      loadSecrets,
      backendConfig,
      onChange ? { },
      startTimeout ? null,
    }:
    let
      secretsConfig = checked "backendConfig" types.secretsConfig backendConfig;
      actions = checked "onChange" types.onChange onChange;
      loaded = checked "loadSecrets" (lib.types.attrsOf types.secret) (
        if builtins.isList loadSecrets then lib.genAttrs loadSecrets (_: { }) else loadSecrets
      );
      invalid = lib.filter (id: !types.isComponent id) (lib.attrNames loaded);

      secretsOf =
        name: service:
        let
          ids = service.secrets or (lib.attrNames loaded);
          unknown = lib.filter (id: !loaded ? ${id}) ids;
        in
        if unknown != [ ] then
          throw "systemd.services.${name}.secrets: \"${lib.head unknown}\" is not in loadSecrets (${
            lib.concatMapStringsSep ", " (id: "\"${id}\"") (lib.attrNames loaded)
          })"
        else
          lib.genAttrs ids (id: loaded.${id});

      join =
        name: service:
        let
          secrets = secretsOf name service;
          sidecar = render.sidecarOf name;
          wrong = problems.ofScope name service;
          joins = problems.joinsOf (service.unitConfig or { });
        in
        if service ? _type then
          throw "systemd.services.${name}: a service in a secrets scope is a plain set; put mkIf around the scope, or inside the service"
        else if secrets == { } then
          { ${name} = removeAttrs service [ "secrets" ]; }
        else if wrong != [ ] then
          throw (lib.concatStringsSep "\n" wrong)
        else
          {
            ${name} = target sidecar service;
            ${sidecar} = render.sidecar {
              name = sidecar;
              targets = [ "${name}.service" ];
              inherit joins;
              joinsAfter = lib.intersectLists joins (lib.concatLists (commands.contents (service.after or [ ])));
              config = {
                service = "${name}.service";
                inherit (secretsConfig) backend;
                config = render.settings {
                  inherit store secretsConfig;
                  path = "backendConfig";
                };
                secrets = lib.mapAttrs (_: secret: secret.json) secrets;
                output = {
                  directory = render.publicDirectory sidecar;
                  links = "/tmp";
                };
                onChange = render.onChange actions;
              }
              // lib.optionalAttrs (startTimeout != null) { inherit startTimeout; };
            };
          };
    in
    services:
    if invalid != [ ] then
      throw "loadSecrets: ${builtins.toJSON (lib.head invalid)} is no secret id: expected one file name without a slash"
    else if !(store.enable or true) then
      lib.warn "secretsStore.enable is false: the services of this secrets scope are left out" { }
    else
      lib.concatMapAttrs join (services (lib.mapAttrs (_: secret: "/tmp/${secret.file}") loaded));

  # The option by which a module's user says where the secrets come from.
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
