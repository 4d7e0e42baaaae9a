import { describe, expect, test } from "vitest";
import { BackendError, type Outcome } from "../../../src/contract/backend.ts";
import { atOnce } from "../../../src/contract/slices.ts";
import { decoding, MOST_KEYS, shaping } from "../../../src/engine/decoding.ts";

const canary = "canary-51d3";
const fetched = (value: string | Buffer): Outcome => ({ status: "value", value: Buffer.from(value), version: "1" });
const shape = (value: string | Buffer, more: object): Outcome =>
  atOnce(shaping(fetched(value), { decode: undefined, join: false, all: false, ...more }, () => "secret/app"));
const text = (outcome: Outcome) =>
  "value" in outcome ? outcome.value.toString("utf8") : "message" in outcome ? outcome.message : outcome.where;

describe("base64", () => {
  test.each([
    ["", ""],
    ["YQ==", "a"],
    ["YWI=", "ab"],
    ["YWJj", "abc"],
    ["YWJj\nYWJj\r\n", "abcabc"],
    [" Y\tW Jj ", "abc"],
  ])("%j", (encoded, value) => {
    expect(text(shape(encoded, { decode: "base64" }))).toBe(value);
  });

  test("decodes all bytes, wrapped as base64(1) does", () => {
    const bytes = Buffer.from(Array.from({ length: 1000 }, (_, index) => (index * 7) % 256));
    for (let length = 990; length < 1000; length += 1) {
      const part = bytes.subarray(0, length);
      expect(atOnce(decoding(Buffer.from(part.toString("base64").replaceAll(/.{76}/g, "$&\n"))))).toEqual(part);
    }
  });

  test.each([
    "YQ",
    "YQ=",
    "YQ===",
    "=",
    "YWJj=",
    "Y=Q=",
    "YQ==YQ==",
    "YR==",
    "YWK=",
    "YW-_",
    "YWJj!",
    `${canary}!`,
    "\ufeffYQ==",
  ])("refuses %j as invalid, without showing the value", (encoded) => {
    const outcome = shape(encoded, { decode: "base64" });
    expect(outcome).toMatchObject({ kind: "invalid", message: "secret/app: is not base64, which `decode` expects" });
  });

  test("decodes a large value in many slices: a stop must not wait for all of it", () => {
    expect([...decoding(Buffer.alloc(1024 * 1024, "A"))].length).toBeGreaterThan(50);
  });

  test("overwrites the text, valid or not", () => {
    for (const encoded of ["YWJj", "YWJ!"]) {
      const outcome = fetched(encoded);
      atOnce(shaping(outcome, { decode: "base64", join: false, all: false }, () => "x"));
      expect("value" in outcome && outcome.value.every((byte) => byte === 0)).toBe(true);
    }
  });
});

describe("join", () => {
  test.each([
    ['["-----BEGIN A-----\\nx\\n-----END A-----","B\\n"]', "-----BEGIN A-----\nx\n-----END A-----\nB\n"],
    ["[]", ""],
  ])("%s", (list, value) => {
    expect(text(shape(list, { join: true }))).toBe(value);
  });
  test.each(['"text"', "{}", `["a", 1]`, canary, "null"])("refuses %s, which is not an array of strings", (value) => {
    expect(text(shape(value, { join: true }))).toBe("secret/app: is not an array of strings, which `join` expects");
  });
});

describe("all", () => {
  test("keeps an object unchanged", () => {
    expect(text(shape('{"a":1}', { all: true }))).toBe('{"a":1}');
  });
  test("ignores an object without keys, and its published set stays", () => {
    expect(shape("{}", { all: true })).toEqual({ status: "missing", where: "no key in secret/app" });
  });
  test.each(["[1]", "1", canary, ""])("refuses %j, which is not an object", (value) => {
    expect(text(shape(value, { all: true }))).toBe("secret/app: is not a JSON object, which `all` expects");
  });
  test("limits the number of keys", () => {
    const keys = Object.fromEntries(Array.from({ length: MOST_KEYS + 1 }, (_, index) => [`k${index}`, 1]));
    expect(text(shape(JSON.stringify(keys), { all: true }))).toContain("has more than 1000 keys");
  });
});

test("passes failures and undecoded values unchanged", () => {
  const failure = new BackendError("denied", "no");
  expect(atOnce(shaping(failure, { decode: "base64", join: false, all: false }, () => "x"))).toBe(failure);
  const value = fetched("YQ==");
  expect(atOnce(shaping(value, { decode: undefined, join: false, all: false }, () => "x"))).toBe(value);
});
