/** Templates: configuration files with secrets in them. */
import type { Config, TemplateConfig } from "../config/config.ts";
import { readPlain } from "../contract/plain-file.ts";
import { waitFor } from "../contract/bounded-wait.ts";
import type { ReadFile, Template } from "./one-template.ts";

/**
 * Reads and checks every template of a configuration. Most have none: what reads and fills them is loaded only for one.
 *
 * @returns name of the file → its template.
 * @throws ConfigError that names the template, the line, and what is wrong there.
 */
export async function loadTemplates(
  config: Pick<Config, "templates" | "secrets">,
  reads: ReadFile = readPlain,
): Promise<Map<string, Template>> {
  if (config.templates.length === 0) return new Map();
  const { readTemplate } = await import("./one-template.ts");
  const secrets = new Map(config.secrets.map((secret) => [secret.id, secret]));
  const load = async (template: TemplateConfig) =>
    [template.file, await readTemplate(template, secrets, reads)] as const;
  return new Map(await Promise.all(config.templates.map(load)));
}

/** Seconds in which a reload must have read a template. */
const RELOAD_LIMIT = 5;

/**
 * Reads templates for all reloads: a file system that hangs delays none of them for long, and takes only one of the
 * four threads.
 */
export class TemplateReader {
  /** The reads that have not ended. */
  readonly #reads = new Map<string, Promise<unknown>>();

  /** Rejects with ETIMEDOUT after `RELOAD_LIMIT` seconds, or where `stop` aborts before. */
  async read(path: string, stop: AbortSignal): Promise<Buffer> {
    const read = await waitFor(this.#next(path), stop, RELOAD_LIMIT);
    if (typeof read === "symbol") throw Object.assign(new Error(), { code: "ETIMEDOUT" });
    return read.bytes;
  }

  /** Reads after the previous read, whose bytes may be older than the reload. */
  async #next(path: string): Promise<{ readonly bytes: Buffer }> {
    const before = this.#reads.get(path);
    const reading = before === undefined ? readPlain(path) : before.then(() => readPlain(path));
    this.#reads.set(path, reading);
    try {
      return { bytes: await reading };
    } finally {
      if (this.#reads.get(path) === reading) this.#reads.delete(path);
    }
  }
}
