import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { byNumber, factsIn, judge, type SidecarStatus } from "../../../src/cli/sidecars.ts";
import { metrics, metricsText } from "../../../src/cli/status-metrics.ts";
import { statusTable } from "../../../src/cli/status-table.ts";
import { type Facts, FACTS, factsFile, readFacts } from "../../../src/engine/facts.ts";
import { cache } from "../../e2e/boot.ts";
import { project } from "../../markdown.ts";
import { needs } from "../../requirements.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { configOf } from "../command-line.ts";
import { temporary } from "../../contract/temporary.ts";

const now = new Date("2026-03-04T12:00:00.000Z");
const at = (seconds: number) => new Date(now.getTime() + seconds * 1000).toISOString();

function facts(more: Partial<Facts> = {}): Facts {
  return {
    ...{ program: "0.1.0", unit: "app-secrets.service", services: ["app.service"], backend: "vault", state: "ready" },
    ...{ secrets: 3, wanted: 3, startedAt: at(-4000), checkedAt: at(-12), nextLookAt: at(48), leaseEndsAt: at(7200) },
    ...{ failingSince: null, problem: null, rotations: 2, publishedAt: at(-60), actions: 2, actionsFailed: 0 },
    ...more,
  };
}

function sidecar(name: string, more: Partial<SidecarStatus> = {}): SidecarStatus {
  const unit = `${name}-secrets.service`;
  return { name, unit, services: [`${name}.service`], state: "ok", problem: null, facts: facts({ unit }), ...more };
}

const why =
  'vault: secret "db_password": permission denied for secret/data/app at https://vault.example.org:8200 (403): the policy of its token does not allow "read" there; the published values stay in use, since 11:40:02Z';

describe("the table", () => {
  const ten = Array.from({ length: 10 }, (_, index) => sidecar(`application-${index}`));
  const broken = sidecar("application-4", { state: "failed", problem: why });
  const all = ten.map((one) => (one.name === broken.name ? broken : one));

  test("ten sidecars, one broken, fit a screen of 80 by 24, and the table says what is wrong", () => {
    const text = statusTable(all, { now, version: "0.1.0", color: false, columns: 80 });
    const lines = text.split("\n");
    expect(lines.length).toBeLessThanOrEqual(24);
    expect(lines.filter((line) => line.length > 80)).toEqual([]);
    expect(lines[1]).toMatch(/^application-0 +vault +3 +ok +12 s ago +48 s +2 h +0\.1\.0$/);
    expect(text).toContain("permission denied for secret/data/app");
    expect(lines[5]).toMatch(/^application-4 +vault +3 +failed +- +- +- +0\.1\.0$/);
  });

  test.each([20, 40, 60, 80, 200])(
    "a screen of %i columns breaks no line of the table, and keeps each state",
    (columns) => {
      const long = sidecar("a-service-with-a-name-that-is-rather-long", { state: "trouble" });
      const lines = statusTable([...all, long], { now, version: "0.1.0", color: false, columns }).split("\n");
      const rows = lines.filter((line) => line !== "" && !line.startsWith("  "));
      expect(rows).toHaveLength(12);
      // The name and the state at least.
      expect(rows.filter((row) => row.length > Math.max(columns, 34))).toEqual([]);
      for (const row of rows.slice(1)) expect(row).toMatch(/ (?:ok|failed|trouble)\b/);
      if (columns === 200) expect(rows.join("\n")).toMatch(/^a-service-with-a-name-that-is-rather-long .* 0\.1\.0$/m);
    },
  );

  test("keeps long names whole where a program reads it", () => {
    const name = "n".repeat(200);
    expect(statusTable([sidecar(name)], { now, version: "0.1.0", color: false, columns: undefined })).toContain(name);
  });

  test("has colours on request, and breaks no line for a program", () => {
    const color = statusTable(all, { now, version: "0.1.0", color: true, columns: 80 });
    const plain = statusTable(all, { now, version: "0.1.0", color: false, columns: undefined });
    expect(color).toContain("\u001b[31mfailed\u001b[0m");
    expect(plain).not.toContain("\u001b");
    expect(plain).toContain(`\n  ${why}\n`);
  });

  test("contains no control characters for the terminal", () => {
    const evil = sidecar("evil", { problem: "\u001b[2J", facts: facts({ backend: "/x\u001b.mjs" }) });
    expect(statusTable([evil], { now, version: "0.1.0", color: false, columns: 80 })).not.toContain("\u001b");
  });

  test("breaks no line on a terminal without a known size", () => {
    expect(statusTable(all, { now, version: "0.1.0", color: false, columns: 0 })).toContain(`\n  ${why}\n`);
  });

  test("sorts app9 before app10", () => {
    expect(["app10", "app9", "app", "b"].sort(byNumber)).toEqual(["app", "app9", "app10", "b"]);
  });

  test("a host without sidecars gets a line that says so", () => {
    expect(statusTable([], { now, version: "0.1.0", color: false, columns: 80 })).toMatch(/^no sidecar on this host/);
  });
});

