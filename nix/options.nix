# All options of the modules as data, for docs/reference/options.md and its test. Nix evaluates them without a host: if
# an option's default depends on the configuration, `defaultText` shows it.
{ lib }:

let
  evaluated = lib.evalModules {
    modules = [
      ./modules/secrets-store.nix
      {
        _module.check = false;
        _module.args.pkgs = { };
      }
    ];
  };
  text = value: if value ? text then value.text else value;
  root = toString ../. + "/";
in
lib.pipe (lib.optionAttrSetToDocList (removeAttrs evaluated.options [ "_module" ])) [
  (lib.filter (
    option: option.visible && !option.internal && lib.hasPrefix "secretsStore" option.name
  ))
  (map (option: {
    inherit (option) name type readOnly;
    description = lib.trim (text option.description);
    default = if option ? default then lib.trim (text option.default) else null;
    example = if option ? example then lib.trim (text option.example) else null;
    declarations = map (file: lib.removePrefix root (toString file)) option.declarations;
  }))
]
