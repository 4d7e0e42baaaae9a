import { randomBytes } from "node:crypto";
import {
  CreateSecretCommand,
  DeleteSecretCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import { Moto } from "../aws/moto.ts";
import { needs } from "../requirements.ts";
import { Forwarder } from "../vault/forwarder.ts";
import { contractSuite, type Fixture } from "./contract.ts";
import { Observed, asValue } from "./observed.ts";

process.env["AWS_ACCESS_KEY_ID"] = "canary-access-key";
process.env["AWS_SECRET_ACCESS_KEY"] = "canary-secret-access-key";
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
const region = "eu-central-1";

needs("aws-emulator").describe("against an emulator over HTTP", () => {
  let moto: Moto;
  let client: SecretsManagerClient;

  beforeAll(async () => {
    moto = await Moto.start();
    client = new SecretsManagerClient({ region, endpoint: moto.url });
  });
  afterAll(async () => {
    client.destroy();
    await moto.stop();
  });

  /** Its own names below one prefix. */
  async function fixture(): Promise<Fixture> {
    const prefix = randomBytes(6).toString("hex");
    const forwarder = await Forwarder.to(moto.url);
    const created = new Set<string>();
    const nameOf = (id: string) => `${prefix}/${id.replaceAll(" ", "_")}`;
    return {
      module: await loadBackend("aws", "/"),
      settings: () => ({ region, endpoint: forwarder.url, timeout: 10 }),
      source: (id) => ({ secretId: nameOf(id) }),
      place: nameOf,
      async put(id, value) {
        const text = value.toString();
        const content = Buffer.from(text).equals(value) ? { SecretString: text } : { SecretBinary: value };
        if (created.has(id)) await client.send(new PutSecretValueCommand({ SecretId: nameOf(id), ...content }));
        else await client.send(new CreateSecretCommand({ Name: nameOf(id), ...content }));
        created.add(id);
      },
      async remove(id) {
        await client.send(new DeleteSecretCommand({ SecretId: nameOf(id), ForceDeleteWithoutRecovery: true }));
        created.delete(id);
      },
      async outage() {
        await forwarder.down();
        return () => forwarder.up();
      },
      stall() {
        forwarder.silent();
        return Promise.resolve();
      },
      dispose: () => forwarder.down(),
    };
  }

  contractSuite(
    "aws",
    {
      values: "bytes",
      // The service's own limit is 65,536 bytes, and ours for an answer follows from it.
      largest: 65_000,
      empty: "impossible",
      mayAppear: false,
      changes: true,
      watches: false,
      outage: true,
      refuses: false,
      stalls: true,
    },
    fixture,
  );

  test("names an address that does not answer, once for all secrets", async () => {
    const endpoint = "http://127.0.0.1:9";
    const backend = await Observed.open(await loadBackend("aws", "/"), { region, endpoint }, () => ({}));
    for (const outcome of (await backend.fetch("a", "b")).values())
      expect(outcome).toMatchObject({
        kind: "unavailable",
        message: `${endpoint}: connection refused: 127.0.0.1:9`,
      });
  });

  test("reads all keys of a secret as its JSON object, even where an id would be a key", async () => {
    const name = `whole-${randomBytes(6).toString("hex")}`;
    await client.send(new CreateSecretCommand({ Name: name, SecretString: '{"user":"me","port":0.10}' }));
    const module = await loadBackend("aws", "/");
    const settings = module.parseSettings({ region, endpoint: moto.url, secretId: name });
    const source = module.parseWhole?.("app", {}, settings);
    const backend = await module.open(settings, { log: () => undefined, random: Math.random });
    const outcome = (await backend.fetch([{ id: "app", source }], new AbortController().signal)).get("app");
    expect(asValue(outcome).value.toString()).toBe('{"user":"me","port":0.10}');
    expect(() => module.parseWhole?.("app", { jsonKey: "user" }, settings)).toThrow("does not go together");
    await backend.close?.();
  });

  describe("selecting a value of a secret", () => {
    const open = async () =>
      Observed.open(await loadBackend("aws", "/"), { region, endpoint: moto.url }, (id) => sources.get(id) ?? {});
    let sources: ReadonlyMap<string, Record<string, unknown>>;

    test("reads stages, version ids, JSON keys and ARNs in one scope, as ECS writes them", async () => {
      const name = `db-${randomBytes(6).toString("hex")}`;
      const first = await client.send(
        new CreateSecretCommand({ Name: name, SecretString: '{"password":"old","port":1}' }),
      );
      await client.send(new PutSecretValueCommand({ SecretId: name, SecretString: '{"password":"new","port":5432}' }));
      const arn = first.ARN ?? "";
      sources = new Map([
        ["current", { secretId: name, jsonKey: "password" }],
        ["number", { secretId: name, jsonKey: "port" }],
        ["previous", { secretId: name, jsonKey: "password", versionStage: "AWSPREVIOUS" }],
        ["pinned", { secretId: name, jsonKey: "password", versionId: first.VersionId }],
        ["ecs whole", { valueFrom: arn }],
        ["ecs key", { valueFrom: `${arn}:password::` }],
        ["ecs stage", { valueFrom: `${arn}:password:AWSPREVIOUS:` }],
        ["ecs version", { valueFrom: `${arn}:password::${first.VersionId ?? ""}` }],
        ["no such key", { secretId: name, jsonKey: "nope" }],
        ["no such stage", { secretId: name, versionStage: "NOPE" }],
      ]);
      const backend = await open();
      const outcomes = await backend.fetch(...sources.keys());
      const text = (id: string) => asValue(outcomes.get(id)).value.toString();
      expect(text("current")).toBe("new");
      expect(text("number")).toBe("5432");
      for (const id of ["previous", "pinned", "ecs stage", "ecs version"]) expect(text(id), id).toBe("old");
      expect(JSON.parse(text("ecs whole"))).toEqual({ password: "new", port: 5432 });
      expect(text("ecs key")).toBe("new");
      expect(outcomes.get("no such key")).toEqual({ status: "missing", where: `no key "nope" in ${name}` });
      expect(outcomes.get("no such stage")).toMatchObject({ status: "missing" });
      expect(backend.said.join()).not.toContain("canary-secret-access-key");
    });
  });
});
