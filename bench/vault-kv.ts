/** A real server on this machine with a secret of one path, and a sidecar's configuration for it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { VaultServer } from "../test/vault/server.ts";

export { serverBinary } from "../test/vault/binary.ts";

/** @param directory for the token, the configuration and what is published. */
export async function openKv(directory: string): Promise<{ config: string; dispose: () => Promise<void> }> {
  const server = await VaultServer.dev();
  await server.write("secret/data/app", { data: { user: "app", password: "canary" } });
  const [tokenPath, config] = [join(directory, "kv-token"), join(directory, "kv.json")];
  writeFileSync(tokenPath, await server.token('path "secret/*" { capabilities = ["read"] }'));
  const settings = { url: server.url, path: "app", tokenPath };
  const output = { directory: join(directory, "kv-output") };
  writeFileSync(
    config,
    JSON.stringify({ backend: "vault", config: settings, secrets: { user: {}, password: {} }, output }),
  );
  return { config, dispose: () => server.dispose() };
}
