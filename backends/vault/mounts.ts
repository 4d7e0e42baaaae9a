/** Which mounts are KV version 2, whose paths and answers differ from all others, and where they are. */
import { isRecord } from "../../src/contract/records.ts";
import { dataOf } from "./answers.ts";

import type { Session } from "./session.ts";
import type { Settings } from "./settings.ts";

/** Seconds after which a place with nothing in it asks again: a mount can be upgraded or made again. */
const STALE = 60;

export class Mounts {
  readonly #session: Session;
  readonly #settings: Settings;
  readonly #now: () => number;
  readonly #known = new Map<string, { readonly answer: Promise<Mount>; readonly since: number }>();
  readonly #points = new Map<string, string>();

  constructor(session: Session, settings: Settings, now: () => number) {
    this.#session = session;
    this.#settings = settings;
    this.#now = now;
  }

  /**
   * Asks once for each mount. A refusal does not answer that: if we took it for version 1, secrets of version 2 would be
   * "missing".
   *
   * @throws Refused, BackendError
   */
  async isVersion2(mount: string, signal: AbortSignal): Promise<boolean> {
    const { kvVersion } = this.#settings;
    if (kvVersion !== undefined && mount === this.#settings.mount) return kvVersion === 2;
    let known = this.#known.get(mount);
    if (known === undefined) {
      known = { answer: this.#ask(mount, signal), since: this.#now() };
      this.#known.set(mount, known);
    }
    try {
      const { isVersion2, point } = await known.answer;
      if (point !== undefined) this.#points.set(mount, point);
      return isVersion2;
    } catch (error) {
      this.#known.delete(mount);
      throw error;
    }
  }

  /** Where the server has the mount: "secret" for `secret/team`. undefined: it was not asked, or did not say. */
  pointOf(mount: string): string | undefined {
    return this.#points.get(mount);
  }

  /** Call this where nothing was found: next time the mount may be another. */
  doubt(mount: string): void {
    const known = this.#known.get(mount);
    if (known !== undefined && this.#now() - known.since > STALE) this.#known.delete(mount);
  }

  async #ask(mount: string, signal: AbortSignal): Promise<Mount> {
    const path = `sys/internal/ui/mounts/${mount}`;
    const { body } = await this.#session.call({ method: "GET", path, signal });
    const { type, options, path: at } = dataOf(body, path);
    const isVersion2 = type === "kv" && isRecord(options) && options["version"] === "2";
    const point = typeof at === "string" ? at.replace(/\/+$/, "") : "";
    // Nothing else that a server says gets into a message.
    return { isVersion2, point: point !== "" && `${mount}/`.startsWith(`${point}/`) ? point : undefined };
  }
}

interface Mount {
  readonly isVersion2: boolean;
  readonly point: string | undefined;
}
