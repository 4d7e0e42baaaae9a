/** Names that every JavaScript object has by itself. An operator may give them to a secret, a key or a variable. */
import { expect, test } from "vitest";
import { loadBackend } from "../../../backends/index.ts";
import type { Outcome } from "../../../src/contract/backend.ts";
import { openStore } from "../../../src/engine/store.ts";
import { encodeEnvFile } from "../../../src/publish/env-file.ts";
import { configOf } from "../command-line.ts";
import { recordingLog } from "../fakes.ts";

const names = ["constructor", "__proto__", "prototype", "toString", "hasOwnProperty", "valueOf", "then", "length"];
const table = <T>(value: (name: string) => T) => Object.fromEntries(names.map((name) => [name, value(name)]));
const textOf = (outcome: Outcome | undefined) =>
  outcome !== undefined && "value" in outcome ? outcome.value.toString() : outcome;

async function fetched(json: object, ids: readonly string[]) {
  const store = await openStore(configOf(json), recordingLog(), Math.random);
  const outcomes = await store.fetch(ids, new AbortController().signal);
  await store.close();
  return Object.fromEntries([...outcomes].map(([id, outcome]) => [id, textOf(outcome)]));
}

test("as ids of secrets: each gets its own value", async () => {
  const values = table((name) => `value of ${name}`);
  const secrets = table(() => ({}));
  const config = { allowInsecure: true, values };
  expect(await fetched({ backend: "static", config, secrets }, names)).toEqual(values);
});

test("as ids missing in the store: missing, never a JavaScript built-in", async () => {
  const config = { allowInsecure: true, values: {} };
  const outcomes = await fetched({ backend: "static", config, secrets: table(() => ({})) }, names);
  for (const name of names) expect(outcomes[name]).toMatchObject({ status: "missing" });
});

test("as variables of a command's environment", async () => {
  const script = names.map((name) => `printf '%s,' "$${name}"`).join(";");
  const config = { command: ["sh", "-c", script], environment: table((name) => `value of ${name}`) };
  expect(await fetched({ backend: "command", config, secrets: { all: { source: { args: [] } } } }, ["all"])).toEqual({
    all: names.map((name) => `value of ${name},`).join(""),
  });
});

test("as data written to a path of Vault", async () => {
  const vault = await loadBackend("vault", "/");
  const settings = vault.parseSettings({ url: "http://127.0.0.1", tokenPath: "/token" });
  const data = table((name) => ({ [name]: 1 }));
  expect(vault.parseSource("id", { path: "pki/issue/app", data }, settings)).toMatchObject({ place: { data } });
});

test("as variables of secrets.env", () => {
  const { content } = encodeEnvFile(
    names.map((id) => ({ id, value: Buffer.from(`value of ${id}`), env: undefined, restricted: false })),
  );
  expect(content.toString()).toBe(names.map((name) => `${name}='value of ${name}'\n`).join(""));
});

test.each([
  [
    { backend: "command", config: { command: ["x"], environment: { constructor: 1 } } },
    "config.environment.constructor",
  ],
  [{ backend: "command", config: { command: ["x"], environment: { "a b": "1" } } }, 'config.environment["a b"]'],
  [{ backend: "static", config: { allowInsecure: true, values: { prototype: 1 } } }, "config.values.prototype"],
])("names a wrong value by its full path: %j", async (json, path) => {
  const opening = openStore(configOf({ ...json, secrets: { a: {} } }), recordingLog(), Math.random);
  await expect(opening).rejects.toMatchObject({ path });
});
