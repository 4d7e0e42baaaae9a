# A stand-in for the library of nixpkgs, of our own, for machines that have none: as much of it as nix/ and the
# tests use, by nixpkgs' documentation of these functions. Where a nixpkgs is there, tests use its own library, and
# stand-in-lib.test.ts holds this one against it.
let
  inherit (builtins)
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    head
    isAttrs
    isList
    length
    listToAttrs
    map
    mapAttrs
    match
    replaceStrings
    split
    stringLength
    substring
    ;

  nameValuePair = name: value: { inherit name value; };
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  filterAttrs =
    keep: set:
    listToAttrs (
      concatMap (name: optional (keep name set.${name}) (nameValuePair name set.${name})) (attrNames set)
    );
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix =
    suffix: text:
    let
      rest = stringLength text - stringLength suffix;
    in
    rest >= 0 && substring rest (-1) text == suffix;
  removePrefix =
    prefix: text: if hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  concatMapStringsSep =
    separator: f: list:
    concatStringsSep separator (map f list);

  lib = {
    inherit
      attrNames
      attrValues
      concatLists
      concatMap
      concatMapStringsSep
      concatStringsSep
      elem
      filter
      filterAttrs
      foldl'
      hasPrefix
      hasSuffix
      head
      length
      mapAttrs
      mapAttrsToList
      nameValuePair
      optional
      optionals
      removePrefix
      replaceStrings
      ;
    inherit (builtins) all any groupBy;

    # Lists.
    count = test: list: length (filter test list);
    findFirst =
      test: otherwise: list:
      let
        found = filter test list;
      in
      if found == [ ] then otherwise else head found;
    intersectLists = wanted: filter (one: elem one wanted);
    last = list: elemAt list (length list - 1);
    min = a: b: if a < b then a else b;
    range =
      first: last: if first > last then [ ] else genList (index: first + index) (last - first + 1);
    remove = unwanted: filter (one: one != unwanted);
    subtractLists = unwanted: filter (one: !elem one unwanted);
    toList = value: if isList value then value else [ value ];
    unique = foldl' (seen: one: if elem one seen then seen else seen ++ [ one ]) [ ];
    zipListsWith =
      f: first: second:
      genList (index: f (elemAt first index) (elemAt second index)) (
        lib.min (length first) (length second)
      );

    # Sets.
    concatMapAttrs = f: set: foldl' (all: more: all // more) { } (mapAttrsToList f set);
    getAttrs = names: set: listToAttrs (map (name: nameValuePair name set.${name}) names);
    genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
    isDerivation = value: value.type or null == "derivation";
    mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
    optionalAttrs = condition: set: if condition then set else { };
    recursiveUpdate =
      base: over:
      base
      // mapAttrs (
        name: value:
        if isAttrs value && isAttrs (base.${name} or null) then
          lib.recursiveUpdate base.${name} value
        else
          value
      ) over;

    # Strings.
    concatMapStrings = concatMapStringsSep "";
    escapeShellArg =
      argument:
      let
        text = toString argument;
      in
      if match "[[:alnum:],._+:@%/-]+" text == null then
        "'${replaceStrings [ "'" ] [ "'\\''" ] text}'"
      else
        text;
    concatStrings = concatStringsSep "";
    makeBinPath = concatMapStringsSep ":" (package: "${package}/bin");
    hasInfix = infix: text: replaceStrings [ infix ] [ "" ] text != text;
    optionalString = condition: text: if condition then text else "";
    removeSuffix =
      suffix: text:
      if hasSuffix suffix text then substring 0 (stringLength text - stringLength suffix) text else text;
    splitString =
      separator: text:
      filter builtins.isString (
        split (concatMapStringsSep "" (char: "[${char}]") (
          genList (index: substring index 1 separator) (stringLength separator)
        )) text
      );
    trim = text: head (match "[[:space:]]*(.*[^[:space:]]|)[[:space:]]*" text);
    strings.sanitizeDerivationName =
      text:
      let
        parts = split "[^[:alnum:]+._?=-]+" (
          head (match "\\.*(.*)" (builtins.unsafeDiscardStringContext text))
        );
        name = concatMapStringsSep "" (part: if isList part then "-" else part) parts;
      in
      if name == "" then "unknown" else name;

    # The rest.
    versionOlder = version: other: builtins.compareVersions version other < 0;
    versionAtLeast = version: other: builtins.compareVersions version other >= 0;
    warnIf =
      condition: text: if condition then builtins.trace "evaluation warning: ${text}" else value: value;
    fetchers.proxyImpureEnvVars = [
      "http_proxy"
      "https_proxy"
      "no_proxy"
    ];
    importJSON = path: builtins.fromJSON (builtins.readFile path);
    licenses.mit.spdxId = "MIT";
    mapNullable = f: value: if value == null then null else f value;
    pipe = foldl' (value: f: f value);
    sourceByRegex =
      path: regexes:
      builtins.path {
        inherit path;
        name = "source";
        filter =
          file: _: builtins.any (regex: match regex (removePrefix "${toString path}/" file) != null) regexes;
      };
    warn = message: builtins.trace "warning: ${message}";
  }
  // import ./modules.nix { inherit lib; }
  // {
    types = import ./types.nix { inherit lib; };
    inherit (lib.types) mkOptionType;
  };
in
lib
