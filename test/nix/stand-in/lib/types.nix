# The stand-in's types of options.
{ lib }:

let
  inherit (builtins)
    all
    concatMap
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    map
    mapAttrs
    typeOf
    zipAttrsWith
    ;

  mkOptionType =
    {
      name,
      description ? name,
      check ? (_: true),
      merge ? lib.mergeDefaultOption,
      emptyValue ? { },
      getSubOptions ? (_: { }),
      getSubModules ? null,
      nestedTypes ? { },
      ...
    }:
    {
      _type = "option-type";
      inherit
        name
        description
        check
        merge
        emptyValue
        getSubOptions
        getSubModules
        nestedTypes
        ;
    };

  # Definitions must agree.
  single =
    name: description: check:
    mkOptionType {
      inherit name description check;
      merge = lib.mergeEqualOption;
    };
  quoted = values: lib.concatMapStringsSep ", " builtins.toJSON values;

  named =
    loc: type: name: defs:
    lib.mergeDefinitions (loc ++ [ name ]) type defs;
  byName =
    defs:
    zipAttrsWith (_: values: values) (
      map (def: mapAttrs (_: value: { inherit value; }) def.value) defs
    );
in
rec {
  inherit mkOptionType;

  addCheck = type: check: type // { check = value: type.check value && check value; };

  raw = mkOptionType {
    name = "raw";
    description = "raw value";
    merge = lib.mergeOneOption;
  };
  unspecified = mkOptionType {
    name = "unspecified";
    description = "unspecified value";
  };
  anything = mkOptionType {
    name = "anything";
    merge =
      loc: defs:
      if all (def: isAttrs def.value && !(def.value ? outPath)) defs then
        (lazyAttrsOf anything).merge loc defs
      else
        lib.mergeEqualOption loc defs;
  };

  bool = single "bool" "boolean" isBool;
  str = single "str" "string" isString;
  number = single "number" "signed integer or floating point number" (
    value: isInt value || isFloat value
  );
  ints.unsigned = single "unsignedInt" "unsigned integer, meaning >=0" (
    value: isInt value && value >= 0
  );
  path = single "path" "absolute path" (
    value:
    (isPath value || isString value || value ? outPath)
    && builtins.substring 0 1 (toString value) == "/"
  );
  package = single "package" "package" (value: value ? outPath);
  enum = values: single "enum" "one of ${quoted values}" (value: builtins.elem value values);
  strMatching =
    pattern:
    single "strMatching" "string matching the pattern ${pattern}" (
      value: isString value && builtins.match pattern value != null
    );
  lines = mkOptionType {
    name = "separatedString";
    description = "strings concatenated with \"\\n\"";
    check = isString;
    merge = _: defs: lib.concatMapStringsSep "\n" (def: def.value) defs;
  };

  nullOr =
    type:
    type
    // {
      name = "nullOr";
      description = "null or ${type.description}";
      check = value: value == null || type.check value;
      emptyValue.value = null;
      merge =
        loc: defs:
        if all (def: def.value == null) defs then
          null
        else if builtins.any (def: def.value == null) defs then
          throw "The option `${lib.showOption loc}' is defined both null and not null"
        else
          type.merge loc defs;
    };
  either =
    first: second:
    mkOptionType {
      name = "either";
      description = "${first.description} or ${second.description}";
      check = value: first.check value || second.check value;
      merge =
        loc: defs:
        if all (def: first.check def.value) defs then
          first.merge loc defs
        else if all (def: second.check def.value) defs then
          second.merge loc defs
        else
          lib.mergeOneOption loc defs;
    };
  coercedTo =
    from: coerce: type:
    let
      coerced = value: if from.check value then coerce value else value;
    in
    type
    // {
      name = "coercedTo";
      description = "${type.description} or ${from.description} convertible to it";
      check = value: type.check (coerced value);
      merge = loc: defs: type.merge loc (map (def: def // { value = coerced def.value; }) defs);
    };

  listOf =
    type:
    mkOptionType {
      name = "listOf";
      description = "list of ${type.description}";
      check = isList;
      emptyValue.value = [ ];
      nestedTypes.elemType = type;
      merge =
        loc: defs:
        let
          elements = map (value: named loc type "*" [ { inherit value; } ]) (concatMap (def: def.value) defs);
        in
        map (element: element.value) (builtins.filter (element: element.isDefined) elements);
    };
  nonEmptyListOf =
    type:
    addCheck (listOf type) (value: value != [ ])
    // {
      description = "non-empty list of ${type.description}";
      emptyValue = { };
    };
  attrsOf =
    type:
    lazyAttrsOf type
    // {
      # Names whose definitions all have a false condition are absent.
      merge =
        loc: defs:
        mapAttrs (_: element: element.value) (
          lib.filterAttrs (_: element: element.isDefined) (mapAttrs (named loc type) (byName defs))
        );
    };
  lazyAttrsOf =
    type:
    mkOptionType {
      name = "attrsOf";
      description = "attribute set of ${type.description}";
      check = isAttrs;
      emptyValue.value = { };
      nestedTypes.elemType = type;
      getSubOptions = prefix: type.getSubOptions (prefix ++ [ "<name>" ]);
      merge = loc: defs: mapAttrs (name: values: (named loc type name values).value) (byName defs);
    };

  submodule =
    modules:
    submoduleOf {
      modules = lib.toList modules;
      moduleOf = value: if isAttrs value then { config = value; } else value;
    };
  submoduleWith =
    {
      modules,
      specialArgs ? { },
    }:
    submoduleOf {
      inherit modules specialArgs;
      moduleOf = value: value;
    };
  submoduleOf =
    {
      modules,
      moduleOf,
      specialArgs ? { },
    }:
    let
      evaluate =
        prefix: name: more:
        lib.evalModules {
          inherit prefix specialArgs;
          modules = modules ++ [ { _module.args.name = lib.mkOptionDefault name; } ] ++ more;
        };
    in
    mkOptionType {
      name = "submodule";
      check = value: isAttrs value || isFunction value || isPath value;
      emptyValue.value = (evaluate [ ] "‹name›" [ ]).config;
      getSubModules = modules;
      getSubOptions = prefix: (evaluate prefix "‹name›" [ ]).options;
      merge = loc: defs: (evaluate loc (lib.last loc) (map (def: moduleOf def.value) defs)).config;
    };
}
