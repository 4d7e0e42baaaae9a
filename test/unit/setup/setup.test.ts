import * as fs from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { systemScope, userScope } from "../../../src/config/scope.ts";
import { type FatalError, UsageError } from "../../../src/contract/errors.ts";
import { Changes } from "../../../src/setup/changes.ts";
import { unifiedDiff } from "../../../src/setup/diff.ts";
import { pathOfSwap, replacedIn, swapText } from "../../../src/setup/import.ts";
import { jsonText } from "../../../src/setup/json-text.ts";
import { proposed, type Wish } from "../../../src/setup/proposal.ts";
import { parseAdd, parseRemove } from "../../../src/cli/add-options.ts";
import { serviceNameOf } from "../../../src/cli/service-name.ts";
import { temporary } from "../../contract/temporary.ts";

const nothing: Wish = {
  ids: [],
  delivery: undefined,
  backend: undefined,
  set: [],
  action: undefined,
  all: false,
  imported: new Map(),
};
const id = (name: string, mode?: string) => ({ id: name, mode });

describe("the proposed file", () => {
  test.each<[string, object, Partial<Wish>, object]>([
    [
      "has the requested settings, and no more",
      {},
      { ids: [id("tls.crt"), id("tls.key", "0400")], action: "reload" },
      { secrets: { "tls.crt": {}, "tls.key": { mode: "0400" } }, onChange: { action: "reload" } },
    ],
    [
      "keeps existing settings",
      { delivery: "credentials", secrets: { a: { optional: true } }, onChange: { settle: 9 }, startTimeout: 3 },
      { ids: [id("a", "0440"), id("b")], action: "restart" },
      {
        delivery: "credentials",
        secrets: { a: { optional: true, mode: "0440" }, b: {} },
        onChange: { settle: 9, action: "restart" },
        startTimeout: 3,
      },
    ],
    [
      "has no settings of another store, but its pace",
      { config: { secretsDir: "/x", pollingInterval: 9 }, backend: "folder", secrets: { a: {} } },
      { backend: "vault", set: [{ path: ["auth", "method"], value: "cert" }] },
      { backend: "vault", config: { pollingInterval: 9, auth: { method: "cert" } }, secrets: { a: {} } },
    ],
    [
      "keeps no signal with another action",
      { secrets: { a: {} }, onChange: { action: "signal", signal: "SIGHUP" } },
      { action: "reload" },
      { secrets: { a: {} }, onChange: { action: "reload" } },
    ],
    [
      "has an explicit variable for a secret with a mode or a special name",
      {},
      { delivery: "env", ids: [id("db-password", "0400"), id("TZ"), id("b")] },
      { delivery: "env", secrets: { "db-password": { mode: "0400", env: "db_password" }, TZ: { env: "TZ" }, b: {} } },
    ],
    [
      "has each imported variable under its own name",
      {},
      { imported: new Map(["A", "TZ", "E"].map((name) => [name, { isEmpty: name === "E" }])) },
      { delivery: "env", secrets: { A: {}, TZ: { env: "TZ" }, E: { empty: true } } },
    ],
    [
      "of another delivery has those as variables alone",
      { delivery: "files", secrets: { a: {} } },
      { imported: new Map([["B", { isEmpty: false }]]) },
      { delivery: "files", secrets: { a: {}, B: {} }, environment: { B: "B" } },
    ],
    [
      "adds a variable to the listed ones",
      { environment: { X: "a" }, secrets: { a: {} } },
      { delivery: "env", ids: [id("a"), id("b.c")] },
      { delivery: "env", environment: { X: "a", b_c: "b.c" }, secrets: { a: {}, "b.c": {} } },
    ],
    [
      "has a path whose keys are all secrets",
      {},
      { ids: [id("app")], all: true, delivery: "env" },
      { delivery: "env", secrets: { app: { all: true } } },
    ],
  ])("%s", (_, now, wish, then) => {
    expect(proposed(now as Record<string, unknown>, { ...nothing, ...wish })).toEqual(then);
  });

  test("looks hand-written", () => {
    const long = "x".repeat(70);
    expect(
      jsonText({ delivery: "env", secrets: { a: {}, b: { mode: "0400" } }, config: { url: long, more: [long, 1] } }),
    ).toBe(`{
  "delivery": "env",
  "secrets": {
    "a": {},
    "b": { "mode": "0400" }
  },
  "config": {
    "url": "${long}",
    "more": [
      "${long}",
      1
    ]
  }
}
`);
  });

  test("accepts an id that is special in JavaScript", () => {
    const then = proposed({}, { ...nothing, ids: [id("__proto__"), id("constructor", "0400")] });
    expect(jsonText(then)).toContain('"__proto__": {},\n    "constructor": { "mode": "0400" }');
  });
});

