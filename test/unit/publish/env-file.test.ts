import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { checkEnvNames, deriveName } from "../../../src/config/env-names.ts";
import {
  encodeEnvFile,
  EnvError,
  MAX_FILE_BYTES,
  MAX_VARIABLE_BYTES,
  type EnvRequest,
} from "../../../src/publish/env-file.ts";
import { isSpecialName, nameProblem } from "../../../src/config/env-names.ts";
import { ConfigError } from "../../../src/contract/errors.ts";
import { needs } from "../../requirements.ts";

const CANARY = "canary-7Zq1";

function request(id: string, value: string | Buffer, rest: Partial<EnvRequest> = {}): EnvRequest {
  return { id, value: Buffer.from(value), env: undefined, restricted: false, ...rest };
}

function encode(...requests: EnvRequest[]) {
  const { content, names, leftOut } = encodeEnvFile(requests);
  return { content: content.toString(), names: Object.fromEntries(names), leftOut: Object.fromEntries(leftOut) };
}

function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

describe("encodeEnvFile", () => {
  test("has one plain line for each secret, in the order of the configuration", () => {
    const file = encode(
      request("b", "2", { env: "EXPLICIT" }),
      request("a-key", "1"),
      request("c", "3", { env: null }),
    );
    expect(file).toEqual({
      content: "EXPLICIT='2'\na_key='1'\n",
      names: { b: "EXPLICIT", "a-key": "a_key" },
      leftOut: {},
    });
    expect(Object.keys(file.names)).toEqual(["b", "a-key"]);
  });

  test("keeps a quote in a password inside the value", () => {
    expect(encode(request("a", "'it's'")).content).toBe(`a=''"'"'it'"'"'s'"'"''\n`);
  });

  test("has the value of $(cat file): without newlines at its end, with all else", () => {
    const { content } = encode(
      request("a", "x\n\n"),
      request("b", "x\r\n"),
      request("c", "\n"),
      request("d", " \n\t\n"),
    );
    expect(content).toBe("a='x'\nb='x\r'\nc=''\nd=' \n\t'\n");
  });

  test("is empty without secrets", () => {
    expect(encode().content).toBe("");
  });

  const unfit: readonly [string, Buffer, RegExp][] = [
    ["a NUL byte", Buffer.from(`${CANARY}\0`), /NUL/],
    ["binary", Buffer.concat([Buffer.from(CANARY), Buffer.from([0xff])]), /UTF-8/],
    ["a noncharacter", Buffer.from(`${CANARY}\uFDD0`), /noncharacter/],
    ["128 KiB", Buffer.alloc(MAX_VARIABLE_BYTES, CANARY), /131071/],
  ];
  test.each(unfit)("a value with %s does not cost the service its other variables", (_, value, reason) => {
    const file = encode(request("bad", value), request("good", "1"));
    expect(file.content).toBe("good='1'\n");
    expect(file.names).toEqual({ good: "good" });
    expect(file.leftOut["bad"]).toMatch(reason);
    expect(file.leftOut["bad"]).not.toContain(CANARY);
    expect(file.leftOut["bad"]).not.toContain("\n");
  });

  test.each(unfit)("an error names the secret whose explicit variable cannot hold %s", (_, value, reason) => {
    const error = thrown(() => encode(request('my "id"\n', value, { env: "BAD" })));
    expect(error).toBeInstanceOf(EnvError);
    const { id, message } = error as EnvError;
    expect(id).toBe('my "id"\n');
    expect(message).toMatch(/^secret "my \\"id\\"\\n": [^\n]+$/);
    expect(message).toMatch(reason);
    expect(message).not.toContain(CANARY);
  });

  test("a value may hold each character but the noncharacters of Unicode, in each plane", () => {
    const codes = [0xfdcf, 0xfdd0, 0xfdd1, 0xfdee, 0xfdef, 0xfdf0, 0x0fff, 0x2ffd];
    for (let plane = 0; plane <= 16; plane += 1)
      codes.push(...[0xfffc, 0xfffd, 0xfffe, 0xffff].map((last) => plane * 0x10000 + last));
    for (const code of codes) {
      const isNone = (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xffff) >= 0xfffe;
      const file = encode(request("a", `é${String.fromCodePoint(code)}z`));
      expect([code.toString(16), Object.keys(file.names)]).toEqual([code.toString(16), isNone ? [] : ["a"]]);
    }
  });

  test("has the kernel's limit", () => {
    const start = (bytes: number) => spawnSync("true", { env: { A: "x".repeat(bytes - 2) } }).error;
    expect(start(MAX_VARIABLE_BYTES)).toBeUndefined();
    expect(start(MAX_VARIABLE_BYTES + 1)).toMatchObject({ code: "E2BIG" });
    const value = (bytes: number) => Buffer.alloc(bytes - 2, "x");
    expect(encode(request("A", value(MAX_VARIABLE_BYTES))).names).toEqual({ A: "A" });
    expect(encode(request("A", value(MAX_VARIABLE_BYTES + 1))).names).toEqual({});
  });

  test("stays within 1 MiB as written, and explicit variables come first", () => {
    const quotes = "'".repeat(50_000); // 250,000 bytes as written
    const derived = ["d1", "d2", "d3", "d4"].map((id) => request(id, quotes));
    const file = encode(...derived, request("small", "1"), request("e", quotes, { env: "E" }));
    expect(Buffer.byteLength(file.content)).toBeLessThanOrEqual(MAX_FILE_BYTES);
    expect(Object.keys(file.names)).toEqual(["d1", "d2", "d3", "small", "e"]);
    expect(file.leftOut).toEqual({ d4: "secrets.env would be over 1 MiB" });
    const explicit = Array.from("ABCDE", (id) => request(id, quotes, { env: id }));
    expect(thrown(() => encode(...explicit))).toMatchObject({ id: "E", reason: "secrets.env would be over 1 MiB" });
  });

  test("has up to 1 MiB, and leaves out a secret that needs one byte more", () => {
    // Of each line, the name, ='' and the newline are seven bytes.
    const full = Array.from({ length: 11 }, (_, index) => request(`s${index + 10}`, Buffer.alloc(95_000, "x")));
    const rest = MAX_FILE_BYTES - full.length * (95_000 + 7) - 7;
    const last = (bytes: number) => request("s99", Buffer.alloc(bytes, "x"));
    expect(Buffer.byteLength(encode(...full).content)).toBe(full.length * (95_000 + 7));
    expect(Buffer.byteLength(encode(...full, last(rest)).content)).toBe(MAX_FILE_BYTES);
    expect(encode(...full, last(rest + 1)).leftOut).toEqual({ s99: "secrets.env would be over 1 MiB" });
  });

  test("an error names both secrets that use the same variable", () => {
    const error = thrown(() => encode(request("a", "1", { env: "SAME" }), request("b", "2", { env: "SAME" })));
    expect(error).toBeInstanceOf(EnvError);
    expect(error).toMatchObject({ id: "b", reason: 'its variable is also that of secret "a"' });
  });

  test("leaves a derived name to others when a secret has its own variable, or none", () => {
    const file = encode(request("a.b", "1", { env: "OWN" }), request("a_b", "2", { env: null }), request("a-b", "3"));
    expect(file.content).toBe("OWN='1'\na_b='3'\n");
    expect(Object.keys(file.leftOut)).toEqual([]);
  });

  test.each([
    ["\u{FDCF}", true],
    ["\u{FDD0}", false],
    ["\u{FDEF}", false],
    ["\u{FDF0}", true],
    ["\u{FFFD}", true],
    ["\u{FFFE}", false],
    ["\u{10FFFD}", true],
    ["\u{10FFFF}", false],
  ])("%j is in the file: %j, as systemd reads it", (text, fits) => {
    expect(Object.keys(encode(request("a", text)).names)).toEqual(fits ? ["a"] : []);
  });

  test("leaves out both ids that derive the same name", () => {
    const file = encode(request("a.b", "1"), request("a-b", Buffer.from([0xff])), request("c", "3"));
    expect(file.names).toEqual({ c: "c" });
    expect(file.leftOut["a.b"]).toMatch(/a_b.*"a-b"/);
    expect(file.leftOut["a-b"]).toMatch(/a_b.*"a\.b"/);
  });

  test("prefers an explicit name to a derived one", () => {
    const file = encode(request("a.b", "1"), request("x", "2", { env: "a_b" }));
    expect(file.content).toBe("a_b='2'\n");
    expect(file.leftOut["a.b"]).toMatch(/a_b.*"x"/);
  });

  test.each<[string, Partial<EnvRequest>[]]>([
    ["an explicit one", [{ id: "B" }, { id: "x", env: "B" }]],
    ["another derived one", [{ id: "a-b" }, { id: "a_b" }]],
  ])("reserves a name for a missing optional secret of %s: no rotation moves a variable", (_, [first, second]) => {
    const other = (value: Buffer | undefined) => ({ ...request("", ""), ...second, value });
    const missing = encode({ ...request("", "1"), ...first }, other(undefined));
    const there = encode({ ...request("", "1"), ...first }, other(Buffer.from("2")));
    expect(missing.content).toBe("");
    expect(missing.names).toEqual({});
    expect(missing.leftOut[first?.id ?? ""]).toBe(there.leftOut[first?.id ?? ""]);
    expect(there.names[first?.id ?? ""]).toBeUndefined();
    expect(missing.leftOut[second?.id ?? ""]).toBeUndefined();
  });

  test("shows a secret for one owner to others only in an explicit variable", () => {
    const file = encode(
      request("mine", CANARY, { restricted: true }),
      request("m-ine", "1", { restricted: true, env: "MINE" }),
      // The other's name is not taken by one that is in no file.
      request("a.b", CANARY, { restricted: true }),
      request("a-b", "2"),
    );
    expect(file.content).toBe("MINE='1'\na_b='2'\n");
    expect(file.leftOut["mine"]).toMatch(/owner.*explicit env/);
  });

  test("never makes a secret PATH or LD_PRELOAD by its id alone", () => {
    const ids = ["PATH", "LD_PRELOAD", "NODE_OPTIONS", "IFS", "BASH_ENV", "NOTIFY_SOCKET", "UID", "-", "HOME"];
    const file = encode(...ids.map((id) => request(id, CANARY)));
    expect(file.content).toBe("");
    expect(Object.keys(file.leftOut)).toEqual(ids);
    for (const reason of Object.values(file.leftOut)) expect(reason).toMatch(/explicit env/);
    expect(encode(request("x", "/bin", { env: "PATH" })).content).toBe("PATH='/bin'\n");
  });

  test.each(["A B", "1A", "", "A=B", "A\n", "é", "UID", "_"])("never contains the name %j", (env) => {
    expect(thrown(() => encode(request("a", CANARY, { env })))).toBeInstanceOf(EnvError);
  });

  test("does not share the file's buffer with other values", () => {
    const { content } = encodeEnvFile([request("a", "1")]);
    expect(content.buffer.byteLength).toBe(content.length);
  });
});

