import { LONG_ENOUGH, type Slope } from "./memory.ts";
import type { Soak } from "./soak.ts";

/** MiB per hour by which a sidecar may grow, if it was observed for long enough. */
const GROWTH = 1;
/** MiB that no sidecar may ever reach: a short run can check only this. */
const LARGEST = 160;

/** A report for people of what happened and what was checked, and the sidecars whose memory grows. */
export function report(soak: Soak, seconds: number): { readonly text: string; readonly leaking: readonly string[] } {
  const events = [...soak.counts].sort(([, a], [, b]) => b - a);
  const total = events.reduce((sum, [, count]) => sum + count, 0);
  const leaking: string[] = [];
  const memory = soak.services.map(({ name, memory: series, lines, history }) => {
    const slope = series.slope(soak.halfway);
    const largest = series.largest / 1024;
    if (largest > LARGEST) leaking.push(`${name}: ${largest.toFixed(1)} MiB`);
    if (slope !== undefined && slope.span >= LONG_ENOUGH && slope.own > GROWTH)
      leaking.push(`${name}: grows by ${slope.own.toFixed(2)} MiB per hour`);
    return `  ${name.padEnd(8)} ${history.length} values, ${lines.length} starts and reloads, ${series.processes} sidecar processes; USS at most ${largest.toFixed(1)} MiB${slope === undefined ? "" : growth(slope)}`;
  });
  const text = [
    `soak: ${seconds} s, seed ${soak.random.seed}: ${total} events, ${soak.looks} looks, ${soak.rests} times at rest, ${soak.checks} checks`,
    ...events.map(([name, count]) => `  ${String(count).padStart(5)} ${name}`),
    "services, and the anonymous memory of the sidecar process that was looked at longest in the second half:",
    ...memory,
    "",
  ].join("\n");
  return { text, leaking };
}

function growth({ samples, span, first, last, own }: Slope): string {
  const figures = `${own.toFixed(2)} MiB per hour`;
  return `; ${samples} samples in ${span.toFixed(0)} s: ${first.toFixed(2)} to ${last.toFixed(2)} MiB, slope of the least of each two minutes ${figures}`;
}
