# Tests in virtual machines, one for each scenario: `nix build .#checks.x86_64-linux.NAME`. Each boots the module as a
# host would use it; none waits for a fixed time.
{ self, lib }:

let
  # All of them share this: the module, and a folder of secrets that is made at boot.
  machine = {
    imports = [ self.nixosModules.default ];
    secretsStore = {
      enable = true;
      folder.secretsDir = "/etc/secrets";
    };
    systemd.tmpfiles.settings.secrets."/etc/secrets".d.mode = "0700";
  };
  # A service of a module's author, with what goes into its scope.
  scopedWith =
    scope:
    {
      config,
      lib,
      pkgs,
      ...
    }:
    {
      imports = [ machine ];
      systemd.services =
        (self.lib.secrets { inherit pkgs lib config; }).serviceSecretsScope
          (
            {
              loadSecrets = [ "token" ];
              backendConfig = {
                backend = "folder";
                config.reloadOnChange = true;
              };
            }
            // scope
          )
          (
            { token }:
            {
              app = {
                script = ''
                  echo "file=$(cat ${token}) variable=$token"
                  exec sleep infinity
                '';
                serviceConfig = {
                  DynamicUser = true;
                  Restart = "on-failure";
                };
              };
            }
          );
    };

  scoped = scopedWith { };

  # These put secrets in place as root, atomically, and read what a unit has logged.
  helpers = ''
    def put(value, name="token"):
        machine.succeed(
            f"umask 077; printf %s '{value}' > /etc/secrets/.new && mv /etc/secrets/.new /etc/secrets/{name}"
        )

    def said(text, unit="app"):
        machine.wait_until_succeeds(f"journalctl -b -o cat -u {unit} | tail -n 1 | grep -F '{text}'")

    def pid(unit):
        return machine.succeed(f"systemctl show -P MainPID {unit}").strip()

    def wait_for_another(unit, before):
        machine.wait_until_succeeds(
            f"systemctl is-active {unit} && test $(systemctl show -P MainPID {unit}) != {before}"
        )

    machine.wait_for_unit("multi-user.target")
  '';

  scenario = name: node: script: {
    inherit name;
    nodes.machine = node;
    testScript = helpers + script;
  };
in
lib.mapAttrs (name: test: test name) (
  import ./lifecycle.nix {
    inherit scenario scoped scopedWith;
  }
  // import ./deliveries.nix { inherit self machine scenario; }
)
