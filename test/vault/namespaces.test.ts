/** Namespaces, which OpenBao has, and HashiCorp Vault with a licence only. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { needs } from "../requirements.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { VaultServer } from "./server.ts";

needs("vault-namespaces").test("uses its own namespace for login, mount and secret", async () => {
  const server = await VaultServer.dev("bao");
  const { path: directory, dispose } = await temporary();
  onTestFinished(async () => {
    await server.dispose();
    await dispose();
  });
  const canaries = new Canaries();
  const [here, there] = ["root", "team"].map((name) => canaries.add(`${name}-${randomBytes(12).toString("hex")}`));
  const team = { namespace: "team" };
  await server.write("secret/data/app", { data: { db: here } });
  await server.write("sys/namespaces/team");
  await server.mountKv("secret", 2, team);
  await server.write("secret/data/app", { data: { db: there } }, team);
  await server.write("sys/policies/acl/app", { policy: 'path "secret/data/app" { capabilities = ["read"] }' }, team);
  const { body } = await server.write("auth/token/create", { policies: ["app"] }, team);
  const tokenPath = join(directory, "token");
  await writeFile(tokenPath, canaries.add((body["auth"] as { client_token: string }).client_token));
  const settings = { url: server.url, path: "app", tokenPath };
  expect(await textOf(await openVault({ ...settings, ...team }, canaries), "db")).toBe(there);
  expect(await (await openVault(settings, canaries)).outage("db")).toMatchObject({ kind: "denied" });
  // A login would hide it behind its own 403, a token file does not.
  expect(await (await openVault({ ...settings, namespace: "nosuch" }, canaries)).outage("db")).toMatchObject({
    kind: "invalid",
    message: `${server.url}: no such namespace: check \`namespace\` (status 404)`,
  });
});
