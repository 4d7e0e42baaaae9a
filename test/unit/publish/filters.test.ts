/** Real readers of a format read back the value that a template's filter writes. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { needs } from "../../requirements.ts";
import { encodeEnvFile } from "../../../src/publish/env-file.ts";
import { filtered, filterNames, refusalOf } from "../../../src/publish/filters.ts";

const values = [
  "plain",
  "",
  `it's "quoted" \\ and \`run\` $HOME %(x)s %% #; = <&> {{a}} ü🔑`,
  "two\nlines\r\n\tand tabs",
  "\u0001\u007f\u2028",
  " spaces around ",
  "-----BEGIN KEY-----\nAAAA\n-----END KEY-----",
  "ends in a backslash\\",
  "ends in a line end\n",
  "a\rb",
  "$HOME",
  "${HOME}",
  "$5, $$ and $",
  "\u0080\u0085\u009f\u00a0Â",
];
const written = (filter: string, value: string) => filtered(filter, Buffer.from(value)).toString("utf8");
const accepted = (filter: string) => values.filter((value) => refusalOf(filter, Buffer.from(value)) === undefined);

/** Runs a program of Python's, which has the written text in a file, and prints what it reads as JSON. */
function python(program: string, text: string): unknown {
  const directory = mkdtempSync(join(tmpdir(), "fetcher-filters-"));
  try {
    const file = join(directory, "file");
    writeFileSync(file, text);
    return JSON.parse(execFileSync("python3", ["-c", program, file], { encoding: "utf8" }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test.each(filterNames)("%s writes a character in the same way among few as among many that it replaces", (filter) => {
  for (const value of values.filter((one) => refusalOf(filter, Buffer.from(one)) === undefined)) {
    const around = written(filter, "").length / 2;
    const inside = (text: string) => written(filter, text).slice(around, around === 0 ? undefined : -around);
    const plain = "a".repeat(100);
    const sparse = Array.from(value, (character) => inside(character + plain).slice(0, -plain.length));
    expect(inside(value.repeat(3)), value).toBe(sparse.join("").repeat(3));
  }
});

test.each([
  ["json", '"'],
  ["json", "\u0085"],
  ["sh", "'"],
  ["url", "!#$%&'()*+,/:;=?@[]"],
  ["ini", "%"],
])("%s: looks at a value of many %s once, and does not search for each of them", (filter, character) => {
  const value = Buffer.from(character.repeat(100_000));
  const searches = vi.spyOn(value, "indexOf");
  expect(filtered(filter, value).length).toBeGreaterThan(value.length);
  // A search takes the executable a microsecond, and a MiB has a million bytes.
  expect(searches.mock.calls.length).toBeLessThan(value.length / 8);
});

test("each refuses its unsupported values", () => {
  const refused = Object.fromEntries(
    filterNames.map((name) => [
      name,
      values.flatMap((value, index) => (accepted(name).includes(value) ? [] : [index])),
    ]),
  );
  expect(refused).toEqual({
    json: [],
    sh: [],
    url: [],
    ini: [3, 4, 5, 6, 8, 9],
    line: [3, 6, 8, 9],
    dotenv: [2, 3, 7, 9, 10, 11],
  });
});

test.each(values)(
  "sh: a shell reads %j as one word, with the same quotes as in secrets.env, which systemd reads",
  (value) => {
    const text = execFileSync("sh", ["-c", `printf %s ${written("sh", value)}`], { encoding: "utf8" });
    expect(text).toBe(value);
    const line = encodeEnvFile([{ id: "a", value: Buffer.from(value), env: undefined, restricted: false }]).content;
    // There the last line end does not belong to the value.
    expect(line.toString("utf8")).toBe(`a=${written("sh", value.replace(/\n$/, ""))}\n`);
  },
);

test.each(values)("json, url: %j reads back here", (value) => {
  expect(JSON.parse(written("json", value))).toBe(value);
  expect(decodeURIComponent(written("url", value))).toBe(value);
  const url = new URL(`postgres://u:${written("url", value)}@host/?p=${written("url", value)}`);
  expect(decodeURIComponent(url.password)).toBe(value);
  expect(url.searchParams.get("p")).toBe(value);
  expect(url.host).toBe("host");
});

test("json, sh, url: 1 MiB of every ASCII character reads back here, and in a file", () => {
  const ascii = Array.from({ length: 127 }, (_, index) => String.fromCharCode(index + 1)).join("");
  const value = ascii.repeat(Math.ceil(2 ** 20 / ascii.length));
  expect(JSON.parse(written("json", value)) === value).toBe(true);
  expect(decodeURIComponent(written("url", value)) === value).toBe(true);
  const directory = mkdtempSync(join(tmpdir(), "fetcher-filters-"));
  try {
    const file = join(directory, "sh");
    writeFileSync(file, `a=${written("sh", value)}\nprintf %s "$a"`);
    expect(execFileSync("sh", [file], { encoding: "utf8", maxBuffer: 2 ** 22 }) === value).toBe(true);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

needs("python").describe("Python reads", () => {
  test.each(values)("json: %j", (value) => {
    expect(python("import json,sys; print(json.dumps(json.load(open(sys.argv[1]))))", written("json", value))).toBe(
      value,
    );
  });

  test.each(values)("url: %j, as a password and in a query", (value) => {
    const text = written("url", value);
    const program =
      "import json,sys; from urllib.parse import parse_qs,unquote,urlsplit; u=urlsplit(open(sys.argv[1],newline='').read()); " +
      "print(json.dumps([unquote(u.password), parse_qs(u.query,keep_blank_values=True)['p'][0], u.hostname]))";
    expect(python(program, `postgres://u:${text}@host/db?p=${text}`)).toEqual([value, value, "host"]);
  });

  test("ini: all that configparser supports, with its interpolation", () => {
    const lines = accepted("ini").map((value, index) => `k${index} = ${written("ini", value)}\n`);
    const program =
      "import configparser,json,sys; c=configparser.ConfigParser(); c.read(sys.argv[1],encoding='utf8'); print(json.dumps(list(dict(c['s']).values())))";
    expect(python(program, `[s]\n${lines.join("")}`)).toEqual(accepted("ini"));
  });
});

needs("jq").test("json: jq reads each value as it is", () => {
  for (const value of values) {
    const read = execFileSync("jq", ["-j", ".p"], { input: `{"p": ${written("json", value)}}`, encoding: "utf8" });
    expect(read).toBe(value);
  }
});

describe("lines of NAME=value", () => {
  test("line: the value extends to the end of the line, as for docker run --env-file", () => {
    for (const value of accepted("line")) expect(written("line", value)).toBe(value);
  });

  test("dotenv: Node reads each value as it is", () => {
    const directory = mkdtempSync(join(tmpdir(), "fetcher-filters-"));
    try {
      const file = join(directory, ".env");
      writeFileSync(
        file,
        accepted("dotenv")
          .map((value, index) => `K${index}=${written("dotenv", value)}\n`)
          .join(""),
      );
      const program =
        "console.log(JSON.stringify(Object.keys(process.env).filter((k) => /^K\\d/.test(k)).map((k) => process.env[k])))";
      const read = execFileSync(process.execPath, [`--env-file=${file}`, "-e", program], { encoding: "utf8" });
      expect((JSON.parse(read) as string[]).sort()).toEqual([...accepted("dotenv")].sort());
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("json: no character that YAML takes for a line end stays in it", () => {
    expect(written("json", "\u0085Å\u0080\u009f\u00a0")).toBe(String.raw`"\u0085Å\u0080\u009f` + '\u00a0"');
  });
});
