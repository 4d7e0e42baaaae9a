/** A service's start under a real systemd 257: alone, after `true` in the sandbox of a sidecar, after sidecars of both programs. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Guest } from "../test/e2e/guest.ts";
import { Pair, type SidecarLines } from "../test/e2e/pair.ts";
import { plainUnits } from "../test/e2e/plain-units.ts";
import { project } from "./measure.ts";
import { type Spread, spread } from "./peer-measures.ts";

export interface ServiceStart {
  readonly what: string;
  /** What the others are compared with. */
  readonly isBaseline: boolean;
  /** Milliseconds, from the first unit's start until systemd has executed the service's program. */
  readonly time: Spread;
}

interface Kind {
  readonly what: string;
  /** Begins first. */
  readonly first: string;
  readonly service: string;
}

const TRUE = "after a unit that runs `true`, in the sandbox of the executable";

export async function measureServiceStarts(rounds: number): Promise<readonly ServiceStart[]> {
  const guest = await Guest.boot({ tree: "trixie" });
  try {
    const kinds = await install(guest);
    const times = kinds.map((): number[] => []);
    for (let round = 0; round < rounds; round++)
      for (const [index, { first, service }] of kinds.entries()) {
        await guest.systemctl("start", service);
        times[index]?.push(
          (await monotonic(guest, service, "ActiveEnter")) - (await monotonic(guest, first, "InactiveExit")),
        );
        await guest.systemctl("stop", service);
        await guest.until(
          "all has stopped",
          async () => (await guest.show(first, "ActiveState")).ActiveState === "inactive",
        );
      }
    return kinds.map(({ what }, index) => ({ what, isBaseline: what === TRUE, time: spread(times[index] ?? []) }));
  } finally {
    await guest.stop();
  }
}

async function install(guest: Guest): Promise<readonly Kind[]> {
  const kinds: Kind[] = [];
  const alone = "bench-alone.service";
  const service = ["[Service]", "Type=exec", "ExecStart=/bin/sleep infinity", ""];
  await guest.write(`/etc/systemd/system/${alone}`, ["[Unit]", "StartLimitIntervalSec=0", ...service].join("\n"));
  kinds.push({ what: "alone", first: alone, service: alone });
  const add = async (what: string, name: string, lines: readonly string[]) => {
    const sidecar: SidecarLines = { unit: [], service: lines, flags: [] };
    const { sidecar: first, target } = await Pair.install(
      guest,
      {
        ...{ name, wrap: false, program: "exec sleep infinity\n", sidecar },
        target: { unit: ["StartLimitIntervalSec=0"], service: ["Type=exec"] },
      },
      plainUnits,
    );
    kinds.push({ what, first, service: target });
  };
  const ends = [
    "Type=oneshot",
    "RemainAfterExit=yes",
    "Restart=no",
    "ExecReload=",
    "ExecStart=",
    "ExecStart=/bin/true",
  ];
  const narrower = linesOfService("executable.conf");
  await add(TRUE, "bench-true", [...narrower, ...ends, "RuntimeDirectory=bench-true-secrets/pub"]);
  const run = (program: string) => ["ExecStart=", `ExecStart=${program} --config /etc/fetcher/%i.json`];
  await add("with a sidecar, Node", "bench-node", run(`/usr/local/bin/node ${guest.project}/dist/fetcher.js`));
  if (existsSync(join(project, "dist/fetcher")))
    await add("with a sidecar, one executable", "bench-executable", [
      ...narrower,
      ...run(`${guest.project}/dist/fetcher`),
    ]);
  return kinds;
}

function linesOfService(example: string): readonly string[] {
  const text = readFileSync(join(project, "examples/systemd", example), "utf8");
  return text.split("\n").filter((line) => /^\w+=/.test(line));
}

/** With Type=exec a service is active when its program has been executed. Milliseconds of CLOCK_MONOTONIC. */
async function monotonic(guest: Guest, unit: string, what: "InactiveExit" | "ActiveEnter"): Promise<number> {
  const property = `${what}TimestampMonotonic` as const;
  return Number((await guest.show(unit, property))[property]) / 1000;
}
