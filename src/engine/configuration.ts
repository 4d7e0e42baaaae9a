/** Reads the configuration again while the sidecar runs, and checks all of it before using any of it. */
import { type Config, configOf } from "../config/config.ts";
import type { ConfigFlags } from "../config/config-file.ts";
import type { ConfigText, RunningFile } from "../config/running-file.ts";
import { ConfigError } from "../contract/errors.ts";
import type { Publisher } from "../publish/publisher.ts";
import type { SetLayout } from "../publish/layout.ts";
import type { Store } from "./store.ts";

/** A valid configuration that nothing uses yet. */
export interface Successor {
  readonly config: Config;
  readonly store: Store;
  readonly layout: SetLayout;
  /** Options that stay as they were: they matter only at the start. */
  readonly kept: readonly string[];
  /** The file that it comes from. */
  readonly file: string;
  /** Call this when it is in charge. Never rejects. */
  taken(): Promise<void>;
}

export interface Configuration {
  /**
   * @param given the text of the file, from a process that can see it; undefined: read it here.
   * @returns undefined where it is the one that runs.
   * @throws FatalError, BackendError
   */
  successor(given: ConfigText | undefined, running: Running): Promise<Successor | undefined>;
  /** How the file differs from what runs, for STATUS; undefined: it does not. Never rejects. */
  difference(): Promise<string | undefined>;
}

export interface Running {
  readonly config: Config;
  readonly store: Store;
  readonly publisher: Publisher;
}

/** @param open opens a store, which may be the backend of the running one. */
export function configurationOf(
  file: RunningFile,
  flags: ConfigFlags,
  open: (config: Config, running: Store) => Promise<Store>,
): Configuration {
  return {
    async successor(given, running) {
      const text = given ?? (await file.readAgain());
      if (text.text === file.running.text && text.file === file.running.file) {
        // Replaced by an identical file: the daemon sees only that it was replaced.
        await file.take(text);
        return undefined;
      }
      const whole = await configOf(text.text, text.file, flags);
      const { config, kept } = withKept(whole, running.config);
      const { isDeepStrictEqual } = process.getBuiltinModule("node:util");
      if (isDeepStrictEqual(config, running.config) && kept.length === 0) {
        // Only spaces differ, say: there is nothing to take over, and the file is what runs.
        await file.take(text);
        return undefined;
      }
      const layout = await running.publisher.layoutOf(config);
      const store = await open(config, running.store);
      return { config, store, layout, kept, file: text.file, taken: () => file.take(text) };
    },
    async difference() {
      const difference = await file.difference();
      return difference === undefined ? undefined : `${file.running.file} ${difference}`;
    },
  };
}

/** Keeps what the start decided: where the files are, who reads them there, and whether the sidecar stays at all. */
function withKept(next: Config, running: Config): { readonly config: Config; readonly kept: readonly string[] } {
  if (next.output === undefined || running.output === undefined)
    throw new ConfigError("output", "is required (or --output DIR, or --once)");
  const kept = (["directory", "links", "linksTo"] as const).flatMap((key) =>
    next.output?.[key] === running.output?.[key] ? [] : [`output.${key}`],
  );
  if (next.delivery !== running.delivery) kept.unshift("delivery");
  if (next.resident !== running.resident) kept.push("resident");
  const { directory, links, linksTo } = running.output;
  return {
    config: {
      ...next,
      delivery: running.delivery,
      resident: running.resident,
      output: { ...next.output, directory, links, linksTo },
    },
    kept,
  };
}
