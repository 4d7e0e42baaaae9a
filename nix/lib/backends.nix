# The stores: the settings of each, on the host and by a service. `null` means unset. The settings come from
# options.json, which `npm run docs` makes from the program's own schemas.
{ lib }:

let
  inherit (lib) mkOption types;
  inherit (import ./values.nix { inherit lib; }) positiveSeconds secretPath;

  table = builtins.fromJSON (builtins.readFile ./options.json);

  typeOf =
    setting:
    {
      path = if setting.secret then secretPath else types.path;
      seconds = positiveSeconds;
      boolean = types.bool;
      enum = types.enum setting.values;
      words = types.nonEmptyListOf types.str;
      strings = types.attrsOf types.str;
      string = types.str;
    }
    .${setting.type};

  # Settings that are sets themselves; `null` means unset here too.
  section = description: settings: {
    type = types.submodule {
      options = lib.mapAttrs (_: one: mkOption (one // { default = null; })) settings;
    };
    apply = value: if value == null then null else lib.filterAttrs (_: one: one != null) value;
    inherit description;
  };

  plain =
    setting:
    {
      type = typeOf setting;
      inherit (setting) description;
    }
    // lib.optionalAttrs (setting.example != null) { inherit (setting) example; };

  inSection = setting: plain setting // { type = types.nullOr (typeOf setting); };

  # All options of all forms side by side, each with the words of the forms that have it.
  merged =
    setting:
    let
      words = lib.attrNames setting.forms;
      names = lib.unique (lib.concatMap (word: lib.attrNames setting.forms.${word}) words);
      option =
        name:
        let
          having = lib.filter (word: setting.forms.${word} ? ${name}) words;
          one = setting.forms.${lib.head having}.${name};
          quoted = lib.concatMapStringsSep ", " (word: "`${word}`") having;
        in
        if name == setting.by then
          {
            type = types.nullOr (types.enum words);
            description = "Which one it is.";
          }
        else
          inSection one // { description = "For ${quoted}. ${one.description}"; };
    in
    section setting.description (lib.genAttrs names option);

  optionOf =
    setting:
    if setting.type == "section" then
      section "Settings of their own." (lib.mapAttrs (_: inSection) setting.settings)
    else if setting.type == "forms" then
      merged setting
    else
      plain setting;

  # Settings that have host-wide defaults in RFC 59.
  hostDefaults.vault = [
    "url"
    "mount"
  ];

  # Paths of one kind in the settings, with the program's defaults where they are unset.
  pathsIn =
    kind: settings: config:
    lib.concatLists (
      lib.mapAttrsToList (
        name: setting:
        let
          value = config.${name} or setting.default;
          socket = builtins.match "unix:(//)?(/.*)" value;
        in
        if setting.type == "section" then
          lib.optionals (config ? ${name}) (pathsIn kind setting.settings value)
        else if setting.type == "forms" then
          lib.optionals (config ? ${name}) (
            pathsIn kind setting.forms.${value.${setting.by} or ""} or { } value
          )
        else if value == null || !setting ? path then
          [ ]
        else if setting.path == "url" then
          lib.optional (kind == "replaced" && socket != null) (lib.last socket)
        else
          lib.optional (setting.path == kind) (toString value)
      ) settings
    );

  # A command or a third-party module may need anything: its keys, an agent's socket, the network.
  open = {
    # The host's own keys, with which age and sops decrypt.
    reads = _: [ "/etc/ssh" ];
    sees = "all";
    talks = true;
    sandbox.ProtectHome = "read-only";
  };

  # `network`: whether the store is another host, which the sidecar waits for; `talks`: it may reach others, and need
  # not wait. `sees = "all"`: nothing is hidden from it except closed places. `reads`: files and directories outside the
  # Nix store, from its settings, that may be replaced at any time; `stays`: directories that are not replaced.
  # `sandbox`: the settings in which its unit differs. `sections`: sets of settings in which a service's values win over
  # the host's one by one. `alternatives`: a service that sets one of them does not get the host's other.
  backends = lib.mapAttrs (
    name: backend:
    let
      where = test: lib.attrNames (lib.filterAttrs (_: test) backend.settings);
      isHostDefault = key: lib.elem key (hostDefaults.${name} or [ ]);
    in
    {
      inherit (backend) description network;
      interval = backend.pollingInterval;
      settings = lib.mapAttrs (
        key: setting:
        optionOf setting // lib.optionalAttrs (isHostDefault key) { inherit (setting) default; }
      ) backend.settings;
      intervals = lib.optionalAttrs (hostDefaults ? ${name}) {
        refreshInterval = backend.pollingInterval;
      };
      required = where (setting: setting.required);
      sections = where (setting: setting.type == "section");
      alternatives = where (setting: setting ? insteadOf);
      reads = pathsIn "replaced" backend.settings;
      stays = pathsIn "stays" backend.settings;
      # Where ~/.aws may be.
      sandbox = lib.optionalAttrs backend.home { ProtectHome = "read-only"; };
    }
    // lib.optionalAttrs (name == "command") open
  ) table.backends;

  # Settings that all backends share (RFC 59).
  rotation = lib.mapAttrs (_: optionOf) table.rotation;

  # Stores that have everything in files of the host from boot on, without anybody's help.
  isLocal =
    name:
    lib.elem (builtins.unsafeDiscardStringContext name) [
      "credentials"
      "folder"
      "static"
    ];

  # The table's entry for a name; nothing for the path of a module, which may be in the Nix store.
  backendOf = name: backends.${builtins.unsafeDiscardStringContext name} or { };

  isModulePath = name: lib.hasInfix "/" name || lib.hasSuffix ".mjs" name || lib.hasSuffix ".js" name;
in
{
  inherit
    backendOf
    backends
    isLocal
    isModulePath
    open
    rotation
    ;

  # The program's own texts about its options, by their names.
  said = {
    inherit (table.program) startTimeout resident;
    inherit (table) secret template;
    onChange = table.program.onChange.settings;
    verify = table.program.onChange.settings.verify.settings;
  };
}
