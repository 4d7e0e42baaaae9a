/**
 * What the AWS backend promises about the network, checked on the program from outside. If these fail, a server that is
 * not AWS gets what a signed request gives away, or a start waits for ever.
 */
import fs from "node:fs";
import { createServer } from "node:http";
import type net from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { StandIn } from "../aws/stand-in.ts";
import { freePort } from "../free-port.ts";
import { needs } from "../requirements.ts";
import { eventually, Place } from "./daemon.ts";
import { awsAt, awsKeys, listener, passOn, proxy, publishes, refuses, value } from "./network.ts";

const secret = {
  ARN: "arn:aws:secretsmanager:eu-central-1:1:secret:id",
  Name: "id",
  SecretString: value,
  VersionId: "v1",
};

const start = async (answer: Parameters<typeof StandIn.start>[0]) => {
  const standIn = await StandIn.start(answer);
  onTestFinished(standIn.close);
  return standIn;
};

const startWithValue = () =>
  start(({ operation }) => ({
    body: operation === "BatchGetSecretValue" ? { SecretValues: [secret], Errors: [] } : secret,
  }));

test("publishes the value with signed requests", async () => {
  const standIn = await startWithValue();
  const place = new Place();
  await publishes(place, awsAt(place, standIn.url), awsKeys);
  expect(standIn.calls[0]?.accessKey).toBe(awsKeys.AWS_ACCESS_KEY_ID);
});

/** A profile in a file of its own, as people have it. */
function profiles(place: Place, text: string) {
  fs.mkdirSync(place.path("aws"));
  fs.writeFileSync(place.path("aws", "config"), text);
  return { AWS_CONFIG_FILE: place.path("aws", "config"), AWS_EC2_METADATA_DISABLED: "true" };
}

const keys = `aws_access_key_id = ${awsKeys.AWS_ACCESS_KEY_ID}\naws_secret_access_key = canary-key-5521\n`;

test("logs nothing of the SDK's own where a profile has the region", async () => {
  const standIn = await startWithValue();
  const place = new Place();
  const env = profiles(place, `[profile app]\nregion = eu-central-1\n${keys}`);
  const daemon = await place.start(awsAt(place, standIn.url, { region: undefined, profile: "app" }), { env }).ready();
  await daemon.end();
  expect(daemon.stderr.split("\n").filter((line) => !line.startsWith("{"))).toEqual([""]);
});

test("logs nothing of the SDK's own where Vault's login assumes the role of a profile", async () => {
  const place = new Place();
  const url = `http://127.0.0.1:${await freePort()}`;
  const roles = "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\n";
  const env = {
    ...profiles(place, `${roles}[profile base]\n${keys}`),
    AWS_ENDPOINT_URL_STS: url,
    AWS_REGION: "eu-central-1",
  };
  const auth = { method: "aws", role: "app", profile: "app" };
  const config = { secretsDir: undefined, url, auth, path: "app" };
  const daemon = place.start({ ...place.config(["id"], { config }), backend: "vault" }, { env });
  await daemon.says(/no AWS credentials to log in with/);
  await daemon.end();
  expect(daemon.stderr.split("\n").filter((line) => !line.startsWith("{"))).toEqual([""]);
});

test.each([
  ["never gets an answer", () => undefined, "no answer in time"],
  ["gets half an answer", () => ({ body: secret, stalls: true }), "no answer in time"],
  ["gets an endless answer", () => ({ body: '{"SecretString":"canary', floods: true }), "the answer is larger than"],
  ["gets a page", () => ({ body: "<p>canary</p>" }), "the answer is not JSON"],
  ["meets a failing gateway", () => ({ status: 502, body: "canary" }), "HTTP status 502"],
])("ends a start whose request %s, and says so", async (_, answer, says) => {
  const standIn = await start(answer);
  const place = new Place();
  const config = awsAt(place, standIn.url, { timeout: 3 });
  await refuses(place, config, says, awsKeys);
  expect(standIn.calls.length).toBeGreaterThan(0);
});

