# The stand-in's module system: options, definitions with conditions and priorities, and what becomes of them.
{ lib }:

let
  inherit (builtins)
    attrNames
    concatMap
    filter
    foldl'
    functionArgs
    head
    isAttrs
    isBool
    isFunction
    isList
    isString
    length
    map
    mapAttrs
    zipAttrsWith
    ;

  wrapped = kind: more: more // { _type = kind; };
  kindOf = value: if isAttrs value then value._type or "" else "";

  mkOverride = priority: content: wrapped "override" { inherit priority content; };
  mkOrder = priority: content: wrapped "order" { inherit priority content; };
  mkIf = condition: content: wrapped "if" { inherit condition content; };
  mkMerge = contents: wrapped "merge" { inherit contents; };
  mkOption = wrapped "option";
  isOption = value: kindOf value == "option";
  defaultPriority = 100;

  # `a.b."c.d"`
  showOption =
    loc:
    lib.concatMapStringsSep "." (
      part:
      if
        builtins.match "[a-zA-Z_<\\*\\[][a-zA-Z0-9_'@ >.*-]*]?" part != null
        && builtins.match ".*[.].*" part == null
        || lib.hasPrefix "[" part
      then
        part
      else
        builtins.toJSON part
    ) loc;
  complain = loc: what: throw "The option `${showOption loc}' ${what}";

  # Definitions of sets as plain sets, with what was around them around each value.
  pushDown =
    value:
    let
      around = wrap: map (mapAttrs (_: wrap)) (pushDown value.content);
      kind = kindOf value;
    in
    if kind == "merge" then
      concatMap pushDown value.contents
    else if kind == "if" then
      around (mkIf value.condition)
    else if kind == "override" then
      around (mkOverride value.priority)
    else
      [ value ];

  # Definitions whose condition holds.
  discharge =
    value:
    let
      kind = kindOf value;
    in
    if kind == "merge" then
      concatMap discharge value.contents
    else if kind == "if" then
      if !isBool value.condition then
        throw "‘mkIf’ called with a non-Boolean condition"
      else
        lib.optionals value.condition (discharge value.content)
    else
      [ value ];

  # The strongest of the definitions, without what said so.
  strongest =
    defs:
    let
      priorityOf = def: if kindOf def.value == "override" then def.value.priority else defaultPriority;
      priority = foldl' lib.min 9999 (map priorityOf defs);
    in
    {
      inherit priority;
      defs = map (
        def: if kindOf def.value == "override" then def // { value = def.value.content; } else def
      ) (filter (def: priorityOf def == priority) defs);
    };

  inOrder =
    defs:
    let
      rankOf = def: if kindOf def.value == "order" then def.value.priority else 1000;
      plain = def: if kindOf def.value == "order" then def // { value = def.value.content; } else def;
      sorted = builtins.sort (a: b: rankOf a < rankOf b) defs;
    in
    map plain (if builtins.any (def: rankOf def != 1000) defs then sorted else defs);

  # → { isDefined; value; defs; priority; }
  mergeDefinitions =
    loc: type: defs:
    let
      counting = strongest (
        concatMap (def: map (value: def // { inherit value; }) (discharge def.value)) defs
      );
      final = inOrder counting.defs;
      wrong = filter (def: !type.check def.value) final;
    in
    {
      defs = final;
      inherit (counting) priority;
      isDefined = final != [ ];
      value =
        if final == [ ] then
          type.emptyValue.value
            or (complain loc "was accessed but has no value defined. Try setting the option.")
        else if wrong != [ ] then
          throw "A definition for option `${showOption loc}' is not of type `${type.description}'."
        else
          type.merge loc final;
    };

  # One option with all that was said of it.
  evaluateOption =
    loc: option: defs:
    let
      fallback = lib.optional (option ? default) { value = mkOverride 1500 option.default; };
      all = defs ++ fallback;
      type = option.type or lib.types.unspecified;
      merged = mergeDefinitions loc type all;
    in
    option
    // {
      inherit loc type;
      inherit (merged) isDefined;
      highestPrio = merged.priority;
      definitions = map (def: def.value) merged.defs;
      definitionsWithLocations = map (def: {
        file = def.file or "<unknown-file>";
        inherit (def) value;
      }) merged.defs;
      value =
        if option.readOnly or false && length all > 1 then
          complain loc "is read-only, but it's set multiple times."
        else
          (option.apply or (value: value)) merged.value;
    };

  # → { options; config; unknown = [ loc … ]; } of a tree of declarations.
  mergeTree =
    loc: trees: defs:
    let
      declared = zipAttrsWith (_: values: values) trees;
      given = zipAttrsWith (_: values: values) (
        concatMap (def: map (mapAttrs (_: value: def // { inherit value; })) (pushDown def.value)) defs
      );
      parts = mapAttrs (
        name: values:
        let
          here = loc ++ [ name ];
          mine = given.${name} or [ ];
          option = evaluateOption here (head values) mine;
        in
        if !isOption (head values) then
          mergeTree here values mine
        else if length values > 1 then
          complain here "is already declared"
        else
          {
            options = option;
            config = option.value;
            unknown = [ ];
          }
      ) declared;
    in
    {
      options = mapAttrs (_: part: part.options) parts;
      config = mapAttrs (_: part: part.config) parts;
      unknown =
        concatMap (
          name:
          lib.optional (!declared ? ${name}) {
            loc = loc ++ [ name ];
            defs = given.${name};
          }
        ) (attrNames given)
        ++ concatMap (part: part.unknown) (builtins.attrValues parts);
    };

  # A module as { imports; options; config; types; }; `types`: its freeformType, if it has one.
  normal =
    key: module:
    let
      plain = removeAttrs module [
        "_file"
        "freeformType"
        "imports"
        "key"
      ];
      long = plain ? config || plain ? options;
      strange = removeAttrs plain [
        "config"
        "options"
      ];
    in
    if long && strange != { } then
      throw "Module `${key}' has an unsupported attribute `${head (attrNames strange)}'."
    else
      {
        imports = module.imports or [ ];
        file = module._file or key;
        options = plain.options or { };
        config = if long then plain.config or { } else plain;
        types = lib.optional (module ? freeformType) module.freeformType;
      };

  # Those that others import come before them, later ones before earlier ones; each file once.
  collect =
    argumentsFor: modules:
    let
      load =
        module:
        if isFunction module then
          module (argumentsFor module)
        else if isAttrs module then
          module
        else
          load (import module);
      entries =
        parent: list:
        builtins.genList (
          index:
          let
            module = builtins.elemAt list index;
            isFile = builtins.isPath module || isString module;
          in
          rec {
            key = if isFile then toString module else "${parent}:anon-${toString index}";
            one = normal key (load module);
          }
        ) (length list);
    in
    lib.foldl' (all: entry: [ entry.one ] ++ all) [ ] (
      builtins.genericClosure {
        startSet = entries "" modules;
        operator = entry: entries entry.key entry.one.imports;
      }
    );
in
{
  inherit
    isOption
    mergeDefinitions
    mkIf
    mkMerge
    mkOption
    mkOrder
    mkOverride
    showOption
    ;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkOptionDefault = mkOverride 1500;
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  mkDerivedConfig = option: f: mkOverride (option.highestPrio or defaultPriority) (f option.value);
  filterOverrides = defs: (strongest defs).defs;
  literalExpression = text: wrapped "literalExpression" { inherit text; };

  mkEnableOption =
    name:
    mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${name}.";
    };
  mkPackageOption =
    pkgs: name: _:
    mkOption {
      type = lib.types.raw;
      default = pkgs.${name};
      description = "The ${name} package to use.";
    };

  mergeOneOption =
    loc: defs:
    if length defs == 1 then
      (head defs).value
    else
      complain loc "is defined multiple times while it's expected to be unique.";
  mergeEqualOption =
    loc: defs:
    let
      inherit (head defs) value;
    in
    if length defs == 1 || builtins.all (def: def.value == value) defs then
      value
    else
      complain loc "has conflicting definition values";
  mergeDefaultOption =
    loc: defs:
    let
      values = map (def: def.value) defs;
    in
    if length values == 1 then
      head values
    else if builtins.all isList values then
      builtins.concatLists values
    else if builtins.all isAttrs values then
      foldl' (all: more: all // more) { } values
    else
      complain loc "has conflicting definition values";

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      # Those that a function names come one by one: to look at its other arguments must not need them all.
      argumentsFor =
        module:
        let
          always = specialArgs // {
            inherit lib;
            inherit (tree) config options;
          };
        in
        mapAttrs (name: _: always.${name} or tree.config._module.args.${name}) (functionArgs module)
        // always;
      own._module = {
        args = mkOption {
          type = lib.types.lazyAttrsOf lib.types.raw;
          default = { };
        };
        check = mkOption {
          type = lib.types.bool;
          default = true;
        };
      };
      all = collect argumentsFor modules;
      freeform = concatMap (module: module.types) all;
      declared = mergeTree prefix ([ own ] ++ map (module: module.options) all) (
        map (module: {
          inherit (module) file;
          value = module.config;
        }) all
      );
      # What is not declared, where anything of a type goes.
      loose = builtins.listToAttrs (
        map (
          { loc, defs }:
          {
            name = lib.last loc;
            inherit (mergeDefinitions loc (head freeform).nestedTypes.elemType defs) value;
          }
        ) declared.unknown
      );
      tree = declared // {
        config = (if freeform == [ ] then { } else loose) // declared.config;
      };
      isWrong = freeform == [ ] && declared.unknown != [ ] && tree.config._module.check;
    in
    {
      inherit (tree) options;
      config =
        if isWrong then
          complain (head declared.unknown).loc "does not exist."
        else
          removeAttrs tree.config [ "_module" ];
    };
}
