# Files that are made of a template and the values of secrets. The template itself holds none and is in the Nix store.
{ lib, pkgs }:

let
  inherit (lib) literalExpression mkOption types;
  inherit (import ./values.nix { inherit lib; }) component mode;
  inherit (import ./types.nix { inherit lib; }) ownershipOf ownershipSaid said;

  # The program reads the template when the host is built, to find errors then. So it must be in the Nix store.
  fileInStore = lib.mkOptionType {
    name = "fileInStore";
    description = "file, as a path of Nix or in the Nix store";
    descriptionClass = "noun";
    check =
      value:
      builtins.isPath value
      || lib.isDerivation value
      || builtins.isString value && lib.hasPrefix "${builtins.storeDir}/" value;
    merge = loc: defs: "${lib.mergeEqualOption loc defs}";
  };
in
rec {
  # The options that make the file, where other options set its name and owner.
  sourceOptions = {
    template = mkOption {
      type = fileInStore;
      example = literalExpression "./app.ini.mustache";
      description = ''
        The file with `{{ID}}` in the places of secrets; between `{{#ID}}` and `{{/ID}}` is what is written only where
        there is such a secret. It is in the Nix store, for everybody to read.
      '';
    };
    text = mkOption {
      type = types.nullOr types.lines;
      default = null;
      example = "password = {{db_password}}";
      description = "The template itself, instead of a file.";
    };
  };

  # The value of `template` that follows from `text`.
  fromText =
    { name, options }:
    lib.mkDerivedConfig options.text (
      pkgs.writeText (lib.strings.sanitizeDerivationName "template-${name}")
    );

  # One template, by the name of its file.
  template = types.submodule (
    {
      config,
      name,
      options,
      ...
    }:
    {
      options =
        sourceOptions
        // ownershipSaid said.template
        // {
          mode = mkOption {
            type = types.nullOr mode;
            default = null;
            example = "0440";
            inherit (said.template.mode) description;
          };
          file = mkOption {
            type = component;
            internal = true;
            readOnly = true;
            default = name;
            description = "The file's name.";
          };
          json = mkOption {
            type = types.raw or types.unspecified;
            internal = true;
            readOnly = true;
            default = lib.filterAttrs (_: value: value != null) (
              ownershipOf config
              // {
                inherit (config) template mode;
              }
            );
            description = "As the program's configuration has it.";
          };
        };
      config.template = lib.mkIf (config.text != null) (fromText {
        inherit name options;
      });
    }
  );

  # The program's configuration of them; nothing where there are no templates.
  render =
    templates:
    lib.optionalAttrs (templates != { }) {
      templates = lib.mapAttrs' (_: one: lib.nameValuePair one.file one.json) templates;
    };
}
