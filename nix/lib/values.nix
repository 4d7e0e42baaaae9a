# Types of single values, each as narrow as the program's own check of it.
{ lib }:

let
  inherit (lib) types;

  # Also if the path is written in a roundabout way. lib.path.hasStorePathPrefix knows only paths with a hash.
  isInStore =
    value:
    lib.hasPrefix "${builtins.storeDir}/" "${
      toString (/. + builtins.unsafeDiscardStringContext value)
    }/";

  # Finds a mistake that would only show on the host: a Nix path, or a string that points into the store, would copy the
  # secret to where everybody can read it.
  secretPath = lib.mkOptionType {
    name = "secretPath";
    description = "absolute path outside the Nix store, as a string";
    descriptionClass = "noun";
    check = value: builtins.isString value && lib.hasPrefix "/" value && !isInStore value;
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

  # One path component, by the program's rules.
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
in
{
  inherit
    component
    isComponent
    json
    mode
    positiveSeconds
    principal
    seconds
    secretPath
    ;
}
