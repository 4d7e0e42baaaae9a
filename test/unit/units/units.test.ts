import fs from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import * as v from "valibot";
import type { About, AboutBackend } from "../../../src/contract/option.ts";
import { generate } from "../../../src/units/generator.ts";
import { loadBackend } from "../../../backends/index.ts";
import { userScope } from "../../../src/config/scope.ts";
import { needsOf } from "../../../src/units/needs.ts";
import { unitsOfFile } from "../../../src/units/one-file-units.ts";
import { textOf, type UnitFile } from "../../../src/units/unit-file.ts";
import { entriesOf } from "../../../scripts/docs/schema.ts";
import { temporary } from "../../contract/temporary.ts";

let directory: string;
beforeEach(async () => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  directory = path;
});

const place = () => ({ directory, program: ["/usr/bin/fetcher"], isExecutable: false, isTaken: () => false });

function write(name: string, config: unknown): void {
  fs.writeFileSync(join(directory, `${name}.json`), typeof config === "string" ? config : JSON.stringify(config));
}

function units(name: string, config: object): ReadonlyMap<string, UnitFile> {
  write(name, config);
  return new Map((unitsOfFile(name, place()) ?? []).map((unit) => [unit.path, unit]));
}

const lines = (unit: UnitFile | undefined) =>
  [...(unit?.unit ?? []), ...(unit?.service ?? [])].map((line) => line.join("="));

const sidecar = (config: object) => lines(units("hello", config).get("hello-secrets.service"));
const half = (config: object) => lines(units("hello", config).get("hello.service.d/50-hello-secrets.conf"));

describe("the sidecar's unit", () => {
  test("a sidecar of a folder has no network, no capability to change owners, and sees no others' secrets", () => {
    expect(sidecar({ secrets: { a: {} } })).toEqual(
      expect.arrayContaining([
        "Before=hello.service",
        "RequiresMountsFor=/etc/fetcher/hello/secrets",
        "ExecStart=/usr/bin/fetcher --config /etc/fetcher/hello.json --actions /run/hello-secrets-act",
        "TemporaryFileSystem=/run:ro /var:ro /etc/fetcher:ro",
        "BindReadOnlyPaths=-/etc/fetcher/hello",
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
        "PrivateNetwork=yes",
        "IPAddressDeny=any",
        "SystemCallFilter=~@chown:EPERM",
        "PartOf=hello.service",
      ]) as string[],
    );
  });

  test.each([
    [{ backend: "vault", config: { url: "https://vault.test", tokenPath: "/var/lib/agent/token" } }, "-/var/lib/agent"],
    [
      { backend: "vault", config: { auth: { method: "approle", roleId: "r", secretIdPath: "/var/lib/x/id" } } },
      "-/var/lib/x",
    ],
    [{ backend: "folder", config: { secretsDir: "/var/lib/keys/now/" } }, "-/var/lib/keys"],
  ])("can see the paths in the store's settings: %j", (config, shown) => {
    const said = sidecar({ ...config, secrets: { a: {} } });
    expect(said).toContain(`BindReadOnlyPaths=${shown}`);
    expect(said.includes("PrivateNetwork=no")).toBe(config.backend === "vault");
    expect(said.some((line) => /^Wants=network-online\.target\b/.test(line))).toBe(config.backend === "vault");
  });

  test("sees all of a store below /run except others' credentials, and a host's own keys only if named", () => {
    const said = sidecar({ config: { secretsDir: "/run/secrets" }, secrets: { a: {} } });
    expect(said).toContain("TemporaryFileSystem=/run/systemd:ro /var:ro /etc/fetcher:ro");
    expect(said).toContain("InaccessiblePaths=-/run/credentials -/run/dbus -/run/user");
    const keys = sidecar({ config: { secretsDir: "/etc/ssl/private" }, secrets: { a: {} } });
    expect(keys).toContain(
      "InaccessiblePaths=-/etc/shadow -/etc/gshadow -/etc/ssh -/etc/credstore -/etc/credstore.encrypted",
    );
  });

  test("gets a capability for an owner, loses PartOf= with `reloadOnChange`, and is a oneshot with `resident` false", () => {
    expect(sidecar({ secrets: { a: { owner: "nginx" } } })).toContain(
      "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_READ_SEARCH",
    );
    expect(sidecar({ secrets: { a: {} }, onChange: { action: "reload" } })).not.toContain("PartOf=hello.service");
    expect(sidecar({ secrets: { a: {} }, resident: false })).toEqual(
      expect.arrayContaining(["Type=oneshot", "RemainAfterExit=yes", "Restart=on-failure"]) as string[],
    );
  });
});

