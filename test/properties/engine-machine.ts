/** A sidecar and everything that may happen to it: failures, recoveries, and the bytes that the service has read. */
import fc from "fast-check";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { BackendError } from "../../src/contract/backend.ts";
import { ExitCode, FatalError } from "../../src/contract/errors.ts";
import { FailingDisk } from "../unit/engine/failing-disk.ts";
import { freshDirectory, startSidecar } from "../unit/engine/running-sidecar.ts";
import { FakeClock, FakeStore, FakeSystemd, missing, refused } from "../unit/fakes.ts";

export const ids = ["a", "b"] as const;
const id = fc.constantFrom(...ids);
const failures = {
  unavailable: refused,
  throttled: new BackendError("unavailable", "throttled", 20),
  denied: new BackendError("denied", "permission denied"),
  invalid: new BackendError("invalid", "no text"),
  missing: missing("it"),
};
/** How a template must write an optional secret. */
const B = "{{#b}}{{b}}{{/b}}";
const GOOD = `{{a}}-${B}`;
/** Templates that take every value, that take only some, or that cannot be read at all. */
const templates = [GOOD, "{{a}}", `only ${B}`, "nothing", "{{", "{{unknown}}"] as const;
const published = ["a", "b", "app.ini", "secrets.env", ".fetcher-state"] as const;
/** The text that a stranger writes into a published file. */
const ALTERED = "altered";

/** Everything that may happen. The engine itself does none of it. */
export const event = fc.oneof(
  fc.record({ what: fc.constant("value"), id }),
  fc.record({ what: fc.constant("binary"), id }),
  fc.record({
    what: fc.constant("failure"),
    id,
    kind: fc.constantFrom(...Object.keys(failures)) as fc.Arbitrary<keyof typeof failures>,
  }),
  fc.record({ what: fc.constantFrom("down", "up", "hint", "reload", "kill", "start", "mute", "unblock", "space") }),
  fc.record({ what: fc.constant("full"), after: fc.constantFrom(0, 0, 1, 3, 5, 6, 7, 8, 9) }),
  fc.record({ what: fc.constant("block"), file: fc.constantFrom("a", "app.ini", "secrets.env", "links/a") }),
  fc.record({ what: fc.constant("remove"), file: fc.constantFrom(...published, "", "links/a") }),
  fc.record({ what: fc.constant("alter"), file: fc.constantFrom("a", "b", "app.ini") }),
  fc.record({ what: fc.constant("template"), text: fc.constantFrom(...templates) }),
  fc.record({ what: fc.constant("time"), seconds: fc.constantFrom(0.1, 0.6, 2, 7, 40, 100) }),
);
/** Those of them that stand in the way of a publish or an action. */
export const trouble = event.filter(({ what }) =>
  ["down", "full", "block", "mute", "hint", "time", "remove", "alter"].includes(what),
);
export type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

export const options = fc.record({
  reloadOnChange: fc.boolean(),
  optional: fc.boolean(),
  action: fc.constantFrom("restart", "none"),
  settle: fc.constantFrom(0, 0.5),
  lease: fc.boolean(),
  links: fc.boolean(),
});
export type Options = typeof options extends fc.Arbitrary<infer T> ? T : never;

/** Seconds after which it must be fetched again. */
const LEASE = 50;
/** Each answer of the store is another lease: this is the value that it belongs to. */
export const origin = (text: string | undefined) => text?.replace(/-\d+$/, "");

type Life = Awaited<ReturnType<typeof startSidecar>>;

