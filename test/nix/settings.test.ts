/** Stores and their settings: evaluation refuses wrong ones, and the program accepts what Nix renders. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { configPath, Evaluation, project, setting, waitsFor } from "./evaluation.ts";

needs("nix").describe("settings", () => {
  const evaluation = new Evaluation();
  const module = (secretsConfig: string, store = "", more = "secrets.a = { };") => `({ lib, ... }: {
    secretsStore = {
      enable = true;
      ${store}
      services.app = { secretsConfig = { ${secretsConfig} }; ${more} };
    };
    systemd.services.app.serviceConfig.ExecStart = "/bin/true";
  })`;
  const config = (...parts: [string, string?, string?]) =>
    (evaluation.config(evaluation.units(module(...parts)), "app-secrets.service") as { config: unknown }).config;

  test.each([
    [`backend = "gopher";`, "secretsStore.services.app.secretsConfig.backend"],
    [`backend = "folder"; config.secretDir = "/x";`, "secretsStore.services.app.secretsConfig.config.secretDir"],
    [`backend = "folder"; config.url = "http://x";`, "secretsStore.services.app.secretsConfig.config.url"],
    [
      `backend = "folder"; config.reloadOnChange = "yes";`,
      "secretsStore.services.app.secretsConfig.config.reloadOnChange",
    ],
    [
      `backend = "folder"; config.pollingInterval = 0;`,
      "secretsStore.services.app.secretsConfig.config.pollingInterval",
    ],
    [`backend = "vault"; config.kvVersion = 3;`, "secretsStore.services.app.secretsConfig.config.kvVersion"],
    [`backend = "vault"; config.auth.methd = "token";`, "secretsStore.services.app.secretsConfig.config.auth.methd"],
    [`backend = "command"; config.command = [ ];`, "secretsStore.services.app.secretsConfig.config.command"],
    [`backend = "folder"; other = 1;`, "secretsStore.services.app.secretsConfig.other"],
  ])("%s: the error names the option", (secretsConfig, path) => {
    expect(evaluation.complaint(module(secretsConfig, `folder.secretsDir = "/s";`))).toContain(`\`${path}'`);
  });

  test.each([
    ["vault.adress = 1;", "secretsStore.vault.adress"],
    ["volt.url = 1;", "secretsStore.volt"],
    ["vault.url = 1;", "secretsStore.vault.url"],
    ["folder.refreshInterval = -1;", "secretsStore.folder.refreshInterval"],
  ])("%s of the host: the error names the option too", (store, path) => {
    const backend = store.startsWith("folder") ? "folder" : "vault";
    expect(evaluation.complaint(module(`backend = "${backend}";`, store))).toContain(`\`${path}'`);
  });

  test.each([
    [`mode = "999";`, "secrets.a.mode"],
    [`file = "a/b";`, "secrets.a.file"],
    [`owner = -1;`, "secrets.a.owner"],
    [`optionl = true;`, "secrets.a.optionl"],
  ])("%s of a secret: the error names the option too", (secret, path) => {
    expect(evaluation.complaint(module(`backend = "vault";`, "", `secrets.a = { ${secret} };`))).toContain(
      `\`secretsStore.services.app.${path}'`,
    );
  });

  test.each([
    `folder.secretsDir = ./secrets;`,
    `folder.secretsDir = "\${builtins.storeDir}/00000000000000000000000000000000-secrets";`,
    `folder.secretsDir = "/nix//store/00000000000000000000000000000000-secrets";`,
    `folder.secretsDir = "/run/../nix/./store";`,
    `folder.secretsDir = "\${builtins.toFile "secret" "s3cret"}";`,
    `folder.secretsDir = "secrets";`,
    `vault.tokenPath = /etc/token;`,
    `vault.tokenPath = builtins.toFile "token" "s3cret";`,
    `vault.auth.secretIdPath = builtins.toFile "id" "s3cret";`,
    `vault.tls.keyFile = ./key.pem;`,
    `nixops.keysDir = builtins.toFile "keys" "s3cret";`,
  ])("accepts a secret's place only as a path outside the store, as a string: not %s", (store) => {
    const complaint = evaluation.complaint(module(`backend = "${store.split(".")[0] ?? ""}";`, store));
    expect(complaint).toContain("is not of type");
    expect(complaint).toContain("absolute path outside the Nix store, as a string");
  });

  test.each([
    [`backend = "folder";`, "secretsConfig.config.secretsDir is not set, nor is `secretsStore.folder.secretsDir'"],
    [`backend = "static"; config.values = { };`, "secretsConfig.config.allowInsecure is not set"],
    [`backend = "vault"; config = { pollingInterval = 1; refreshInterval = 1; };`, "set one of them"],
  ])("%s lacks a setting, and the message says where to set it", (secretsConfig, message) => {
    expect(evaluation.complaint(module(secretsConfig))).toContain(message);
  });

  test("a host with only a folder renders no settings of other stores", () => {
    expect(config(`backend = "folder";`, `folder.secretsDir = "/etc/secrets";`)).toEqual({
      secretsDir: "/etc/secrets",
      reloadOnChange: false,
    });
  });

  test("the service's settings override the host's, one by one", () => {
    expect(
      config(
        `backend = "vault"; config = { url = "https://b"; namespace = "n"; };`,
        `vault = { url = "https://a"; mount = "kv"; tokenPath = "/t"; reloadOnChange = true; kvVersion = 2; };`,
      ),
    ).toEqual({
      url: "https://b",
      mount: "kv",
      tokenPath: "/t",
      kvVersion: 2,
      namespace: "n",
      reloadOnChange: true,
      pollingInterval: 60,
    });
  });

  test("a service with its own certificate still trusts the host's authorities", () => {
    expect(
      config(
        `backend = "vault"; config.tls = { certFile = "/c"; keyFile = "/k"; serverName = "b"; };`,
        `vault.tls = { caFile = "/ca"; serverName = "a"; };`,
      ),
    ).toHaveProperty("tls", { caFile: "/ca", certFile: "/c", keyFile: "/k", serverName: "b" });
  });

  test("a service that logs in itself does not get the host's token, nor the other way round", () => {
    const auth = `auth = { method = "approle"; roleId = "r"; secretIdPath = "/etc/secrets/id"; };`;
    expect(config(`backend = "vault"; config.${auth}`, `vault.tokenPath = "/t";`)).toMatchObject({
      auth: { method: "approle", roleId: "r", secretIdPath: "/etc/secrets/id" },
    });
    expect(config(`backend = "vault"; config.${auth}`, `vault.tokenPath = "/t";`)).not.toHaveProperty("tokenPath");
    expect(config(`backend = "vault"; config.tokenPath = "/t";`, `vault.${auth}`)).not.toHaveProperty("auth");
  });

  test("every store has its settings", () => {
    expect(
      config(`backend = "aws"; config.roleArn = "arn";`, `aws = { region = "r"; endpoint = "e"; profile = "p"; };`),
    ).toEqual({
      region: "r",
      endpoint: "e",
      profile: "p",
      roleArn: "arn",
      reloadOnChange: false,
    });
    expect(config(`backend = "command";`, `command = { command = [ "pass" "show" ]; timeout = 3; };`)).toEqual({
      command: ["pass", "show"],
      timeout: 3,
      reloadOnChange: false,
    });
    expect(config(`backend = "nixops"; config.keysDir = "/k";`)).toEqual({ keysDir: "/k", reloadOnChange: false });
    expect(config(`backend = "credentials";`)).toEqual({ reloadOnChange: false });
  });

  test("a third party's store is a path, and accepts any settings", () => {
    expect(config(`backend = "/etc/fetcher/my.mjs"; config = { any.thing = [ 1 ]; reloadOnChange = true; };`)).toEqual({
      any: { thing: [1] },
      reloadOnChange: true,
    });
    const units = evaluation.units(module(`backend = builtins.toFile "my.mjs" "export default {}";`));
    expect(evaluation.config(units, "app-secrets.service")).toHaveProperty(
      "backend",
      expect.stringMatching(/^\/nix\/store\/\w+-my\.mjs$/),
    );
  });

  test("units wait for the units that their store needs", () => {
    const lines = (secretsConfig: string, more?: string) => {
      const units = evaluation.units(module(secretsConfig, `folder.secretsDir = "/run/my secrets/100%";`, more));
      const unit = "app-secrets.service";
      const waits = (["Wants", "After"] as const).map((name) => waitsFor(units, unit, name).join(" ") || undefined);
      return [...waits, setting(units, unit, "RequiresMountsFor")[0]];
    };
    expect(lines(`backend = "folder";`)).toEqual([undefined, undefined, '"/run/my secrets/100%%"']);
    expect(lines(`backend = "vault";`)).toEqual(["network-online.target", "network-online.target", undefined]);
    expect(lines(`backend = "aws";`)).toEqual(["network-online.target", "network-online.target", undefined]);
    expect(lines(`backend = "nixops";`, `secrets = { a = { }; b.source.key = "c"; };`)).toEqual([
      "a-key.service c-key.service",
      "a-key.service c-key.service",
      undefined,
    ]);
    expect(lines(`backend = "credentials";`)).toEqual([undefined, undefined, undefined]);
  });

  /** What the derivation of the configuration file runs when a host is built. */
  function check(units: ReturnType<Evaluation["units"]>, sidecar: string) {
    const file = evaluation.physical(configPath(units, sidecar));
    const { status, stderr } = spawnSync(
      process.execPath,
      [join(project, "dist/fetcher.js"), "--check=config", "--log-format=text", "--config", file],
      {
        encoding: "utf8",
      },
    );
    return { status, stderr };
  }

  test.each([
    ["folder", `folder.secretsDir = "/etc/secrets";`, "config.reloadOnChange = true;"],
    ["nixops", "", "config.pollingInterval = 5;"],
    ["static", 'static = { values.a = "x"; allowInsecure = true; };', ""],
    ["credentials", "", ""],
    [
      "aws",
      `aws = { region = "eu-central-1"; endpoint = "http://localhost:5000"; timeout = 3; };`,
      `config.secretId = "app";`,
    ],
    [
      "vault",
      `vault = { url = "https://vault:8200"; tls = { caFile = "/etc/ca.pem"; minVersion = "TLSv1.3"; }; requestTimeout = 9; };`,
      `config = { path = "app"; namespace = "n"; kvVersion = 2; revokeOnStop = true;
         auth = { method = "approle"; roleIdPath = "/etc/role"; secretIdPath = "/etc/id"; wrapped = true; }; };`,
    ],
  ])(
    "the program accepts the rendered configuration for %s, with every possible setting",
    (backend, store, settings) => {
      const more = `delivery = "private-tmp"; startTimeout = 60; environment = true; secrets = {
      a = { };
      "b c" = { file = "d.e"; env = "B"; mode = "0440"; owner = "root"; group = 0; optional = true; empty = true; };
      f.env = null;
    }; onChange = { action = "reload"; settle = 1; minInterval = 2; splay = 3; verify.command = [ "true" ]; };`;
      const units = evaluation.units(module(`backend = "${backend}"; ${settings}`, store, more));
      expect(check(units, "app-secrets.service")).toEqual({ status: 0, stderr: "" });
    },
  );

  test("each secret may have its own command", () => {
    const secrets = `secrets.a.source.command = [ "/bin/a" ];`;
    const units = evaluation.units(module(`backend = "command";`, "", secrets));
    expect(evaluation.config(units, "app-secrets.service")).toHaveProperty("secrets.a.source.command", ["/bin/a"]);
    expect(check(units, "app-secrets.service")).toEqual({ status: 0, stderr: "" });
  });

  test("the program refuses mistakes that types cannot see, before a host is built", () => {
    const units = evaluation.units(
      module(`backend = "folder";`, `folder.secretsDir = "/s";`, `secrets = { a.file = "x"; b.file = "x"; };`),
    );
    const { status, stderr } = check(units, "app-secrets.service");
    expect(status).toBe(78);
    expect(stderr).toContain("secrets.b.file: is already the file of secrets.a");
  });
});
