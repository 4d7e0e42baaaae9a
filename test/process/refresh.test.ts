/**
 * "resident": "on-change", as processes: what one look leaves for the next, without systemd, which normally starts
 * them.
 */
import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { eventually, forHelper, Place } from "./daemon.ts";

/** The directories that systemd makes for a sidecar, and its processes. */
class Looks {
  readonly place: Place;
  readonly runtime: string;
  readonly #config: Record<string, unknown>;

  constructor(more: Parameters<Place["config"]>[1] = {}, parent?: string) {
    this.place = new Place(parent);
    this.runtime = this.place.path("run/app-secrets");
    for (const end of ["", "-act/inbox", "-refresh/inbox", "-refresh/ways"])
      fs.mkdirSync(`${this.runtime}${end}`, { recursive: true });
    const output = { directory: join(this.runtime, "pub") };
    this.#config = this.place.config(["token"], { service: "app.service", resident: "on-change", output, ...more });
    this.place.put({ token: "one" });
  }

  process(
    words: readonly string[],
    more: object = {},
    environment: Readonly<Record<string, string>> = {},
    wrapper: readonly string[] = [],
  ) {
    const file = this.place.writeConfig({ ...this.#config, ...more });
    const env = { RUNTIME_DIRECTORY: this.runtime, INVOCATION_ID: "0".repeat(32), ...environment };
    return this.place.spawn([...words, "--config", file, "--actions", `${this.runtime}-act`], { env, wrapper });
  }

  async start() {
    expect(await this.process([]).exit).toMatchObject({ code: 0 });
  }

  async look(more: object = {}) {
    return await this.process(["refresh"], more).exit;
  }

  note(name = "note"): void {
    fs.writeFileSync(`${this.runtime}-refresh/inbox/${name}`, "");
  }

  get notes(): readonly string[] {
    return fs.readdirSync(`${this.runtime}-refresh/inbox`);
  }

  get asked(): readonly string[] {
    return fs.readdirSync(`${this.runtime}-act/inbox`);
  }

  get published(): string {
    return fs.readFileSync(join(this.runtime, "pub/token"), "utf8");
  }

  get facts(): unknown {
    return JSON.parse(fs.readFileSync(join(this.runtime, ".fetcher-facts"), "utf8")) as unknown;
  }

  get state(): { readonly pending: unknown } {
    return JSON.parse(fs.readFileSync(join(this.runtime, "pub/.fetcher-state"), "utf8")) as { pending: unknown };
  }

  /** Where `unitMounts` keeps what it hides. */
  get wholeRun(): string {
    return this.place.path("whole-run");
  }

  /**
   * A shell's commands that show the directories as the unit does: bound into an empty /run, so that no removal outside
   * takes the mounts away.
   */
  get unitMounts(): string {
    const [run, whole] = [dirname(this.runtime), this.wholeRun];
    const bind = ["", "-act/inbox", "-refresh/inbox", "-refresh/ways"].map((end) => {
      const name = `${basename(this.runtime)}${end}`;
      return `mkdir -p ${run}/${name} && mount --bind ${whole}/${name} ${run}/${name}`;
    });
    return [`mkdir ${whole}`, `mount --bind ${run} ${whole}`, `mount -t tmpfs tmpfs ${run}`, ...bind].join(" && ");
  }

  /** What the unit that acts says when it has done what it was asked for. */
  acted(): void {
    const [name = ""] = this.asked;
    const time = Number(name.replace("set-", ""));
    fs.writeFileSync(`${this.runtime}-act/report`, JSON.stringify({ seen: time, done: time, told: true }));
    fs.rmSync(join(`${this.runtime}-act/inbox`, name));
  }
}

test("a start leaves a note so that no change gets lost before systemd watches; a look takes the note, and publishes changes", async () => {
  const looks = new Looks();
  await looks.start();
  expect(looks.notes).toHaveLength(1);
  expect(await looks.look()).toMatchObject({ code: 0 });
  expect([looks.notes, looks.asked, looks.published]).toEqual([[], [], "one"]);
  looks.place.put({ token: "two" });
  looks.note();
  expect(await looks.look()).toMatchObject({ code: 0 });
  expect([looks.notes, looks.published]).toEqual([[], "two"]);
  expect(looks.asked).toEqual([expect.stringMatching(/^set-\d+$/)]);
  expect(looks.state.pending).not.toBeNull();
  // The mark goes when it is done, by the next look.
  looks.acted();
  expect(await looks.look()).toMatchObject({ code: 0 });
  expect([looks.state.pending, looks.asked]).toEqual([null, []]);
});

test("each look asks again for an undone action, under the same name", async () => {
  const looks = new Looks();
  await looks.start();
  looks.place.put({ token: "two" });
  await looks.look();
  const [asked] = looks.asked;
  await looks.look();
  expect(looks.asked).toEqual([asked]);
  fs.rmSync(join(`${looks.runtime}-act/inbox`, asked ?? ""));
  await looks.look();
  expect(looks.asked).toEqual([asked]);
});

test("a look reports that no unit has begun an action that an earlier look asked for", async () => {
  const looks = new Looks();
  await looks.start();
  looks.place.put({ token: "two" });
  expect((await looks.look()).stderr).not.toContain("has not begun");
  // As if it were a while ago.
  const file = join(looks.runtime, "pub/.fetcher-state");
  const text = fs.readFileSync(file, "utf8");
  fs.writeFileSync(
    file,
    text.replace(/("publishedAt":)(\d+)/, (_, key: string, time: string) => `${key}${Number(time) - 11e6}`),
  );
  expect((await looks.look()).stderr).toMatch(
    /the action waits: app-secrets-act\.service has not begun \(see systemctl status app-secrets-act\.path /,
  );
  looks.acted();
  expect((await looks.look()).stderr).not.toContain("has not begun");
});

test("keeps notes that arrive during a look for the next one, even if the look is killed", async () => {
  const looks = new Looks({ onChange: { settle: 1 } });
  await looks.start();
  await looks.look();
  looks.note("first");
  const look = looks.process(["refresh", "--log-level", "debug"]);
  const lock = join(looks.runtime, "pub/.fetcher-lock");
  await eventually("it has begun", () => fs.readFileSync(lock, "utf8").includes(`"pid":${String(look.pid)}`));
  looks.note("second");
  expect(await look.exit).toMatchObject({ code: 0 });
  expect(looks.notes).toContain("second");
  looks.place.put({ token: "two" });
  const killed = looks.process(["refresh"]);
  await killed.end("SIGKILL");
  expect(looks.notes).toContain("second");
  await looks.look();
  expect([looks.notes, looks.published]).toEqual([[], "two"]);
});

test("leaves changes that a terminated look missed to the next one", async () => {
  const looks = new Looks({ onChange: { settle: 5 } });
  await looks.start();
  const before = looks.notes;
  looks.place.put({ token: "two" });
  const look = looks.process(["refresh"]);
  const lock = join(looks.runtime, "pub/.fetcher-lock");
  await eventually("it has begun", () => fs.readFileSync(lock, "utf8").includes(`"pid":${String(look.pid)}`));
  expect(await look.end("SIGTERM")).toMatchObject({ code: 0 });
  expect([looks.notes, looks.published]).toEqual([before, "one"]);
  await looks.look();
  expect([looks.notes, looks.published]).toEqual([[], "two"]);
});

test("a long look reports to systemd's watchdog that it is alive", async () => {
  const looks = new Looks({ onChange: { settle: 2 } });
  await looks.start();
  const [programs, said] = [looks.place.path("programs"), looks.place.path("said")];
  fs.mkdirSync(programs);
  fs.writeFileSync(join(programs, "systemd-notify"), `#!/bin/sh\necho "$*" >> ${said}\n`, { mode: 0o755 });
  const env = { PATH: `${programs}:${process.env["PATH"] ?? ""}`, NOTIFY_SOCKET: forHelper, WATCHDOG_USEC: "400000" };
  expect(await looks.process(["refresh"], {}, env).exit).toMatchObject({ code: 0 });
  expect(fs.readFileSync(said, "utf8")).toContain("WATCHDOG=1");
});

test("reports an outage once across looks, keeps the set, and reports the recovery", async () => {
  const looks = new Looks();
  await looks.start();
  fs.renameSync(looks.place.store, `${looks.place.store}.away`);
  const told = (await looks.look()).stderr;
  expect(told).toMatch(/no directory .*the published values stay in use/);
  const again = await looks.look();
  expect(again).toMatchObject({ code: 0 });
  expect(again.stderr).not.toContain("the published values stay in use");
  expect(looks.facts).toMatchObject({
    state: "ready",
    secrets: 1,
    problem: expect.stringMatching(/no directory/) as string,
  });
  expect([looks.published, looks.asked]).toEqual(["one", []]);
  fs.renameSync(`${looks.place.store}.away`, looks.place.store);
  expect((await looks.look()).stderr).toContain("answers again");
});

test("tries and reports a set that verify refuses once, until another comes", async () => {
  const tries = new Place().path("tries");
  const command = ["sh", "-c", `echo x >> ${tries}; [ "$(cat $SECRETS_DIRECTORY/token)" != bad ]`];
  const looks = new Looks({ onChange: { verify: { command } } });
  await looks.start();
  const count = () => (fs.existsSync(tries) ? fs.readFileSync(tries, "utf8").length / 2 : 0);
  looks.place.put({ token: "bad" });
  expect((await looks.look()).stderr).toContain("the new secrets are not published");
  expect(count()).toBe(1);
  const { stderr } = await looks.look();
  expect([count(), stderr.includes("not published: ")]).toEqual([1, false]);
  expect([looks.published, looks.asked]).toEqual(["one", []]);
  looks.place.put({ token: "good" });
  await looks.look();
  expect([count(), looks.published, looks.asked.length]).toEqual([2, "good", 1]);
});

test("restores removed files, with the store's current values", async () => {
  const looks = new Looks();
  await looks.start();
  fs.rmSync(join(looks.runtime, "pub/token"));
  expect(await looks.look()).toMatchObject({ code: 0 });
  expect(looks.published).toBe("one");
});

test("reports a link that it cannot create until it can", async () => {
  const links = new Place().path("links");
  fs.mkdirSync(links);
  const looks = new Looks();
  const more = { output: { directory: join(looks.runtime, "pub"), links } };
  expect(await looks.process([], more).exit).toMatchObject({ code: 0 });
  fs.rmSync(join(links, "token"));
  fs.mkdirSync(join(links, "token", "somebody's"), { recursive: true });
  expect(await looks.look(more)).toMatchObject({ code: 0 });
  expect(looks.facts).toMatchObject({
    problem: expect.stringContaining(`${links}/token is a directory: remove it`) as string,
  });
  fs.rmSync(join(links, "token"), { recursive: true });
  await looks.look(more);
  expect(looks.facts).toMatchObject({ problem: null });
  expect(fs.readFileSync(join(links, "token"), "utf8")).toBe("one");
});

test("a wrong configuration ends a look with one line, loses nothing, and leaves no note that would restart it for ever", async () => {
  const looks = new Looks();
  await looks.start();
  looks.note();
  const { code, stderr } = await looks.look({ secrets: { token: { mod: "0400" } } });
  expect([code, stderr]).toEqual([78, expect.stringContaining("secrets.token.mod")]);
  expect([looks.notes, looks.published]).toEqual([[], "one"]);
});

test("tells systemd about the links on the path, beside which a new generation appears", async () => {
  const looks = new Looks();
  const { store } = looks.place;
  fs.renameSync(store, `${store}.1`);
  fs.symlinkSync(`${store}.1`, store);
  await looks.start();
  const ways = () =>
    fs
      .readdirSync(`${looks.runtime}-refresh/ways`)
      .map((name) => [name, fs.readlinkSync(`${looks.runtime}-refresh/ways/${name}`)]);
  expect(ways()).toEqual([["0", dirname(store)]]);
  fs.rmSync(store);
  fs.renameSync(`${store}.1`, store);
  await looks.look();
  expect(ways()).toEqual([]);
});

test("refuses to start without the units that start the looks: a rotation would never arrive", async () => {
  const place = new Place();
  place.put({ token: "one" });
  const { code, stderr } = await place.start(place.config(["token"], { resident: "on-change" })).exit;
  expect([code, stderr]).toEqual([78, expect.stringContaining("resident: ")]);
  expect(place.published()).toEqual({});
});

test.each(["-act", "-refresh"])("ends properly when its sidecar stops before it begins, without %s", async (end) => {
  const looks = new Looks();
  await looks.start();
  fs.rmSync(`${looks.runtime}-refresh`, { recursive: true });
  fs.rmSync(`${looks.runtime}${end}`, { recursive: true, force: true });
  const { code, stderr } = await looks.look();
  expect(code).toBe(0);
  expect(stderr).toContain("stopped together with the sidecar");
});

test("ends properly when its sidecar stops while it asks the store, and leaves nothing", async () => {
  const looks = new Looks();
  await looks.start();
  looks.note();
  const [asked, go] = [looks.place.path("asked"), looks.place.path("go")];
  const command = ["sh", "-c", `touch ${asked}; until test -e ${go}; do sleep 0.05; done; echo two`];
  const look = looks.process(["refresh"], { backend: "command", config: { command, reloadOnChange: true } });
  await eventually(`the store is asked\n${look.stderr}`, () => fs.existsSync(asked) || !look.running);
  for (const suffix of ["", "-act", "-refresh"]) fs.rmSync(`${looks.runtime}${suffix}`, { recursive: true });
  fs.writeFileSync(go, "");
  const { code, stderr } = await look.exit;
  expect(code, stderr).toBe(0);
  expect(fs.existsSync(looks.runtime)).toBe(false);
});

test.each([
  ["accepts the set", "exit 0"],
  ["refuses the set, whose files are gone", "exit 1"],
])("whose sidecar stops while verify %s ends as it should, and reports no trouble", async (_, end) => {
  const looks = new Looks();
  await looks.start();
  looks.place.put({ token: "two" });
  looks.note();
  const [asked, go] = [looks.place.path("asked"), looks.place.path("go")];
  const command = ["sh", "-c", `touch ${asked}; until test -e ${go}; do sleep 0.05; done; ${end}`];
  const look = looks.process(["refresh"], { onChange: { verify: { command } } });
  await eventually(`verify runs\n${look.stderr}`, () => fs.existsSync(asked) || !look.running);
  for (const suffix of ["", "-act", "-refresh"]) fs.rmSync(`${looks.runtime}${suffix}`, { recursive: true });
  fs.writeFileSync(go, "");
  const { code, stderr } = await look.exit;
  expect(code, stderr).toBe(0);
  expect(look.lines.filter(({ level }) => level === "error" || level === "warn")).toEqual([]);
  expect(stderr).toContain("stopped together with the sidecar");
  expect(fs.existsSync(looks.runtime)).toBe(false);
});

needs("mount-namespace").test(
  "ends properly when systemd removes its notes before it begins, though its own mounts still show them",
  async () => {
    const looks = new Looks();
    await looks.start();
    looks.place.put({ token: "two" });
    const begin = `${looks.unitMounts} && rm -r ${looks.wholeRun}/app-secrets-refresh && exec "$@"`;
    const wrapper = ["unshare", "--mount", "--propagation=private", "sh", "-c", begin, "sh"];
    const { code, stderr } = await looks.process(["refresh"], {}, {}, wrapper).exit;
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("stopped together with the sidecar");
    expect(looks.published).toBe("one");
  },
);

needs("mount-namespace").test(
  "whose sidecar stops while verify runs reports no trouble in its own mounts, which outlive the directories",
  async () => {
    const looks = new Looks();
    await looks.start();
    looks.place.put({ token: "two" });
    looks.note();
    const [asked, go] = [looks.place.path("asked"), looks.place.path("go")];
    const command = ["sh", "-c", `touch ${asked}; until test -e ${go}; do sleep 0.05; done`];
    const wrapper = [
      "unshare",
      "--mount",
      "--propagation=private",
      "sh",
      "-c",
      `${looks.unitMounts} && exec "$@"`,
      "sh",
    ];
    const look = looks.process(["refresh"], { onChange: { verify: { command } } }, {}, wrapper);
    await eventually(`verify runs\n${look.stderr}`, () => fs.existsSync(asked) || !look.running);
    for (const suffix of ["", "-act", "-refresh"]) fs.rmSync(`${looks.runtime}${suffix}`, { recursive: true });
    fs.writeFileSync(go, "");
    const { code, stderr } = await look.exit;
    expect(code, stderr).toBe(0);
    expect(look.lines.filter(({ level }) => level === "error" || level === "warn")).toEqual([]);
    expect(stderr).toContain("stopped together with the sidecar");
  },
);

needs("mount-namespace").test(
  "with ProcSubset=pid, which hides the boot's id, an action that is done is not asked for again",
  async () => {
    // As /run is: it does not outlive a boot.
    const looks = new Looks({}, "/dev/shm");
    const wrapper = ["unshare", "--mount", "sh", "-c", 'mount -t proc -o subset=pid proc /proc && exec "$@"', "sh"];
    const look = async () => await looks.process(["refresh"], {}, {}, wrapper).exit;
    expect(await looks.process([], {}, {}, wrapper).exit).toMatchObject({ code: 0 });
    looks.place.put({ token: "two" });
    expect(await look()).toMatchObject({ code: 0 });
    expect(looks.asked).toHaveLength(1);
    looks.acted();
    expect(await look()).toMatchObject({ code: 0 });
    expect([looks.state.pending, looks.asked]).toEqual([null, []]);
  },
);
