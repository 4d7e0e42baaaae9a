/**
 * The run: events one after the other, a look at everything once a second, and a rest of the whole world now and then.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Guest } from "../e2e/guest.ts";
import { CLOCK, type Event, events, type World } from "./events.ts";
import { fakeClock } from "./fake-clock.ts";
import { CANARY } from "./history.ts";
import { LONG_ENOUGH, WARM_UP } from "./memory.ts";
import { expectNothingLeft, looksLike, type Traces } from "./traces.ts";
import type { Seeded } from "./random.ts";
import { type Observation, Service } from "./service.ts";
import { aws, command, folder, nixops, onChange, vault } from "./stores.ts";

/** Seconds between two looks, and between two rests. */
const LOOK = 1;
const REST = 45;
/** Seconds in which everything that is due comes to rest; a sidecar asks a store again after 30 s at the latest. */
const SETTLING = 150;

export class Soak implements World {
  readonly guest: Guest;
  readonly random: Seeded;
  readonly services: Service[] = [];
  /** The events, each with its second. */
  readonly happened: string[] = [];
  readonly counts = new Map<string, number>();
  checks = 0;
  looks = 0;
  rests = 0;
  #begun = performance.now();
  #halfway = Infinity;
  #lastEnd = Infinity;
  #undo: { readonly at: number; readonly what: () => Promise<void> }[] = [];
  #wrong: string[] = [];
  #before: Traces | undefined;
  #vault: ReturnType<typeof vault> | undefined;
  #journal = "";

  constructor(guest: Guest, random: Seeded) {
    this.guest = guest;
    this.random = random;
  }

  readonly now = (): number => (performance.now() - this.#begun) / 1000;

  readonly later = (seconds: number, undo: () => Promise<void>): void => {
    this.#undo.push({ at: this.now() + (this.#warmingUp ? seconds / 5 : seconds), what: undo });
  };

  /** When the observation of the sidecars' memory began. */
  get halfway(): number {
    return this.#halfway;
  }

  async install(): Promise<void> {
    const { guest } = this;
    this.#vault = vault(guest, "vault");
    const stores = [
      folder(guest, "folder"),
      this.#vault,
      aws(guest, "aws"),
      command(guest, "command"),
      nixops(guest, "nixops"),
    ];
    const changing = onChange(guest, "changing");
    await guest.write(FAKE_CLOCK, readFileSync(fakeClock() ?? ""), 0o755);
    await guest.write(CLOCK, "+0\n");
    this.#before = await looksLike(guest);
    for (const store of stores) {
      const { backend } = store;
      const jumps = backend === "folder" || backend === "nixops" ? [] : underFakeClock;
      this.services.push(
        await Service.install(guest, backend, store, jumps, backend === "folder" ? "128k" : undefined),
      );
    }
    this.services.push(await Service.install(guest, "changing", changing, [], "128k"));
    this.#journal = await guest.journalCursor();
    for (const { pair } of this.services) await pair.start();
  }

  /** @throws with the first problem. */
  async run(seconds: number): Promise<void> {
    this.#begun = performance.now();
    this.#halfway = seconds / 2;
    // If there is enough time to detect a leak, the observed processes have lived, and have seen rotations, for some
    // time.
    this.#lastEnd = seconds / 2 >= LONG_ENOUGH + WARM_UP ? seconds / 4 : seconds / 2;
    const over = new AbortController();
    const looking = this.#keepLooking(over.signal);
    try {
      let nextRest = REST;
      while (this.now() < seconds) {
        await this.#undoDue();
        await this.#something();
        await sleep(this.random.between(100, this.#warmingUp ? 250 : 2500));
        this.#complain();
        if (this.now() >= nextRest && !this.#warmingUp) {
          await this.#rest();
          nextRest = this.now() + REST;
        }
      }
      await this.#rest();
    } finally {
      over.abort();
      await looking;
    }
  }

  /**
   * A process takes its lasting memory in its first hundreds of rotations and dozens of outages, however long those
   * last. So before its memory is observed, there are many short ones, with no rest between them.
   */
  get #warmingUp(): boolean {
    return this.now() >= this.#lastEnd && this.now() < this.#halfway;
  }

  /** Stops everything, and checks that nothing is left of it. */
  async end(): Promise<void> {
    const { guest } = this;
    for (const { pair } of this.services) {
      await pair.stop();
      await guest.run(["umount", pair.runtime], { check: false });
      await guest.run(["rmdir", pair.runtime], { check: false });
    }
    this.checks += await expectNothingLeft(guest, this.#before, this.services, this.#vault?.server);
  }

  async #something(): Promise<void> {
    const service = this.random.one(this.services);
    // The memory of a process is observed for as long as possible: towards the end, no event ends a sidecar.
    const endsNone = this.now() >= this.#lastEnd;
    const possible = events.filter(
      (event) => !(endsNone && event.endsSidecar === true) && event.possible(service, this),
    );
    await this.#make(this.random.weighted(possible), service);
  }

  async #make(event: Event, service: Service): Promise<void> {
    this.#log(`${service.name}: ${event.name}`);
    this.counts.set(event.name, (this.counts.get(event.name) ?? 0) + 1);
    const detail = await event.happen(service, this);
    if (detail !== undefined) this.#log(`${service.name}: ${event.name}: ${detail}`);
  }

  async #undoDue(at = this.now()): Promise<void> {
    const due = this.#undo.filter((undo) => undo.at <= at);
    this.#undo = this.#undo.filter((undo) => undo.at > at);
    for (const { what } of due) await what();
  }

