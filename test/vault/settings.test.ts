/** A wrong configuration is refused at build time, with the option's name and without the wrong value. */
import { describe, expect, test } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import { ConfigError } from "../../src/contract/errors.ts";

const vault = await loadBackend("vault", "/");
const token = { tokenPath: "/etc/token" };
const approle = { method: "approle", roleId: "role", secretIdPath: "/etc/secret-id" };

function problem(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { message } = error as ConfigError;
    expect(message).not.toContain("canary");
    return message.replace("configuration: ", "");
  }
  return "accepted";
}

describe("settings", () => {
  test.each<[string, Record<string, unknown>]>([
    ["auth: is required, or tokenPath: the file with the token", {}],
    ["tokenPath: does not go together with auth", { ...token, auth: { method: "none" } }],
    ["tokenPath: expected an absolute path", { tokenPath: "canary" }],
    ["url: expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket", { ...token, url: "canary" }],
    [
      "url: expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket",
      { ...token, url: "ftp://canary" },
    ],
    ["url: expected unix:/path/of/the/socket", { url: "unix:canary" }],
    ["url: must not hold the port 0: expected that of the server", { ...token, url: "http://host:0" }],
    [
      "url: must not hold the zone of an IPv6 address (%…): use a name, or an address without one",
      { ...token, url: "https://[fe80::1%25eth0]:8200" },
    ],
    [
      "url: must not hold the zone of an IPv6 address (%…): use a name, or an address without one",
      { ...token, url: "http://[fe80::1%eth0]" },
    ],
    ["url: expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket", { ...token, url: "https//host" }],
    ["url: expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket", { ...token, url: "host:8200" }],
    ...["http:/host", "https:host:8200", "http:\\\\host", "https:///host"].map(
      (url): [string, Record<string, unknown>] => [
        "url: expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket",
        { ...token, url },
      ],
    ),
    [
      "url: expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket",
      { ...token, url: "https://host:65536" },
    ],
    ["url: must not hold a user or a password", { ...token, url: "https://u:canary@host" }],
    ["url: must not hold a query or a fragment", { ...token, url: "https://host/?token=canary" }],
    ['mount: must not contain empty segments, "." or ".."', { ...token, mount: "secret/../canary" }],
    ['path: must not contain empty segments, "." or ".."', { ...token, path: "a//canary" }],
    ["path: must not contain control characters", { ...token, path: "canary\n" }],
    ["kvVersion: expected 1 or 2", { ...token, kvVersion: 3 }],
    ["namespace: expected printable ASCII without spaces", { ...token, namespace: "a\r\ncanary: b" }],
    [
      "url: is the address of the web interface: expected that of the server, without /ui",
      { ...token, url: "https://h/ui/vault/secrets" },
    ],
    [
      "url: must not hold a path of the API: what comes after /v1 belongs in `mount` and `path`",
      { ...token, url: "https://h/v1/secret/data/canary" },
    ],
    ["tls: certFile and keyFile go together", { ...token, url: "https://h", tls: { certFile: "/canary" } }],
    ["tls: needs a `url` with https", { ...token, tls: { caFile: "/canary" } }],
    ['tls.minVersion: expected "TLSv1.2" or "TLSv1.3"', { ...token, tls: { minVersion: "TLSv1.1" } }],
    ["tls.certFile: is required: auth.method is cert", { url: "https://h", auth: { method: "cert" } }],
    ["connectTimeout: expected at least 0.05 seconds", { ...token, connectTimeout: 0 }],
    [
      "requestTimeout: expected at most 100 seconds: a fetch of all secrets is given up after 120",
      { ...token, requestTimeout: 101 },
    ],
    [
      'auth.method: expected "token" or "approle" or "jwt" or "kubernetes" or "cert" or "aws" or "none"',
      { auth: { method: "canary" } },
    ],
    [
      'auth.method: expected "token" or "approle" or "jwt" or "kubernetes" or "cert" or "aws" or "none"; did you mean "approle"?',
      { auth: { method: "aprole" } },
    ],
    [
      "auth.method: is required: one of token, approle, jwt, kubernetes, cert, aws, none",
      { auth: { type: "approle", role_id: "canary" } },
    ],
    [
      'auth: expected an object with "method": one of token, approle, jwt, kubernetes, cert, aws, none',
      { auth: "approle" },
    ],
    ["auth.roleId: is required, or roleIdPath, but not both", { auth: { ...approle, roleId: undefined } }],
    ["auth.roleId: is required, or roleIdPath, but not both", { auth: { ...approle, roleIdPath: "/canary" } }],
    [
      "auth.secretIdPath: is required: auth.wrapped is true",
      { auth: { method: "approle", roleId: "r", wrapped: true } },
    ],
    [
      'auth.secretId: unknown option: known here are method, mount, roleId, roleIdPath, secretIdPath, wrapped, role; did you mean "secretIdPath"?',
      { auth: { ...approle, secretId: "canary" } },
    ],
    ["auth.jwtPath: is required", { auth: { method: "jwt", role: "app" } }],
    ["auth.region: expected the name of an AWS region", { auth: { method: "aws", region: "canary.example/" } }],
  ])("%s", (message, settings) => {
    expect(problem(() => vault.parseSettings(settings))).toBe(message);
  });

  test.each([
    ["https://Vault.EXAMPLE:8200/", "https://vault.example:8200"],
    ["https://vault.exämple", "https://vault.xn--exmple-cua"],
    ["https://vault.example.", "https://vault.example."],
    ["https://vault.example/v1/", "https://vault.example"],
    ["https://gateway.example/vault/v1", "https://gateway.example/vault"],
    ["http://[::1]:8200", "http://[::1]:8200"],
    [" https://vault.example\n", "https://vault.example"],
  ])("accepts the URL %j", (url, plain) => {
    expect(vault.parseSettings({ ...token, url })).toMatchObject({ url: plain, server: plain });
  });

  test("accepts the minimum", () => {
    for (const settings of [
      token,
      { auth: approle },
      { url: "unix:/run/agent.sock" },
      { url: "unix:///run/agent.sock" },
    ])
      expect(problem(() => vault.parseSettings(settings))).toBe("accepted");
    expect(vault.parseSettings({ url: "unix:///run/agent.sock" })).toMatchObject({
      socketPath: "/run/agent.sock",
      auth: { method: "none" },
    });
    expect(vault.parseSettings({ ...token, mount: "/team/kv/" })).toMatchObject({
      url: "http://localhost:8200",
      mount: "team/kv",
    });
  });
});

