/** Who may read which file: a wrong owner or mode shows a secret to others, or hides it from its service. */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { FilePermissions } from "../../../src/publish/permissions.ts";
import { configOf } from "../command-line.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

/** Each process may give files to itself and its own group. */
const [uid, gid] = [process.geteuid?.() ?? -1, process.getegid?.() ?? -1];
const [owner, group] = [String(uid), String(gid)];
const nobody = { uid: undefined, gid: undefined };

/** @param template its settings; undefined: there is none. */
async function permissionsOf(secrets: Readonly<Record<string, object>>, template?: object, defaultMode = 0o440) {
  const path = join(freshDirectory(), "app.mustache");
  const templates = template === undefined ? {} : { "app.ini": { template: path, ...template } };
  const config = configOf({ secrets, templates });
  const permissions = await FilePermissions.of(config, defaultMode);
  const secret = (id: string) => {
    const found = config.secrets.find((one) => one.id === id);
    if (found === undefined) throw new Error(`no secret ${id}`);
    return found;
  };
  return {
    usual: permissions.usual,
    of: (id: string) => permissions.ofSecret(secret(id)),
    isRestricted: (id: string) => permissions.isRestricted(secret(id)),
    /** Those of a template with these secrets in it. */
    with: (...ids: string[]) => {
      const [one] = config.templates;
      if (one === undefined) throw new Error("no template");
      return permissions.ofTemplate(one, new Set(ids));
    },
  };
}

describe("a secret's file", () => {
  test("that asks for nothing has the mode of the directory, and stays ours", async () => {
    for (const mode of [0o440, 0o400, 0o444]) {
      const permissions = await permissionsOf({ a: {} }, undefined, mode);
      expect([permissions.of("a"), permissions.usual]).toEqual([
        { mode, ...nobody },
        { mode, ...nobody },
      ]);
    }
  });

  test.each([
    ["its mode", { mode: "0404" }, { mode: 0o404, ...nobody }],
    ["its owner, who alone reads it", { owner }, { mode: 0o400, uid, gid: undefined }],
    ["its group", { group }, { mode: 0o400, uid: undefined, gid }],
    ["both", { owner, group }, { mode: 0o400, uid, gid }],
    ["both and its mode", { owner, group, mode: "0440" }, { mode: 0o440, uid, gid }],
  ])("has %s where it asks for that", async (_, asks, expected) => {
    const { of } = await permissionsOf({ other: {}, a: asks });
    expect([of("a"), of("other")]).toEqual([expected, { mode: 0o440, ...nobody }]);
  });

  test.each([
    [{}, false],
    [{ mode: "0440" }, false],
    [{ mode: "0444" }, false],
    [{ mode: "0400" }, true],
    [{ mode: "0040" }, true],
    [{ mode: "0004" }, true],
    [{ owner }, true],
    [{ group }, true],
    [{ owner, mode: "0444" }, true],
    [{ group, mode: "0444" }, true],
  ])("with %o is kept out of secrets.env: %s", async (asks, expected) => {
    const { isRestricted } = await permissionsOf({ a: asks });
    expect(isRestricted("a")).toBe(expected);
  });
});

/** A machine with these accounts, and a process that may give a file to anybody or only to itself. */
function machine(mayGive: boolean) {
  const texts: Readonly<Record<string, string>> = {
    "/etc/passwd": "root:x:0:0::/:\napp:x:4321:4322::/:\n",
    "/etc/group": "root:x:0:\napp:x:4322:\nbackup:x:4323:\n",
    "/proc/self/status": `CapEff:\t000000000000000${mayGive ? 1 : 0}\n`,
  };
  const asked: string[] = [];
  const { readFileSync: real } = fs;
  fs.readFileSync = ((path: string, ...more: never[]) => {
    asked.push(path);
    return texts[path] ?? real(path, ...more);
  }) as typeof fs.readFileSync;
  syncBuiltinESMExports();
  const geteuid = vi.spyOn(process, "geteuid").mockReturnValue(1000);
  onTestFinished(() => {
    fs.readFileSync = real;
    syncBuiltinESMExports();
    geteuid.mockRestore();
  });
  return { asked };
}

