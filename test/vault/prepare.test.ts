/** What a start asks while the output is prepared. If these fail, it asks twice, or a login is left behind. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { temporary } from "../contract/temporary.ts";
import { until } from "../contract/until.ts";
import { Canaries, openVault, textOf } from "./opened.ts";
import { reply, StandIn } from "./stand-in.ts";

const mounts = "/v1/sys/internal/ui/mounts/secret";
const secret = "/v1/secret/data/app";
let server: StandIn;
let canaries: Canaries;
let tokenPath: string;

beforeEach(async () => {
  const { path, dispose } = await temporary();
  onTestFinished(dispose);
  server = await StandIn.start();
  canaries = new Canaries();
  server.data = { id: canaries.add("canary-value-5102") };
  tokenPath = join(path, "token");
  await writeFile(tokenPath, canaries.add("canary-token-8831"));
});

const asked = () => server.asked.map(({ path }) => path);
const open = async (settings: object = { tokenPath }) =>
  await openVault({ url: server.url, path: "app", ...settings }, canaries);

test("asks for the mount, and the fetch does not ask again", async () => {
  const observed = await open();
  observed.backend.prepare?.(observed.requests("id"));
  await until(() => asked().length > 0);
  expect(asked()).toEqual([mounts]);
  expect(await textOf(observed, "id")).toBe(server.data["id"]);
  // The look-up of the token comes after the secret.
  expect(asked().slice(0, 2)).toEqual([mounts, secret]);
  await until(() => asked().length === 3);
  expect(asked()[2]).toBe("/v1/auth/token/lookup-self");
});

test("a failure is asked about again by the fetch, and said by it alone", async () => {
  server.answering = ({ path }, response) => {
    if (path !== mounts || asked().length > 1) return false;
    reply(response, 500, { errors: [] });
    return true;
  };
  const observed = await open();
  observed.backend.prepare?.(observed.requests("id"));
  await until(() => asked().length > 0);
  await until(async () => (await textOf(observed, "id").catch(() => "")) === server.data["id"]);
  expect(asked().filter((path) => path === mounts).length).toBe(2);
});

test.each([
  ["a login", { auth: { method: "jwt", jwtPath: "/dev/null", role: "app" } }],
  ["a known version of the mount", { kvVersion: 2 }],
])("asks nothing where there is %s", async (_, settings) => {
  const observed = await open("auth" in settings ? settings : { tokenPath, ...settings });
  observed.backend.prepare?.(observed.requests("id"));
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(asked()).toEqual([]);
});

test("its end ends the question", async () => {
  server.answering = () => true;
  const observed = await open();
  observed.backend.prepare?.(observed.requests("id"));
  await until(() => asked().length > 0);
  await observed.backend.close?.();
  expect(asked()).toEqual([mounts]);
});

test("the fetch takes the token that was read for the question, and the next one reads its file again", async () => {
  const observed = await open();
  observed.backend.prepare?.(observed.requests("id"));
  await until(() => asked().length > 0);
  await rm(tokenPath);
  expect(await textOf(observed, "id")).toBe(server.data["id"]);
  await expect(textOf(observed, "id")).rejects.toMatchObject({ kind: "unavailable" });
});

test("a token that was replaced meanwhile, and is refused, is read again", async () => {
  const next = canaries.add("canary-token-9127");
  server.answering = ({ path, headers }, response) => {
    if (path === mounts || headers["x-vault-token"] === next) return false;
    reply(response, 403, { errors: ["permission denied"] });
    return true;
  };
  const observed = await open();
  observed.backend.prepare?.(observed.requests("id"));
  await until(() => asked().length > 0);
  await writeFile(tokenPath, next);
  expect(await textOf(observed, "id")).toBe(server.data["id"]);
});

test("a token that comes only after the question is taken by the fetch", async () => {
  await rm(tokenPath);
  const observed = await open();
  observed.backend.prepare?.(observed.requests("id"));
  await new Promise((resolve) => setTimeout(resolve, 100));
  await writeFile(tokenPath, canaries.add("canary-token-5530"));
  expect(await textOf(observed, "id")).toBe(server.data["id"]);
});
