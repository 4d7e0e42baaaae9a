/** A reload takes over a changed configuration: nothing in this touches the service or ends the sidecar. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BackendError } from "../../../src/contract/backend.ts";
import { FatalError } from "../../../src/contract/errors.ts";
import { Takeover, type TakeoverParts } from "../../../src/engine/takeover.ts";
import type { ReloadResult } from "../../../src/systemd/reload-desk.ts";
import { FakeStore, missing, refused, settled } from "../fakes.ts";
import { block, freshDirectory, type Options, startSidecar as start } from "./running-sidecar.ts";

/** Modules that only a reload needs are loaded in real time, in which the fake clock stands still. */
async function answered(answer: () => ReloadResult | undefined): Promise<ReloadResult | undefined> {
  await expect.poll(answer, { timeout: 20_000 }).toBeDefined();
  await settled();
  return answer();
}

const startSidecar = (options: Options = {}) => start({ ...options, isConfigurable: true });
const own = (names: readonly string[]) => names.filter((name) => !name.startsWith("."));

describe("secrets", () => {
  test("publishes a new one, removes a dropped one, and leaves the service alone", async () => {
    const store = new FakeStore({ a: "a1", b: "b1", c: "c1" });
    const life = await startSidecar({ store });
    life.configure({ secrets: { b: {}, c: { file: "c.key" } } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(5);
    expect(own(life.names())).toEqual(["b", "c.key", "secrets.env"]);
    expect(life.file("secrets.env")).toBe("b='b1'\nc='c1'\n");
    expect(answer()).toEqual({ exitCode: 0, message: "" });
    expect(life.facts()).toMatchObject({ wanted: 2, secrets: 2, problem: null });
    expect(life.notifier.last).toMatch(/^2 secrets from fake, version 1, checked at [^;]*$/);
    // A reload that changes nothing leaves it alone, too: nothing is said of it late.
    await answered(life.ask());
    await life.clock.advance(600);
    expect(life.systemd.jobs).toEqual([]);
    // And what changes later gets its action.
    store.put("c", "c2");
    store.hint();
    await life.clock.advance(5);
    expect([life.file("c.key"), life.restarts()]).toEqual(["c2", 1]);
  });

  test.each([
    ["missing", missing("c"), 66],
    ["refused", new BackendError("denied", "no"), 77],
    ["in a silent store", refused, 69],
  ])("waits for a required one that is %s; the answer says so, and the rest is published", async (_, held, code) => {
    const store = new FakeStore({ a: "a1", b: "b1", c: held });
    const life = await startSidecar({ store, config: { config: {} } });
    life.configure({ config: {}, secrets: { b: {}, c: {} } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(5);
    expect(answer()?.exitCode).toBe(code);
    expect(own(life.names())).toEqual(["b", "secrets.env"]);
    expect(life.notifier.last).toContain('secret "c": ');
    store.put("c", "c1");
    await life.clock.until(() => life.names().includes("c"), 70);
    expect(life.end()).toBe("runs");
    expect(life.systemd.jobs).toEqual([]);
  });

  test("accepts a missing optional one", async () => {
    const life = await startSidecar();
    life.configure({ secrets: { a: {}, b: {}, c: { optional: true } } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(1);
    expect(answer()).toEqual({ exitCode: 0, message: "" });
    expect(life.facts()).toMatchObject({ wanted: 3, secrets: 2 });
  });

  test("drops a removed secret's work, and its problem leaves STATUS", async () => {
    const store = new FakeStore({ a: "a1", b: "b1" });
    const life = await startSidecar({ store });
    store.put("b", refused);
    await answered(life.ask());
    await life.clock.advance(1);
    expect(life.notifier.last).toContain('secret "b"');
    life.configure({ secrets: { a: {} } });
    await answered(life.ask());
    await life.clock.advance(1);
    expect(life.notifier.last).not.toContain('secret "b"');
    const before = store.fetches.length;
    await life.clock.advance(120);
    expect(store.fetches.slice(before).flat()).not.toContain("b");
  });
});

describe("a store", () => {
  test("asks the new store, closes the old one, and does not count equal values as a rotation", async () => {
    const other = new FakeStore({ a: "a1", b: "b1" });
    const life = await startSidecar({ opens: () => Promise.resolve(other) });
    life.configure({ backend: "folder", config: { reloadOnChange: true, secretsDir: "/elsewhere" } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(5);
    expect([answer()?.exitCode, life.store.closed, other.closed]).toEqual([0, true, false]);
    expect(life.systemd.jobs).toEqual([]);
    const before = life.store.fetches.length;
    other.put("a", "a2");
    other.hint();
    await life.clock.advance(5);
    expect([life.file("a"), life.restarts(), life.store.fetches.length]).toEqual(["a2", 1, before]);
    await life.stop();
    expect(other.closed).toBe(true);
  });

  test("waits for a new store during its outage, and keeps the published set", async () => {
    const other = new FakeStore({ a: "a2", b: "b1" });
    other.down = refused;
    const life = await startSidecar({ opens: () => Promise.resolve(other) });
    life.configure({ backend: "folder", config: { reloadOnChange: true } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(5);
    expect([answer()?.exitCode, life.file("a")]).toEqual([69, "a1"]);
    other.down = undefined;
    await life.clock.until(() => life.file("a") === "a2", 31);
  });

  test("ends the earlier store's lease only when the service has the new one", async () => {
    const store = new FakeStore({ a: "a1", b: "b1" });
    store.leases.set("a", 1000);
    const other = new FakeStore({ a: "n1", b: "b1" });
    other.leases.set("a", 1000);
    other.down = refused;
    const life = await startSidecar({ store, opens: () => Promise.resolve(other) });
    life.configure({ backend: "folder", config: { reloadOnChange: true } });
    await answered(life.ask());
    await life.clock.advance(5);
    expect(store.closed).toBe(false);
    other.down = undefined;
    await life.clock.advance(1100);
    expect(life.restarts()).toBe(1);
    expect(store.closed).toBe(true);
  });

  test("refuses a configuration that can never work, and keeps the old one", async () => {
    const life = await startSidecar({
      opens: () => Promise.reject(new BackendError("invalid", "vault: no such certificate")),
    });
    life.configure({ backend: "folder", config: { reloadOnChange: true } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(1);
    expect(answer()?.exitCode).toBe(78);
    expect(life.store.closed).toBe(false);
    expect(life.log.at("error")).toEqual([
      "vault: no such certificate; not taken over: the old configuration stays in force",
    ]);
  });
});

describe("following changes", () => {
  test("begins and ends the watch and the polls when reloadOnChange changes", async () => {
    const life = await startSidecar({ config: { config: {} } });
    await life.clock.advance(600);
    expect([life.store.watches, life.store.fetches.length]).toEqual([0, 1]);
    life.configure({ config: { reloadOnChange: true } });
    await answered(life.ask());
    await life.clock.advance(1);
    expect(life.store.watches).toBe(1);
    life.store.put("a", "a2");
    await life.clock.until(() => life.restarts() === 1, 40);
    life.configure({ config: {} });
    await answered(life.ask());
    await life.clock.advance(5);
    const before = life.store.fetches.length;
    life.store.put("a", "a3");
    life.store.hint();
    await life.clock.advance(600);
    expect([life.store.fetches.length, life.file("a")]).toEqual([before, "a2"]);
  });

  test("a new target gets the next action; a removed target gets none, not even a due one", async () => {
    const life = await startSidecar({ config: { onChange: { splay: 100 } } });
    life.store.put("a", "a2");
    life.store.hint();
    await life.clock.until(() => life.notifier.last.includes("splay"));
    life.configure({ service: "other.service", onChange: { settle: 0.5 } });
    await answered(life.ask());
    await life.clock.advance(200);
    expect([life.systemd.jobs, life.pending()]).toEqual([[], null]);
    life.store.put("a", "a3");
    life.store.hint();
    await life.clock.advance(5);
    expect(life.systemd.jobs.map(({ what }) => what)).toContain("restart other.service");
    expect(life.restarts()).toBe(0);
  });

  test("another settle and another action take effect from then on", async () => {
    const life = await startSidecar();
    life.configure({ onChange: { settle: 20, action: "signal", signal: "SIGHUP" } });
    await answered(life.ask());
    await life.clock.advance(60);
    life.store.put("a", "a2");
    life.store.hint();
    await life.clock.advance(15);
    expect(life.file("a")).toBe("a1");
    await life.clock.advance(30);
    expect(life.systemd.jobs.map(({ what }) => what)).toEqual(["SIGHUP app.service"]);
  });
});

describe("files", () => {
  test("publishes another name, mode and template from the same values, without an action", async () => {
    const template = join(freshDirectory(), "app.conf");
    writeFileSync(template, "a is {{a}}\n");
    const life = await startSidecar();
    life.configure({ secrets: { a: { file: "a.txt" }, b: { env: "B" } }, templates: { "app.conf": { template } } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(1);
    expect(answer()?.exitCode).toBe(0);
    expect(own(life.names())).toEqual(["a.txt", "app.conf", "b", "secrets.env"]);
    expect([life.file("app.conf"), life.file("secrets.env")]).toEqual(["a is a1\n", "a='a1'\nB='b1'\n"]);
    expect(life.systemd.jobs).toEqual([]);
    // Without another configuration the template's own text is news to the service, as before.
    writeFileSync(template, "now {{a}}\n");
    await answered(life.ask());
    await life.clock.advance(1);
    expect([life.file("app.conf"), life.restarts()]).toEqual(["now a1\n", 1]);
  });

  test("reports a disk that fails meanwhile, and publishes when it works again", async () => {
    const life = await startSidecar();
    const unblock = block(join(life.directory, "secrets.env"));
    life.configure({ secrets: { a: {} } });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(1);
    expect(answer()?.exitCode).toBe(74);
    expect(life.end()).toBe("runs");
    unblock();
    await life.clock.until(() => !life.names().includes("b"), 61);
    expect(life.file("secrets.env")).toBe("a='a1'\n");
  });

  test("names in one line the paths and residency fixed at the start, and takes over the rest", async () => {
    const life = await startSidecar();
    const other = join(freshDirectory(), "other");
    mkdirSync(other);
    life.configure({ output: { directory: other, envFile: "all.env" }, config: {}, resident: false });
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(1);
    expect(answer()?.exitCode).toBe(0);
    const line =
      "configuration: output.directory, output.linksTo, resident: cannot change while the sidecar runs: restart its unit";
    expect(life.log.at("warn")).toEqual([line]);
    expect(life.notifier.last).toContain(line);
    expect(own(life.names())).toEqual(["a", "all.env", "b"]);
    await life.clock.advance(200);
    expect(life.end()).toBe("runs");
    expect(life.notifier.last).toContain(line);
  });
});

describe("a wrong configuration", () => {
  test.each([
    ["no JSON", "{", /^configuration: .*app\.json is not JSON/],
    ["an unknown option", { onChange: { settel: 1 } }, /^configuration: onChange\.settel/],
    ["a missing template", { templates: { t: { template: "gone" } } }, /templates\.t\.template/],
    ["no secret", { secrets: {} }, /^configuration: secrets/],
    ["no output", { output: undefined }, /^configuration: output: is required/],
  ])("%s: refuses it in one line, and the running one stays and fetches", async (_, change, message) => {
    const life = await startSidecar({ config: { config: {} } });
    life.store.put("a", "a2");
    life.configure(change);
    const answer = life.ask();
    await answered(answer);
    await life.clock.advance(1);
    expect(answer()).toEqual({ exitCode: 78, message: expect.stringMatching(message) as string });
    expect(life.log.at("error", "warn")).toEqual([expect.stringMatching(message)]);
    expect(life.notifier.last).toMatch(/not taken over: the old configuration stays in force/);
    expect([life.file("a"), life.end()]).toEqual(["a2", "runs"]);
    // Put right, it is refused no more.
    life.configure({ config: {} });
    await answered(life.ask());
    await life.clock.advance(1);
    expect(life.notifier.last).not.toContain("not taken over");
  });
});

describe("STATUS", () => {
  test("says within a minute that the file differs, and stops when the file is as before", async () => {
    const life = await startSidecar({ config: { config: {} } });
    await life.clock.advance(600);
    expect(life.notifier.last).not.toContain("app.json");
    life.configure({ secrets: { a: {} } });
    await life.clock.advance(61);
    await expect
      .poll(() => life.notifier.last)
      .toContain(`${life.configFile} was changed since it was read: systemctl reload takes it over`);
    expect(life.log.at("notice")).toEqual([expect.stringContaining("was changed since it was read")]);
    life.configure({ config: {} });
    await life.clock.advance(61);
    await expect.poll(() => life.notifier.last).not.toContain("app.json");
  });
});

test("a look at the file that began before a reload does not forget that the reload refused it", async () => {
  const owed = new Map<string, string | undefined>();
  let seen: (difference: undefined) => void = () => undefined;
  const parts = {
    configuration: {
      difference: () => new Promise<undefined>((resolve) => (seen = resolve)),
      successor: () => Promise.reject(new Error("not asked")),
    },
    owed: {
      obstacleOf: (what: string) => owed.get(what),
      obstruct: (what: string, why: string | undefined) => owed.set(what, why).has(what),
    },
    log: { error: () => undefined, notice: () => undefined },
  };
  const takeover = new Takeover(parts as unknown as TakeoverParts);
  const look = takeover.look();
  const unreadable = new FatalError(78, "configuration: cannot read it");
  await takeover.read([{ configuration: unreadable, answer: () => undefined }], new AbortController().signal);
  seen(undefined);
  await look;
  expect(owed.get("configuration")).toContain("not taken over");
});
