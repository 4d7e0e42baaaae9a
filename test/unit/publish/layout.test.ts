/** Which files a set of values becomes, with which owner and mode, and what is said of those that it lacks. */
import fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SetLayout } from "../../../src/publish/layout.ts";
import { configOf } from "../command-line.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

/** Each process may give files to itself and its own group. */
const [uid, gid] = [process.geteuid?.() ?? -1, process.getegid?.() ?? -1];
const [owner, group] = [String(uid), String(gid)];

const bytes = (values: Readonly<Record<string, string>>) =>
  new Map(Object.entries(values).map(([id, value]) => [id, Buffer.from(value)]));
const running = () => new AbortController().signal;

interface Options {
  /** Text and settings of the template of app.ini. */
  readonly template?: string;
  readonly as?: object;
  readonly envFile?: string | null;
  readonly mode?: number;
}

async function layoutOf(secrets: Readonly<Record<string, object>>, { template, as, envFile, mode }: Options = {}) {
  const path = join(freshDirectory(), "app.mustache");
  fs.writeFileSync(path, template ?? "");
  const config = configOf({
    secrets,
    templates: template === undefined ? {} : { "app.ini": { template: path, ...as } },
    output: { directory: "/run/app-secrets/pub", ...(envFile === undefined ? {} : { envFile }) },
  });
  const layout = await SetLayout.of(config, mode ?? 0o440);
  const laidOut = (values: Readonly<Record<string, string>>) => {
    const { files, env, ...rest } = layout.layOut(bytes(values));
    const texts = files.map(({ name, content }) => `${name}: ${content.toString()}`);
    const modes = files.map((file) => [file.name, file.mode.toString(8), file.uid, file.gid]);
    return { texts, modes, env, ...rest };
  };
  const becomes = (text: string) => {
    fs.writeFileSync(path, text);
  };
  return { layout, laidOut, becomes, path };
}

describe("a set becomes", () => {
  test("one file for each secret with a value, then those of keys, those of templates, and secrets.env last", async () => {
    const { laidOut } = await layoutOf(
      { a: {}, whole: { all: true }, b: { file: "other" }, gone: {} },
      { template: "{{a}}!" },
    );
    const { texts } = laidOut({ a: "1", b: "2", whole: '{"k":"3"}' });
    expect(texts).toEqual([
      "a: 1",
      'whole: {"k":"3"}',
      "other: 2",
      "k: 3",
      "app.ini: 1!",
      "secrets.env: a='1'\nb='2'\nk='3'\n",
    ]);
  });

  test("files with the owner and the mode that each asks for; secrets.env is read by whom the directory is for", async () => {
    const secrets = {
      a: {},
      mine: { owner, group },
      strict: { mode: "0400" },
      whole: { all: true, group, mode: "0440" },
    };
    const { laidOut } = await layoutOf(secrets, { template: "{{mine}}" });
    expect(laidOut({ a: "1", mine: "2", strict: "3", whole: '{"k":"4"}' }).modes).toEqual([
      ["a", "440", undefined, undefined],
      ["mine", "400", uid, gid],
      ["strict", "400", undefined, undefined],
      ["whole", "440", undefined, gid],
      ["k", "440", undefined, gid],
      ["app.ini", "400", uid, gid],
      ["secrets.env", "440", undefined, undefined],
    ]);
    const open = await layoutOf({ a: {} }, { mode: 0o444 });
    expect(open.laidOut({ a: "1" }).modes.map(([, mode]) => mode)).toEqual(["444", "444"]);
  });

  test("no secrets.env where the configuration wants none, or one of another name", async () => {
    const none = (await layoutOf({ a: {} }, { envFile: null })).laidOut({ a: "1" });
    expect([none.texts, none.env, none.warnings, none.refused]).toEqual([["a: 1"], undefined, new Map(), new Map()]);
    const other = (await layoutOf({ a: {} }, { envFile: "app.env" })).laidOut({ a: "1" });
    expect(other.texts).toEqual(["a: 1", "app.env: a='1'\n"]);
    const keys = (await layoutOf({ whole: { all: true } }, { envFile: null })).laidOut({ whole: '{"a/b":1}' });
    expect([...keys.refused.keys()]).toEqual(["a/b"]);
  });

  test("secrets.env without an output, too, for a command", async () => {
    const layout = await SetLayout.of(configOf({ secrets: { a: {} } }), 0o400);
    expect(layout.layOut(bytes({ a: "1" })).files.map(({ name }) => name)).toEqual(["a", "secrets.env"]);
  });

  test("a key that cannot become a variable gets advice for keys: `all` has no env", async () => {
    const { laidOut } = await layoutOf({ "k-1": {}, whole: { all: true } });
    const { warnings } = laidOut({ "k-1": "1", whole: '{"PATH":"2","k_1":"3"}' });
    const key = "list that key as a secret of its own, with an env";
    expect(warnings.get("PATH")).toMatch(new RegExp(`: set another prefix, or ${key}$`));
    expect(warnings.get("k_1")).toMatch(new RegExp(`"k-1": set another prefix, or ${key}$`));
    expect(warnings.get("k-1")).toMatch(/: give it an explicit env$/);
  });

  test("variables: with `env` also of a secret that not everybody may read, never one of the whole of all keys", async () => {
    const secrets = {
      a: { env: "A" },
      mine: { owner },
      shown: { owner, env: "SHOWN" },
      whole: { all: true },
      no: { env: null },
    };
    const { texts, env, warnings } = (await layoutOf(secrets)).laidOut({
      ...{ a: "1", mine: "2", shown: "3", no: "4" },
      whole: '{"k":"5"}',
    });
    expect(texts.at(-1)).toBe("secrets.env: A='1'\nSHOWN='3'\nk='5'\n");
    expect(Object.fromEntries(env?.names ?? [])).toEqual({ a: "A", shown: "SHOWN", k: "k" });
    // A person has decided that.
    expect([...warnings]).toEqual([]);
  });

  test("keys that are restricted as their whole, and no warning about them", async () => {
    const { texts, warnings } = (await layoutOf({ whole: { all: true, owner } })).laidOut({ whole: '{"k":"5"}' });
    expect([texts.at(-1), [...warnings]]).toEqual(["secrets.env: ", []]);
  });

  test("a warning for a variable that may surprise: its value or its name does not fit", async () => {
    const { warnings, refused } = (await layoutOf({ a: {}, PATH: {}, whole: { all: true } })).laidOut({
      ...{ a: "\0", PATH: "1" },
      whole: '{"HOME":"2","a":"3"}',
    });
    expect([...warnings.keys()].sort()).toEqual(["HOME", "PATH", "a"]);
    expect([...refused.keys()]).toEqual(["a"]);
  });
});

