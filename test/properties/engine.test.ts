/**
 * The engine, in whatever order things go wrong and well again: the store, the disk, the templates, the sidecar itself.
 * In the end the store answers, and then what it holds must be published, the service must have it, and STATUS must be
 * clean. Meanwhile nothing ends the sidecar, and nothing is published that the store never held.
 */
import fc from "fast-check";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BackendError } from "../../src/contract/backend.ts";
import { FakeStore, missing, refused } from "../unit/fakes.ts";
import { block, freshDirectory, startSidecar } from "../unit/engine/running-sidecar.ts";

const ids = ["a", "b"] as const;
const id = fc.constantFrom(...ids);
const failures = {
  unavailable: refused,
  denied: new BackendError("denied", "permission denied"),
  invalid: new BackendError("invalid", "no text"),
  missing: missing("it"),
};
/** As one that is optional must be written. */
const B = "{{#b}}{{b}}{{/b}}";
const GOOD = `{{a}}-${B}`;
/** What can be rendered, but not of every value; what cannot be read at all. */
const templates = [GOOD, "{{a}}", `only ${B}`, "nothing", "{{", "{{unknown}}"] as const;
const readable: readonly string[] = templates.slice(0, 4);

const event = fc.oneof(
  fc.record({ what: fc.constant("value"), id }),
  fc.record({ what: fc.constant("binary"), id }),
  fc.record({ what: fc.constant("failure"), id, kind: fc.constantFrom("unavailable", "denied", "invalid", "missing") }),
  fc.record({ what: fc.constantFrom("down", "up", "hint", "reload", "restart", "start", "mute", "unblock") }),
  fc.record({ what: fc.constant("block"), file: fc.constantFrom("a", "app.ini", "secrets.env") }),
  fc.record({ what: fc.constant("template"), text: fc.constantFrom(...templates) }),
  fc.record({ what: fc.constant("time"), seconds: fc.constantFrom(0.1, 0.6, 2, 7, 40, 100) }),
);
const options = fc.record({
  reloadOnChange: fc.boolean(),
  optional: fc.boolean(),
  action: fc.constantFrom("restart", "none"),
  settle: fc.constantFrom(0, 0.5),
  lease: fc.boolean(),
});
type Options = typeof options extends fc.Arbitrary<infer T> ? T : never;
type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

/** Seconds after which it is to be fetched again. */
const LEASE = 50;
/** Each answer of the store is another lease: what it is of. */
const origin = (text: string | undefined) => text?.replace(/-\d+$/, "");

type Life = Awaited<ReturnType<typeof startSidecar>>;

class Machine {
  readonly store = new FakeStore({ a: "a0", b: "b0" });
  readonly #config;
  readonly #template = join(freshDirectory(), "app.mustache");
  readonly #history: Readonly<Record<string, Set<string>>> = { a: new Set(["a0"]), b: new Set(["b0"]) };
  /** What the service read at its last start. */
  #seen: Readonly<Record<string, string>> = {};
  #text: string = GOOD;
  #blocked: { readonly file: string; readonly end: () => void } | undefined;
  #values = 0;
  life!: Life;

