# The lifecycle of a service and its sidecar.
{
  scenario,
  scoped,
  scopedWith,
}:

{
  start =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      said("file=one variable=one")
      machine.succeed("systemctl stop app")
      machine.wait_until_fails("systemctl is-active app-secrets")
      machine.fail("ls -d /run/app-secrets/* /tmp/systemd-private-*app*")
    '';

  stopSidecar =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      machine.succeed("systemctl stop app-secrets")
      machine.wait_until_fails("systemctl is-active app")
      machine.succeed("systemctl start app")
    '';

  killTarget =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      machine.succeed("mv /etc/secrets /etc/away")
      before = pid("app")
      machine.succeed("systemctl kill -s KILL --kill-whom=main app")
      wait_for_another("app", before)
      said("file=one variable=one")
    '';

  killSidecar =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      for signal in ["KILL", "TERM"]:
          target, sidecar = pid("app"), pid("app-secrets")
          machine.succeed(f"systemctl kill -s {signal} --kill-whom=main app-secrets")
          wait_for_another("app-secrets", sidecar)
          assert target == pid("app")
      put("two")
      said("file=two variable=two")
    '';

  killBothWithoutStore =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      machine.succeed("mv /etc/secrets /etc/away")
      target, sidecar = pid("app"), pid("app-secrets")
      machine.succeed("systemctl kill -s KILL --kill-whom=main app-secrets")
      wait_for_another("app-secrets", sidecar)
      machine.succeed("systemctl kill -s KILL --kill-whom=main app")
      wait_for_another("app", target)
      said("file=one variable=one")
    '';

  restartTarget =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      sidecar = pid("app-secrets")
      machine.succeed("systemctl restart app")
      assert sidecar == pid("app-secrets")
      said("file=one variable=one")
    '';

  restartTargetFetches =
    name:
    scenario name (scopedWith { backendConfig.backend = "folder"; }) ''
      put("one")
      machine.succeed("systemctl start app")
      sidecar = pid("app-secrets")
      put("two")
      machine.succeed("systemctl restart app")
      assert sidecar != pid("app-secrets")
      said("file=two variable=two")
    '';

  restartSidecar =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      target = pid("app")
      machine.succeed("systemctl restart app-secrets")
      wait_for_another("app", target)
      said("file=one variable=one")
    '';

  rotation =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      said("file=one variable=one")
      put("two")
      said("file=two variable=two")
    '';

  missingSecret =
    name:
    scenario name scoped ''
      machine.fail("systemctl start app")
      assert "66" == machine.succeed("systemctl show -P ExecMainStatus app-secrets").strip()
      machine.succeed("systemctl status app-secrets | grep -F 'no file /etc/secrets/token' || [ $? = 3 ]")
      put("one")
      machine.succeed("systemctl start app")
    '';

  lateStore =
    name:
    scenario name scoped ''
      machine.succeed("mv /etc/secrets /etc/away")
      machine.succeed("systemctl start --no-block app")
      machine.wait_until_succeeds("systemctl show -P StatusText app-secrets | grep waiting")
      machine.succeed("mv /etc/away /etc/secrets")
      put("one")
      said("file=one variable=one")
    '';

  manyRotations =
    name:
    scenario name scoped ''
      put("0")
      machine.succeed("systemctl start app")
      for value in range(1, 9):
          put(value)
      said("file=8 variable=8")
      assert "success" == machine.succeed("systemctl show -P Result app").strip()
    '';

  reexec =
    name:
    scenario name scoped ''
      put("one")
      machine.succeed("systemctl start app")
      machine.succeed("systemctl daemon-reexec")
      put("two")
      said("file=two variable=two")
    '';

  # Tests what a switch changes, in the real order of calls; no target wants the service.
  upgrade =
    name:
    scenario name
      {
        imports = [ scoped ];
        specialisation.other.configuration = {
          systemd.services.app.environment.OTHER = "1";
          systemd.services.app-secrets.environment.OTHER = "1";
        };
      }
      ''
        put("one")
        machine.succeed("systemctl start app")
        target, sidecar = pid("app"), pid("app-secrets")
        machine.succeed("/run/booted-system/specialisation/other/bin/switch-to-configuration test")
        wait_for_another("app", target)
        wait_for_another("app-secrets", sidecar)
        said("file=one variable=one")
      '';

  once =
    name:
    scenario name
      (scopedWith {
        backendConfig.backend = "folder";
        resident = false;
      })
      ''
        put("one")
        machine.succeed("systemctl start app")
        said("file=one variable=one")
        assert "0" == pid("app-secrets")
        assert "active" == machine.succeed("systemctl is-active app-secrets").strip()
        put("two")
        machine.succeed("systemctl restart app")
        said("file=two variable=two")
        machine.succeed("systemctl stop app")
        machine.wait_until_fails("systemctl is-active app-secrets")
        machine.fail("ls -d /run/app-secrets/*")
      '';
}