describe("templates", () => {
  test("are read again when asked, and make other files of the same values", async () => {
    const { layout, becomes } = await layoutOf({ a: {} }, { template: "old {{a}}" });
    const text = () => layout.render(bytes({ a: "1" })).map(({ name, content }) => `${name}: ${content.toString()}`);
    becomes("new {{a}}");
    expect(text()).toEqual(["app.ini: old 1"]);
    await layout.reload(bytes({ a: "1" }), running());
    expect(text()).toEqual(["app.ini: new 1"]);
  });

  test.each([
    ["are wrong", "{{#a}}", "configuration: "],
    ["cannot take the present values", "{{b}}", "which template"],
    ["do not say who may read them", "{{mine}}{{ours}}", "have different owners"],
  ])("that %s stay as they were read before", async (_, text, why) => {
    const secrets = { a: {}, b: {}, mine: { owner }, ours: { group } };
    const { layout, becomes } = await layoutOf(secrets, { template: "old {{a}}" });
    becomes(text);
    const values = bytes({ a: "1", b: "\0", mine: "2", ours: "3" });
    await expect(layout.reload(values, running())).rejects.toThrow(why);
    expect(layout.render(values).map(({ content }) => content.toString())).toEqual(["old 1"]);
  });

  test("that do not say who may read them are refused at once", async () => {
    const secrets = { mine: { owner }, ours: { group } };
    await expect(layoutOf(secrets, { template: "{{mine}}{{ours}}" })).rejects.toMatchObject({
      exitCode: 78,
      message: expect.stringContaining(
        "secrets.mine and secrets.ours, which are in it, have different owners",
      ) as string,
    });
  });

  test("that are not loaded make no file", async () => {
    const { layout } = await layoutOf({ a: {} }, { template: "{{a}}" });
    const other = { file: "x", path: "/x", mode: undefined, owner: undefined, group: undefined };
    expect(layout.renderOne(other, bytes({ a: "1" }))).toBeUndefined();
  });
});

test("knows the file of each secret, and who may own which", async () => {
  const { layout } = await layoutOf({ a: {}, b: { file: "other", owner }, c: { group } });
  expect(["a", "b", "x"].map((id) => layout.fileOf(id))).toEqual(["a", "other", undefined]);
  expect([...layout.owners]).toEqual([["other", uid]]);
});