export class Machine {
  readonly store = new FakeStore({ a: "a0", b: "b0" });
  readonly #clock = new FakeClock();
  readonly #systemd = new FakeSystemd(this.#clock);
  readonly #directory: string;
  readonly #links: string | undefined;
  readonly #disk: FailingDisk;
  readonly #config;
  readonly #template = join(freshDirectory(), "app.mustache");
  readonly #history: Readonly<Record<string, Set<string>>> = {
    a: new Set(["a0", ALTERED]),
    b: new Set(["b0", ALTERED]),
  };
  readonly #stored: Record<string, string | undefined> = { a: "a0", b: "b0" };
  /** What the service read at its last start. */
  #seen: Readonly<Record<string, string>> = {};
  #text: string = GOOD;
  /** The template has changed since the sidecar was last asked to read it. */
  #isTemplateNews = false;
  #blocked: string | undefined;
  #values = 0;
  life!: Life;

  constructor({ reloadOnChange, optional, action, settle, lease, links }: Options) {
    if (lease) this.store.leases.set("a", LEASE);
    writeFileSync(this.#template, GOOD);
    const start = this.#systemd.start.bind(this.#systemd);
    this.#systemd.start = () => {
      const files = this.files();
      const isStarted = start();
      if (isStarted) this.#seen = files;
      return isStarted;
    };
    const root = freshDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
    this.#disk = new FailingDisk(root);
    this.#directory = join(root, "pub");
    this.#links = links ? join(root, "links") : undefined;
    this.#config = {
      secrets: { a: {}, b: { optional } },
      config: { reloadOnChange },
      templates: { "app.ini": { template: this.#template } },
      onChange: { action, settle },
      output: { directory: this.#directory, links: this.#links ?? null },
    };
  }

  async start(): Promise<void> {
    await this.#live();
    this.#seen = this.files();
  }

  /** The published files, each as text. */
  files(): Readonly<Record<string, string>> {
    if (!existsSync(this.#directory)) return {};
    const names = readdirSync(this.#directory).filter((name) => !name.startsWith(".") && !name.endsWith(".aside"));
    const files = names.filter((name) => statSync(join(this.#directory, name)).isFile());
    return Object.fromEntries(files.map((name) => [name, readFileSync(join(this.#directory, name), "utf8")]));
  }

  /** The same files, through the links. */
  linked(): Readonly<Record<string, string>> | undefined {
    if (this.#links === undefined) return undefined;
    return Object.fromEntries(Object.keys(this.files()).map((name) => [name, this.life.file(`../links/${name}`)]));
  }

  get seen(): Readonly<Record<string, string>> {
    return this.#seen;
  }

  async apply(event: Event): Promise<void> {
    const { store, life } = this;
    switch (event.what) {
      case "value":
        this.#value(event.id);
        break;
      case "binary":
        this.#put(event.id, `\0${++this.#values}`);
        break;
      case "failure":
        this.#stored[event.id] = undefined;
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
        this.reload();
        break;
      case "kill":
        await this.#kill();
        break;
      case "start":
        // Late enough after others that it does not meet the start limit by itself.
        await this.#clock.advance(20);
        life.systemd.start();
        break;
      case "mute":
        life.systemd.answers = !life.systemd.answers;
        break;
      case "full":
        this.#disk.fail(event.after);
        break;
      case "space":
        this.#disk.heal();
        break;
      case "block":
        this.#disk.aside(() => {
          this.#block(event.file);
        });
        break;
      case "unblock":
        this.#unblock();
        break;
      case "remove":
        this.#disk.aside(() => {
          this.#remove(event.file);
        });
        break;
      case "alter":
        this.#disk.aside(() => {
          this.#alter(event.file);
        });
        break;
      case "template":
        this.#write(event.text);
        break;
      case "time":
        await this.pass(event.seconds);
        break;
    }
    // No two events happen in the same microsecond.
    await this.pass(0.001);
  }

  async pass(seconds: number): Promise<void> {
    await this.#clock.advance(seconds);
  }

  reload(): void {
    this.#isTemplateNews = false;
    this.life.sidecar.reload();
  }

  /** Gives the store values that can be published, new ones for `changes`, and makes the template good. */
  mendStore(changes: readonly string[] = []): void {
    if (this.#text !== GOOD) this.#write(GOOD);
    for (const id of ids) if (changes.includes(id) || this.#stored[id] === undefined) this.#value(id);
  }

  /** What the store holds; undefined: nothing that can be published. */
  get stored(): Readonly<Record<string, string | undefined>> {
    return this.#stored;
  }

  /** Only a reload shows the new template to the sidecar. */
  get isTemplateNews(): boolean {
    return this.#isTemplateNews;
  }

  /** Removes everything that stands in the way. */
  heal(): void {
    this.store.down = undefined;
    this.#disk.heal();
    this.#unblock();
    this.life.systemd.answers = true;
  }

  check(): void {
    expect(this.life.end()).toBe("runs");
    const files = this.files();
    for (const id of ids) if (files[id] !== undefined) expect(this.#history[id]).toContain(origin(files[id]));
  }

  #value(id: string): void {
    const value = `${id}${++this.#values}`;
    this.#put(id, value);
    this.#stored[id] = value;
  }

  #put(id: string, value: string): void {
    this.#stored[id] = undefined;
    this.#history[id]?.add(value);
    this.store.put(id, value);
  }

  #write(text: string): void {
    this.#text = text;
    this.#isTemplateNews = true;
    writeFileSync(this.#template, text);
  }

  /** Kills the sidecar at any point, also in the middle of a publish. systemd starts it again next to what it left. */
  async #kill(): Promise<void> {
    this.#disk.fail(0);
    await this.life.stop();
    this.#disk.heal();
    this.#unblock();
    const isForgotten = !existsSync(join(this.#directory, ".fetcher-state"));
    await this.#live();
    // Nothing tells the new life that there was one before: whoever removed the state also tells the service.
    if (isForgotten) this.#seen = this.files();
  }

  /**
   * A start that its set or its store cannot serve ends or waits. Then somebody mends what is wrong, and tells the
   * service what it lost.
   */
  async #live(): Promise<void> {
    const begin = async () => {
      this.life = await startSidecar({
        store: this.store,
        config: this.#config,
        directory: this.#directory,
        clock: this.#clock,
        systemd: this.#systemd,
      });
    };
    if (this.#text.startsWith("{{") && this.#text !== "{{a}}" && this.#text !== GOOD) this.#write(GOOD);
    this.#isTemplateNews = false;
    const ready = () => this.life.notifier.readies.length > 0;
    const end = () => this.life.end();
    await begin();
    await this.#clock.advance(8);
    for (let attempt = 0; !ready(); attempt++) {
      const why = end();
      if (why !== "runs" && !(why instanceof FatalError) && !(why instanceof Error && why.name === "ValueError"))
        throw why;
      this.mendStore();
      this.store.down = undefined;
      // Files that no state of the sidecar lists are somebody else's: it does not take them, however long it waited
      // before.
      const isRefused = why instanceof FatalError && why.exitCode === ExitCode.cannotCreate;
      if (isRefused) this.#remove("");
      if (why !== "runs") await begin();
      await this.#clock.until(() => ready() || end() !== "runs", 60);
      if (isRefused && ready()) this.#seen = this.files();
      if (attempt === 3) throw new Error("a start that nothing mends");
    }
  }

  /** Replaces a file with a directory, which rename(2) does not replace. */
  #block(file: string): void {
    const path = this.#pathOf(file);
    if (this.#blocked !== undefined || path === undefined || !existsSync(path)) return;
    renameSync(path, `${path}.aside`);
    mkdirSync(path);
    this.#blocked = path;
  }

  #unblock(): void {
    const path = this.#blocked;
    this.#blocked = undefined;
    if (path === undefined) return;
    this.#disk.aside(() => {
      if (!existsSync(path) || !statSync(path).isDirectory()) return;
      rmdirSync(path);
      if (existsSync(`${path}.aside`)) renameSync(`${path}.aside`, path);
    });
  }

  /** "" is the directory itself. */
  #remove(file: string): void {
    const path = this.#pathOf(file);
    if (path !== undefined) rmSync(path, { recursive: true, force: true });
  }

  #alter(file: string): void {
    const path = this.#pathOf(file);
    if (path === undefined || path === this.#blocked || !existsSync(path)) return;
    rmSync(path);
    writeFileSync(path, ALTERED);
  }

  #pathOf(file: string): string | undefined {
    if (!file.startsWith("links/")) return join(this.#directory, file);
    return this.#links === undefined ? undefined : join(this.#links, file.slice("links/".length));
  }
}
