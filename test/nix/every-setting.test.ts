/** Every setting of every store: Nix accepts it, it reaches the configuration, and the program takes it. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Option } from "../../scripts/docs/schema.ts";
import { backendSections } from "../../scripts/docs/sections.ts";
import { needs } from "../requirements.ts";
import { configPath, Evaluation, project } from "./evaluation.ts";

type Settings = Readonly<Record<string, unknown>>;

const rotation = { reloadOnChange: true, pollingInterval: 7 };
const vault = { url: "https://vault:8200", mount: "kv", path: "app", ...rotation };
const login = (auth: Settings) => ({ ...vault, auth });
/** What one service says; together, all that there is to say. */
const services: readonly (readonly [store: string, settings: Settings])[] = [
  ["folder", { secretsDir: "/etc/secrets", ...rotation }],
  ["nixops", { keysDir: "/keys", ...rotation }],
  ["credentials", rotation],
  ["command", { command: ["pass", "show"], timeout: 3, environment: { HOME: "/root" }, ...rotation }],
  ["static", { values: { a: "x" }, allowInsecure: true, ...rotation }],
  [
    "aws",
    {
      ...{
        region: "eu-central-1",
        endpoint: "http://localhost:5000",
        profile: "p",
        roleArn: "arn:aws:iam::123456789012:role/r",
      },
      ...{ externalId: "e", secretId: "app", timeout: 3, ...rotation },
    },
  ],
  [
    "vault",
    {
      ...{ ...vault, tokenPath: "/t", kvVersion: 2, namespace: "n", revokeOnStop: true },
      ...{ connectTimeout: 1, responseTimeout: 2, requestTimeout: 3 },
      tls: {
        ...{ caFile: "/ca.pem", caDirectory: "/ca", certFile: "/c.pem", keyFile: "/k.pem", serverName: "v" },
        ...{ minVersion: "TLSv1.3", insecureDoNotVerifyServer: false },
      },
    },
  ],
  ["vault", login({ method: "token", tokenPath: "/t" })],
  ["vault", login({ method: "approle", mount: "m", role: "r", roleIdPath: "/r", secretIdPath: "/s", wrapped: true })],
  ["vault", login({ method: "approle", roleId: "r" })],
  ["vault", login({ method: "jwt", role: "r", jwtPath: "/j" })],
  ["vault", login({ method: "kubernetes", role: "r" })],
  ["vault", { ...login({ method: "cert", role: "r" }), tls: { certFile: "/c.pem", keyFile: "/k.pem" } }],
  ["vault", login({ method: "aws", role: "r", region: "eu-central-1", serverId: "s", profile: "p" })],
  ["vault", { url: "unix:/run/vault.sock", path: "app", auth: { method: "none" }, ...rotation }],
];

