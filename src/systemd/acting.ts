/**
 * Acts for a sidecar that may not talk to systemd: serves the requests in the inbox of its directory, then ends. It has
 * the same engine as a sidecar that acts itself. Its report keeps what the next process needs.
 */
import { Alarm } from "../runtime/alarm.ts";
import { type Clock, isAborted, type Random } from "../runtime/clock.ts";
import type { Config } from "../config/config.ts";
import type { Log } from "../runtime/log.ts";
import type { ActionDesk, Report, Requests, Said } from "./action-desk.ts";
import { AllTargets } from "./all-targets.ts";
import type { Systemd } from "./systemctl.ts";

/** How many log lines the report hands on to the sidecar. */
const HANDED_ON = 20;
/** Seconds until the next look into the inbox, in case a watch event is lost. */
const LOOK_AGAIN = 5;

export interface ActingParts {
  readonly config: Config;
  readonly desk: ActionDesk;
  readonly systemd: Systemd;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
}

export class Acting {
  readonly #parts: ActingParts;
  readonly #targets: AllTargets;
  readonly #alarm: Alarm<"inbox" | "done">;
  readonly #log: Log;
  #report: Report;

  constructor(parts: ActingParts) {
    this.#parts = parts;
    this.#alarm = new Alarm(parts.clock);
    const now = parts.clock.monotonic();
    const before = parts.desk.report;
    // A time in the future is from an earlier boot, or wrong: it would mark a set as done before its request.
    const isOfNow = [before.seen, before.done, before.answered].every((time) => time <= now);
    this.#report = isOfNow ? before : { ...before, seen: 0, done: 0, answered: 0, memories: {} };
    const { log } = parts;
    const handOn = (level: Said["level"]) => (message: string) => {
      log[level](message);
      this.#handOn(level, message);
    };
    this.#log = {
      ...log,
      info: handOn("info"),
      notice: handOn("notice"),
      warn: handOn("warn"),
      error: handOn("error"),
    };
    this.#targets = new AllTargets({
      ...parts,
      log: this.#log,
      publisher: {
        setPending: (publishedAt) => {
          if (publishedAt === null) this.#done();
        },
      },
      changed: () => {
        this.#tell();
      },
      applied: () => undefined,
      unmarked: () => undefined,
    });
    this.#targets.recall(new Map(Object.entries(this.#report.memories)));
  }

  /** Runs until nothing is due, or `stop` aborts. @returns whether every finished request is out of the inbox. */
  async run(stop: AbortSignal): Promise<boolean> {
    const { desk, clock } = this.#parts;
    const end = desk.watch(() => {
      this.#alarm.ring("inbox");
    });
    const over = new AbortController();
    const onStop = () => {
      over.abort();
    };
    stop.addEventListener("abort", onStop, { once: true });
    const running = this.#targets.run(over.signal);
    let isClear = true;
    try {
      while (!isAborted(stop)) {
        const requests = desk.requests(clock.monotonic());
        // The sidecar has stopped, and its published set is gone.
        if (requests === undefined) return true;
        await this.#serve(requests, stop);
        isClear = desk.clear(this.#report, () => clock.monotonic());
        if (this.#targets.idle && !this.#isNews(desk.requests(clock.monotonic()) ?? {})) return isClear;
        await this.#alarm.wait(LOOK_AGAIN, stop);
      }
      return true;
    } finally {
      end();
      over.abort();
      await running;
      stop.removeEventListener("abort", onStop);
    }
  }

  #isNews({ set = 0, look = 0, revive = 0 }: Requests): boolean {
    return set > this.#report.seen || Math.max(look, revive) > this.#report.answered;
  }

  async #serve({ set, look, revive }: Requests, stop: AbortSignal): Promise<void> {
    // Serves again what an earlier process saw but did not finish.
    if (set !== undefined && set > this.#report.done && (set > this.#report.seen || this.#targets.idle)) {
      this.#report = { ...this.#report, seen: set };
      if (this.#targets.none) this.#done();
      else this.#targets.request([], set);
      this.#tell();
    }
    const question = Math.max(look ?? 0, revive ?? 0);
    if (question <= this.#report.answered) return;
    const { systemd } = this.#parts;
    const broken = await this.#targets.broken(stop);
    const isStopping = broken.length > 0 && (await systemd.isStopping(stop));
    if (revive !== undefined && !isStopping && !broken.some(({ hasJob }) => hasJob))
      for (const { unit } of broken) {
        const { ok, detail } = await systemd.reviveBoth(unit, stop);
        if (!ok) this.#log.error(`${unit} cannot be started again: ${detail}`);
      }
    if (isAborted(stop)) return;
    this.#report = { ...this.#report, broken, isStopping, answered: question };
    this.#tell();
  }

  /** All targets have had their action. */
  #done(): void {
    this.#report = { ...this.#report, done: this.#report.seen, told: !this.#targets.none && this.#targets.told };
    this.#tell();
    this.#alarm.ring("done");
  }

  #handOn(level: Said["level"], message: string): void {
    const { said } = this.#report;
    const number = Math.max(this.#parts.clock.monotonic(), (said.at(-1)?.number ?? 0) + 1);
    this.#report = { ...this.#report, said: [...said, { number, level, message }].slice(-HANDED_ON) };
    this.#tell();
  }

  #tell(): void {
    const memories = Object.fromEntries(this.#targets.memories);
    this.#report = { ...this.#report, statuses: this.#targets.statuses, memories };
    this.#parts.desk.write(this.#report);
  }
}
