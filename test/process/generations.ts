/** A store of whole generations, and what an output may show of them after a crash. */
import * as fs from "node:fs";
import { join } from "node:path";
import type { Place } from "./daemon.ts";

/**
 * id → bytes of its value. Some are large, so that staging takes time; and there are many, so that the renames take
 * time.
 */
const sizes = new Map<string, number>([
  ["a", 24],
  ["b c", 4096],
  ["large", 200 * 1024],
  ["larger", 300 * 1024],
  ...Array.from({ length: 12 }, (_, index) => [`small${index}`, 40] as const),
]);
const ids = [...sizes.keys()];

/** What a reader finds after a crash. */
export interface Sight {
  /** Every name with the generation that it holds whole. */
  readonly generations: ReadonlyMap<string, number>;
  readonly interrupted: "stage" | "commit" | undefined;
}

export class Generations {
  /** The newest one, which the store holds. */
  newest = 0;
  /** Every published name is of this generation or a newer one. */
  confirmed = 0;
  readonly secretsDir: string;
  readonly #place: Place;
  #env: string | undefined;

  constructor(place: Place) {
    this.#place = place;
    this.secretsDir = place.path("current");
    this.next();
  }

  get config() {
    const secret = (size: number) => (size > 100_000 ? { env: null } : {});
    return this.#place.config(Object.fromEntries(Array.from(sizes, ([id, size]) => [id, secret(size)])), {
      config: { secretsDir: this.secretsDir },
      onChange: { settle: 0, minInterval: 0 },
    });
  }

  /** Swaps a complete new set in. */
  next(): void {
    this.newest += 1;
    const directory = this.#place.path(`generation-${this.newest}`);
    fs.mkdirSync(directory);
    for (const id of ids) fs.writeFileSync(join(directory, id), valueOf(id, this.newest));
    this.#swap(directory);
    fs.rmSync(this.#place.path(`generation-${this.newest - 2}`), { recursive: true, force: true });
  }

  /** Makes the store answer that there is no such secret. */
  loseAll(): void {
    fs.mkdirSync(this.#place.path("empty"), { recursive: true });
    this.#swap(this.#place.path("empty"));
  }

  /** The value of the smallest secret, as a target would read it. */
  sample(generation: number): string {
    return valueOf("a", generation).toString();
  }

  /**
   * Reads all that is published.
   *
   * @throws where a name is missing, or does not hold exactly the bytes of one generation, confirmed or newer.
   */
  look(): Sight {
    const names = fs.readdirSync(this.#place.output);
    const generations = new Map<string, number>();
    for (const name of [...ids, "secrets.env"]) {
      const bytes = fs.readFileSync(join(this.#place.output, name));
      const generation = Number(/(\d{8})/.exec(bytes.subarray(0, 2000).toString())?.[1]);
      if (!(generation >= this.confirmed && generation <= this.newest))
        throw new Error(`${name} is of generation ${generation}, not ${this.confirmed} to ${this.newest}`);
      if (!this.#bytes(name, generation).equals(bytes)) throw new Error(`${name} is not whole`);
      generations.set(name, generation);
    }
    JSON.parse(fs.readFileSync(join(this.#place.output, ".fetcher-state"), "utf8"));
    const left = (kind: string) => names.some((name) => name.startsWith(`.fetcher-${kind}-`));
    return { generations, interrupted: left("commit") ? "commit" : left("stage") ? "stage" : undefined };
  }

  /**
   * @throws unless exactly one generation is published, whole, and no interrupted publish has left anything.
   * @returns it.
   */
  lookAtRest(): number {
    const { generations, interrupted } = this.look();
    if (interrupted !== undefined) throw new Error(`a ${interrupted} directory is left`);
    const [generation = 0, ...others] = new Set(generations.values());
    if (others.length > 0) throw new Error(`mixed: ${JSON.stringify([...generations])}`);
    return generation;
  }

  #bytes(name: string, generation: number): Buffer {
    if (name !== "secrets.env") return valueOf(name, generation);
    // The first published file is the pattern of all: they differ only in the number.
    this.#env ??= fs.readFileSync(join(this.#place.output, name), "utf8").replaceAll(/\d{8}/g, "#");
    return Buffer.from(this.#env.replaceAll("#", padded(generation)));
  }

  #swap(directory: string): void {
    const link = `${this.secretsDir}.new`;
    fs.symlinkSync(directory, link);
    fs.renameSync(link, this.secretsDir);
  }
}

function valueOf(id: string, generation: number): Buffer {
  const unit = `${id} ${padded(generation)} `;
  return Buffer.from(`${unit.repeat(Math.ceil((sizes.get(id) ?? 0) / unit.length))}.`);
}

function padded(generation: number): string {
  return String(generation).padStart(8, "0");
}
