/** A store of each backend that can run here, with scopes of 1 to 1,000 secrets in it. */
import { CreateSecretCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Moto, motoServer } from "../test/aws/moto.ts";
import { serverBinary } from "../test/vault/binary.ts";
import { VaultServer } from "../test/vault/server.ts";

export const COUNTS = [1, 10, 100, 1000] as const;

/** One sidecar's configuration. */
export interface Scope {
  readonly config: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface Stores {
  /** Name of a row → one scope for each of COUNTS; undefined: left out. */
  readonly scopes: ReadonlyMap<string, readonly (Scope | undefined)[]>;
  /** What is not here, and why. */
  readonly missing: readonly string[];
  /** The folder of all secrets. */
  readonly files: string;
  dispose(): Promise<void>;
}

type Part = Readonly<Record<string, unknown>>;
type Closers = (() => Promise<void>)[];
/** @param settings of a scope with these secrets. */
type Add = (
  row: string,
  backend: string,
  settings: (ids: readonly string[]) => Part,
  options?: {
    readonly sourceOf?: (id: string) => Part;
    readonly env?: Readonly<Record<string, string>>;
    /** More secrets than this are left out. */
    readonly most?: number;
  },
) => void;

/** @param place a directory for all of it. */
export async function openStores(place: string): Promise<Stores> {
  const files = join(place, "store");
  mkdirSync(files);
  for (const id of idsOf(1000)) writeFileSync(join(files, id), valueOf(id));
  const scopes = new Map<string, readonly (Scope | undefined)[]>();
  const closers: Closers = [];

  const add: Add = (row, backend, settings, { sourceOf = () => ({}), env = {}, most = 1000 } = {}) => {
    const scopeOf = (count: number): Scope => {
      const config = join(place, `${row.replaceAll(/\W+/g, "-")}-${count}.json`);
      const ids = idsOf(count);
      const secrets = Object.fromEntries(ids.map((id) => [id, { source: sourceOf(id) }]));
      const output = { directory: config.replace(/json$/, "output") };
      writeFileSync(config, JSON.stringify({ backend, config: settings(ids), secrets, output }));
      return { config, env };
    };
    scopes.set(
      row,
      COUNTS.map((count) => (count > most ? undefined : scopeOf(count))),
    );
  };

  add("`folder`", "folder", () => ({ secretsDir: files }));
  add("`nixops`", "nixops", () => ({ keysDir: files }));
  add("`credentials`", "credentials", () => ({}), { env: { CREDENTIALS_DIRECTORY: files } });
  add("`static`", "static", (ids) => ({
    allowInsecure: true,
    values: Object.fromEntries(ids.map((id) => [id, valueOf(id)])),
  }));
  // A process for each secret: with 1,000 of them it is `cat` that is measured.
  add("`command` (`cat`)", "command", () => ({ command: ["/bin/cat"] }), {
    sourceOf: (id) => ({ args: [join(files, id)] }),
    most: 100,
  });

  const dispose = async () => {
    for (const close of closers) await close();
  };
  try {
    const vault = await openVault(place, add, closers);
    const aws = await openAws(add, closers);
    const missing = [vault, aws].filter((why) => why !== undefined);
    return { scopes, missing, files, dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** @returns why there is none. */
async function openVault(place: string, add: Add, closers: Closers): Promise<string | undefined> {
  if (serverBinary() === undefined) return "`vault`: neither bao nor vault is installed";
  const server = await VaultServer.dev();
  closers.push(() => server.dispose());
  // OpenBao refuses JSON of more than 1,000 strings, names included.
  for (const count of COUNTS.filter((number) => number <= 100))
    await server.write(`secret/data/all${count}`, {
      data: Object.fromEntries(idsOf(count).map((id) => [id, valueOf(id)])),
    });
  for (const id of idsOf(1000)) await server.write(`secret/data/each/${id}`, { data: { value: valueOf(id) } });
  const tokenPath = join(place, "token");
  writeFileSync(tokenPath, await server.token('path "secret/*" { capabilities = ["read"] }'));
  add("`vault`, all in one path", "vault", ({ length }) => ({ url: server.url, tokenPath, path: `all${length}` }), {
    most: 100,
  });
  add("`vault`, a path each", "vault", () => ({ url: server.url, tokenPath }), {
    sourceOf: (id) => ({ path: `each/${id}`, key: "value" }),
  });
  return undefined;
}

/** @returns why there is none. */
async function openAws(add: Add, closers: Closers): Promise<string | undefined> {
  if (motoServer() === undefined) return "`aws`: moto_server is not installed";
  const moto = await Moto.start();
  closers.push(() => moto.stop());
  const keys = { AWS_ACCESS_KEY_ID: "bench", AWS_SECRET_ACCESS_KEY: "bench" };
  const settings = { region: "eu-central-1", endpoint: moto.url };
  const credentials = { accessKeyId: keys.AWS_ACCESS_KEY_ID, secretAccessKey: keys.AWS_SECRET_ACCESS_KEY };
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
  const client = new SecretsManagerClient({ ...settings, credentials });
  for (const id of idsOf(1000)) await client.send(new CreateSecretCommand({ Name: id, SecretString: valueOf(id) }));
  client.destroy();
  add("`aws`", "aws", () => settings, { sourceOf: (id) => ({ secretId: id }), env: keys });
  return undefined;
}

/** A folder with two secrets, and the configuration of a sidecar for it. */
export function folderScope(
  directory: string,
  { config = {}, ...options }: { readonly config?: object; readonly [option: string]: unknown },
): { readonly config: string; readonly store: string; readonly output: string } {
  const [store, output, file] = [join(directory, "store"), join(directory, "output"), join(directory, "config.json")];
  mkdirSync(store, { recursive: true });
  for (const id of ["first", "second"]) writeFileSync(join(store, id), `value of ${id}\n`);
  const settings = { secretsDir: store, ...config };
  const secrets = { first: {}, second: {} };
  writeFileSync(
    file,
    JSON.stringify({ backend: "folder", config: settings, secrets, output: { directory: output }, ...options }),
  );
  return { config: file, store, output };
}

export function idsOf(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `secret${index}`);
}

function valueOf(id: string): string {
  return `value of ${id}\n`;
}
