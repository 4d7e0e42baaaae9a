/** Settings and templates that make other files of the same values: no changed secret asks for the publish. */
import fs, { statSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { FakeStore } from "../fakes.ts";
import { block, freshDirectory, startSidecar } from "./running-sidecar.ts";

/** No text: a template cannot carry it. */
const binary = "\0";

function templated(text: string) {
  const path = join(freshDirectory(), "app.mustache");
  writeFileSync(path, text);
  const config = { templates: { "app.ini": { template: path } } };
  return {
    config,
    template: (next: string) => {
      writeFileSync(path, next);
    },
  };
}

describe("a template that cannot carry a secret", () => {
  test("waits for the reload that also has text for it: both are published, and the sidecar keeps running", async () => {
    const { config, template } = templated("{{a}}");
    const life = await startSidecar({ config, store: new FakeStore({ a: "a1", b: binary }) });
    template("{{a}} {{b}}");
    life.store.put("b", "b2");
    life.sidecar.reload();
    await life.clock.advance(10);
    expect(life.end()).toBe("runs");
    expect(life.file("app.ini")).toBe("a1 b2");
    expect(life.restarts()).toBe(1);
  });

  test("the template is read when the store has text again, without another reload", async () => {
    const { config, template } = templated("{{a}}");
    const life = await startSidecar({ config, store: new FakeStore({ a: "a1", b: "b1" }) });
    life.store.put("b", binary);
    template("{{a}} {{b}}");
    life.sidecar.reload();
    await life.clock.advance(60);
    expect(life.file("app.ini")).toBe("a1");
    expect(life.notifier.last).toContain("the templates read before stay in use");
    expect(life.log.at("error").filter((line) => line.includes("stay in use"))).toHaveLength(1);
    life.store.put("b", "b2");
    await life.clock.advance(60);
    expect(life.file("app.ini")).toBe("a1 b2");
    expect(life.notifier.last).not.toContain("stay in use");
  });

  test("the log says so after a restart, the published set stays, and a reload does not end the sidecar", async () => {
    const { config, template } = templated("{{a}}");
    const store = new FakeStore({ a: "a1", b: binary });
    const first = await startSidecar({ config, store });
    await first.stop();
    template("{{b}}");
    const life = await startSidecar({ config, store, directory: first.directory, clock: first.clock });
    const problem = /the new secrets are not published: .*app\.mustache/;
    expect(life.notifier.last).toMatch(problem);
    life.sidecar.reload();
    await life.clock.advance(120);
    expect(life.end()).toBe("runs");
    expect(life.notifier.last).toMatch(problem);
    expect(life.file("app.ini")).toBe("a1");
    template("again {{a}}");
    life.sidecar.reload();
    await life.clock.advance(10);
    expect(life.file("app.ini")).toBe("again a1");
    expect(life.notifier.last).not.toContain("not published");
  });
});

describe("a failed write is repeated later, even if no secret changes", () => {
  test("a stricter mode after a restart, without an action", async () => {
    const first = await startSidecar({ config: { secrets: { a: { mode: "0440" }, b: {} } } });
    await first.stop();
    const config = { secrets: { a: { mode: "0400" }, b: {} } };
    const unblock = block(join(first.directory, "secrets.env"));
    const life = await startSidecar({ config, directory: first.directory, clock: first.clock });
    const mode = () => (statSync(join(life.directory, "a")).mode & 0o777).toString(8);
    await life.clock.advance(100);
    expect(life.notifier.last).toContain("not published");
    expect(mode()).toBe("440");
    unblock();
    await life.clock.advance(100);
    expect(mode()).toBe("400");
    expect(life.notifier.last).not.toContain("not published");
    expect(life.restarts()).toBe(0);
  });

  test.each([true, false])("another template after SIGHUP, with the action (reloadOnChange %s)", async (flag) => {
    const { config, template } = templated("old {{a}}");
    const life = await startSidecar({ config: { ...config, config: { reloadOnChange: flag } } });
    template("new {{a}}");
    const unblock = block(join(life.directory, "app.ini"));
    life.sidecar.reload();
    await life.clock.advance(100);
    expect(life.notifier.last).toContain("not published");
    expect(life.restarts()).toBe(0);
    // The store is not asked for that: nothing is to be had from it.
    const { length } = life.store.fetches;
    if (!flag) {
      await life.clock.advance(100);
      expect(life.store.fetches).toHaveLength(length);
    }
    unblock();
    await life.clock.advance(100);
    expect(life.log.at("notice")).toContain("published changed templates");
    expect(life.file("app.ini")).toBe("new a1");
    expect(life.notifier.last).not.toContain("not published");
    expect(life.restarts()).toBe(1);
  });

  test("a template that verify refuses stays in STATUS until it is corrected", async () => {
    const { config, template } = templated("good");
    const verify = { command: ["sh", "-c", 'grep -q good "$SECRETS_DIRECTORY/app.ini"'] };
    const life = await startSidecar({ config: { ...config, onChange: { verify } } });
    const reload = async () => {
      const { length } = life.log.lines;
      life.sidecar.reload();
      await life.clock.until(() =>
        life.log.lines.slice(length).some(({ message }) => /^(fetched|published)/.test(message)),
      );
    };
    template("bad");
    await reload();
    await life.clock.advance(100);
    expect(life.notifier.last).toContain("the verify command exited with 1");
    expect(life.file("app.ini")).toBe("good");
    template("good");
    await reload();
    await life.clock.advance(30);
    expect(life.log.at("notice").at(-1)).toBe("fetched again: nothing has changed");
    expect(life.restarts()).toBe(0);
    template("good again");
    await reload();
    expect(life.file("app.ini")).toBe("good again");
    expect(life.notifier.last).not.toContain("not published");
  });

  test("a partial publish, even if the store has taken it back and nothing polls", async () => {
    const life = await startSidecar({ config: { config: {} } });
    const failing = failRename(join(life.directory, "b"));
    life.store.put("a", "a2");
    life.store.put("b", "b2");
    life.sidecar.reload();
    await life.clock.advance(0.05);
    expect([life.file("a"), life.file("b")]).toEqual(["a2", "b1"]);
    life.store.put("a", "a1");
    life.store.put("b", "b1");
    await life.clock.advance(100);
    failing.end();
    await life.clock.advance(100);
    expect([life.file("a"), life.file("b")]).toEqual(["a1", "b1"]);
    expect(life.notifier.last).not.toContain("not published");
    // It may have started since, and have read a2.
    expect(life.restarts()).toBe(1);
  });
});

/** A disk that fails in the middle of a publish; no real one can be made to do that. */
function failRename(path: string) {
  const { renameSync: real } = fs;
  const end = () => {
    fs.renameSync = real;
    syncBuiltinESMExports();
  };
  fs.renameSync = (from, to) => {
    if (to === path) throw Object.assign(new Error("i/o error"), { code: "EIO", syscall: "rename" });
    real(from, to);
  };
  syncBuiltinESMExports();
  onTestFinished(end);
  return { end };
}
