import { describe, expect, test } from "vitest";
import {
  allowsColor,
  isLogFormat,
  isLogLevel,
  type LineStyle,
  type LogFields,
  type LogLevel,
  logLevels,
  openLog,
} from "../../../src/runtime/log.ts";

const json: LineStyle = { format: "json", priority: true };
const journal: LineStyle = { format: "text", priority: true };
const plain: LineStyle = { format: "text" };

function lineOf(style: LineStyle, level: LogLevel, message: string, fields?: LogFields): string {
  const written: string[] = [];
  openLog("trace", style, (line) => written.push(line))[level](message, fields);
  expect(written).toHaveLength(1);
  const [line = ""] = written;
  expect(line.indexOf("\n")).toBe(line.length - 1);
  return line.slice(0, -1);
}

describe("for people", () => {
  test("the journal gets the priority (syslog(3)) and the message, and nothing that it adds itself", () => {
    expect(logLevels.map((level) => lineOf(journal, level, "ready: 2 secrets from folder"))).toEqual(
      [3, 4, 5, 6, 7, 7].map((priority) => `<${priority}>ready: 2 secrets from folder`),
    );
  });

  test("elsewhere a word marks warnings and errors", () => {
    expect(logLevels.map((level) => lineOf(plain, level, "m"))).toEqual([
      "error: m",
      "warning: m",
      "m",
      "m",
      "debug: m",
      "trace: m",
    ]);
  });

  test("a daemon's lines show their time, and in a file the day too", () => {
    expect(lineOf({ ...plain, time: "clock" }, "warn", "m")).toMatch(/^\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d) warning: m$/);
    const dated = lineOf({ ...plain, time: "date" }, "info", "m");
    expect(dated).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d) m$/);
    expect(Math.abs(Date.now() - Date.parse(dated.split(" ")[0] ?? ""))).toBeLessThan(100_000);
  });

  test("only the word has a colour, and good news has none", () => {
    const color = { ...plain, color: true };
    expect(lineOf(color, "error", "m")).toBe("\u001b[31merror: \u001b[0mm");
    expect(lineOf(color, "warn", "m")).toBe("\u001b[33mwarning: \u001b[0mm");
    expect(lineOf(color, "notice", "m")).toBe("m");
    expect(lineOf({ ...journal, color: true }, "error", "m")).toBe("<3>m");
  });

  test.each([
    [{}, true],
    [{ NO_COLOR: "" }, true],
    [{ NO_COLOR: "1" }, false],
    [{ TERM: "xterm" }, true],
    [{ TERM: "dumb" }, false],
  ])("colour with %j: %s", (environment, allowed) => {
    expect(allowsColor(environment)).toBe(allowed);
  });

  test.each<[string, LogFields, string]>([
    ["published 2 changed secrets", { secrets: ["a", "b c"] }, "published 2 changed secrets (a, b c)"],
    // Twice the same is once too often.
    ['secret "a" is in its file only', { secrets: ["a"] }, 'secret "a" is in its file only'],
    ['secret "a" and more', { secrets: ["a", "b"] }, 'secret "a" and more (a, b)'],
    ["taken over", { added: ["a"], removed: [] as string[] }, "taken over (added: a)"],
    ["taken over", { added: ["a"], removed: ["b", "c"] }, "taken over (added: a; removed: b, c)"],
    ["odd", { secrets: ["a, b", "(c)", "", " "] }, 'odd ("a, b", "(c)", "", " ")'],
    ["ready", { directory: "/run/x", notify: "none", n: 1 }, "ready"],
  ])("%s, %j", (message, fields, line) => {
    expect(lineOf(journal, "notice", message, fields)).toBe(`<5>${line}`);
  });

  test("blocks forged entries, other priorities and terminal sequences", () => {
    const line = lineOf(journal, "warn", "a\n<0>b\u001b[2J \u009b \u2028 \u202e", { secrets: ["x\ny", "\r"] });
    expect(line).toBe('<4>a\\n<0>b\\u001b[2J \\u009b \\u2028 \\u202e (x\\ny, "\\r")');
  });

  test.each([
    ["\u0001".repeat(100_000), "\u009f".repeat(10), 5000],
    ["\u{10ffff}".repeat(100_000), '"'.repeat(300), 5000],
    ["m", "\u2028".repeat(80), 5000],
  ])("fits journald's longest line (LineMax=48K of journald.conf(5)): %#", (message, id, count) => {
    const line = lineOf(journal, "warn", message, { secrets: Array.from({ length: count }, () => id) });
    expect(Buffer.byteLength(line)).toBeLessThan(48 * 1024);
    expect(line).toMatch(/… and \d+ more\)$/);
  });
});

