# A stand-in for the part of NixOS that nix/ talks to, of our own: systemd.services with the options that NixOS has and
# the unit texts that it makes of them (as its nixos/lib/systemd-lib.nix does), assertions, warnings, containers.
# Options that do not exist are errors here as there.
{ lib, pkgs }:

let
  inherit (lib) mkOption types;

  # Lists of several modules are joined, single values must agree.
  unitOption = lib.mkOptionType {
    name = "systemd option";
    merge =
      loc: defs:
      let
        counting = lib.filterOverrides defs;
      in
      if lib.any (def: builtins.isList def.value) counting then
        lib.concatMap (def: lib.toList def.value) counting
      else
        lib.mergeEqualOption loc counting;
  };
  section = mkOption {
    type = types.attrsOf unitOption;
    default = { };
  };
  units = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  lines = mkOption {
    type = types.lines;
    default = "";
  };
  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };

  jobScript =
    name: text:
    "${pkgs.writeShellScript "unit-script-${lib.replaceStrings [ "@" ] [ "_" ] name}" "set -e\n\n${text}"}";

  service =
    { config, name, ... }:
    {
      options = {
        enable = flag true;
        description = mkOption {
          type = types.str;
          default = "";
        };
        overrideStrategy = mkOption {
          type = types.str;
          default = "asDropinIfExists";
        };
        requires = units;
        wants = units;
        after = units;
        before = units;
        bindsTo = units;
        partOf = units;
        wantedBy = units;
        requiredBy = units;
        unitConfig = section;
        serviceConfig = section;
        environment = mkOption {
          type = types.attrsOf (types.nullOr types.str);
          default = { };
        };
        path = mkOption {
          type = types.listOf types.unspecified;
          default = [ ];
        };
        script = lines;
        scriptArgs = mkOption {
          type = types.str;
          default = "";
        };
        preStart = lines;
        postStart = lines;
        preStop = lines;
        postStop = lines;
        reload = lines;
        restartIfChanged = flag true;
        reloadIfChanged = flag false;
        stopIfChanged = flag true;
        text = mkOption {
          type = types.str;
          readOnly = true;
        };
      };
      config = {
        path = lib.mkAfter [
          pkgs.coreutils
          pkgs.systemd
          pkgs.nodejs
        ];
        environment.PATH = lib.mkIf (config.path != [ ]) (
          lib.concatStringsSep ":" (lib.unique (map (package: "${package}/bin") config.path))
        );
        unitConfig = lib.filterAttrs (_: value: value != "") {
          Description = config.description;
          Requires = toString config.requires;
          Wants = toString config.wants;
          After = toString config.after;
          Before = toString config.before;
          BindsTo = toString config.bindsTo;
          PartOf = toString config.partOf;
        };
        serviceConfig = lib.mkMerge [
          (lib.mkIf (config.preStart != "") {
            ExecStartPre = [ (jobScript "${name}-pre-start" config.preStart) ];
          })
          (lib.mkIf (config.script != "") {
            ExecStart = "${jobScript "${name}-start" config.script} ${config.scriptArgs}";
          })
          (lib.mkIf (config.postStart != "") {
            ExecStartPost = [ (jobScript "${name}-post-start" config.postStart) ];
          })
          (lib.mkIf (config.reload != "") { ExecReload = jobScript "${name}-reload" config.reload; })
          (lib.mkIf (config.preStop != "") { ExecStop = jobScript "${name}-pre-stop" config.preStop; })
          (lib.mkIf (config.postStop != "") { ExecStopPost = jobScript "${name}-post-stop" config.postStop; })
        ];
        text = unitText config;
      };
    };

  # A unit that starts another: [Path] with `pathConfig`, [Timer] with `timerConfig`.
  starter =
    kind: setting:
    { config, ... }:
    {
      options = {
        description = mkOption {
          type = types.str;
          default = "";
        };
        before = units;
        after = units;
        unitConfig = section;
        ${setting} = section;
        text = mkOption {
          type = types.str;
          readOnly = true;
        };
      };
      config = {
        unitConfig = lib.filterAttrs (_: value: value != "") {
          Description = config.description;
          Before = toString config.before;
          After = toString config.after;
        };
        text = ''
          [Unit]
          ${settings config.unitConfig}
          [${kind}]
          ${settings config.${setting}}
        '';
      };
    };

  value =
    v:
    if v == true then
      "true"
    else if v == false then
      "false"
    else
      toString v;
  settings =
    attrs:
    lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (name: v: map (one: "${name}=${value one}\n") (lib.toList v)) attrs
      )
    );
  unitText =
    service:
    ''
      [Unit]
      ${settings service.unitConfig}
      [Service]
    ''
    + lib.concatMapStrings (
      name:
      lib.optionalString (
        service.environment.${name} != null
      ) "Environment=${builtins.toJSON "${name}=${service.environment.${name}}"}\n"
    ) (lib.attrNames service.environment)
    + lib.optionalString service.reloadIfChanged "X-ReloadIfChanged=true\n"
    + lib.optionalString (!service.restartIfChanged) "X-RestartIfChanged=false\n"
    + lib.optionalString (!service.stopIfChanged) "X-StopIfChanged=false\n"
    + settings service.serviceConfig;
in
{
  options = {
    systemd.services = mkOption {
      type = types.attrsOf (types.submodule service);
      default = { };
    };
    systemd.paths = mkOption {
      type = types.attrsOf (types.submodule (starter "Path" "pathConfig"));
      default = { };
    };
    systemd.timers = mkOption {
      type = types.attrsOf (types.submodule (starter "Timer" "timerConfig"));
      default = { };
    };
    environment.systemPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
    };
    system.activationScripts = mkOption {
      type = types.attrsOf types.anything;
      default = { };
    };
    warnings = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    containers = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            autoStart = flag false;
            extraFlags = units;
            config = mkOption {
              type = types.submoduleWith {
                modules = [
                  (import ./nixos.nix { inherit lib pkgs; })
                  { options.system.stateVersion = mkOption { type = types.str; }; }
                ];
                specialArgs = {
                  inherit pkgs;
                };
              };
              default = { };
            };
          };
        }
      );
      default = { };
    };
  };
  config._module.args.pkgs = lib.mkDefault pkgs;
}
