# The options of a service with secrets that NixOS and home-manager share.
{
  lib,
  types,
  templates,
  environment,
  render,
}:

let
  inherit (lib) literalExpression mkOption;

  # A secret or a template with its places. Each place has `of`: its file → its path; `text` and `description`, for
  # documents.
  withPlaces =
    places: type:
    lib.types.submodule [
      { imports = type.getSubModules; }
      (file: {
        options = lib.mapAttrs (
          _: place:
          mkOption {
            type = lib.types.str;
            readOnly = true;
            default = place.of file.config.file;
            defaultText = literalExpression place.text;
            inherit (place) description;
          }
        ) places;
      })
    ];
in
{
  # `service`: its configuration; `places`: see above; `hostPathOf`: a file → where systemd finds it; `directory`: where
  # that is, for documents.
  options =
    {
      service,
      places,
      hostPathOf,
      directory,
    }:
    {
      secrets = mkOption {
        type = lib.types.attrsOf (withPlaces places types.secret);
        default = { };
        example = literalExpression "{ db_password = { }; }";
        description = "The service's secrets by their ids.";
      };
      templates = mkOption {
        type = lib.types.attrsOf (withPlaces places templates.template);
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
      environment = environment.option;
      environmentFile = environment.fileOptions {
        inherit service directory;
        path = hostPathOf "secrets.env";
      };
      onChange = mkOption {
        type = types.onChange;
        default = { };
        example = literalExpression ''{ action = "reload"; }'';
        description = "What is done when a secret has changed and `reloadOnChange` is set.";
      };
      inherit (types) startTimeout;
    };

  # file → whether it may be missing.
  filesOf =
    service:
    lib.mapAttrs' (_: secret: lib.nameValuePair secret.file secret.optional) service.secrets
    // lib.mapAttrs' (_: template: lib.nameValuePair template.file false) service.templates;

  # The program's configuration, without the service's name and the directory for its files.
  configOf =
    {
      service,
      store,
      option,
    }:
    {
      secrets = environment.secretsOf service;
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
      inherit store option;
      inherit (service) secretsConfig startTimeout resident;
    };
}