describe("sources", () => {
  const settings = vault.parseSettings({ ...token, path: "app" });

  test.each<[string, Record<string, unknown>]>([
    ["version: expected 1 or more", { version: 0 }],
    ["version: does not go together with data: a write has no version", { version: 1, data: {} }],
    ["data: expected an object", { data: ["canary"] }],
    ["key: must not be empty", { key: "" }],
  ])("%s", (message, source) => {
    expect(problem(() => vault.parseSource("id", source, settings))).toBe(message);
  });

  test("requires a path somewhere", () => {
    const bare = vault.parseSettings(token);
    expect(problem(() => vault.parseSource("id", {}, bare))).toBe(
      "path: is required, here or in the settings (config.path)",
    );
  });

  test("describes the place of a secret for people", () => {
    const place = (source: Record<string, unknown>, of = settings) =>
      vault.describe(vault.parseSource("id", source, of), of);
    expect(place({})).toBe('secret/app, key "id"');
    expect(place({ mount: "kv", path: "/x/", key: "k", version: 3 })).toBe('kv/x, key "k", version 3');
    const version2 = vault.parseSettings({ ...token, path: "app", kvVersion: 2 });
    expect(place({}, version2)).toBe('secret/data/app, key "id"');
    expect(place({ mount: "pki", path: "issue/app", data: { a: "canary" } }, version2)).toBe('pki/issue/app, key "id"');
  });
});

test("warns about each address that gets the token in the clear, except the machine itself", async () => {
  const said = async (settings: object) => {
    const lines: string[] = [];
    const log = (level: string, message: string) => void lines.push(`${level}: ${message}`);
    const backend = await vault.open(vault.parseSettings({ ...token, ...settings }), { log, random: () => 0 });
    await backend.close?.();
    return lines;
  };
  expect(await said({ url: "http://vault:8200" })).toEqual([
    "warn: http://vault:8200: token and secrets go over the network in the clear: use https",
  ]);
  for (const url of [
    "http://localhost:8200",
    "http://LOCALHOST.:1",
    "http://127.0.0.1:1",
    "http://[::1]:1",
    "https://vault",
    "unix:/run/x",
  ])
    expect(await said({ url })).toEqual([]);
});