describe("for machines", () => {
  const lines = (level: Parameters<typeof openLog>[0], style: LineStyle = json) => {
    const written: string[] = [];
    const log = openLog(level, style, (line) => written.push(line));
    for (const name of ["error", "warn", "notice", "info", "debug", "trace"] as const) log[name](`m-${name}`, { n: 1 });
    return written;
  };

  test("gives each JSON line the priority that journald reads (syslog(3))", () => {
    const written = lines("trace");
    expect(written.map((line) => line.slice(0, 3))).toEqual(["<3>", "<4>", "<5>", "<6>", "<7>", "<7>"]);
    expect(JSON.parse(written[2]?.slice(3) ?? "")).toMatchObject({ level: "notice", message: "m-notice", n: 1 });
    expect(written.every((line) => line.indexOf("\n") === line.length - 1)).toBe(true);
  });

  test.each([
    ["error", 1],
    ["warn", 2],
    ["notice", 3],
    ["info", 4],
    ["trace", 6],
  ] as const)("--log-level %s", (level, count) => {
    expect(lines(level)).toHaveLength(count);
  });

  test("a line outside the journal is one object", () => {
    const [line = ""] = lines("error", { format: "json", color: true });
    expect(JSON.parse(line)).toMatchObject({ level: "error", message: "m-error", n: 1 });
  });

  test("a message with line breaks is one entry of the journal", () => {
    const written: string[] = [];
    openLog("info", json, (line) => written.push(line)).warn('a\n<0>b "c"', { secrets: ["x\ny"] });
    expect(written).toHaveLength(1);
    expect(written[0]?.trimEnd()).not.toContain("\n");
  });

  test.each([
    ["secrets", "a problem", { secrets: Array.from({ length: 5000 }, (_, number) => `secret-${number}-é\n`) }],
    ["text in a message", "\u0001".repeat(100_000), {}],
    ["both", "é".repeat(100_000), { secrets: Array.from({ length: 5000 }, () => "\u0001".repeat(20)) }],
  ])("a line of many %s fits journald's longest, and is complete JSON", (_, message, fields) => {
    const written: string[] = [];
    openLog("info", json, (line) => written.push(line)).warn(message, fields);
    expect(written).toHaveLength(1);
    // LineMax= of journald.conf(5).
    expect(Buffer.byteLength(written[0] ?? "")).toBeLessThan(48 * 1024);
    const line = JSON.parse(written[0]?.slice(3) ?? "") as { message: string; secrets?: string[] };
    expect(line.message.slice(0, 9)).toBe(message.slice(0, 9));
    if (line.secrets === undefined) return;
    expect(line.secrets.at(-1)).toBe(`… and ${5001 - line.secrets.length} more`);
    expect(line.secrets.length).toBeGreaterThan(100);
  });

  test("writes a line that fits whole", () => {
    const written: string[] = [];
    const secrets = Array.from({ length: 500 }, (_, number) => `secret-${number}`);
    openLog("info", json, (line) => written.push(line)).warn("m".repeat(2000), { secrets });
    expect(JSON.parse(written[0]?.slice(3) ?? "")).toMatchObject({ message: "m".repeat(2000), secrets });
  });

  test("recognizes its levels and formats", () => {
    expect([isLogLevel("notice"), isLogLevel("fatal"), isLogFormat("json"), isLogFormat("xml")]).toEqual([
      true,
      false,
      true,
      false,
    ]);
  });
});
