/** Uses a backend as the engine does, and records everything of it that a person could see. */
import { inspect } from "node:util";
import { expect } from "vitest";
import {
  BackendError,
  type Backend,
  type BackendModule,
  type Fetched,
  type Outcome,
} from "../../src/contract/backend.ts";

export class Observed {
  readonly module: BackendModule;
  readonly backend: Backend<unknown>;
  /** All log lines, errors, versions and places so far. */
  readonly said: string[];
  readonly #settings: unknown;
  readonly #sourceOf: (id: string) => Record<string, unknown>;

  private constructor(
    module: BackendModule,
    backend: Backend<unknown>,
    settings: unknown,
    sourceOf: (id: string) => Record<string, unknown>,
    said: string[],
  ) {
    this.module = module;
    this.backend = backend;
    this.#settings = settings;
    this.#sourceOf = sourceOf;
    this.said = said;
  }

  static async open(
    module: BackendModule,
    settings: Record<string, unknown>,
    sourceOf: (id: string) => Record<string, unknown> = () => ({}),
  ): Promise<Observed> {
    const said: string[] = [];
    const parsed = module.parseSettings(settings);
    const log = (level: string, message: string) => void said.push(`${level} ${message}`);
    const backend = await module.open(parsed, { log, random: Math.random });
    return new Observed(module, backend, parsed, sourceOf, said);
  }

  describe(id: string): string {
    const described = this.module.describe(this.request(id).source, this.#settings);
    this.said.push(described);
    return described;
  }

  request(id: string) {
    return { id, source: this.module.parseSource(id, this.#sourceOf(id), this.#settings) };
  }

  requests(...ids: string[]) {
    return ids.map((id) => this.request(id));
  }

  /** Rejects as the backend's fetch does. */
  async fetch(...ids: string[]): Promise<ReadonlyMap<string, Outcome>> {
    let outcomes;
    try {
      outcomes = await this.backend.fetch(this.requests(...ids), new AbortController().signal);
    } catch (error) {
      this.#hear(error);
      throw error;
    }
    expect([...outcomes.keys()].sort(), "one outcome for each id").toEqual(ids.toSorted());
    for (const outcome of outcomes.values()) this.#hear(outcome);
    return outcomes;
  }

  async outcome(id: string): Promise<Outcome> {
    const outcome = (await this.fetch(id)).get(id);
    if (outcome === undefined) throw new Error(`no outcome for ${id}`);
    return outcome;
  }

  /** Fails unless there is a value. */
  async value(id: string): Promise<Fetched> {
    return asValue(await this.outcome(id));
  }

  /**
   * Why no secret is available: the rejection of the whole fetch, or the failure that each secret has. undefined: some
   * secret is available.
   */
  async outage(...ids: string[]): Promise<BackendError | undefined> {
    let failures: unknown[];
    try {
      failures = [...(await this.fetch(...ids)).values()];
    } catch (error) {
      failures = [error];
    }
    const [first] = failures;
    return failures.every((failure) => failure instanceof BackendError) ? (first as BackendError) : undefined;
  }

  /** Notes all of an outcome or an error that a log could show, except the value. */
  #hear(given: unknown): void {
    const shown = typeof given === "object" && given !== null && "value" in given ? { ...given, value: "" } : given;
    this.said.push(inspect(shown, { depth: 9, showHidden: true }), JSON.stringify(shown));
    if (!(shown instanceof Error)) return;
    expect(shown.message, "the message is one line").not.toMatch(/[\r\n]/);
    expect(shown.cause, "no foreign error is attached").toBeUndefined();
  }
}

export function asValue(outcome: Outcome | undefined): Fetched {
  expect(outcome).toMatchObject({ status: "value" });
  return outcome as Fetched;
}
