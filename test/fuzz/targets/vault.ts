import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll } from "vitest";
import { configOf } from "../../unit/command-line.ts";
import { json, mutated } from "../arbitraries.ts";
import { CANARY } from "../invariants.ts";
import { target } from "../target.ts";
import { answer, Answering, blurting, bodyOf } from "./server.ts";
import { fetchAll } from "./store.ts";

const secret = `${CANARY} value`;
/** The answers of a real server to each of the calls. */
const answers = {
  mount: { data: { type: "kv", options: { version: "2" }, path: "secret/" }, lease_id: "", lease_duration: 0 },
  version2: {
    data: { data: { a: secret, b: { deep: [secret] } }, metadata: { version: 3, deletion_time: "", destroyed: false } },
    warnings: null,
  },
  version1: { data: { a: secret, b: secret }, lease_id: "", lease_duration: 2764800, renewable: false },
  leased: { data: { a: secret, b: secret }, lease_id: "db/creds/x/1", lease_duration: 60, renewable: true },
  deleted: { data: { data: null, metadata: { version: 3, deletion_time: "2026-01-01T00:00:00Z", destroyed: false } } },
  login: { auth: { client_token: `${CANARY} token`, lease_duration: 60, renewable: true, num_uses: 0, policies: [] } },
  lookup: { data: { ttl: 60, renewable: true, num_uses: 0 } },
  wrapped: { wrap_info: { token: `${CANARY} token`, ttl: 60 }, data: null },
  errors: { errors: [`${CANARY}: permission denied`, "Vault is sealed"] },
} as const;
const keys = [
  "data",
  "metadata",
  "auth",
  "client_token",
  "lease_duration",
  "lease_id",
  "renewable",
  "version",
  "errors",
];

const document = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...Object.values(answers)).map((value): unknown => value) },
  { weight: 4, arbitrary: fc.constantFrom(...Object.values(answers)).chain((value) => mutated(value, json(...keys))) },
  { weight: 1, arbitrary: json(...keys) },
);
/** The requests to a Vault, and its answers. */
export const exchange = fc.record({
  method: fc.constantFrom("token", "approle", "none"),
  kvVersion: fc.constantFrom(undefined, 1, 2),
  written: fc.boolean(),
  answers: fc.array(answer("application/json", bodyOf(document)), { minLength: 1, maxLength: 6 }),
});

const server = new Answering();
let place: string | undefined;
afterAll(() => {
  server.close();
  if (place !== undefined) rmSync(place, { recursive: true });
});

export function settings(url: string, method: string, kvVersion: number | undefined, token = `${CANARY}-token`) {
  place ??= mkdtempSync(join(tmpdir(), "fuzz-vault-"));
  const tokenPath = join(place, "token");
  writeFileSync(tokenPath, token);
  const auth = {
    token: { method, tokenPath },
    approle: { method, roleId: "role", secretIdPath: tokenPath },
    none: { method },
  }[method];
  return {
    url,
    auth,
    path: "app",
    connectTimeout: 2,
    responseTimeout: 2,
    requestTimeout: 3,
    ...(kvVersion && { kvVersion }),
  };
}

export const vaultAnswers = target({
  title: "whatever a Vault answers, there is a value or one line that shows nothing of it",
  weight: 6,
  input: exchange,
  async check({ method, kvVersion, written, answers: said }) {
    server.answers = said;
    server.asked = 0;
    const source = written ? { mount: "pki", path: "issue/x", data: { cn: "x" } } : {};
    const config = configOf({
      backend: "vault",
      config: settings(await server.url(), method, kvVersion),
      secrets: { a: { source }, b: { source: { ...source, key: "b" } } },
    });
    await fetchAll(config, 2);
  },
});

/** The beginning of HTTP, or anything. */
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
  fc
    .tuple(
      fc.constantFrom(
        "HTTP/1.1 200 OK",
        "HTTP/1.0 200",
        "HTTP/1.1 99999 X",
        "HTTP/2 200",
        "ICY 200",
        "HTTP/1.1 302 Found",
      ),
      fc.array(
        fc.constantFrom(
          "Content-Length: 5",
          "Content-Length: -1",
          "Content-Length: 99999999999999999999",
          "Transfer-Encoding: chunked",
          "Content-Type: application/json",
          `Location: /${CANARY}`,
          "Content-Encoding: gzip",
          ": x",
          `X-${CANARY}: ${CANARY}`,
        ),
        { maxLength: 4 },
      ),
      fc.constantFrom("", "{}", `{"data":"${CANARY}"}`, "5\r\n{}", "zz\r\n", "0\r\n\r\n"),
    )
    .map(([line, fields, body]) => Buffer.from(`${[line, ...fields].join("\r\n")}\r\n\r\n${body}`)),
);

export const vaultBytes = target({
  title: "whatever bytes come instead of HTTP, or are in the token's file, one line says so",
  weight: 2,
  input: fc.tuple(bytes, fc.oneof(fc.constant("good"), fc.string({ unit: "binary", maxLength: 9 }))),
  async check([said, token]) {
    const blurter = await blurting(said);
    try {
      const config = configOf({
        backend: "vault",
        config: settings(blurter.url, "token", 2, `${CANARY}${token}`),
        secrets: { a: {} },
      });
      await fetchAll(config, 1);
    } finally {
      blurter.close();
    }
  },
});
