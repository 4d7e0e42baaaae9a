/** A service under a real systemd 257: how long it takes to start, alone and with a sidecar, and to be restarted by one. */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { treePath } from "../test/e2e/boot.ts";
import { Guest } from "../test/e2e/guest.ts";
import { Pair } from "../test/e2e/pair.ts";
import { plainUnits } from "../test/e2e/plain-units.ts";
import { median } from "./measure.ts";

const SUITE = "trixie";
/** Seconds. */
const SETTLE = 0.1;

/** Medians, milliseconds, from the first unit's start until systemd has executed the service's program. */
export interface GuestTimes {
  readonly alone: number;
  /** After a service that runs `node -e 0` to its end. */
  readonly node: number;
  readonly resident: number;
  readonly notResident: number;
  /** From a rename in the store, beyond the settle time, until the service's program runs again. */
  readonly restart: number;
  /** The same from the call of `systemctl restart` by hand. */
  readonly byHand: number;
}

/** @returns undefined without such a guest here. */
export function whyNoGuest(): string | undefined {
  if (process.getuid?.() !== 0) return "systemd-nspawn wants root";
  if (existsSync(join(treePath(SUITE), "etc/fetcher-guest-packages"))) return undefined;
  return `no guest with Debian ${SUITE}; scripts/guest-tree.sh builds it`;
}

const target = ["Type=exec"];
const alone = "bench-alone.service";
const afterNode = "bench-after-node.service";
const nodeUnit = "bench-node.service";

export async function measureInGuest(rounds: number): Promise<GuestTimes> {
  const guest = await Guest.boot({ tree: SUITE });
  try {
    await installBaselines(guest);
    const common = {
      wrap: false,
      program: "exec sleep infinity\n",
      target: { unit: ["StartLimitIntervalSec=0"], service: target },
    };
    const resident = await Pair.install(guest, { ...common, name: "bench-resident" }, plainUnits);
    const notResident = await Pair.install(
      guest,
      { ...common, name: "bench-ended", config: { resident: false, config: { reloadOnChange: false } } },
      plainUnits,
    );
    const kinds = {
      alone: [alone, alone],
      node: [nodeUnit, afterNode],
      resident: [resident.sidecar, resident.target],
      notResident: [notResident.sidecar, notResident.target],
    } as const;
    const times = { alone: [], node: [], resident: [], notResident: [] } as Record<keyof typeof kinds, number[]>;
    for (let round = 0; round < rounds; round++)
      for (const [kind, [first, service]] of Object.entries(kinds) as [
        keyof typeof kinds,
        readonly [string, string],
      ][]) {
        await guest.systemctl("start", service);
        times[kind].push((await executedAt(guest, service)) - (await monotonic(guest, first, "InactiveExit")));
        await guest.systemctl("stop", service);
        await guest.until(
          "all has stopped",
          async () => (await guest.show(first, "ActiveState")).ActiveState === "inactive",
        );
      }
    return {
      alone: median(times.alone),
      node: median(times.node),
      resident: median(times.resident),
      notResident: median(times.notResident),
      ...(await measureRestarts(guest, resident, rounds)),
    };
  } finally {
    await guest.stop();
  }
}

async function measureRestarts(guest: Guest, pair: Pair, rounds: number) {
  const [changed, byHand]: [number[], number[]] = [[], []];
  await guest.systemctl("start", pair.target);
  await guest.systemctl("start", alone);
  // From outside: a command in the guest would take longer to begin than what is measured.
  const init = guest.system.enter.find((word) => word.startsWith("--target="))?.slice("--target=".length) ?? "";
  const store = `/proc/${init}/root${pair.store}`;
  for (let round = 0; round < rounds; round++) {
    const before = await guest.mainPid(pair.target);
    writeFileSync(`${store}/.next`, `round ${round}`, { mode: 0o400 });
    const renamed = now();
    renameSync(`${store}/.next`, `${store}/token`);
    await pair.untilRestarted(pair.target, before);
    changed.push((await executedAt(guest, pair.target)) - renamed - SETTLE * 1000);
    const called = now();
    await guest.systemctl("restart", alone);
    byHand.push((await executedAt(guest, alone)) - called);
  }
  return { restart: median(changed), byHand: median(byHand) };
}

async function installBaselines(guest: Guest): Promise<void> {
  const etc = "/etc/systemd/system";
  const unit = ["[Unit]", "StartLimitIntervalSec=0"];
  const service = ["[Service]", ...target, "ExecStart=/bin/sleep infinity", ""];
  await guest.write(`${etc}/${alone}`, [...unit, ...service].join("\n"));
  const needsNode = [`Requires=${nodeUnit}`, `After=${nodeUnit}`];
  await guest.write(`${etc}/${afterNode}`, [...unit, ...needsNode, ...service].join("\n"));
  const ends = [
    "StopWhenUnneeded=yes",
    "[Service]",
    "Type=oneshot",
    "RemainAfterExit=yes",
    "ExecStart=/usr/local/bin/node -e 0",
    "",
  ];
  await guest.write(`${etc}/${nodeUnit}`, [...unit, ...ends].join("\n"));
  await guest.systemctl("daemon-reload");
}

/** With Type=exec a service is active when its program has been executed. Milliseconds of CLOCK_MONOTONIC. */
async function executedAt(guest: Guest, unit: string): Promise<number> {
  return await monotonic(guest, unit, "ActiveEnter");
}

async function monotonic(guest: Guest, unit: string, what: "InactiveExit" | "ActiveEnter"): Promise<number> {
  const property = `${what}TimestampMonotonic` as const;
  return Number((await guest.show(unit, property))[property]) / 1000;
}

/** CLOCK_MONOTONIC, which guests share. */
function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