describe("the difference", () => {
  test("equals the output of diff -u", () => {
    const before = `${Array.from({ length: 12 }, (_, line) => `line ${line}`).join("\n")}\n`;
    const after = before.replace("line 2\n", "line two\nand more\n").replace("line 11\n", "");
    expect(unifiedDiff({ path: "/etc/a", before, after })).toBe(`--- /etc/a
+++ /etc/a
@@ -1,6 +1,7 @@
 line 0
 line 1
-line 2
+line two
+and more
 line 3
 line 4
 line 5
@@ -9,4 +10,3 @@
 line 8
 line 9
 line 10
-line 11
`);
  });
  test("shows a new, a removed and an unchanged file", () => {
    expect(unifiedDiff({ path: "/a", before: undefined, after: "x\n" })).toBe(
      "--- /dev/null\n+++ /a\n@@ -0,0 +1,1 @@\n+x\n",
    );
    expect(unifiedDiff({ path: "/a", before: "x\n", after: undefined })).toBe(
      "--- /a\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-x\n",
    );
    expect(unifiedDiff({ path: "/a", before: "x\n", after: "x\n" })).toBe("");
  });
});

describe("changes", () => {
  let directory: string;
  beforeEach(async () => {
    const { path, dispose } = await temporary();
    onTestFinished(dispose);
    directory = path;
  });
  const all = () =>
    fs.readdirSync(directory, { recursive: true, encoding: "utf8" }).map((name) => {
      const path = join(directory, name);
      const { mode } = fs.lstatSync(path);
      return [name, (mode & 0o7777).toString(8), fs.lstatSync(path).isFile() ? fs.readFileSync(path, "utf8") : ""];
    });

  test("are all made, or all undone: contents, modes, links and directories", () => {
    fs.writeFileSync(join(directory, "a"), "before", { mode: 0o640 });
    fs.writeFileSync(join(directory, "real"), "linked");
    fs.symlinkSync("real", join(directory, "link"));
    fs.writeFileSync(join(directory, "gone"), "gone");
    const before = all();
    const changes = new Changes("add");
    changes.write(join(directory, "a"), Buffer.from("before"), Buffer.from("after"), 0o600);
    changes.write(join(directory, "link"), Buffer.from("linked"), Buffer.from("more"), 0o600);
    changes.write(join(directory, "new/deep/b"), undefined, Buffer.from("b"), 0o400, 0o700);
    changes.link(join(directory, "other/c"), "/nowhere");
    changes.remove(join(directory, "gone"));
    expect(fs.readFileSync(join(directory, "real"), "utf8")).toBe("more");
    expect(fs.statSync(join(directory, "a")).mode & 0o777).toBe(0o640);
    expect(fs.statSync(join(directory, "new/deep")).mode & 0o777).toBe(0o700);
    expect(fs.existsSync(join(directory, "gone"))).toBe(false);
    expect(changes.undo()).toEqual([]);
    expect(all()).toEqual(before);
  });

  test("leave no backup once kept", () => {
    fs.writeFileSync(join(directory, "gone"), "gone");
    const changes = new Changes("remove");
    changes.remove(join(directory, "gone"));
    changes.keep();
    expect(all()).toEqual([]);
    expect(changes.undo()).toEqual([]);
  });

  test("do not overwrite what somebody else has changed meanwhile", () => {
    fs.writeFileSync(join(directory, "a"), "theirs");
    const changes = new Changes("add");
    const write = (before: Buffer | undefined) => () => {
      changes.write(join(directory, "a"), before, Buffer.from("ours"), 0o600);
    };
    expect(write(Buffer.from("before"))).toThrow("somebody changed");
    expect(write(undefined)).toThrow("somebody changed");
    expect(fs.readFileSync(join(directory, "a"), "utf8")).toBe("theirs");
  });
});

test("writes and removes a file with the longest possible name", async () => {
  const { path: place, dispose } = await temporary();
  onTestFinished(dispose);
  const path = join(place, "n".repeat(255));
  for (const content of ["one", "two"]) {
    const changes = new Changes("add");
    changes.write(path, content === "one" ? undefined : Buffer.from("one"), Buffer.from(content), 0o600);
    changes.keep();
    expect(fs.readFileSync(path, "utf8")).toBe(content);
  }
  const changes = new Changes("remove");
  changes.remove(path);
  changes.keep();
  expect(fs.existsSync(path)).toBe(false);
});