describe("deriveName", () => {
  test.each([
    ["db_password", "db_password"],
    ["db-password", "db_password"],
    ["tls key.pem", "tls_key_pem"],
    ["1st", "_1st"],
    ["é😀x", "__x"],
    ["..a", "__a"],
  ])("%j is %s", (id, name) => {
    expect(deriveName(id)).toBe(name);
  });

  test.each(["MAILGUN_API_KEY", "RUBYGEMS_API_KEY", "db_password", "PASSWORD", "AWS_SECRET_ACCESS_KEY", "TOKEN"])(
    "accepts %s without an explicit env",
    (name) => {
      expect(isSpecialName(name)).toBe(false);
    },
  );
});

describe("checkEnvNames", () => {
  const check = (secrets: Record<string, string | null | undefined>): unknown =>
    thrown(() => {
      checkEnvNames(Object.entries(secrets).map(([id, env]) => ({ id, env })));
    });

  test("accepts a good table", () => {
    expect(() => {
      checkEnvNames([
        { id: "a", env: "A" },
        { id: "b", env: "PATH" },
        { id: "c", env: null },
        { id: "d.e", env: undefined },
        { id: "d-e", env: undefined },
      ]);
    }).not.toThrow();
  });

  test("an error names the option, and does not show a secret in place of a name", () => {
    const error = check({ ok: "OK", "my key": `${CANARY}=!` });
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ path: 'secrets["my key"].env' });
    expect((error as ConfigError).message).not.toContain(CANARY);
  });

  test("refuses one variable for two secrets", () => {
    expect(check({ a: "SAME", b: "SAME" })).toMatchObject({
      path: "secrets.b.env",
      problem: "is the same as secrets.a.env",
    });
  });

  test.each(["UID", "_", "RANDOM", "BASH_COMPAT", "OPTIND"])("refuses %s before anything starts", (env) => {
    expect(check({ a: env })).toMatchObject({ path: "secrets.a.env" });
  });
});