test("reports a service that resets connections, speaks another protocol, or is down", async () => {
  const place = new Place();
  const at = async (serve: (socket: net.Socket) => void) =>
    `http://127.0.0.1:${await listener((socket) => {
      socket.once("data", () => {
        serve(socket);
      });
    })}`;
  for (const [endpoint, says] of [
    [await at((socket) => socket.resetAndDestroy()), /connection reset/],
    [await at((socket) => socket.destroy()), /connection reset/],
    [await at((socket) => socket.end("220 canary ESMTP\r\n")), /the answer is not HTTP/],
    ["http://127.0.0.1:1", /connection refused/],
    ["http://no-such-host.invalid", /no such host|the name cannot be resolved now/],
  ] as const)
    await refuses(place, awsAt(place, endpoint), says, awsKeys);
});

test("sends no signed request to a redirect", async () => {
  const thief = await start(() => ({ body: secret }));
  const standIn = await start(() => ({ status: 307, headers: { location: thief.url }, body: "" }));
  const place = new Place();
  await refuses(place, awsAt(place, standIn.url), "HTTP status 307", awsKeys);
  expect(thief.calls).toEqual([]);
});

test("ignores a proxy of the environment", async () => {
  const standIn = await startWithValue();
  const { env, asked } = await proxy();
  const place = new Place();
  await publishes(place, awsAt(place, standIn.url), { ...env, ...awsKeys });
  expect(asked).toEqual([]);
});

needs("ipv6").test("reaches a service at an IPv6 address", async () => {
  const standIn = await startWithValue();
  const port = await listener(passOn(standIn.url), "::1");
  const place = new Place();
  await publishes(place, awsAt(place, `http://[::1]:${port}`), awsKeys);
});

test("waits for a machine's role when the metadata service comes late, and when it has no role yet", async () => {
  const standIn = await startWithValue();
  const role = { AccessKeyId: "AKIAROLE", SecretAccessKey: "canary-role-key", Token: "canary-session" };
  const expiration = new Date(Date.now() + 3_600_000).toISOString();
  let hasRole = false;
  let asked = 0;
  // A stand-in: IMDSv2 as its user guide has it.
  const metadata = createServer(({ method, url, headers }, response) => {
    const names = "/latest/meta-data/iam/security-credentials/";
    asked += 1;
    if (method === "PUT" && url === "/latest/api/token") response.end("canary-metadata-token");
    else if (headers["x-aws-ec2-metadata-token"] !== "canary-metadata-token") response.writeHead(401).end();
    else if (hasRole && url === names) response.end("web");
    else if (hasRole && url === `${names}web`)
      response.end(JSON.stringify({ Code: "Success", ...role, Expiration: expiration }));
    else response.writeHead(404).end();
  });
  // Nobody listens there yet.
  const port = await freePort();
  const place = new Place();
  const env = {
    ...{ AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://127.0.0.1:${port}`, HOME: place.root },
    ...{ AWS_CONFIG_FILE: place.path("none"), AWS_SHARED_CREDENTIALS_FILE: place.path("none") },
  };
  const daemon = place.start(awsAt(place, standIn.url), { env });
  await daemon.says(/there are no credentials \(yet\).*; trying again/);
  await new Promise<void>((resolve) => metadata.listen(port, "127.0.0.1", resolve));
  onTestFinished(() => {
    metadata.closeAllConnections();
    metadata.close();
  });
  await eventually("it is asked before it has a role", () => asked > 1);
  expect(standIn.calls).toEqual([]);
  hasRole = true;
  await daemon.ready();
  expect(place.read("id")).toBe(value);
  expect(standIn.calls[0]?.accessKey).toBe("AKIAROLE");
  expect((await daemon.end()).stderr).not.toContain("canary");
});