describe("the state of a sidecar", () => {
  const failed = { ActiveState: "failed", SubState: "failed", Result: "exit-code", ExecMainStatus: "77" };
  test.each([
    ["is ok when it runs", facts(), { ActiveState: "active" }, ["ok", null]],
    ["is trouble with a problem", facts({ problem: "x" }), { ActiveState: "active" }, ["trouble", "x"]],
    [
      "is starting while it waits",
      facts({ state: "starting", problem: "waiting for vault" }),
      { ActiveState: "activating" },
      ["starting", "waiting for vault"],
    ],
    [
      "is failed with old facts",
      facts(),
      { ...failed, StatusText: "no" },
      ["failed", "exit 77, the store refuses us: no"],
    ],
    [
      "is failed without its program",
      undefined,
      { ...failed, ExecMainStatus: "203" },
      ["failed", "exit 203, systemd cannot run the program"],
    ],
    ["is failed for an unknown exit status", undefined, { ...failed, ExecMainStatus: "9" }, ["failed", "exit 9"]],
    ["is failed after a hang", undefined, { ...failed, Result: "watchdog" }, ["failed", "ended by watchdog"]],
    [
      "is failed for want of memory",
      undefined,
      { ...failed, Result: "oom-kill", ExecMainStatus: "9" },
      ["failed", "killed for want of memory (MemoryMax=)"],
    ],
    [
      "is starting after a kill",
      undefined,
      { ActiveState: "activating", SubState: "auto-restart", Result: "signal", ExecMainStatus: "9" },
      ["starting", "killed (SIGKILL), perhaps for want of memory (MemoryMax=): its journal says so"],
    ],
    [
      "is failed after another signal",
      undefined,
      { ...failed, Result: "signal", ExecMainStatus: "11" },
      ["failed", "killed by signal 11"],
    ],
    ["is stopped if no unit needs it", undefined, { ActiveState: "inactive", LoadState: "loaded" }, ["stopped", null]],
    ["is ok in a container without systemd", facts(), undefined, ["ok", null]],
  ] as const)("%s", (_, known, unit, [state, problem]) => {
    expect(judge(known, unit)).toEqual([state, problem]);
  });

  test("a name that systemd does not support gets a line that says what to do", () => {
    const inactive = { ActiveState: "inactive", LoadState: "loaded", AssertResult: "no" };
    const refused = { ...inactive, Id: String.raw`fetcher@foo\x2dbar.service` };
    const [state, problem] = judge(undefined, refused, { hasExecutor: true });
    expect(state).toBe("failed");
    expect(problem).toMatch(/its name has a `\\`.*leave `output` out/);
    for (const [unit, hasExecutor] of [
      [refused, false],
      [{ ...refused, AssertResult: "yes" }, true],
      [{ ...inactive, Id: "fetcher@foo.service" }, true],
    ] as const)
      expect(judge(undefined, unit, { hasExecutor })).toEqual(["stopped", null]);
  });

  test("a runtime directory that systemd cannot create gets a line with the obstacle and what to do", async () => {
    const { path, dispose } = await temporary();
    onTestFinished(dispose);
    const inRoot = (name: string) => join(path, name);
    fs.symlinkSync("private/gone", inRoot("dangling"));
    fs.writeFileSync(inRoot("file"), "");
    fs.symlinkSync("file", inRoot("indirect"));
    fs.mkdirSync(inRoot("directory"));
    fs.symlinkSync("directory", inRoot("link"));
    const loops = { ...failed, ActiveState: "activating", SubState: "auto-restart-queued", ExecMainStatus: "233" };
    const problem = (RuntimeDirectory: string) =>
      judge(undefined, { ...loops, RuntimeDirectory }, { runtimeRoot: path });
    const unknown = "systemd cannot make a directory of the unit in /run";
    for (const [names, why] of [
      ["dangling", `${inRoot("dangling")} is a link that leads nowhere: remove it`],
      ["directory file", `${inRoot("file")} is no directory: remove it`],
      ["indirect", `${inRoot("indirect")} is a link: remove it`],
      // systemd takes no link, wherever it leads.
      ["directory link", `${inRoot("link")} is a link: remove it`],
      ["directory none", unknown],
      ["", unknown],
    ] as const)
      expect(problem(names)).toEqual(["starting", `exit 233, ${why}`]);
    // No unit repeats such a start: each has an assertion for it.
    for (const result of [{ AssertResult: "no" }, { AssertResult: "yes", ConditionResult: "no" }]) {
      const refused = (RuntimeDirectory: string) =>
        judge(
          undefined,
          { ActiveState: "inactive", LoadState: "loaded", ...result, RuntimeDirectory },
          { runtimeRoot: path },
        );
      expect(refused("dangling")).toEqual(["failed", `${inRoot("dangling")} is a link that leads nowhere: remove it`]);
      expect(refused("file")).toEqual(["failed", `${inRoot("file")} is no directory: remove it`]);
      expect(refused("directory")).toEqual(["stopped", null]);
    }
  });

  test("a file without units gets a line with the remedy", () => {
    expect(judge(undefined, { ActiveState: "inactive", LoadState: "masked" })).toEqual([
      "stopped",
      "its unit is masked, so its service cannot start: run systemctl unmask",
    ]);
    expect(judge(undefined, { ActiveState: "inactive", LoadState: "not-found" })[1]).toContain(
      "systemctl daemon-reload",
    );
  });
});

