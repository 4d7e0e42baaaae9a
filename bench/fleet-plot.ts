/**
 * npm run bench -- simulation: 10,000 sidecars over an hour with an outage in it, drawn beside the same fleet without
 * anything random (docs/explanation/vault-fleet.svg), and the figures that docs/explanation/load.md tells of it.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gridLine, line, svg, text } from "./svg.ts";
import { type Course, type Plan, simulate } from "./fleet-simulation.ts";

const plan = {
  sidecars: 10_000,
  interval: 60,
  duration: 3600,
  startWithin: 5,
  outage: { from: 1800, to: 2100 },
  seed: 59,
} as const;
const mean = plan.sidecars / plan.interval;

export async function simulation(): Promise<void> {
  const jittered = await courseOf({ ...plan, jitter: true });
  console.log(figures("random phase and jitter, as the program has it", jittered));
  const fixed = await courseOf({ ...plan, jitter: false });
  console.log(figures("a fixed interval, nothing random", fixed));
  const file = join(process.cwd(), "docs/explanation/vault-fleet.svg");
  writeFileSync(file, drawing(jittered, fixed));
  console.log(`drawn: ${file}`);
}

async function courseOf(of: Plan): Promise<Course> {
  // Memory, if the machine has such a file system: 10,000 directories on a disk would only cost time.
  const directory = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "fetcher-simulation-"));
  try {
    return await simulate(of, directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function figures(what: string, { perSecond, allCurrent }: Course): string {
  const { from, to } = plan.outage;
  const parts = [
    ["before the outage", 2 * plan.interval, from],
    ["in it", from, to],
    ["in the minute after it", to, to + 60],
    ["later", to + 60, plan.duration],
  ] as const;
  const peaks = parts.map(([name, begin, end]) => {
    const peak = Math.max(...perSecond.slice(begin, end));
    return `  peak second ${name}: ${peak} = ${(peak / mean).toFixed(1)} × the mean`;
  });
  const total = perSecond.reduce((sum, count) => sum + count, 0);
  const heading = `${what}: ${total} requests, ${mean.toFixed(0)} in a second on average but for the outage`;
  return [heading, ...peaks, `  all current ${allCurrent.toFixed(0)} s after the outage`].join("\n");
}

/** Pixels. */
const [WIDTH, HEIGHT, LEFT, TOP, GAP] = [720, 180, 60, 48, 62];
/** Seconds of one column: its highest second is drawn. */
const COLUMN = plan.duration / WIDTH;

function drawing(jittered: Course, fixed: Course): string {
  const highest = Math.max(...jittered.perSecond, ...fixed.perSecond);
  const height = TOP + 2 * HEIGHT + GAP + 44;
  return svg(LEFT + WIDTH + 20, height, "Requests in a second: 10,000 sidecars that poll every minute", [
    text(LEFT, 20, "Requests in a second: 10,000 sidecars, started within 5 s, poll every minute", { size: 14 }),
    panel(TOP, "random phase, ±10 % at each poll, retries at random moments: what fetcher does", jittered, highest),
    panel(TOP + HEIGHT + GAP, "the same with a fixed interval and nothing random", fixed, highest),
    text(LEFT + WIDTH / 2, height - 8, "minutes", { anchor: "middle" }),
  ]);
}

function panel(top: number, title: string, { perSecond }: Course, highest: number): string {
  const bottom = top + HEIGHT;
  const x = (second: number) => LEFT + second / COLUMN;
  const y = (count: number) => Math.round(bottom - (count / highest) * HEIGHT);
  const { from, to } = plan.outage;
  const points = Array.from({ length: WIDTH }, (_, column): [number, number] => {
    const peak = Math.max(...perSecond.slice(column * COLUMN, (column + 1) * COLUMN));
    return [LEFT + column, y(peak)];
  });
  const step = 10 ** Math.floor(Math.log10(highest));
  const counts = Array.from({ length: Math.floor(highest / step) + 1 }, (_, index) => index * step);
  const minutes = Array.from({ length: 7 }, (_, index) => index * 10);
  return [
    text(LEFT, top - 8, title),
    `<rect x="${x(from)}" y="${top}" width="${x(to) - x(from)}" height="${HEIGHT}" fill="#f3d9d0"/>`,
    text((x(from) + x(to)) / 2, top + 14, "outage", { anchor: "middle", fill: "#8a3a20" }),
    ...counts.map((count) => gridLine(LEFT, y(count), WIDTH, count)),
    `<path d="M${LEFT} ${y(mean)}h${WIDTH}" stroke="#444" stroke-dasharray="4 3"/>`,
    line(points, "#1f5f8b"),
    ...minutes.map((minute) => text(x(minute * 60), bottom + 16, minute, { anchor: "middle" })),
  ].join("\n");
}