describe("the drop-in of an import", () => {
  const service = {
    unit: "app.service",
    isActive: true,
    canReload: false,
    user: undefined,
    isOld: false,
    environmentFiles: ["/etc/first", "-/etc/app 100%.env", "/run/app-secrets/pub/secrets.env", "-/etc/last"],
    dropIns: ["/etc/systemd/system/app.service.d/override.conf"],
    realName: undefined,
    hasOwnRoot: false,
  };
  test("puts the variables in place of the file, between the others", () => {
    const app = { name: "app", scope: systemScope };
    const text = swapText(app, "/etc/app 100%.env", "/run/app-secrets/pub/secrets.env", service);
    expect(text.split("\n").filter((line) => !line.startsWith("#"))).toEqual([
      "[Service]",
      "EnvironmentFile=",
      "EnvironmentFile=/etc/first",
      "EnvironmentFile=/run/app-secrets/pub/secrets.env",
      "EnvironmentFile=-/etc/last",
      "",
    ]);
    expect(replacedIn(text)).toEqual(["/etc/app 100%.env"]);
    const again = swapText(app, "/etc/last", "/run/app-secrets/pub/secrets.env", service, text);
    expect(replacedIn(again)).toEqual(["/etc/app 100%.env", "/etc/last"]);
  });
  test("sorts after every other drop-in", () => {
    expect(pathOfSwap(service, systemScope)).toBe("/etc/systemd/system/app.service.d/zz-fetcher-import.conf");
    const user = userScope({ HOME: "/home/ann" });
    expect(pathOfSwap(service, user)).toBe("/home/ann/.config/systemd/user/app.service.d/zz-fetcher-import.conf");
    expect(pathOfSwap({ ...service, dropIns: ["/x/zzz-top.conf"] }, systemScope)).toMatch(
      /\/zzzz-fetcher-import\.conf$/,
    );
  });
});

describe("the command lines", () => {
  test.each(["app", "app.service", "app.json", "/etc/fetcher/app.json"])("takes %s for the service", (word) => {
    expect(parseAdd([word, "x"])).toMatchObject({ name: "app" });
    expect(parseRemove([word])).toMatchObject({ name: "app" });
    expect(serviceNameOf(word)).toBe("app");
  });

  test("every word reaches its option", () => {
    const words =
      "app.service --env --backend vault --set auth.role=x --reload --import /e --remove-original --no-check --now -y a b=400";
    expect(parseAdd(words.split(" "))).toEqual({
      ...{
        name: "app",
        scope: systemScope,
        isDryRun: false,
        yes: true,
        delivery: "env",
        backend: "vault",
        action: "reload",
        all: false,
      },
      ...{ set: [{ path: ["auth", "role"], value: "x" }], import: "/e", removeOriginal: true, check: false, now: true },
      ids: [id("a"), id("b", "0400")],
    });
    expect(parseRemove(["app", "--delete-secrets", "--dry-run"])).toEqual({
      ...{ name: "app", scope: systemScope, isDryRun: true, yes: false, deleteSecrets: true },
    });
    for (const parsed of [parseAdd(["--user", "app", "a"]), parseRemove(["app", "--user"])])
      expect(parsed).toMatchObject({ name: "app", scope: { isUser: true } });
    expect([parseAdd(["--help"]), parseRemove(["-h"])]).toEqual(["help", "help"]);
  });

  test.each([
    [[], "add: expected the NAME"],
    [["a/b", "x"], 'add: "a/b" is not the name of a service'],
    [["a@", "x"], 'add: "a@" is a template'],
    [["n".repeat(246), "x"], "has 246 characters: systemd can have drop-ins for 245 at most"],
    [["a.socket", "x"], 'add: "a.socket" is not a service: name the service that it starts'],
    [["a.timer", "x"], 'add: "a.timer" is not a service: name the service that it starts'],
    [["a", "x=secret"], "add: expected ID or ID=MODE"],
    [["a", "=0400"], "add: expected ID or ID=MODE"],
    [["a", "--env", "--files", "x"], "add: give only one of --env and --files"],
    [["a", "--reload", "--restart", "x"], "add: give only one of --reload and --restart"],
    [["a", "--all"], "add: --all needs the ID"],
    [["a", "--remove-original", "x"], "add: --remove-original needs --import"],
    [["a", "--import="], "add: --import: must not be empty"],
    [["a", "--bakend=x"], '(see fetcher add --help); did you mean "--backend"?'],
    [["a", "--set", "x"], "--set: expected KEY=VALUE"],
  ])("refuses %j in one line, without showing a possible value", (argv, message) => {
    let error: unknown;
    try {
      parseAdd(argv);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(UsageError);
    expect((error as FatalError).message).toContain(message);
    expect((error as FatalError).message).not.toMatch(/=secret|\n/);
  });
});
