/** The events that can happen, and how often. Each says whether it can happen to this service now. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Guest } from "../e2e/guest.ts";
import type { Pair } from "../e2e/pair.ts";
import type { Seeded } from "./random.ts";
import type { Service } from "./service.ts";

export interface World {
  readonly guest: Guest;
  readonly random: Seeded;
  readonly services: readonly Service[];
  /** Seconds. */
  readonly now: () => number;
  /** Calls `undo` after so many seconds, or when the world comes to rest. */
  readonly later: (seconds: number, undo: () => Promise<void>) => void;
}

export interface Event {
  readonly name: string;
  readonly weight: number;
  /** It ends the process of a sidecar, whose memory can then not be observed for long. */
  readonly endsSidecar?: boolean;
  possible(service: Service, world: World): boolean;
  /** @returns details of what it did. */
  happen(service: Service, world: World): Promise<string | undefined>;
}

/**
 * Seconds between two starts that events cause: together with the rotations' own, they never meet the default start
 * limit.
 */
const START_PAUSE = 11;

const mayStart = (service: Service, { now }: World) => now() - service.startedAt > START_PAUSE && !service.stopped;

export const events: readonly Event[] = [
  {
    name: "rotation",
    weight: 12,
    possible: ({ writable, refused }) => writable && !refused,
    happen: (service) => nothing(service.rotate()),
  },
  {
    name: "rotations, one after the other",
    weight: 3,
    possible: ({ writable, refused }) => writable && !refused,
    async happen(service, { random }) {
      const times = Math.round(random.between(3, 12));
      for (let time = 0; time < times; time += 1) {
        await service.rotate();
        await sleep(random.between(0, 300));
      }
      return `${times} times`;
    },
  },
  {
    name: "outage of the store",
    weight: 6,
    possible: (service) => service.untroubled,
    async happen(service, { random, later }) {
      const outage = random.one(service.store.outages);
      service.outage = outage;
      await outage.begin();
      later(random.between(2, 20), async () => {
        await outage.end();
        service.outage = undefined;
      });
      return outage.name;
    },
  },
  {
    name: "a value that the verify command refuses",
    weight: 2,
    possible: (service) =>
      service.untroubled && service.store.options.config?.["onChange"] !== undefined && hasVerify(service),
    async happen(service, { random, later }) {
      await service.rotate(true);
      later(random.between(2, 8), () => service.rotate());
      return undefined;
    },
  },
  {
    name: "full disk under the output",
    weight: 2,
    possible: (service) => service.untroubled && service.canBeFull,
    async happen(service, { guest, random, later }) {
      const filler = `${service.pair.runtime}/filler`;
      service.full = true;
      await guest.run(["dd", "if=/dev/zero", `of=${filler}`, "bs=4k"], { check: false });
      later(random.between(2, 15), async () => {
        await guest.run(["rm", "-f", filler]);
        service.full = false;
      });
      return undefined;
    },
  },
  kill("target", "SIGKILL", 3),
  kill("target", "SIGTERM", 2),
  kill("sidecar", "SIGKILL", 4),
  kill("sidecar", "SIGTERM", 3),
  {
    name: "the sidecar is stopped for a while (SIGSTOP)",
    weight: 1,
    possible: (service) => service.untroubled,
    async happen({ pair }, { random }) {
      const { code, stderr } = await send(pair, "sidecar", "SIGSTOP");
      if (code !== 0 && !stderr.includes("No main process to kill")) throw new Error(`SIGSTOP: ${stderr}`);
      await sleep(random.between(500, 4000));
      await send(pair, "sidecar", "SIGCONT");
      return undefined;
    },
  },
  {
    name: "restart of the target",
    weight: 3,
    possible: mayStart,
    happen: (service, world) => start(service, world, "restart", service.pair.target),
  },
  {
    name: "restart of the sidecar",
    weight: 2,
    endsSidecar: true,
    // A start with nothing to adopt waits for the store, which may refuse it.
    possible: (service, world) => mayStart(service, world) && service.untroubled,
    happen: (service, world) => start(service, world, "restart", service.pair.sidecar),
  },
  {
    name: "stop and start of the target",
    weight: 2,
    endsSidecar: true,
    possible: (service, world) => mayStart(service, world) && service.untroubled,
    async happen(service, { guest, random, later, now }) {
      service.stopped = true;
      await guest.run(["systemctl", "stop", service.pair.target], { timeout: 120 });
      later(random.between(0, 5), async () => {
        service.startedAt = now();
        service.unseen();
        await guest.run(["systemctl", "start", "--no-block", service.pair.target]);
        service.stopped = false;
      });
      return undefined;
    },
  },
  {
    name: "reload of the sidecar (SIGHUP)",
    weight: 3,
    possible: ({ stopped, last }) => !stopped && last?.sidecar["ActiveState"] === "active",
    async happen({ pair }) {
      // The job fails if the process has just gone.
      const verb = pair.isOnChange ? "start" : "reload";
      await pair.guest.run(["systemctl", verb, pair.asking], { check: false, timeout: 120 });
      return undefined;
    },
  },
  {
    name: "daemon-reload",
    weight: 2,
    possible: () => true,
    happen: (_, { guest }) => nothing(guest.run(["systemctl", "daemon-reload"], { timeout: 120 })),
  },
  {
    name: "daemon-reexec",
    weight: 2,
    possible: () => true,
    happen: (_, { guest }) => nothing(guest.run(["systemctl", "daemon-reexec"], { timeout: 120 })),
  },
  {
    name: "the wall clock of the sidecars jumps",
    weight: 2,
    possible: () => true,
    async happen(_, { guest, random }) {
      const offset = random.one(["+0", "+3600", "-3600", "+90d", "-90d", "+5y", "-2y", "+1"]);
      await guest.replace(CLOCK, `${offset}\n`);
      return offset;
    },
  },
];

/** The file from which sidecars under libfaketime take their wall clock's offset. */
export const CLOCK = "/etc/soak-clock";

function kill(whom: "target" | "sidecar", signal: string, weight: number): Event {
  return {
    name: `${signal} to the ${whom}`,
    weight,
    endsSidecar: whom === "sidecar",
    possible: (service, world) =>
      whom === "sidecar"
        ? !service.stopped
        : mayStart(service, world) && service.last?.target["ActiveState"] === "active",
    async happen(service, { now }) {
      if (whom === "target") service.startedAt = now();
      await send(service.pair, whom, signal);
      return undefined;
    },
  };
}

/** Signals the unit's main process, if there is one: it may be between two lives. */
async function send(pair: Pair, whom: "target" | "sidecar", signal: string) {
  const unit = whom === "sidecar" ? pair.asking : pair.target;
  // Starts a look for the signal: there is seldom one at that moment.
  if (whom === "sidecar" && pair.isOnChange && signal !== "SIGCONT")
    await pair.guest.run(["systemctl", "start", unit], { check: false, timeout: 120 });
  return await pair.guest.run(["systemctl", "kill", "--kill-whom=main", `--signal=${signal}`, unit], { check: false });
}

async function start(service: Service, { guest, now }: World, verb: string, unit: string): Promise<undefined> {
  service.startedAt = now();
  await guest.run(["systemctl", verb, "--no-block", unit]);
}

async function nothing(work: Promise<unknown>): Promise<undefined> {
  await work;
}

function hasVerify({ store }: Service): boolean {
  return Object.hasOwn(store.options.config?.["onChange"] as object, "verify");
}
