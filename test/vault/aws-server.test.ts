/** The login with AWS IAM at a real Vault, which asks an emulator of AWS who it is. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { Moto } from "../aws/moto.ts";
import { needs } from "../requirements.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { VaultServer } from "./server.ts";

interface Key {
  readonly AccessKeyId: string;
  readonly SecretAccessKey: string;
}

needs("vault-aws-login").describe("login with AWS IAM at a real server", () => {
  let server: VaultServer;
  let aws: Moto;
  let key: Key;
  let secret: string;
  let canaries: Canaries;

  beforeAll(async () => {
    [server, aws] = await Promise.all([VaultServer.dev("vault"), Moto.start()]);
    await iam("CreateUser", { UserName: "app" });
    key = accessKeyOf(await iam("CreateAccessKey", { UserName: "app" }));
    // From now on the emulator checks signatures and policies, as AWS does.
    const policy = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }] };
    await iam("PutUserPolicy", { UserName: "app", PolicyName: "all", PolicyDocument: JSON.stringify(policy) });
    expect((await fetch(`${aws.url}/moto-api/reset-auth`, { method: "POST", body: "0" })).status).toBe(200);
    await server.write("sys/policies/acl/app", { policy: 'path "secret/data/app" { capabilities = ["read"] }' });
    await server.write("sys/auth/aws", { type: "aws" });
    await server.write("auth/aws/config/client", {
      sts_endpoint: aws.url,
      sts_region: "us-east-1",
      iam_server_id_header_value: "vault.test",
      max_retries: 0,
    });
    for (const [name, user] of [
      ["app", "app"],
      ["other", "somebody-else"],
    ] as const)
      await server.write(`auth/aws/role/${name}`, {
        auth_type: "iam",
        bound_iam_principal_arn: `arn:aws:iam::123456789012:user/${user}`,
        // Otherwise Vault asks IAM for the user's own id, with its own credentials.
        resolve_aws_unique_ids: false,
        token_policies: "app",
      });
  });
  afterAll(async () => {
    await server.dispose();
    await aws.stop();
  });

  beforeEach(async () => {
    canaries = new Canaries();
    canaries.add(server.rootToken);
    canaries.add(key.SecretAccessKey);
    secret = canaries.add(`canary-${randomBytes(12).toString("hex")}`);
    await server.write("secret/data/app", { data: { db: secret } });
    credentials(key);
  });

  /** Of an administrator, before the emulator checks anything. */
  async function iam(action: string, more: Readonly<Record<string, string>>): Promise<string> {
    const response = await fetch(aws.url, {
      method: "POST",
      headers: { authorization: "AWS4-HMAC-SHA256 Credential=admin/20260101/us-east-1/iam/aws4_request" },
      body: new URLSearchParams({ Action: action, Version: "2010-05-08", ...more }),
    });
    const text = await response.text();
    expect({ action, status: response.status }).toEqual({ action, status: 200 });
    return text;
  }

  function accessKeyOf(xml: string): Key {
    const element = (name: string) => new RegExp(`<${name}>([^<]+)<`).exec(xml)?.[1] ?? "";
    return { AccessKeyId: element("AccessKeyId"), SecretAccessKey: element("SecretAccessKey") };
  }

  function credentials({ AccessKeyId, SecretAccessKey }: Key) {
    const variables = { AWS_ACCESS_KEY_ID: AccessKeyId, AWS_SECRET_ACCESS_KEY: SecretAccessKey };
    onTestFinished(() => {
      for (const name of Object.keys(variables)) Reflect.deleteProperty(process.env, name);
    });
    Object.assign(process.env, variables);
  }

  const open = (auth: object = {}) =>
    openVault(
      { url: server.url, path: "app", auth: { method: "aws", role: "app", serverId: "vault.test", ...auth } },
      canaries,
    );

  test.each([undefined, "eu-west-1"])(
    "region %s: logs in with the user's signature, and reads the secrets",
    async (region) => {
      expect(await textOf(await open(region === undefined ? {} : { region }), "db")).toBe(secret);
    },
  );

  test("uses the role named like the user by default", async () => {
    const vault = await openVault(
      { url: server.url, path: "app", auth: { method: "aws", serverId: "vault.test" } },
      canaries,
    );
    expect(await textOf(vault, "db")).toBe(secret);
  });

  test.each<[string, () => object]>([
    ["another's secret key", () => (credentials({ ...key, SecretAccessKey: "wrong".repeat(8) }), {})],
    ["an access key that AWS does not know", () => (credentials({ ...key, AccessKeyId: "AKIDUNKNOWN" }), {})],
    ["another user's role", () => ({ role: "other" })],
    ["an unknown role", () => ({ role: "none" })],
    ["another server's id", () => ({ serverId: "vault.other" })],
  ])("refuses %s, and shows nothing of it", async (_, prepare) => {
    const vault = await open(prepare());
    expect(await vault.outage("db")).toMatchObject({
      kind: "denied",
      message: expect.stringMatching(/^auth\/aws\/login: /) as string,
    });
    // The server's words repeat what was asked.
    expect(vault.said.join("\n")).not.toMatch(/AKID|arn:aws|vault\.other/);
  });
});