needs("nix").describe("every setting", () => {
  const evaluation = new Evaluation();
  const nixValue = (value: unknown) => `(builtins.fromJSON ${JSON.stringify(JSON.stringify(value))})`;
  const app = (backend: string, settings: string) => `services.app = {
    secrets.a = { };
    secretsConfig = { backend = "${backend}"; config = ${settings}; };
  };`;
  const host = (store: string, service: string) => `{
    secretsStore = { enable = true; ${store} ${service} };
    systemd.services.app.serviceConfig.ExecStart = "/bin/true";
  }`;

  test.each(services)("each setting of a service reaches the configuration: %s %j", (backend, settings) => {
    const units = evaluation.units(host("", app(backend, nixValue(settings))));
    // Vault has its own defaults for the host.
    const defaults = backend === "vault" ? { mount: "secret" } : {};
    expect(evaluation.config(units, "app-secrets.service")).toHaveProperty("config", { ...defaults, ...settings });
    expect(check(evaluation.physical(configPath(units, "app-secrets.service")))).toEqual({ status: 0, stderr: "" });
  });

  test("each setting of a host reaches the configuration", () => {
    for (const [backend, settings] of services.filter(([name], index) => services[index - 1]?.[0] !== name)) {
      const units = evaluation.units(host(`${backend} = ${nixValue(settings)};`, app(backend, "{ }")));
      expect(evaluation.config(units, "app-secrets.service")).toHaveProperty("config", settings);
    }
  });

  const tables = (): Readonly<Record<string, readonly string[]>> =>
    evaluation.value(
      `lib.mapAttrs (_: one: builtins.attrNames one.settings) (import (nix + "/lib/backends.nix") { inherit lib; }).backends`,
    ) as Readonly<Record<string, readonly string[]>>;
  /** What is in a setting of Vault's. */
  const inside = (section: string): readonly string[] =>
    evaluation.value(`
      let sub = (import (nix + "/lib/backends.nix") { inherit lib; }).backends.vault.settings.${section}.type.getSubOptions [ ];
      in builtins.attrNames (removeAttrs sub [ "_module" ])`) as readonly string[];

  test("is in one of these tests", () => {
    const table = tables();
    const said = (store: string) =>
      services.flatMap(([name, settings]) => (name === store ? Object.keys(settings) : []));
    for (const [store, settings] of Object.entries(table))
      expect(
        settings.filter((name) => !said(store).includes(name)),
        store,
      ).toEqual([]);
    const saidInside = (section: string) =>
      services.flatMap(([, settings]) => Object.keys((settings[section] as Settings | undefined) ?? {}));
    for (const section of ["auth", "tls"])
      expect(inside(section).filter((name) => !saidInside(section).includes(name))).toEqual([]);
  });

  test("is one of the program's, and none is missing", () => {
    /** The keys of an object in the program's own schemas. */
    const known = (options: readonly Option[], object: string) => {
      const paths = options.map(({ path }) => path).filter((path) => path.startsWith(`${object}.`));
      return [...new Set(paths.map((path) => path.slice(object.length + 1).split(".")[0]))].sort();
    };
    for (const { name, options, cases } of backendSections) {
      expect(tables()[name], name).toEqual(known(options, "config"));
      if (name !== "vault") continue;
      expect(inside("tls")).toEqual(known(options, "config.tls"));
      expect(inside("auth")).toEqual(
        known(
          cases.flatMap((login) => login.options),
          "config.auth",
        ),
      );
    }
  });

  test.each([
    ["loadSecrets.a.fil", `loadSecrets = { a.fil = "x"; };`],
    ["backendConfig.config.secretDir", `backendConfig = { backend = "folder"; config.secretDir = "/s"; };`],
    ["onChange.acton", `onChange.acton = "restart";`],
    ["templates.t.txt", `templates.t.txt = "";`],
  ])("a wrong setting of a scope is refused by the name of its argument: %s", (option, wrong) => {
    const scope = `({ config, lib, pkgs, ... }: {
      secretsStore = { enable = true; folder.secretsDir = "/s"; };
      systemd.services = (import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope
        ({ loadSecrets = [ "a" ]; backendConfig.backend = "folder"; } // { ${wrong} }) (_: { x.script = "x"; });
    })`;
    expect(evaluation.complaint(scope)).toContain(`\`${option}' does not exist`);
  });

  test("a reload of a container becomes a restart", () => {
    const units = evaluation.units(`{
      secretsStore = { enable = true; folder.secretsDir = "/s"; };
      secretsStore.containers.web = { secrets.a = { }; secretsConfig.backend = "folder"; onChange.action = "reload"; };
      containers.web.config.system.stateVersion = "26.05";
    }`);
    expect(evaluation.config(units, "container-web-secrets.service")).toHaveProperty("onChange.action", "restart");
  });

  test("a switch that must not restart a service does not restart its sidecar either", () => {
    const units = evaluation.units(`({ config, lib, pkgs, ... }: {
      secretsStore = { enable = true; folder.secretsDir = "/s"; };
      secretsStore.services.app = { secrets.a = { }; secretsConfig.backend = "folder"; };
      secretsStore.files = lib.genAttrs [ "one" "two" ] (name: {
        secretsConfig.backend = "folder"; consumers = [ "\${name}.service" "not-of-this-host.service" ];
      });
      secretsStore.containers.web = { secrets.a = { }; secretsConfig.backend = "folder"; };
      containers.web.config.system.stateVersion = "26.05";
      systemd.services = lib.mkMerge [
        { app.restartIfChanged = false; one.restartIfChanged = false; two.script = "two"; }
        { "container@web".restartIfChanged = false; }
        ((import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
          loadSecrets = [ "a" ];
          backendConfig.backend = "folder";
        } (_: { left = { script = "x"; restartIfChanged = false; }; taken.script = "x"; }))
      ];
    })`);
    const sidecars = Object.entries(units).filter(([, { text }]) => text.includes("/fetcher --config"));
    const leftAlone = sidecars.filter(([, { text }]) => text.includes("X-RestartIfChanged=false"));
    expect(sidecars).toHaveLength(6);
    expect(leftAlone.map(([name]) => name)).toEqual([
      "app-secrets.service",
      "container-web-secrets.service",
      "left-secrets.service",
      "secret-file-one.service",
    ]);
  });

  /** What the derivation of the configuration file runs when a host is built. */
  function check(file: string) {
    const program = join(project, "dist/fetcher.js");
    const flags = ["--check=config", "--log-format=text", "--config", file];
    const { status, stderr } = spawnSync(process.execPath, [program, ...flags], { encoding: "utf8" });
    return { status, stderr };
  }
});