describe("accounts", () => {
  test("have the numbers that the system gives to their names, of the user and of the group", async () => {
    const { asked } = machine(true);
    const secrets = {
      a: { owner: "app", group: "app" },
      b: { owner: "app" },
      c: { group: "backup" },
      d: { group: "app" },
    };
    const { of } = await permissionsOf(secrets, { owner: "app", group: "backup" });
    expect(["a", "b", "c", "d"].map(of)).toEqual([
      { mode: 0o400, uid: 4321, gid: 4322 },
      { mode: 0o400, uid: 4321, gid: undefined },
      { mode: 0o400, uid: undefined, gid: 4323 },
      { mode: 0o400, uid: undefined, gid: 4322 },
    ]);
    // A question may cost a process: one for each name.
    expect(asked.filter((path) => path === "/etc/passwd")).toHaveLength(1);
    expect(asked.filter((path) => path === "/etc/group")).toHaveLength(2);
  });

  test.each([
    ["secrets.a.owner", { a: { owner: "app" } }, {}, "app"],
    ["secrets.a.group", { a: { group: "backup" } }, {}, "backup"],
    ['templates["app.ini"].owner', {}, { owner: "4321" }, "4321"],
    ['templates["app.ini"].group', {}, { group: "app" }, "app"],
  ])("to which this process cannot give a file are refused: %s", async (path, secrets, template, name) => {
    machine(false);
    await expect(permissionsOf({ x: {}, ...secrets }, template)).rejects.toMatchObject({
      exitCode: 78,
      message: `configuration: ${path}: only root can give a file to "${name}": leave it out where a user runs this`,
    });
  });

  test("of which root runs this are never refused, whatever it may do", async () => {
    machine(false);
    vi.mocked(process.geteuid ?? expect.fail()).mockReturnValue(0);
    expect((await permissionsOf({ a: { owner: "app" } })).of("a").uid).toBe(4321);
  });

  test("that do not exist are refused, with the option that names them", async () => {
    machine(true);
    await expect(permissionsOf({ a: { owner: "no-such-user-here" } })).rejects.toThrow(
      "configuration: secrets.a.owner: there is no user",
    );
    await expect(permissionsOf({ a: { group: "no-such-group-here" } })).rejects.toThrow(
      "configuration: secrets.a.group: there is no group",
    );
  });
});

describe("a template's file", () => {
  test("that sets nothing is read by those who can read each of its secrets", async () => {
    const secrets = { a: {}, strict: { mode: "0400" }, open: { mode: "0444" }, others: { mode: "0044" } };
    const file = await permissionsOf(secrets, {});
    const modeWith = (...ids: string[]) => file.with(...ids).mode.toString(8);
    expect(file.with()).toEqual({ mode: 0o440, ...nobody });
    expect(file.with("a")).toEqual({ mode: 0o440, ...nobody });
    expect([modeWith("strict"), modeWith("open"), modeWith("others")]).toEqual(["400", "440", "40"]);
    expect([modeWith("a", "strict"), modeWith("strict", "open"), modeWith("open", "others")]).toEqual([
      "400",
      "400",
      "40",
    ]);
    expect(modeWith("a", "not configured")).toBe("440");
  });

  test("has the owner of its secrets, where they have one", async () => {
    const file = await permissionsOf({ a: { owner, group }, b: { owner, group, mode: "0440" } }, {});
    expect(file.with("a")).toEqual({ mode: 0o400, uid, gid });
    expect(file.with("b", "a")).toEqual({ mode: 0o400, uid, gid });
    expect(file.with()).toEqual({ mode: 0o440, ...nobody });
  });

  test("has the owner of those secrets that not everybody can read", async () => {
    const file = await permissionsOf({ mine: { group }, open: { owner, mode: "0444" }, free: { mode: "0444" } }, {});
    expect(file.with("open", "mine", "free")).toEqual({ mode: 0o400, uid: undefined, gid });
    expect(file.with("open", "free")).toEqual({ mode: 0o440, ...nobody });
  });

  test.each([
    ["another user", { owner, group }, { group }],
    ["another group", { owner, group }, { owner }],
    ["none", { owner }, {}],
  ])("needs an owner where one of its secrets has %s than another", async (_, a, b) => {
    const file = await permissionsOf({ a, b, c: a }, {});
    expect(() => file.with("a", "c", "b")).toThrow(
      'configuration: templates["app.ini"].owner: is required: secrets.a and secrets.b, which are in it, have different owners',
    );
    expect(() => file.with("b", "a")).toThrow("secrets.b and secrets.a");
    const owned = await permissionsOf({ a, b }, { owner });
    expect(owned.with("a", "b")).toEqual({ mode: 0o400, uid, gid: undefined });
  });

  test("has its own owner, group and mode where it sets them", async () => {
    const secrets = { a: {}, strict: { mode: "0040" } };
    expect((await permissionsOf(secrets, { mode: "0444" })).with("strict")).toEqual({ mode: 0o444, ...nobody });
    expect((await permissionsOf(secrets, { group })).with("a")).toEqual({ mode: 0o400, uid: undefined, gid });
    expect((await permissionsOf(secrets, { owner })).with("strict").mode).toBe(0);
    expect((await permissionsOf(secrets, { owner, group, mode: "0440" })).with("a")).toEqual({ mode: 0o440, uid, gid });
  });
});
