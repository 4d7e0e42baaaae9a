# Command lines of units, as systemd.service(5) writes them: pure functions on strings.
{ lib }:

let
  # Property wrappers of the module system (mkIf, mkMerge, mkForce …) stay around what is changed inside them.
  mapContent =
    f: value:
    let
      kind = value._type or null;
    in
    if kind == "merge" then
      value // { contents = map (mapContent f) value.contents; }
    else if
      lib.elem kind [
        "if"
        "override"
        "order"
      ]
    then
      value // { content = mapContent f value.content; }
    else
      f value;

  # What is left of a value when all of those are taken off; definitions whose condition is false are gone.
  contents =
    value:
    let
      kind = value._type or null;
    in
    if kind == "merge" then
      lib.concatMap contents value.contents
    else if kind == "if" then
      lib.optionals value.condition (contents value.content)
    else if kind == "override" || kind == "order" then
      contents value.content
    else
      [ value ];

  trimStart =
    text:
    if
      lib.elem (builtins.substring 0 1 text) [
        " "
        "\t"
        "\n"
      ]
    then
      trimStart (builtins.substring 1 (-1) text)
    else
      text;

  # Special executable prefixes: "-" failure is success, ":" no variables, "!" "!!" privileges, "+" all privileges and no
  # sandbox, "@" argv[0] of its own, "|" through a shell (258).
  prefixOf =
    text:
    let
      first = builtins.substring 0 1 text;
    in
    if
      lib.elem first [
        "-"
        ":"
        "!"
        "+"
        "@"
        "|"
      ]
    then
      first + prefixOf (builtins.substring 1 (-1) text)
    else
      "";
in
rec {
  inherit mapContent contents;

  # "-:/bin/x a" → { prefix = "-:"; words = "/bin/x a"; }; what follows the prefix is verbatim.
  split =
    command:
    let
      text = trimStart (toString command);
      prefix = prefixOf text;
    in
    {
      inherit prefix;
      words = builtins.substring (builtins.stringLength prefix) (-1) text;
    };

  hasPrefix = prefix: command: lib.hasInfix prefix (split command).prefix;

  # The same command behind `program`. An empty one resets the list and stays so.
  wrap =
    program: command:
    let
      parts = split command;
    in
    if parts.words == "" then command else "${parts.prefix}${program} ${parts.words}";

  # All of Exec*= in a serviceConfig: [ { name = "ExecStart"; command = "…"; } ].
  ofService =
    serviceConfig:
    lib.concatMap (
      plain:
      lib.concatLists (
        lib.mapAttrsToList (
          name: value:
          lib.optionals (lib.hasPrefix "Exec" name) (
            map (command: { inherit name command; }) (lib.concatMap lib.toList (contents value))
          )
        ) plain
      )
    ) (contents serviceConfig);

  # Starts the script again behind `program`, as the same process, before its first line; what other modules append to
  # it stays in it. Each of several definitions begins so: the first one leaves the variable to those behind it, in this
  # shell only.
  wrapScript = program: script: ''
    if [ "''${WITH_SECRETS-}" != "$$" ]; then
      WITH_SECRETS=$$ exec ${program} "$0" "$@"
    fi
    unset WITH_SECRETS
    WITH_SECRETS=$$
    ${script}'';
}
