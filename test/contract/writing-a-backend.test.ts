/** A backend made by following docs/how-to/writing-a-backend.md keeps the contract: the code comes from the page. */
import { mkdir, writeFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import type { BackendModule } from "../../src/contract/backend.ts";
import { freePort } from "../free-port.ts";
import { blocksOf, project } from "../markdown.ts";
import { contractSuite, type Fixture } from "./contract.ts";
import { temporary } from "./temporary.ts";

const page = "docs/how-to/writing-a-backend.md";
const codeOf = (name: string) =>
  blocksOf(page)
    .filter(({ info }) => info === name)
    .map(({ code }) => code)
    .join("\n");

const traits = {
  values: "bytes",
  empty: "value",
  mayAppear: false,
  changes: true,
  watches: false,
  outage: true,
  refuses: true,
  stalls: true,
} as const;

/** The store of the page. */
async function fixture(load: (directory: string) => Promise<BackendModule>): Promise<Fixture> {
  const { path, dispose } = await temporary();
  const secrets = new Map<string, { readonly value: Buffer; readonly version: number }>();
  const refused = new Set<string>();
  const held = new Set<ServerResponse>();
  let stalls = false;
  let versions = 0;
  const server = createServer((request, response) => {
    const name = decodeURIComponent((request.url ?? "").replace(/^\/secrets\//, ""));
    const secret = secrets.get(name);
    if (stalls) held.add(response);
    else if (request.headers.authorization !== "Bearer the-token") response.writeHead(401).end();
    else if (refused.has(name)) response.writeHead(403).end("canary: no body is shown");
    else if (secret === undefined) response.writeHead(404).end();
    else response.writeHead(200, { "x-version": String(secret.version) }).end(secret.value);
  });
  const listen = (port: number) => new Promise<void>((done) => server.listen(port, "127.0.0.1", done));
  const close = () =>
    new Promise<void>((done) => {
      server.close(() => {
        done();
      });
      server.closeAllConnections();
    });
  const port = await freePort();
  await listen(port);
  const tokenPath = join(path, "token");
  await writeFile(tokenPath, "the-token\n");
  return {
    module: await load(path),
    settings: () => ({ url: `http://127.0.0.1:${port}`, tokenPath }),
    place: (id) => `127.0.0.1:${port}/secrets/${encodeURIComponent(id)}`,
    put: (id, value) => Promise.resolve(void secrets.set(id, { value, version: ++versions })),
    remove: (id) => Promise.resolve(void secrets.delete(id)),
    async outage() {
      await close();
      return () => listen(port);
    },
    refuse: (id) => Promise.resolve((refused.add(id), "denied")),
    stall: () => Promise.resolve(void (stalls = true)),
    async dispose() {
      if (server.listening) await close();
      await dispose();
    },
  };
}

contractSuite("the module of docs/how-to/writing-a-backend.md", traits, () =>
  fixture(async (directory) => {
    await writeFile(join(directory, "my-store.mjs"), codeOf("my-store.mjs"), { mode: 0o644 });
    return loadBackend("./my-store.mjs", directory);
  }),
);

contractSuite("the file of docs/how-to/writing-a-backend.md", traits, () =>
  fixture(async (directory) => {
    await mkdir(join(directory, "backends"));
    const file = join(directory, "backends/my-store.ts");
    await writeFile(
      file,
      codeOf("my-store.ts")
        .replaceAll('"../src/', `"${project}/src/`)
        .replace('"valibot"', `"${project}/node_modules/valibot/dist/index.mjs"`),
    );
    const { default: module } = (await import(/* @vite-ignore */ file)) as { default: BackendModule };
    return module;
  }),
);

test("every code block of the page belongs to one of the two backends", () => {
  const names = blocksOf(page).flatMap(({ language, info }) => (/^[jt]s$/.test(language) ? [info] : []));
  expect(new Set(names)).toEqual(new Set(["my-store.mjs", "my-store.ts"]));
});
