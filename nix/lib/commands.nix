# Command lines of units, as systemd.service(5) writes them: pure functions on strings.
{ lib }:

let
  # Keeps the module system's property wrappers (mkIf, mkMerge, mkForce …) around what it changes inside them.
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

  # The definitions in a value as [ { priority; value; } … ]: 50 for mkForce, 1000 for mkDefault. It leaves out those
  # with a false condition.
  definitions =
    value:
    let
      kind = value._type or null;
    in
    if kind == "merge" then
      lib.concatMap definitions value.contents
    else if kind == "if" then
      lib.optionals value.condition (definitions value.content)
    else if kind == "override" then
      map (one: one // { inherit (value) priority; }) (definitions value.content)
    else if kind == "order" then
      definitions value.content
    else
      [
        {
          inherit value;
          priority = 100;
        }
      ];

  # The priority of those that count: the strongest.
  priorityOf =
    value:
    let
      priorities = map (one: one.priority) (definitions value);
    in
    if priorities == [ ] then 100 else lib.foldl' lib.min (lib.head priorities) priorities;

  contents = value: map (one: one.value) (definitions value);

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

  # Special executable prefixes: "-" failure is success, ":" no variables, "!" "!!" privileges, "+" all privileges and
  # no sandbox, "@" a separate argv[0], "|" through a shell (258).
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
  inherit mapContent contents priorityOf;

  # "-:/bin/x a" → { prefix = "-:"; words = "/bin/x a"; }; what follows the prefix is verbatim.
  split =
    command:
    let
      text = trimStart command;
      prefix = prefixOf text;
    in
    {
      inherit prefix;
      words = builtins.substring (builtins.stringLength prefix) (-1) text;
    };

  # One line can hold several commands, with a word `;` between them: "/bin/a 'x ; y' ; /bin/b" is two.
  separate =
    line:
    let
      at = index: builtins.substring index 1 line;
      isSpace =
        index:
        lib.elem (at index) [
          " "
          "\t"
          "\n"
        ];
      last = builtins.stringLength line - 1;
      isWord = index: (index == 0 || isSpace (index - 1)) && (index == last || isSpace (index + 1));
      # `quote`: the end of the quotes around the character; "" outside of quotes.
      step =
        state: index:
        let
          char = at index;
        in
        if state.escaped then
          state // { escaped = false; }
        else if char == "\\" then
          state // { escaped = true; }
        else if state.quote != "" then
          state // lib.optionalAttrs (char == state.quote) { quote = ""; }
        else if char == "\"" || char == "'" then
          state // { quote = char; }
        else if char == ";" && isWord index then
          state // { ends = state.ends ++ [ index ]; }
        else
          state;
      ends =
        (lib.foldl' step {
          escaped = false;
          quote = "";
          ends = [ ];
        } (lib.range 0 last)).ends;
    in
    lib.zipListsWith (begin: end: builtins.substring begin (end - begin) line) (
      [ 0 ] ++ map (end: end + 1) ends
    ) (ends ++ [ (last + 1) ]);

  hasPrefix =
    prefix: line:
    lib.any (command: lib.hasInfix prefix (split command).prefix) (separate (toString line));

  # Puts `program` before each command of the line. An empty line resets the list and stays empty.
  wrap =
    program: line:
    let
      wrapOne =
        command:
        let
          parts = split command;
        in
        if parts.words == "" then command else "${parts.prefix}${program} ${parts.words}";
    in
    lib.concatStringsSep "; " (map wrapOne (separate (toString line)));

  # All Exec*= in a serviceConfig: [ { name = "ExecStart"; command = "…"; } ].
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

  # Starts the script again behind `program`, as the same process, before its first line. Text that other modules append
  # stays in the script. Each of several definitions begins so: the first one leaves the variable to the later ones, in
  # this shell only.
  wrapScript = program: script: ''
    if [ "''${WITH_SECRETS-}" != "$$" ]; then
      WITH_SECRETS=$$ exec ${program} "$0" "$@"
    fi
    unset WITH_SECRETS
    WITH_SECRETS=$$
    ${script}'';
}