test("a unit that sees a secret cannot dump core or swap", () => {
  for (const config of [
    {},
    { resident: false },
    { resident: "on-change" },
    { backend: "vault", config: { url: "https://vault.test" } },
  ]) {
    const all = [...units("hello", { ...config, secrets: { a: {} } })].filter(([path]) => path.endsWith(".service"));
    const program = all.filter(([, unit]) =>
      lines(unit).some((line) => line.startsWith("ExecStart=/usr/bin/fetcher ")),
    );
    expect(program.map(([path]) => path)).toContain("hello-secrets.service");
    for (const [path, unit] of program)
      expect(lines(unit), path).toEqual(expect.arrayContaining(["LimitCORE=0", "MemorySwapMax=0"]) as string[]);
    for (const [path, unit] of all) expect(lines(unit), path).toContain("LimitCORE=0");
  }
});

describe("the limits of each unit", () => {
  const limits = (unit: UnitFile | undefined) =>
    lines(unit)
      .filter((line) => /^(?:Memory|OOM|Tasks|StartLimit|Timeout|Restart(?:Sec|Mode|=))/.test(line))
      .sort();
  const memory = ["MemoryMax=1G", "MemorySwapMax=0", "OOMPolicy=continue"];

  test.each([
    ["resident", {}, "always"],
    ["one that looks now and then", { resident: "on-change" }, "on-failure"],
    ["one that ends", { resident: false }, "on-failure"],
  ])(
    "a sidecar, %s: systemd's limits end neither a boot with a late store nor a killed sidecar",
    (_, more, restart) => {
      const made = units("hello", { secrets: { a: {} }, ...more });
      expect(limits(made.get("hello-secrets.service"))).toEqual([
        ...memory,
        ...[`Restart=${restart}`, "RestartMode=direct", "RestartSec=1"],
        ...["StartLimitIntervalSec=0", "TimeoutStartSec=infinity"],
      ]);
    },
  );

  test("the units that act or look for it", () => {
    const made = units("hello", { resident: "on-change", secrets: { a: {} } });
    expect(limits(made.get("hello-secrets-act.service"))).toEqual([
      ...["MemoryMax=256M", "MemorySwapMax=0", "Restart=on-failure", "RestartSec=10", "StartLimitIntervalSec=0"],
    ]);
    expect(limits(made.get("hello-secrets-refresh.service"))).toEqual([
      ...memory,
      ...["Restart=on-failure", "RestartSec=5", "StartLimitIntervalSec=0"],
    ]);
    expect(limits(made.get("hello-secrets-watch.service"))).toEqual([
      ...["Restart=on-failure", "RestartSec=1", "StartLimitIntervalSec=0"],
    ]);
  });
});

