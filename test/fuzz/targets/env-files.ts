import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect } from "vitest";
import { encodeEnvFile, EnvError } from "../../../src/publish/env-file.ts";
import { expectedValue, misread, parseEnvironment, secretValue } from "../../properties/secret-values.ts";
import { text } from "../arbitraries.ts";
import { expectOurs } from "../invariants.ts";
import { target } from "../target.ts";

const id = fc.oneof(
  fc.string({ minLength: 1, maxLength: 6 }),
  fc.constantFrom("PATH", "IFS", "a b", "a-b", "a_b", "1x", "é", "LD_PRELOAD", "PS4", "_", "UID"),
);
const env = fc.oneof(
  { weight: 4, arbitrary: fc.constant(undefined) },
  fc.constant(null),
  fc.constantFrom("A", "B", "HOME", "PATH", "UID", "BASH_X", "1", "_", "OPTIND", "PS1"),
  text,
);
const secret = fc.record({ id, value: secretValue, env, restricted: fc.boolean() });

let place: string | undefined;
afterAll(() => {
  if (place !== undefined) rmSync(place, { recursive: true });
});

/** Variables that dash itself sets. */
const SHELLS_OWN = ["PWD", "OLDPWD"];

export const envFiles = target({
  title: "a shell reads the very bytes from secrets.env under whatever names, or the secret is refused by name",
  weight: 3,
  input: fc.uniqueArray(secret, { maxLength: 40, selector: (value) => value.id }),
  check(secrets) {
    let file;
    try {
      file = encodeEnvFile(secrets);
    } catch (error) {
      expectOurs(error);
      expect(error).toBeInstanceOf(EnvError);
      expect(secrets.map((one) => one.id)).toContain((error as EnvError).id);
      return;
    }
    const promised = new Map<string, Buffer>();
    for (const { id: of, value } of secrets) {
      const name = file.names.get(of);
      if (name !== undefined)
        promised.set(name, expectedValue(value) ?? Buffer.from("a value that no variable can hold"));
    }
    place ??= mkdtempSync(join(tmpdir(), "fuzz-env-"));
    const path = join(place, "secrets.env");
    writeFileSync(path, file.content);
    const shell = spawnSync("/bin/dash", ["-c", 'set -a; . "$1"; set +a; exec /usr/bin/env -0', "sh", path], {
      env: {},
    });
    expect(shell.stderr.toString()).toBe("");
    expect(misread(promised, parseEnvironment(shell.stdout), SHELLS_OWN)).toEqual([]);
  },
});
