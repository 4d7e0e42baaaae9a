/** Memory of sidecars over time, and how fast it grows. */
export interface Sample {
  /** Seconds. */
  readonly at: number;
  /** KiB, like `own`. */
  readonly uss: number;
  /**
   * Memory that belongs to no file. `uss` also counts pages of Node's binary: more or fewer, as other processes come
   * and go.
   */
  readonly own: number;
}

export interface Slope {
  readonly samples: number;
  /** Seconds from the first sample to the last. */
  readonly span: number;
  /** The least `own` of the first window and of the last, in MiB. */
  readonly first: number;
  readonly last: number;
  /** MiB per hour. */
  readonly own: number;
}

/** Seconds after its start during which a process is still taking what it needs. */
export const WARM_UP = 60;
/** Seconds of a process's life after which a leak differs from chance. */
export const LONG_ENOUGH = 600;
/**
 * Seconds of one window, of which only the least sample counts: garbage piles up until it is collected, again and
 * again, and only the rest matters.
 */
const WINDOW = 120;

export class MemorySeries {
  readonly #byProcess = new Map<number, Sample[]>();

  add(pid: number, at: number, memory: Omit<Sample, "at">): void {
    const samples = this.#byProcess.get(pid) ?? [];
    this.#byProcess.set(pid, samples);
    samples.push({ at, ...memory });
  }

  /** The largest sample of any process, in KiB. */
  get largest(): number {
    return Math.max(0, ...[...this.#byProcess.values()].flat().map(({ uss }) => uss));
  }

  get processes(): number {
    return this.#byProcess.size;
  }

  /** The slope of the process that was observed longest after `from`; undefined: none was observed long enough. */
  slope(from: number): Slope | undefined {
    const candidates = [...this.#byProcess.values()].map((samples) => {
      const begun = samples[0]?.at ?? 0;
      return samples.filter(({ at }) => at >= from && at >= begun + WARM_UP);
    });
    const longest = candidates.reduce((best, samples) => (span(samples) > span(best) ? samples : best), []);
    const least = leastOfWindows(longest);
    const [first, last] = [least[0], least.at(-1)];
    if (least.length < 2 || first === undefined || last === undefined) return undefined;
    return {
      samples: longest.length,
      span: span(longest),
      first: first.own / 1024,
      last: last.own / 1024,
      own: perHour(least, ({ own }) => own),
    };
  }
}

function span(samples: readonly Sample[]): number {
  return (samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0);
}

/** The smallest sample of each whole window. */
function leastOfWindows(samples: readonly Sample[]): readonly Sample[] {
  const begun = samples[0]?.at ?? 0;
  const whole = Math.floor(span(samples) / WINDOW);
  const least: Sample[] = [];
  for (const sample of samples) {
    const window = Math.floor((sample.at - begun) / WINDOW);
    if (window < whole && (least[window]?.own ?? Infinity) > sample.own) least[window] = sample;
  }
  return least.filter(Boolean);
}

/**
 * The median of the slopes between all pairs (Theil and Sen): one odd sample does not bend it.
 *
 * @returns MiB per hour.
 */
function perHour(samples: readonly Sample[], kib: (sample: Sample) => number): number {
  const slopes: number[] = [];
  for (const [index, one] of samples.entries())
    for (const other of samples.slice(index + 1)) slopes.push((kib(other) - kib(one)) / (other.at - one.at));
  slopes.sort((a, b) => a - b);
  return ((slopes[Math.floor(slopes.length / 2)] ?? 0) * 3600) / 1024;
}