describe("the units that act for a sidecar", () => {
  test("start on an inbox entry, run this program on this file, and stop with the sidecar", () => {
    const made = units("hello", { secrets: { a: {} }, onChange: { action: "restart" } });
    expect(textOf(made.get("hello-secrets-act.path") ?? { path: "", comment: "", unit: [], service: [] })).toMatch(
      /^\[Path\]\nDirectoryNotEmpty=\/run\/hello-secrets-act\/inbox\nTriggerLimitIntervalSec=0$/m,
    );
    const service = lines(made.get("hello-secrets-act.service"));
    expect(service).toEqual(
      expect.arrayContaining([
        "Type=exec",
        "StartLimitIntervalSec=0",
        "ExecStart=/usr/bin/fetcher act --config /etc/fetcher/hello.json --output /run/hello-secrets/pub --actions /run/hello-secrets-act",
        "TemporaryFileSystem=/run:ro /var:ro /etc/fetcher:ro",
        "BindPaths=-/run/hello-secrets-act",
        "CapabilityBoundingSet=CAP_NET_BROADCAST CAP_NET_BIND_SERVICE",
        "PrivateNetwork=yes",
      ]) as string[],
    );
    // What the sidecar publishes, and the folder that it reads, are out of sight.
    expect(
      service.filter((line) => /^Bind.*(?:\/pub|hello-secrets(?!-act)|\/etc\/fetcher\/hello(?!\.json))/.test(line)),
    ).toEqual([]);
  });

  test.each([
    [{ config: { secretsDir: "/etc/keys/app" } }, "-/etc/keys/app"],
    [{ backend: "vault", config: { url: "https://vault.test", tokenPath: "/etc/vault/token" } }, "-/etc/vault/token"],
  ])("cannot see the paths in the store's settings: %j", (config, closed) => {
    const made = units("hello", { ...config, secrets: { a: {} } });
    const service = lines(made.get("hello-secrets-act.service"));
    expect(service.find((line) => line.startsWith("InaccessiblePaths="))?.split(" ")).toContain(closed);
  });

  test("get no wider sandbox for the executable", () => {
    write("hello", { secrets: { a: {} } });
    const unit = unitsOfFile("hello", { ...place(), isExecutable: true })?.find(({ path }) =>
      path.endsWith("-act.service"),
    );
    expect(lines(unit)).toEqual(
      expect.arrayContaining(["MemoryDenyWriteExecute=yes", "SystemCallFilter=~@pkey"]) as string[],
    );
    // systemd takes the first one for a list of what is allowed, or of what is not.
    expect(lines(unit).find((line) => line.startsWith("SystemCallFilter="))).toBe(
      "SystemCallFilter=@system-service @pkey",
    );
  });
});