describe("metrics", () => {
  const text = metricsText([
    sidecar("a"),
    sidecar('b"\\', { state: "failed", facts: null }),
    sidecar("c", { state: "stopped" }),
  ]);

  test("follow the exposition format, with each family complete and described", () => {
    const lines = text.trimEnd().split("\n");
    expect(lines.at(-1)).toBe("# EOF");
    const families = new Map<string, string>();
    for (const line of lines.slice(0, -1)) {
      const [, name, type] = /^# TYPE (\S+) (gauge|counter)$/.exec(line) ?? [];
      if (name !== undefined) {
        expect(families.has(name), name).toBe(false);
        families.set(name, type ?? "");
      } else if (!line.startsWith("# HELP ")) {
        const sample = /^(\w+)\{\w+="(?:[^"\\\n]|\\["\\n])*"(?:,\w+="(?:[^"\\\n]|\\["\\n])*")*\} -?\d+(?:\.\d+)?$/.exec(
          line,
        );
        const [family, kind] = [...families].at(-1) ?? [];
        expect(sample?.[1], line).toBe(kind === "counter" ? `${family ?? ""}_total` : family);
      }
    }
    expect([...families.keys()]).toEqual([...metrics.map(({ name }) => name), "fetcher_program"]);
  });

  needs("python", "openmetrics").test("are valid for the parser of the Python client", () => {
    const script =
      "import json, sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse; " +
      "print(json.dumps([[f.name, f.type, [[s.labels, s.value] for s in f.samples]] for f in parse(sys.stdin.read())]))";
    const env = { PATH: process.env["PATH"], PYTHONPATH: join(cache, "openmetrics"), PYTHONDONTWRITEBYTECODE: "1" };
    const { stdout, stderr } = spawnSync("python3", ["-c", script], { input: text, encoding: "utf8", env });
    expect(stderr).toBe("");
    const families = JSON.parse(stdout) as [string, string, [Record<string, string>, number][]][];
    expect(families.map(([name, type]) => [name, type])).toEqual([
      ...metrics.map(({ name, type }) => [name, type]),
      ["fetcher_program", "gauge"],
    ]);
    expect(families[0]?.[2]).toEqual([
      [{ name: "a", unit: "a-secrets.service", backend: "vault" }, 1],
      [{ name: 'b"\\', unit: 'b"\\-secrets.service' }, 0],
    ]);
  });

  test("show a broken sidecar as down, and an unneeded one as neither up nor down", () => {
    const up = text.split("\n").filter((line) => line.startsWith("fetcher_sidecar_up"));
    expect(up).toEqual([
      'fetcher_sidecar_up{name="a",unit="a-secrets.service",backend="vault"} 1',
      'fetcher_sidecar_up{name="b\\"\\\\",unit="b\\"\\\\-secrets.service"} 0',
    ]);
  });

  test("include all that the example's alert rules use", () => {
    const rules = fs.readFileSync(join(project, "examples/monitoring/fetcher.rules.yml"), "utf8");
    const expressions = [...rules.matchAll(/^ +expr: (.*)$/gm)].map(([, text = ""]) => text);
    const used = expressions.flatMap((text) => [...text.matchAll(/\bfetcher_\w+/g)].map(([name]) => name));
    const known = metrics.map(({ name, type }) => (type === "counter" ? `${name}_total` : name));
    expect(used.length).toBeGreaterThan(4);
    expect(used.filter((name) => !known.includes(name))).toEqual([]);
  });

  test("appear in the reference, and each rule in the guide to alerts, and no others", () => {
    const [reference = "", guide = ""] = ["reference/metrics", "how-to/alerts"].map((page) =>
      fs.readFileSync(join(project, `docs/${page}.md`), "utf8"),
    );
    const rules = fs.readFileSync(join(project, "examples/monitoring/fetcher.rules.yml"), "utf8");
    const rows = (page: string, pattern: RegExp) => [...page.matchAll(pattern)].map(([, name]) => name);
    const known = metrics.map(({ name, type }) => (type === "counter" ? `${name}_total` : name));
    expect(rows(reference, /^\| `(fetcher_\w+)` +\|/gm)).toEqual([...known, "fetcher_program"]);
    const alerts = [...rules.matchAll(/^ +- alert: (\w+)$/gm)].map(([, name]) => name);
    expect(alerts.length).toBeGreaterThan(3);
    expect(rows(guide, /^\| `(Secrets\w+)` +\|/gm)).toEqual(alerts);
  });
});

