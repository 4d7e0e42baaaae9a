/** Memory of sidecars over time, and how fast it grows. */
export interface Sample {
  /** Seconds. */
  readonly at: number;
  /** KiB, as `uss` is. */
  readonly pss: number;
  readonly uss: number;
}

export interface Slope {
  readonly samples: number;
  /** Seconds from the first sample to the last. */
  readonly span: number;
  /** MiB. */
  readonly first: number;
  readonly last: number;
  /** MiB per hour. */
  readonly uss: number;
  readonly pss: number;
}

/** Seconds after its start for which a process is still taking what it needs. */
export const WARM_UP = 60;
/** Seconds of a process's life in which a leak can be told from chance. */
export const LONG_ENOUGH = 600;

export class MemorySeries {
  readonly #byProcess = new Map<number, Sample[]>();

  add(pid: number, at: number, memory: Omit<Sample, "at">): void {
    const samples = this.#byProcess.get(pid) ?? [];
    this.#byProcess.set(pid, samples);
    samples.push({ at, ...memory });
  }

  /** Of any process, in KiB. */
  get largest(): number {
    return Math.max(0, ...[...this.#byProcess.values()].flat().map(({ uss }) => uss));
  }

  get processes(): number {
    return this.#byProcess.size;
  }

  /** Of the process that was observed longest after `from`; undefined: none for long enough to tell. */
  slope(from: number): Slope | undefined {
    const candidates = [...this.#byProcess.values()].map((samples) => {
      const begun = samples[0]?.at ?? 0;
      return samples.filter(({ at }) => at >= from && at >= begun + WARM_UP);
    });
    const longest = candidates.reduce((best, samples) => (span(samples) > span(best) ? samples : best), []);
    const [first, last] = [longest[0], longest.at(-1)];
    if (longest.length < 10 || first === undefined || last === undefined) return undefined;
    return {
      samples: longest.length,
      span: span(longest),
      first: first.uss / 1024,
      last: last.uss / 1024,
      uss: perHour(longest, ({ uss }) => uss),
      pss: perHour(longest, ({ pss }) => pss),
    };
  }
}

function span(samples: readonly Sample[]): number {
  return (samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0);
}

/**
 * The median of the slopes between all pairs of samples (Theil and Sen): a garbage collection now and then does not
 * bend it.
 *
 * @returns MiB per hour.
 */
export function perHour(samples: readonly Sample[], kib: (sample: Sample) => number): number {
  // A few hundred points tell as much as thousands, and their pairs can be counted.
  const step = Math.ceil(samples.length / 400);
  const points = samples.filter((_, index) => index % step === 0);
  const slopes: number[] = [];
  for (const [index, one] of points.entries())
    for (const other of points.slice(index + 1))
      if (other.at > one.at) slopes.push((kib(other) - kib(one)) / (other.at - one.at));
  slopes.sort((a, b) => a - b);
  return ((slopes[Math.floor(slopes.length / 2)] ?? 0) * 3600) / 1024;
}