describe("the units that look at the store for an on-change sidecar", () => {
  const made = (more: object = {}) => units("hello", { resident: "on-change", secrets: { a: {} }, ...more });
  const triggers = (unit: UnitFile | undefined) => (unit?.triggers ?? []).map((line) => line.join("="));

  test("watch a folder, and start with a finished sidecar; a resident sidecar has none of them", () => {
    const all = made({ delivery: "private-tmp" });
    expect(lines(all.get("hello-secrets.service"))).toEqual(
      expect.arrayContaining([
        "Type=oneshot",
        "Wants=hello-secrets-act.path hello-secrets-refresh.path hello-secrets-watch.path hello-secrets-refresh.timer",
        "After=hello-secrets-act.path",
        "RuntimeDirectory=hello-secrets hello-secrets-act hello-secrets-act/inbox hello-secrets-refresh hello-secrets-refresh/inbox hello-secrets-refresh/ways",
        "BindPaths=/run/hello-secrets-refresh/inbox",
        "BindPaths=/run/hello-secrets-refresh/ways",
      ]) as string[],
    );
    // A user who could write beside them could replace one with a link.
    expect(lines(all.get("hello-secrets.service"))).not.toContain("BindPaths=/run/hello-secrets-refresh");
    expect(lines(all.get("hello-secrets.service"))).not.toContain("PartOf=hello.service");
    expect(triggers(all.get("hello-secrets-watch.path"))).toEqual([
      "PathChanged=/etc/fetcher/hello/secrets",
      "PathChanged=/run/hello-secrets-refresh/ways",
      "PathChanged=/run/hello-secrets-refresh/ways/0",
      "PathChanged=/run/hello-secrets-refresh/ways/1",
      "TriggerLimitIntervalSec=0",
    ]);
    expect(triggers(all.get("hello-secrets-refresh.path"))).toEqual([
      "DirectoryNotEmpty=/run/hello-secrets-refresh/inbox",
      "TriggerLimitIntervalSec=0",
    ]);
    expect(triggers(all.get("hello-secrets-refresh.timer"))).toEqual([
      "OnActiveSec=54000ms",
      "OnUnitInactiveSec=54000ms",
      "RandomizedDelaySec=12000ms",
      "AccuracySec=1s",
    ]);
    const starters = ["watch.path", "refresh.path", "refresh.timer"].map((end) => all.get(`hello-secrets-${end}`));
    for (const unit of starters)
      expect(lines(unit)).toEqual(
        expect.arrayContaining([
          "After=hello-secrets.service",
          "StopWhenUnneeded=yes",
          "StartLimitIntervalSec=0",
        ]) as string[],
      );
    expect([...made({ resident: false }).keys()].filter((path) => /-(?:watch|refresh)\./.test(path))).toEqual([]);
  });

  test("run this program in the sidecar's sandbox, and stop with it", () => {
    const all = made({ delivery: "private-tmp", secrets: { a: { owner: "nobody" } } });
    const [start, look] = ["hello-secrets.service", "hello-secrets-refresh.service"].map((path) =>
      lines(all.get(path)),
    );
    expect(look).toEqual(
      expect.arrayContaining([
        "Type=exec",
        "Restart=on-failure",
        "RestartPreventExitStatus=66 69 77 78",
        "After=hello-secrets.service hello-secrets-watch.path hello-secrets-watch.service",
        "JoinsNamespaceOf=hello-secrets.service",
        "ExecStart=/usr/bin/fetcher refresh --config /etc/fetcher/hello.json --actions /run/hello-secrets-act",
        "Environment=RUNTIME_DIRECTORY=/run/hello-secrets",
      ]) as string[],
    );
    expect(look).not.toContain("PartOf=hello-secrets.service");
    const ofStart =
      /^(?:Type|RemainAfterExit|Restart\w*|ExecStart|RuntimeDirectory\w*|Configuration\w*|TimeoutStartSec)=/;
    const closed = (all.get("hello-secrets.service")?.service ?? []).map((line) => line.join("="));
    expect(closed.filter((line) => !ofStart.test(line) && look?.includes(line) !== true)).toEqual([]);
    expect(start?.length).toBeGreaterThan(40);
  });

  test.each<[{ backend?: string; config?: object; secrets?: object }, string[] | undefined]>([
    [{ config: { secretsDir: "/srv/50%" }, secrets: { a: { source: { file: "x/y" } } } }, ["/srv/50%%", "/srv/50%%/x"]],
    [{ backend: "nixops" }, ["/run/keys"]],
    [{ backend: "vault", config: { url: "https://vault.test", pollingInterval: 30 } }, undefined],
    [{ backend: "credentials" }, undefined],
  ])("are for what is to be seen: %j", (config, watched) => {
    const all = made(config);
    const paths = triggers(all.get("hello-secrets-watch.path")).filter((line) =>
      /^PathChanged=(?!\/run\/hello)/.test(line),
    );
    expect(paths).toEqual((watched ?? []).map((path) => `PathChanged=${path}`));
    expect(all.has("hello-secrets-watch.service")).toBe(watched !== undefined);
    expect(all.has("hello-secrets-refresh.timer")).toBe(config.backend !== "credentials");
    if (config.backend === "vault")
      expect(triggers(all.get("hello-secrets-refresh.timer"))).toContain("OnUnitInactiveSec=27000ms");
  });

  test.each(["aws", "command", "credentials", "folder", "nixops", "static", "vault"])(
    "poll %s as a resident sidecar does",
    async (backend) => {
      const { defaultPollingInterval } = await loadBackend(backend, "/");
      expect(needsOf(backend, {}).interval).toBe(defaultPollingInterval);
    },
  );

  test("are refused for a user's manager, with the reason", () => {
    write("hello", { resident: "on-change", secrets: { a: {} } });
    const scope = userScope({ HOME: "/home/a", XDG_RUNTIME_DIR: "/run/user/7" });
    expect(() => unitsOfFile("hello", { ...place(), scope })).toThrow(
      /resident: "on-change" works only for units of the system/,
    );
  });
});