  async #keepLooking(over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      const begun = performance.now();
      try {
        await this.#look();
      } catch (error) {
        // systemd does not answer while it re-executes itself.
        this.#log(`no look: ${error instanceof Error ? error.message.slice(-200).replaceAll("\n", " ") : "failed"}`);
      }
      await sleep(Math.max(0, LOOK * 1000 - (performance.now() - begun)), undefined, { signal: over }).catch(
        () => undefined,
      );
    }
  }

  async #look(): Promise<void> {
    const pairs = this.services.map(({ name, pair, logSize, others }) =>
      [name, pair.sidecar, logSize, others.join()].join(":"),
    );
    const seen = JSON.parse(
      await this.guest.text(["node", `${this.guest.project}/test/soak/observe.mjs`, ...pairs]),
    ) as Observation[];
    this.looks += 1;
    for (const [index, observation] of seen.entries()) {
      const service = this.services[index];
      if (service === undefined) continue;
      const { wrong, checks } = service.check(observation, this.now());
      this.checks += checks;
      for (const what of wrong) {
        this.#log(`WRONG: ${service.name}: ${what}`);
        this.#wrong.push(`${service.name}: ${what}`);
      }
    }
  }

  #complain(): void {
    if (this.#wrong.length > 0) throw new Error(this.#wrong.join("\n"));
  }

  /**
   * Ends all faults. Then every target has the newest value and stays as it is, and the journal shows nothing strange.
   */
  async #rest(): Promise<void> {
    this.#log("everything comes to rest");
    await this.#undoDue(Infinity);
    const end = this.now() + SETTLING;
    for (;;) {
      const looks = this.looks;
      while (this.looks < looks + 2) await sleep(100);
      this.#complain();
      const unsettled = this.services.flatMap((service) => {
        const why = service.unsettled(this.now());
        return why === undefined ? [] : [`${service.name}: ${why}; ${service.last?.sidecar["StatusText"] ?? ""}`];
      });
      if (unsettled.length === 0) break;
      if (this.now() > end) throw new Error(`not at rest within ${SETTLING} s:\n${unsettled.join("\n")}`);
    }
    this.checks += this.services.length;
    await this.#expectStillness();
    await this.#expectCleanOutputs();
    await this.#expectQuietJournal();
    this.rests += 1;
    this.#log("at rest");
  }

  /** Checks that nothing is touched where nothing changes, except the lease that ends. */
  async #expectStillness(): Promise<void> {
    const processes = () =>
      this.services.map(({ last, name }) => [name, last?.target["MainPID"], last?.sidecar["MainPID"]].join(" "));
    const before = processes();
    const looks = this.looks;
    while (this.looks < looks + 3) await sleep(100);
    for (const [index, now] of processes().entries())
      if (now !== before[index] && !now.startsWith("vault "))
        throw new Error(`nothing happened, and yet: ${before[index] ?? ""} is now ${now}`);
    this.checks += this.services.length;
  }

  async #expectCleanOutputs(): Promise<void> {
    for (const { name, pair } of this.services) {
      const found = (await this.guest.text(["ls", "-A", `${pair.runtime}/pub`])).split("\n").sort();
      const wanted = [
        ".fetcher-lock",
        ".fetcher-state",
        ...(name === "vault" ? ["certificate"] : []),
        "secrets.env",
        "token",
      ];
      if (found.join() !== wanted.join()) throw new Error(`${name}: published is ${found.join()}`);
      this.checks += 1;
    }
  }

  async #expectQuietJournal(): Promise<void> {
    const from = this.#journal;
    this.#journal = await this.guest.journalCursor();
    const text = await this.guest.journal(undefined, { after: from, output: "export" });
    if (!text.includes("MESSAGE=")) throw new Error("the journal is silent");
    for (const [what, pattern] of Object.entries(strange)) {
      const line = text.split("\n").find((said) => pattern.test(said));
      if (line !== undefined) throw new Error(`${what} in the journal: ${line.replaceAll(CANARY, "(a secret)")}`);
      this.checks += 1;
    }
  }

  #log(text: string): void {
    this.happened.push(`${this.now().toFixed(1).padStart(7)} ${text}`);
  }
}

const strange: Readonly<Record<string, RegExp>> = {
  "a secret": new RegExp(CANARY),
  "a bug": /a bug in fetcher|a bug of the backend/,
  "a start limit": /start-limit|repeated too quickly/,
  "a crash": /dumped core|code=dumped|status=70|status=134/,
};

const FAKE_CLOCK = "/opt/fake-clock.so";
const underFakeClock = [
  `Environment=LD_PRELOAD=${FAKE_CLOCK} FAKETIME_TIMESTAMP_FILE=${CLOCK} FAKETIME_CACHE_DURATION=1`,
  "Environment=FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1",
];
