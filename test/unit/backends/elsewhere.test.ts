/** Whoever comes from another program writes that program's names. */
import { expect, test } from "vitest";
import { loadBackend } from "../../../backends/index.ts";
import { parseConfig } from "../../../src/config/config.ts";
import { ConfigError } from "../../../src/contract/errors.ts";

/** @returns the message of the error, without the options that it lists. */
function messageOf(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    if (error instanceof ConfigError) return error.message.replace(/known here are [\w$, ]*/, "…");
    throw error;
  }
  return undefined;
}

const complete: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  folder: { secretsDir: "/run/secrets" },
  vault: { tokenPath: "/run/token", path: "app" },
  aws: { region: "eu-central-1" },
  command: { command: ["pass"] },
  static: { values: {}, allowInsecure: true },
};

test.each([
  // Vault Agent, consul-template, Terraform, External Secrets.
  ["vault", { address: "https://vault" }, "address", "url"],
  ["vault", { VAULT_ADDR: "https://vault" }, "VAULT_ADDR", "url"],
  ["vault", { server: "https://vault" }, "server", "url"],
  ["vault", { tokenFile: "/run/token" }, "tokenFile", "tokenPath"],
  ["vault", { vault_agent_token_file: "/run/token" }, "vault_agent_token_file", "tokenPath"],
  ["vault", { token: "canary" }, "token", "tokenPath"],
  ["vault", { ca_cert: "/etc/ca.pem" }, "ca_cert", "tls.caFile"],
  ["vault", { ca_path: "/etc/ca" }, "ca_path", "tls.caDirectory"],
  ["vault", { tls_skip_verify: true }, "tls_skip_verify", "tls.insecureDoNotVerifyServer"],
  ["vault", { client_cert: "/etc/cert.pem" }, "client_cert", "tls.certFile"],
  ["vault", { role_id_file_path: "/run/role" }, "role_id_file_path", "auth.roleIdPath"],
  ["vault", { secret_id: "canary" }, "secret_id", "auth.secretIdPath"],
  ["vault", { version: "v2" }, "version", "kvVersion"],
  ["vault", { interval: 5 }, "interval", "pollingInterval"],
  ["vault", { tls: { ca_cert: "/etc/ca.pem" } }, "tls.ca_cert", "caFile"],
  ["aws", { endpoint_url: "http://localhost" }, "endpoint_url", "endpoint"],
  ["aws", { AWS_REGION: "eu-central-1" }, "AWS_REGION", "region"],
  ["aws", { role: "arn" }, "role", "roleArn"],
  ["folder", { directory: "/run/secrets" }, "directory", "secretsDir"],
  ["folder", { path: "/run/secrets" }, "path", "secretsDir"],
  ["nixops", { secretsDir: "/run/keys" }, "secretsDir", "keysDir"],
  ["command", { exec: ["pass"] }, "exec", "command"],
  ["static", { secrets: {} }, "secrets", "values"],
])("%s: config with %j names the right option", async (backend, settings, path, meant) => {
  const module = await loadBackend(backend, "/");
  expect(messageOf(() => module.parseSettings(settings))).toBe(
    `configuration: ${path}: unknown option: …; did you mean "${meant}"?`,
  );
});

test.each([
  ["approle", "role_id_file_path", "roleIdPath"],
  ["approle", "secret_id_file_path", "secretIdPath"],
  ["approle", "secretId", "secretIdPath"],
  ["kubernetes", "token_path", "jwtPath"],
  ["jwt", "mountPath", "mount"],
  ["cert", "name", "role"],
  ["aws", "header_value", "serverId"],
  ["token", "path", "tokenPath"],
])("a login by %s with %s names the right option", async (method, given, meant) => {
  const vault = await loadBackend("vault", "/");
  expect(messageOf(() => vault.parseSettings({ auth: { method, [given]: "x" } }))).toBe(
    `configuration: auth.${given}: unknown option: …; did you mean "${meant}"?`,
  );
});

test.each([
  ["vault", { property: "db" }, "property", "key"],
  ["aws", { name: "db" }, "name", "secretId"],
  ["aws", { key: "db" }, "key", "jsonKey"],
  ["aws", { property: "db" }, "property", "jsonKey"],
  ["folder", { path: "db" }, "path", "file"],
  ["nixops", { name: "db" }, "name", "key"],
  ["command", { exec: ["pass"] }, "exec", "command"],
  ["credentials", { key: "db" }, "key", "name"],
])("%s: a source with %j names the right option", async (backend, source, path, meant) => {
  const module = await loadBackend(backend, "/");
  const settings = module.parseSettings(complete[backend] ?? {});
  expect(messageOf(() => module.parseSource("id", source, settings))).toBe(
    `configuration: ${path}: unknown option: …; did you mean "${meant}"?`,
  );
});

test.each([
  [{ secrets: { db: { key: "db" } } }, "secrets.db.key", "source"],
  [{ secrets: { db: { perms: "0400" } } }, "secrets.db.perms", "mode"],
  [{ secrets: { db: { uid: 0 } } }, "secrets.db.uid", "owner"],
  [{ restartUnits: ["a.service"] }, "restartUnits", "service"],
  [{ url: "https://vault" }, "url", "config"],
  [{ reloadOnChange: true }, "reloadOnChange", "config.reloadOnChange"],
  [{ pollingInterval: 5 }, "pollingInterval", "config.pollingInterval"],
  [{ action: "reload" }, "action", "onChange.action"],
])("a configuration with %j names the right option", (part, path, meant) => {
  const file = { backend: "folder", config: complete["folder"], secrets: {}, ...part };
  expect(
    messageOf(() =>
      parseConfig(file, { configFile: undefined, backend: undefined, output: undefined, set: [], ids: [] }, "/"),
    ),
  ).toBe(`configuration: ${path}: unknown option: …; did you mean "${meant}"?`);
});

test("a name of an object's own is no other program's", async () => {
  const vault = await loadBackend("vault", "/");
  expect(messageOf(() => vault.parseSettings({ constructor: 1 }))).toBe(
    "configuration: constructor: unknown option: …",
  );
});