describe("a generated sidecar", () => {
  const example = fs.readFileSync(new URL("../../../examples/systemd/fetcher@.service", import.meta.url), "utf8");

  /** One value a line, in any order. */
  function normal(text: string): string[] {
    return text
      .replaceAll(/\\\n\s*/g, "")
      .split("\n")
      .filter((line) => /^[A-Z]\w+=/.test(line))
      .flatMap((line) => {
        const [, key, values] = /^((?:Bind|Inaccessible|Temporary|Environment)\w*)=(.*)$/.exec(line) ?? [];
        return values === undefined ? [line] : values.split(" ").map((value) => `${key ?? ""}=${value}`);
      })
      .map((line) => line.replaceAll("%i", "NAME"))
      .sort();
  }

  test("has the wiring and sandbox of the template for hand-written units, line by line", () => {
    const config = { secrets: { a: { owner: "nobody" } }, config: { reloadOnChange: true } };
    const unit = units("NAME", config).get("NAME-secrets.service");
    const [ours, theirs] = [normal(unit === undefined ? "" : textOf(unit)), normal(example)];
    expect(ours.filter((line) => !theirs.includes(line))).toEqual([
      // It may not talk to systemd, and has what acts for it. A secret has an owner here.
      "After=NAME-secrets-act.path nss-user-lookup.target",
      "AssertPathIsReadWrite=!/run/NAME-secrets-act/.none",
      "AssertPathIsReadWrite=!/run/NAME-secrets-act/inbox/.none",
      "AssertPathIsSymbolicLink=!/run/NAME-secrets-act",
      "AssertPathIsSymbolicLink=!/run/NAME-secrets-act/inbox",
      "BindPaths=/run/NAME-secrets-act/inbox",
      // Without what is in it, the sidecar waits.
      "BindReadOnlyPaths=-/etc/fetcher/NAME",
      // Users and hosts are looked up there.
      "BindReadOnlyPaths=-/run/nscd",
      "BindReadOnlyPaths=/run/NAME-secrets-act",
      "BindReadOnlyPaths=/run/systemd/notify",
      "Documentation=man:fetcher(8)",
      "ExecReload=/usr/bin/fetcher reload --config /etc/fetcher/NAME.json",
      "ExecStart=/usr/bin/fetcher --config /etc/fetcher/NAME.json --actions /run/NAME-secrets-act",
      // The default delivery is as files.
      "RequiresMountsFor=/etc/fetcher/NAME/secrets",
      "RuntimeDirectory=NAME-secrets NAME-secrets-act NAME-secrets-act/inbox",
      "RuntimeDirectoryMode=0755",
      "SourcePath=/etc/fetcher/NAME.json",
      "Wants=NAME-secrets-act.path",
    ]);
    expect(theirs.filter((line) => !ours.includes(line))).toEqual([
      // Generated units have no `\` in the names of directories.
      "AssertPathExists=|!/etc/fetcher/NAME.json",
      "AssertPathExists=|!/usr/lib/systemd/systemd-executor",
      "AssertPathExistsGlob=|/etc/fetcher/NAME.json",
      "BindReadOnlyPaths=-/run/dbus",
      "BindReadOnlyPaths=/etc/fetcher/NAME",
      "BindReadOnlyPaths=/run/systemd:/run/systemd:norbind",
      "ExecReload=fetcher reload --config /etc/fetcher/NAME.json",
      "ExecStart=fetcher --config /etc/fetcher/NAME.json",
      expect.stringMatching(/^ExecStopPost=-sh -c 'systemctl list-jobs /),
      "RuntimeDirectory=NAME-secrets",
      "RuntimeDirectoryMode=0700",
    ]);
    expect(ours.length).toBeGreaterThan(50);
  });

  test("the executable has the sandbox of executable.conf", () => {
    const conf = fs.readFileSync(new URL("../../../examples/systemd/executable.conf", import.meta.url), "utf8");
    write("hello", { secrets: { a: {} } });
    const [unit] = unitsOfFile("hello", { ...place(), isExecutable: true }) ?? [];
    expect(normal(unit === undefined ? "" : textOf(unit))).toEqual(expect.arrayContaining(normal(conf)) as string[]);
    expect(normal(conf).length).toBeGreaterThan(3);
  });
});

describe("the service's half", () => {
  const needs = ["Requires=hello-secrets.service", "After=hello-secrets.service"];
  test.each([
    [{}, []],
    [{ delivery: "env" }, ["EnvironmentFile=/run/hello-secrets/pub/secrets.env"]],
    [
      { delivery: "credentials", environment: true },
      [
        "LoadCredential=a:/run/hello-secrets/pub/a",
        "LoadCredential=50%%:/run/hello-secrets/pub/50%%",
        "SetCredential=50%%:\\n",
        "EnvironmentFile=/run/hello-secrets/pub/secrets.env",
      ],
    ],
    [
      { delivery: "private-tmp" },
      [
        "JoinsNamespaceOf=hello-secrets.service",
        "PrivateTmp=yes",
        "BindReadOnlyPaths=/run/hello-secrets/pub:/tmp/.secrets",
      ],
    ],
  ])("%j", (config, more) => {
    const secrets = { a: {}, "50%": { optional: true, env: null } };
    expect(half({ secrets, ...config })).toEqual([...needs, ...more]);
  });

  test("each of several services gets it", () => {
    const made = units("shared", { service: ["a.service", "b@1.service"], secrets: { key: {} } });
    expect([...made.keys()]).toEqual([
      "shared-secrets.service",
      "shared-secrets-act.path",
      "shared-secrets-act.service",
      "a.service.d/50-shared-secrets.conf",
      "b@1.service.d/50-shared-secrets.conf",
    ]);
  });

  test.each([
    ["app@a", "app-a-secrets"],
    ["app:a", "app-a-secrets"],
    [String.raw`foo\x2dbar`, "foo-x2dbar-secrets"],
  ])("of %s: gets its own unit, and a directory that every reader of units accepts", (name, unit) => {
    const made = units(name, { delivery: "env", secrets: { a: {} } });
    const text = lines(made.get(`${unit}.service`));
    expect(text).toContain(`RuntimeDirectory=${unit} ${unit}-act ${unit}-act/inbox`);
    expect(text).toContain(`Before=${name}.service`);
    expect(text).toContain(
      `ExecStart=/usr/bin/fetcher --config /etc/fetcher/${name.replace("\\", "\\\\")}.json --actions /run/${unit}-act`,
    );
    expect(lines(made.get(`${name}.service.d/50-${unit}.conf`))).toContain(
      `EnvironmentFile=/run/${unit}/pub/secrets.env`,
    );
  });
});

describe("a wrong file", () => {
  test.each([
    ["no JSON", "{", "is not JSON"],
    ["an unknown option", { secrets: { a: { mod: "0400" } } }, "secrets.a.mod"],
    ["a variable of no secret", { secrets: { a: {} }, environment: { A: "b" } }, "environment.A: is not an id in"],
    [
      "a variable that is none",
      { secrets: { a: {} }, environment: { "A B": "a" } },
      'environment["A B"]: expected a variable name',
    ],
    [
      "two variables of one secret",
      { secrets: { a: {} }, environment: { A: "a", B: "a" } },
      "environment.B: names a secret",
    ],
    ["an unknown delivery", { secrets: { a: {} }, delivery: "tmp" }, "delivery: expected"],
  ])("%s: is named, holds back its service, and affects no other", (_, config, words) => {
    write("bad", config);
    write("good", { secrets: { a: {} } });
    const said: string[] = [];
    const into = join(directory, "out");
    generate(into, place(), (line) => said.push(line));
    expect(said).toEqual([expect.stringMatching(/\/bad\.json: /)]);
    expect(said[0]).toContain(words);
    expect(fs.readdirSync(into).sort()).toEqual([
      "bad-secrets-act.path",
      "bad-secrets-act.service",
      "bad-secrets.service",
      "bad.service.d",
      "good-secrets-act.path",
      "good-secrets-act.service",
      "good-secrets.service",
      "good.service.d",
    ]);
    expect(fs.readFileSync(join(into, "bad.service.d/50-bad-secrets.conf"), "utf8")).toContain(
      "Requires=bad-secrets.service",
    );
  });

  test("a name that no service can have makes no unit", () => {
    write("no service", { secrets: { a: {} } });
    write("also@", { secrets: { a: {} } });
    const said: string[] = [];
    generate(join(directory, "out"), place(), (line) => said.push(line));
    expect(said).toHaveLength(2);
    expect(fs.existsSync(join(directory, "out"))).toBe(false);
  });

  test("a hand-wired file is ignored, whatever it says", () => {
    write("hand", { output: { directory: "/run/x/pub" }, nonsense: true });
    const said: string[] = [];
    generate(join(directory, "out"), place(), (line) => said.push(line));
    expect(said).toEqual([]);
    expect(fs.existsSync(join(directory, "out"))).toBe(false);
  });

  test("a missing directory means a host without files", () => {
    const said: string[] = [];
    generate(join(directory, "out"), { ...place(), directory: join(directory, "none") }, (line) => said.push(line));
    expect(said).toEqual([]);
  });
});

test("does not take a sidecar's name from another unit", () => {
  write("forgejo", { delivery: "env", secrets: { a: {} } });
  const taken = { ...place(), isTaken: (unit: string) => unit === "forgejo-secrets.service" };
  const made = unitsOfFile("forgejo", taken) ?? [];
  expect(made.map(({ path }) => path)).toEqual([
    "forgejo-fetcher-secrets.service",
    "forgejo-fetcher-secrets-act.path",
    "forgejo-fetcher-secrets-act.service",
    "forgejo.service.d/50-forgejo-fetcher-secrets.conf",
  ]);
  expect(made.map(textOf).join("\n")).toContain("EnvironmentFile=/run/forgejo-fetcher-secrets/pub/secrets.env");
});

describe("a unit opens exactly what the stores' schemas name", () => {
  interface Described {
    readonly about?: AboutBackend;
    readonly Settings: Parameters<typeof entriesOf>[0];
  }

  test.each([
    ["folder", "../../../backends/files/folder.ts"],
    ["nixops", "../../../backends/files/nixops.ts"],
    ["aws", "../../../backends/aws/source.ts"],
    ["vault", "../../../backends/vault/options.ts"],
  ])("%s", async (backend, module) => {
    const { about, Settings } = (await import(module)) as Described;
    const named = entriesOf(Settings).flatMap(([name, schema]) => {
      const { path } = v.getMetadata(schema as never) as About;
      return path === undefined ? [] : [{ name, path }];
    });
    expect(named.length > 0, "what has a path says so").toBe(backend !== "aws");
    const settings = Object.fromEntries(
      named.map(({ name, path }) => [name, path === "url" ? "unix:/srv/socket" : `/srv/${name}`]),
    );
    const needs = needsOf(backend, settings);
    expect([...needs.replaced, ...needs.stays].sort()).toEqual(
      named.map(({ name, path }) => (path === "url" ? "/srv/socket" : `/srv/${name}`)).sort(),
    );
    if (about !== undefined) {
      expect(needs.network).toBe(about.network ?? false);
      expect(needs.home).toBe(about.home ?? false);
    }
  });
});

test.each([".service", "-act.path", "-act.service"])(
  "does not take the name of a unit that acts for it either: forgejo-secrets%s",
  (end) => {
    write("forgejo", { secrets: { a: {} } });
    const taken = { ...place(), isTaken: (unit: string) => unit === `forgejo-secrets${end}` };
    expect(unitsOfFile("forgejo", taken)?.[0]?.path).toBe("forgejo-fetcher-secrets.service");
  },
);

test("the longest service name gets units that systemd can load, and two such names get two", () => {
  const longest = 255 - ".service.d".length;
  const names = ["a", "b"].map((end) => `${"n".repeat(longest - 1)}${end}`);
  const made = names.flatMap((name) => {
    write(name, { secrets: { a: {} } });
    return unitsOfFile(name, { ...place(), isTaken: (unit) => !unit.includes("-fetcher-") }) ?? [];
  });
  expect(Math.max(...made.flatMap(({ path }) => path.split("/").map((part) => part.length)))).toBe(255);
  expect(new Set(made.map(({ path }) => path)).size).toBe(8);
  const [first, , , dropIn] = made.map(textOf);
  const [, directory = ""] = /^RuntimeDirectory=(\S+) /m.exec(first ?? "") ?? [];
  expect(dropIn).toContain(`Requires=${directory}.service\n`);
});

test.each([
  ["n".repeat(246), { secrets: { a: {} } }, "has 246 characters: systemd can have drop-ins for 245 at most"],
  ["app@", { secrets: { a: {} } }, "is a template: each instance has a file of its own"],
  ["no service", { secrets: { a: {} } }, "is not the name of a service: rename the file after one"],
  ["100%", { secrets: { a: {} } }, "is not the name of a service"],
  ["@a", { secrets: { a: {} } }, "is not the name of a service"],
  ["n".repeat(192), { delivery: "private-tmp", secrets: { a: {} } }, "is too long for PrivateTmp="],
  ["a", { service: `${"n".repeat(246)}.service`, secrets: { a: {} } }, "is too long: systemd can have no drop-ins"],
])("refuses a name that no unit can have: %s", (name, json, words) => {
  write(name, json);
  expect(() => unitsOfFile(name, place())).toThrow(words);
});

test("names that differ only in special characters get their own sidecars, in any order", () => {
  const names = ["app-a", "app@a", "app:a"];
  for (const name of names) write(name, { secrets: { a: {} } });
  const sidecars = names.map((name) => (unitsOfFile(name, place()) ?? [])[0]?.path);
  expect(sidecars).toEqual(["app-a-secrets.service", "app_40a-secrets.service", "app_3aa-secrets.service"]);
});