describe("an on-change sidecar", () => {
  test.each([
    [
      "shows the due action that the acting unit reports",
      "app-secrets-refresh",
      { problem: "old; restart of app.service in 8 s (paced)", actions: 5, actionsFailed: 1 },
    ],
    ["ignores that report for a resident sidecar", "other", { problem: "old", actions: 2, actionsFailed: 0 }],
  ])("%s", async (_, beside, expected) => {
    const { path: parent } = await temporary();
    const memory = { starts: [], restarts: null, lastAction: null, hasActed: true, helped: 0, done: 5, failed: 1 };
    const report = { statuses: ["restart of app.service in 8 s (paced)"], memories: { "app.service": memory } };
    for (const name of ["app-secrets", "app-secrets-act", beside]) fs.mkdirSync(join(parent, name));
    fs.writeFileSync(join(parent, "app-secrets", FACTS), JSON.stringify(facts({ problem: "old" })));
    fs.writeFileSync(join(parent, "app-secrets-act/report"), JSON.stringify(report));
    expect(factsIn([parent]).get("app-secrets.service")).toMatchObject(expected);
  });

  test.each([
    [11, "the action waits: app-secrets-act.service has not begun"],
    [9, null],
  ])("an action that has waited for %d s: %s", async (seconds, problem) => {
    const { path: parent } = await temporary();
    const inbox = join(parent, "app-secrets-act/inbox");
    for (const name of ["app-secrets", "app-secrets-refresh"]) fs.mkdirSync(join(parent, name));
    fs.mkdirSync(inbox, { recursive: true });
    fs.writeFileSync(join(parent, "app-secrets", FACTS), JSON.stringify(facts()));
    fs.writeFileSync(join(inbox, `set-${systemClock.monotonic() - seconds * 1_000_000}`), "");
    const found = factsIn([parent]).get("app-secrets.service")?.problem;
    expect(found).toEqual(problem === null ? null : expect.stringContaining(problem));
  });

  test("shows no problem when neither unit reports one", async () => {
    const { path: parent } = await temporary();
    for (const name of ["app-secrets", "app-secrets-refresh"]) fs.mkdirSync(join(parent, name));
    fs.writeFileSync(join(parent, "app-secrets", FACTS), JSON.stringify(facts()));
    expect(factsIn([parent]).get("app-secrets.service")?.problem).toBeNull();
  });
});

describe("the file of facts", () => {
  const config = configOf({
    backend: "vault",
    service: "a.service",
    secrets: { canary: { source: { path: "place" } } },
  });

  async function written() {
    const { path, dispose } = await temporary();
    onTestFinished(dispose);
    const tell = factsFile(path, "1.2.3", "a-secrets.service");
    return {
      path,
      tell: (more: Partial<Facts> = {}) => {
        tell(config, { ...facts(), ...more });
      },
    };
  }

  test("is readable for everyone who sees the directory, and has neither ids nor places", async () => {
    const { path, tell } = await written();
    tell();
    tell({ rotations: 7 });
    expect(fs.readdirSync(path)).toEqual([FACTS]);
    expect(fs.statSync(join(path, FACTS)).mode & 0o777).toBe(0o644);
    expect(readFacts(path)).toMatchObject({ program: "1.2.3", rotations: 7, wanted: 1, services: ["a.service"] });
    expect(fs.readFileSync(join(path, FACTS), "utf8")).not.toMatch(/canary|place/);
  });

  test.each(["", "{}", "[]", "null", '{"state":"ready"}'])("is ignored when invalid: %s", async (text) => {
    const { path } = await written();
    fs.writeFileSync(join(path, FACTS), text);
    expect(readFacts(path)).toBeUndefined();
  });

  test("a missing directory ends nothing", async () => {
    const { path, tell } = await written();
    fs.rmSync(path, { recursive: true });
    tell();
    expect(readFacts(path)).toBeUndefined();
  });
});
