/** The units of a user's service: they ask for nothing that her manager cannot do, and name nothing of the system's. */
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { configOf } from "../../../src/config/config.ts";
import { userScope } from "../../../src/config/scope.ts";
import { settingsIn } from "../../../src/units/check-in-unit.ts";
import { isTakenOnThisHost, unitsOfFile } from "../../../src/units/one-file-units.ts";
import { textOf } from "../../../src/units/unit-file.ts";
import { temporary } from "../../contract/temporary.ts";

let home: string;
beforeEach(async () => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  home = path;
});

const scope = () => userScope({ HOME: home, XDG_RUNTIME_DIR: "/run/user/7" });

function units(config: object): readonly string[] {
  const { configDirectory: directory } = scope();
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "hello.json"), JSON.stringify(config));
  const isTaken = (unit: string) => isTakenOnThisHost(unit, scope());
  const place = { directory, scope: scope(), program: ["/usr/bin/fetcher"], isExecutable: false, isTaken };
  return (unitsOfFile("hello", place) ?? []).map(textOf);
}

test("use the user's directories, and the user's manager", () => {
  const [sidecar = "", half = ""] = units({ delivery: "env", secrets: { a: {} } });
  expect(sidecar).toContain(`--config ${home}/.config/fetcher/hello.json\n`);
  expect(sidecar).toContain("RuntimeDirectory=hello-secrets\n");
  expect(sidecar).toContain("systemctl --user list-jobs");
  expect(half).toContain("EnvironmentFile=/run/user/7/hello-secrets/pub/secrets.env\n");
  expect(half).toContain("run systemctl --user daemon-reload");
  expect(`${sidecar}${half}`).not.toContain("/etc/");
});

test("keep their names when they are masked, and take another when another unit has them", () => {
  const [of = ""] = scope().unitDirectories;
  mkdirSync(of, { recursive: true });
  const path = join(of, "hello-secrets.service");
  const runtime = () => units({ secrets: { a: {} } })[0]?.match(/^RuntimeDirectory=(.*)$/m)?.[1];
  symlinkSync("/dev/null", path);
  expect(runtime()).toBe("hello-secrets");
  rmSync(path);
  writeFileSync(path, "");
  expect(runtime()).toBe("hello-secrets");
  writeFileSync(path, "[Service]\nExecStart=true\n");
  expect(runtime()).toBe("hello-fetcher-secrets");
});

test("request nothing that needs root, and no system unit", () => {
  const [sidecar = ""] = units({
    backend: "vault",
    config: { url: "https://vault.test", tokenPath: "/var/lib/agent/token" },
    secrets: { a: { owner: "nobody" } },
  });
  const options = sidecar.split("\n").flatMap((line) => /^([A-Z]\w+)=/.exec(line)?.[1] ?? []);
  for (const option of ["PrivateTmp", "TemporaryFileSystem", "BindPaths", "CapabilityBoundingSet", "ProtectSystem"])
    expect(options).not.toContain(option);
  expect(options).toEqual(
    expect.arrayContaining(["NoNewPrivileges", "SystemCallFilter", "RestrictAddressFamilies", "MemoryMax"]),
  );
  expect(sidecar).not.toMatch(/^(Wants|After|RequiresMountsFor)=/m);
  // Its limits are those of the system's.
  for (const line of [
    "MemoryMax=1G",
    "MemorySwapMax=0",
    "StartLimitIntervalSec=0",
    "TimeoutStartSec=infinity",
    "RestartSec=1",
  ])
    expect(sidecar).toContain(`\n${line}\n`);
});

test("refuse a private /tmp in words, also in a check of the file", async () => {
  const config = { delivery: "private-tmp", secrets: { a: {} } };
  expect(() => units(config)).toThrow(/hello\.json: delivery: private-tmp works only for units of the system/);
  const flags = { configFile: undefined, backend: undefined, set: [], output: undefined, ids: [] };
  const file = join(userScope().configDirectory, "hello.json");
  await expect(configOf(JSON.stringify(config), file, flags)).rejects.toThrow(/delivery: private-tmp works only/);
  const good = await configOf(JSON.stringify({ secrets: { a: {} } }), file, flags);
  expect(good.settings).toEqual({ secretsDir: join(userScope().configDirectory, "hello/secrets") });
});

test("do not take the name of a user's own unit", () => {
  const own = join(home, ".config/systemd/user");
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, "hello-secrets.service"), "[Service]\nExecStart=true\n");
  expect(units({ delivery: "env", secrets: { a: {} } })[1]).toContain("Requires=hello-fetcher-secrets.service");
});

test("have their runtime directories where a check in the unit looks for them", () => {
  const text = "[Service]\nExecStart=fetcher --config %E/fetcher/x.json\nBindPaths=%t/x\n";
  expect(settingsIn(text, "x-secrets.service", scope())).toEqual([
    ["ExecStart", "fetcher --config %E/fetcher/x.json"],
    ["BindPaths", "/run/user/7/x"],
  ]);
});
