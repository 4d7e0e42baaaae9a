import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import { Forwarder } from "../vault/forwarder.ts";
import { VaultServer } from "../vault/server.ts";
import { onEachServer } from "../vault/servers.ts";
import { contractSuite, type Fixture } from "./contract.ts";
import { temporary } from "./temporary.ts";

const traits = {
  values: "text",
  empty: "value",
  mayAppear: false,
  changes: true,
  watches: false,
  outage: true,
  stalls: true,
} as const;

onEachServer("against a real server", [], (product) => {
  let server: VaultServer;

  beforeAll(async () => {
    server = await VaultServer.dev(product);
  });
  afterAll(() => server.dispose());

  /** Its own mount, behind its own port, and a token that may read only that mount. */
  async function prepare(version: 1 | 2) {
    const mount = `kv${version}-${randomBytes(4).toString("hex")}`;
    await server.mountKv(mount, version);
    const { path: directory, dispose } = await temporary();
    const tokenPath = join(directory, "token");
    await writeFile(
      tokenPath,
      await server.token(`path "${mount}/*" { capabilities = ["read"] }
                          path "${mount}/data/refused/*" { capabilities = ["deny"] }
                          path "${mount}/refused/*" { capabilities = ["deny"] }`),
    );
    const forwarder = await Forwarder.to(server.url);
    const data = version === 2 ? `${mount}/data` : mount;
    return {
      data,
      settings: { url: forwarder.url, mount, tokenPath },
      write: (path: string, values: object) =>
        server.write(`${data}/${path}`, version === 2 ? { data: values } : values),
      async outage() {
        await forwarder.down();
        return () => forwarder.up();
      },
      stall() {
        forwarder.silent();
        return Promise.resolve();
      },
      async dispose() {
        await forwarder.down();
        await dispose();
        await server.call("DELETE", `sys/mounts/${mount}`);
      },
    };
  }

  /** All secrets are keys of one path, and the mount is asked for its version. */
  async function onePath(version: 1 | 2): Promise<Fixture> {
    const { settings, write, ...rest } = await prepare(version);
    // KV version 1 takes no empty secret.
    const values: Record<string, string> = { "another key": "" };
    await write("app", values);
    return {
      ...rest,
      module: await loadBackend("vault", "/"),
      settings: () => ({ ...settings, path: "app" }),
      place: (id) => `key ${JSON.stringify(id)}`,
      async put(id, value) {
        values[id] = value.toString();
        await write("app", values);
      },
      async remove(id) {
        // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- JSON that is sent
        delete values[id];
        await write("app", values);
      },
    };
  }

  /** Each secret has its own path, and the version is configured. */
  async function pathEach(version: 1 | 2): Promise<Fixture> {
    const { data, settings, write, ...rest } = await prepare(version);
    const pathOf = (id: string) => (id === "bad" ? `refused/${id}` : `app/${id}`);
    return {
      ...rest,
      module: await loadBackend("vault", "/"),
      settings: () => ({ ...settings, kvVersion: version }),
      source: (id) => ({ path: pathOf(id), key: "value" }),
      place: (id) => `${data}/${pathOf(id)}`,
      async put(id, value) {
        await write(encodeURI(pathOf(id)), { value: value.toString() });
      },
      async remove(id) {
        await server.call("DELETE", `${data}/${pathOf(id)}`);
      },
      refuse: () => Promise.resolve("denied"),
    };
  }

  contractSuite("vault, KV version 2, one path", { ...traits, refuses: false }, () => onePath(2));
  contractSuite("vault, KV version 1, one path", { ...traits, refuses: false }, () => onePath(1));
  contractSuite("vault, KV version 2, a path each", { ...traits, refuses: true }, () => pathEach(2));
  contractSuite("vault, KV version 1, a path each", { ...traits, refuses: true }, () => pathEach(1));
});
