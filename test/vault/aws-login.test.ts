/**
 * What a real Vault does not show of a login with AWS IAM (see aws-server.test.ts): each header, and the number of
 * requests.
 */
import { createHash, createHmac, randomBytes } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { reply, StandIn } from "./stand-in.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string) => createHmac("sha256", key).update(text).digest();
const decoded = (value: unknown) => Buffer.from(String(value), "base64").toString();

let server: StandIn;
let canaries: Canaries;
let secretKey: string;

beforeEach(async () => {
  server = await StandIn.start();
  canaries = new Canaries();
  secretKey = canaries.add(`aws-secret-${randomBytes(12).toString("hex")}`);
  server.data = { db: "value" };
});

function environment(variables: Readonly<Record<string, string>>) {
  onTestFinished(() => {
    for (const name of Object.keys(variables)) Reflect.deleteProperty(process.env, name);
  });
  Object.assign(process.env, variables);
}

/** As AWS checks a signature: https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html */
function signatureOf(headers: Readonly<Record<string, string>>, body: string, region: string): string {
  const names = (/SignedHeaders=([^,]+)/.exec(headers["authorization"] ?? "")?.[1] ?? "").split(";");
  const canonical = names.map((name) => `${name}:${headers[name] ?? ""}\n`).join("");
  const request = ["POST", "/", "", canonical, names.join(";"), sha256(body)].join("\n");
  const date = headers["x-amz-date"] ?? "";
  const scope = [date.slice(0, 8), region, "sts", "aws4_request"];
  const toSign = ["AWS4-HMAC-SHA256", date, scope.join("/"), sha256(request)].join("\n");
  return hmac(
    scope.reduce<string | Buffer>((key, part) => hmac(key, part), `AWS4${secretKey}`),
    toSign,
  ).toString("hex");
}

test.each([
  [undefined, "us-east-1", "sts.amazonaws.com"],
  ["eu-west-1", "eu-west-1", "sts.eu-west-1.amazonaws.com"],
])("region %s: sends Vault a request that AWS would accept as ours, and not the key", async (given, region, host) => {
  environment({ AWS_ACCESS_KEY_ID: "AKIDEXAMPLE", AWS_SECRET_ACCESS_KEY: secretKey, AWS_SESSION_TOKEN: "session" });
  const token = canaries.add(`token-${randomBytes(12).toString("hex")}`);
  server.answering = ({ path }, response) => {
    if (path !== "/v1/auth/aws/login") return false;
    reply(response, 200, { auth: { client_token: token, lease_duration: 60, renewable: true } });
    return true;
  };
  const auth = {
    method: "aws",
    role: "app",
    serverId: "vault.test",
    ...(given === undefined ? {} : { region: given }),
  };
  const vault = await openVault({ url: server.url, path: "app", kvVersion: 2, auth }, canaries);
  expect(await textOf(vault, "db")).toBe("value");
  const [login, read] = server.asked;
  const body = JSON.parse(login?.body ?? "") as Record<string, string>;
  expect(body).toMatchObject({ role: "app", iam_http_request_method: "POST" });
  expect(decoded(body["iam_request_url"])).toBe(`https://${host}/`);
  expect(decoded(body["iam_request_body"])).toBe("Action=GetCallerIdentity&Version=2011-06-15");
  const headers = JSON.parse(decoded(body["iam_request_headers"])) as Record<string, string>;
  expect(headers).toMatchObject({
    host,
    "x-vault-aws-iam-server-id": "vault.test",
    "x-amz-security-token": "session",
  });
  expect(headers["authorization"]).toMatch(/SignedHeaders=[^,]*host[^,]*x-vault-aws-iam-server-id/);
  const expected = signatureOf(headers, decoded(body["iam_request_body"]), region);
  expect(headers["authorization"]).toMatch(
    new RegExp(`Credential=AKIDEXAMPLE/\\d{8}/${region}/sts/aws4_request.*Signature=${expected}$`),
  );
  canaries.check(JSON.stringify(login));
  expect(read?.headers["x-vault-token"] === token).toBe(true);
});

test("waits for credentials at boot, when the instance's role comes late", async () => {
  environment({ AWS_EC2_METADATA_DISABLED: "true", AWS_CONFIG_FILE: "/none", AWS_SHARED_CREDENTIALS_FILE: "/none" });
  const vault = await openVault({ url: server.url, path: "app", auth: { method: "aws" } }, canaries);
  expect(await vault.outage("db")).toMatchObject({
    kind: "unavailable",
    message: "no AWS credentials to log in with (yet): see the AWS profile, or the instance's role",
  });
});

test("reads a credentials file that comes late or changes at the next login", async () => {
  const { path: directory, dispose } = await temporary();
  onTestFinished(dispose);
  const credentials = join(directory, "credentials");
  environment({
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_CONFIG_FILE: join(directory, "config"),
    AWS_SHARED_CREDENTIALS_FILE: credentials,
  });
  const write = async (keyId: string) => {
    await writeFile(
      `${credentials}.new`,
      `[default]\naws_access_key_id = ${keyId}\naws_secret_access_key = ${secretKey}\n`,
    );
    await rename(`${credentials}.new`, credentials);
  };
  const signedWith: (string | undefined)[] = [];
  server.answering = ({ path, body }, response) => {
    if (path !== "/v1/auth/aws/login") return false;
    const headers = decoded((JSON.parse(body) as Record<string, unknown>)["iam_request_headers"]);
    signedWith.push(/Credential=(\w+)/.exec(headers)?.[1]);
    // Good for one request: each fetch logs in.
    reply(response, 200, { auth: { client_token: "token", lease_duration: 60, renewable: true, num_uses: 1 } });
    return true;
  };
  const vault = await openVault({ url: server.url, path: "app", kvVersion: 2, auth: { method: "aws" } }, canaries);
  expect(await vault.outage("db")).toMatchObject({ kind: "unavailable" });
  for (const keyId of ["LATE", "ROTATED"]) {
    await write(keyId);
    expect(await textOf(vault, "db")).toBe("value");
  }
  expect(signedWith).toEqual(["LATE", "ROTATED"]);
});