  constructor({ reloadOnChange, optional, action, settle, lease }: Options) {
    if (lease) this.store.leases.set("a", LEASE);
    writeFileSync(this.#template, GOOD);
    this.#config = {
      secrets: { a: {}, b: { optional } },
      config: { reloadOnChange },
      templates: { "app.ini": { template: this.#template } },
      onChange: { action, settle },
    };
  }

  async start(before?: Life): Promise<void> {
    const { store } = this;
    const parent = existsSync("/dev/shm") ? "/dev/shm" : undefined;
    this.life = await startSidecar({
      store,
      config: this.#config,
      directory: before?.directory ?? join(freshDirectory(parent), "pub"),
      ...(before === undefined ? {} : { clock: before.clock }),
    });
    const { systemd, clock, notifier } = this.life;
    const start = systemd.start.bind(systemd);
    systemd.start = () => {
      this.#seen = this.files();
      return start();
    };
    await clock.until(() => notifier.readies.length > 0, 60);
    if (before === undefined) this.#seen = this.files();
  }

  /** The published files, each as text. */
  files(): Readonly<Record<string, string>> {
    const names = this.life.names().filter((name) => !name.startsWith(".") && !name.endsWith(".aside"));
    return Object.fromEntries(
      names.filter((name) => name !== this.#blocked?.file).map((name) => [name, this.life.file(name)]),
    );
  }

  get seen(): Readonly<Record<string, string>> {
    return this.#seen;
  }

  async apply(event: Event): Promise<void> {
    const { store, life } = this;
    switch (event.what) {
      case "value":
        this.value(event.id);
        break;
      case "binary":
        this.#put(event.id, `\0${++this.#values}`);
        break;
      case "failure":
        store.put(event.id, failures[event.kind]);
        break;
      case "down":
        store.down = refused;
        break;
      case "up":
        store.down = undefined;
        break;
      case "hint":
        store.hint();
        break;
      case "reload":
        life.sidecar.reload();
        break;
      case "restart":
        await this.#restart();
        break;
      case "start":
        // Not so soon after others that it would meet its start limit by itself.
        await life.clock.advance(20);
        life.systemd.start();
        break;
      case "mute":
        life.systemd.answers = !life.systemd.answers;
        break;
      case "block":
        this.#block(event.file);
        break;
      case "unblock":
        this.unblock();
        break;
      case "template":
        this.template(event.text);
        break;
      case "time":
        await life.clock.advance(event.seconds);
        break;
    }
  }

  value(id: string): string {
    const value = `${id}${++this.#values}`;
    this.#put(id, value);
    return value;
  }

  #put(id: string, value: string): void {
    this.#history[id]?.add(value);
    this.store.put(id, value);
  }

  template(text: string): void {
    this.#text = text;
    writeFileSync(this.#template, text);
  }

  /** Killed and started again by systemd, beside what is published. What it cannot start with, a person has mended. */
  async #restart(): Promise<void> {
    const { life } = this;
    this.unblock();
    if (!readable.includes(this.#text)) this.template(GOOD);
    await life.stop();
    await this.start(life);
    this.life.systemd.state = life.systemd.state;
  }

  #block(file: string): void {
    const path = join(this.life.directory, file);
    if (this.#blocked === undefined && existsSync(path)) this.#blocked = { file, end: block(path) };
  }

  unblock(): void {
    this.#blocked?.end();
    this.#blocked = undefined;
  }

  check(): void {
    const { life } = this;
    expect(life.end()).toBe("runs");
    const files = this.files();
    for (const id of ids) if (files[id] !== undefined) expect(this.#history[id]).toContain(origin(files[id]));
  }
}

async function live(chosen: Options, events: readonly Event[]): Promise<void> {
  const machine = new Machine(chosen);
  await machine.start();
  for (const event of events) {
    await machine.apply(event);
    // Nothing happens twice in a microsecond.
    await machine.life.clock.advance(0.001);
    machine.check();
  }
  // All is well again.
  machine.store.down = undefined;
  machine.unblock();
  machine.template(GOOD);
  const last = { a: machine.value("a"), b: machine.value("b") };
  const { store, life } = machine;
  life.systemd.answers = true;
  life.sidecar.reload();
  await life.clock.advance(300);
  machine.check();
  const [a, b] = ids.map((id) => life.file(id));
  expect(origin(a)).toBe(last.a);
  expect(b).toBe(last.b);
  expect(life.file("app.ini")).toBe(`${a ?? ""}-${b ?? ""}`);
  expect(life.notifier.last).toMatch(/^2 secrets from fake, version [\d ,to]+, checked at [\d:]+$/);
  if (chosen.action === "restart") {
    expect(machine.seen).toEqual(machine.files());
    expect(life.pending()).toBeNull();
  }
  const { length } = store.fetches;
  await life.clock.advance(3600);
  if (!chosen.reloadOnChange && !chosen.lease) expect(store.fetches).toHaveLength(length);
  expect(readFileSync(join(life.directory, ".fetcher-state"), "utf8")).not.toContain("aside");
  await life.stop();
}

test("whatever went wrong, in the end the service has what the store holds", async () => {
  await fc.assert(fc.asyncProperty(options, fc.array(event, { minLength: 1, maxLength: 25 }), live), {
    numRuns: 150,
  });
});
