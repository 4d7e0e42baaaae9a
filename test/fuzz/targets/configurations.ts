import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect } from "vitest";
import { rmSync } from "node:fs";
import { loadConfig } from "../../../src/config/config.ts";
import type { FatalError } from "../../../src/contract/errors.ts";
import { ConfigError } from "../../../src/contract/errors.ts";
import { checkStore } from "../../../src/engine/store.ts";
import { noFlags } from "../../unit/command-line.ts";
import { corrupted, json, mutated } from "../arbitraries.ts";
import { CANARY, expectConfigError, expectOurs } from "../invariants.ts";
import { target } from "../target.ts";

/** A good configuration of each backend: a mutation of it is wrong in one place only. */
const good = [
  { backend: "folder", config: { secretsDir: "/etc/s", reloadOnChange: true, pollingInterval: 5 } },
  { backend: "nixops", config: { keysDir: "/run/keys" } },
  { backend: "static", config: { values: { a: "x" }, allowInsecure: true } },
  { backend: "credentials", config: {} },
  { backend: "command", config: { command: ["pass", "show"], timeout: 3, environment: { GNUPGHOME: "/x" } } },
  {
    backend: "vault",
    config: {
      url: "https://vault:8200",
      mount: "secret",
      path: "app",
      namespace: "n",
      kvVersion: 2,
      auth: { method: "approle", roleId: "r", secretIdPath: "/x", wrapped: true, role: "app" },
      tls: { caFile: "/ca.pem", certFile: "/c", keyFile: "/k", serverName: "v", minVersion: "TLSv1.3" },
    },
  },
  { backend: "vault", config: { url: "unix:/run/agent.sock", path: "app", tokenPath: "/t" } },
  {
    backend: "aws",
    config: {
      region: "eu-west-1",
      endpoint: "http://h:1",
      secretId: "app",
      roleArn: "arn:aws:iam::123456789012:role/r",
    },
  },
].map((part) => ({
  service: "a.service",
  ...part,
  secrets: {
    a: { source: {}, file: "f", env: "E", mode: "0400", owner: "root", group: 0, optional: true, empty: true },
    b: { source: { path: "p", key: "k", data: { a: 1 }, version: 3, file: "x/y", args: ["a"], valueFrom: "n" } },
  },
  output: { directory: "/x/pub", links: "/tmp", linksTo: "/tmp/.secrets", envFile: "secrets.env" },
  onChange: { action: "signal", signal: "SIGHUP", settle: 1, minInterval: 1, splay: 1, verify: { command: ["v"] } },
  startTimeout: 5,
}));

const keys = [
  ..."service backend config secrets output onChange startTimeout source file env mode owner group optional empty".split(
    " ",
  ),
  ..."directory links linksTo envFile action signal settle minInterval splay verify command timeout".split(" "),
  ..."reloadOnChange pollingInterval refreshInterval url mount path key data version auth method tls".split(" "),
];
const roots = ["", "service", "backend", "config", "secrets", "output", "onChange", "startTimeout"];

const document = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...good).chain((config) => mutated(config, json(...keys))) },
  { weight: 1, arbitrary: json(...keys) },
);

/** The path of a module is no secret: an error says where it looked. */
function withShownPath(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("backend" in value)) return value;
  const { backend } = value;
  return typeof backend === "string" ? { ...value, backend: backend.replaceAll(CANARY, "module") } : value;
}

/** Bytes of a configuration file, most of them nearly good. */
export const configurationFile = fc.oneof(
  { weight: 6, arbitrary: document.map((value) => Buffer.from(JSON.stringify(withShownPath(value)))) },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom(...good)
      .chain((config) => corrupted(JSON.stringify(config, null, 1)))
      .map((value) => Buffer.from(value)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)) },
);

let place: string | undefined;
afterAll(() => {
  if (place !== undefined) rmSync(place, { recursive: true });
});

export const configurations = target({
  title: "a configuration file is good for its backend, or one line names the option and shows no value",
  weight: 6,
  input: configurationFile,
  async check(bytes) {
    place ??= mkdtempSync(join(tmpdir(), "fuzz-config-"));
    const configFile = join(place, "config.json");
    writeFileSync(configFile, bytes);
    try {
      const config = await loadConfig({ ...noFlags, configFile });
      const { module, settings, requests } = await checkStore(config);
      expect(requests.map(({ id }) => id)).toEqual(config.secrets.map(({ id }) => id));
      for (const { source } of requests) expect(module.describe(source, settings)).not.toMatch(/[\r\n]/);
    } catch (error) {
      if (error instanceof ConfigError) expectConfigError(error, roots);
      else {
        expectOurs(error);
        // Text that is not JSON has no options yet.
        expect((error as FatalError).message).toMatch(
          /^configuration: \S+ (is not JSON( at line \d+, column \d+)?(: .*)?|has ".*" twice in one object, .*)$/,
        );
      }
    }
  },
});
