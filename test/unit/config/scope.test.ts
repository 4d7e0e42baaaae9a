/** Which manager a sidecar asks: with the wrong one a rotation would restart nothing, or another user's service. */
import { describe, expect, test } from "vitest";
import { isBelowUserManager, userScope } from "../../../src/config/scope.ts";

describe("below a user's manager", () => {
  const unit = "0::/user.slice/user-1500.slice/user@1500.service/app.slice/hello-secrets.service\n";
  const hybrid = "9:name=systemd:/user.slice/user-1500.slice/user@1500.service/x.service\n8:pids:/\n0::/\n";
  test.each([
    ["a unit of this user", unit, {}, 1500, true],
    ["the same with systemd's own hierarchy", hybrid, {}, 1500, true],
    ["root by sudo in that user's terminal", unit, { MANAGERPID: "7" }, 0, false],
    ["another user by su there", unit, { MANAGERPID: "7" }, 1501, false],
    ["a system unit", "0::/system.slice/hello-secrets.service\n", {}, 0, false],
    ["the same, with a variable set by hand", "0::/system.slice/x.service\n", { MANAGERPID: "7" }, 1500, false],
    ["a system unit with a similar name", "0::/system.slice/my-user@1500.service\n", {}, 1500, false],
    ["a user's session", "0::/user.slice/user-1500.slice/session-3.scope\n", { MANAGERPID: "7" }, 1500, false],
    ["a hidden path, and the variable", "0::/\n", { MANAGERPID: "7" }, 1500, true],
    ["a hidden path, and no variable", "0::/\n", {}, 1500, false],
    ["no control groups, and no variable", "", {}, 1500, false],
  ])("%s", (_, groups, environment, uid, is) => {
    expect(isBelowUserManager(groups, environment, uid)).toBe(is);
  });
});

describe("a user's directories", () => {
  test("are those in the environment", () => {
    const scope = userScope({ HOME: "/home/a", XDG_CONFIG_HOME: "/srv/conf", XDG_RUNTIME_DIR: "/run/user/7" });
    expect(scope).toMatchObject({
      configDirectory: "/srv/conf/fetcher",
      runtimeRoot: "/run/user/7",
      systemctl: ["systemctl", "--user"],
      environment: { XDG_RUNTIME_DIR: "/run/user/7" },
    });
    expect(scope.unitDirectories).toEqual(
      expect.arrayContaining([
        "/srv/conf/systemd/user",
        "/run/user/7/systemd/user",
        "/home/a/.local/share/systemd/user",
      ]),
    );
  });

  test("are the usual ones without an absolute path in the environment", () => {
    const scope = userScope({ HOME: "/home/a", XDG_CONFIG_HOME: "conf", XDG_RUNTIME_DIR: "" });
    expect(scope.configDirectory).toBe("/home/a/.config/fetcher");
    expect(scope.runtimeRoot).toBe(`/run/user/${String(process.geteuid?.())}`);
  });
});