needs("bash", "dash").describe("names with a meaning in shells", () => {
  const shells = [["dash"], ["bash"], ["bash", "--posix"]] as const;

  /** What each shell makes of NAME='value': the value itself, or something else. */
  function readBack(name: string, value: string): { value: string | undefined; stderr: string }[] {
    const directory = mkdtempSync(join(tmpdir(), "env-names-"));
    onTestFinished(() => {
      rmSync(directory, { recursive: true });
    });
    const file = join(directory, "env");
    writeFileSync(file, `${name}='${value}'\n`);
    return shells.map(([program, ...options]) => {
      const script = 'set -a; . "$1"; exec /usr/bin/env -0';
      const shell = spawnSync(program, [...options, "-c", script, "sh", file], {
        stdio: ["ignore", "pipe", "pipe"],
        encoding: "utf8",
      });
      const line = shell.stdout.split("\0").find((assignment) => assignment.startsWith(`${name}=`));
      return { value: line?.slice(name.length + 1), stderr: shell.stderr };
    });
  }

  test("passes every variable of bash unchanged, or refuses it as an explicit name", () => {
    const known = spawnSync("bash", ["-c", "compgen -v"], {
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
      env: {},
    })
      .stdout.trim()
      .split("\n");
    expect(known).toContain("BASHOPTS");
    for (const name of known.filter((candidate) => nameProblem(candidate) === undefined)) {
      for (const { value, stderr } of readBack(name, CANARY))
        expect({ name, value, stderr }).toMatchObject({ value: CANARY, stderr: "" });
      expect(isSpecialName(name), name).toBe(true);
    }
  });

  test.each(
    (
      "UID EUID PPID SHELLOPTS BASHOPTS BASHPID _ SHLVL OPTIND LINENO RANDOM SRANDOM SECONDS EPOCHSECONDS EPOCHREALTIME " +
      "HISTCMD COMP_WORDBREAKS DIRSTACK FUNCNAME GROUPS PIPESTATUS BASH_VERSINFO BASH_ARGV BASH_COMPAT BASH_XTRACEFD"
    ).split(" "),
  )("refuses %s for a reason: some shell loses its value or shows it", (name) => {
    expect(nameProblem(name)).toBeDefined();
    const lost = readBack(name, CANARY).some(({ value, stderr }) => value !== CANARY || stderr !== "");
    expect(lost).toBe(true);
  });
});
