/** The real engine and publisher on a real directory; time, the store, systemd and the log are fakes. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { Publisher } from "../../../src/publish/publisher.ts";
import type { TellFacts } from "../../../src/engine/facts.ts";
import { Sidecar } from "../../../src/engine/sidecar.ts";
import type { Config } from "../../../src/config/config.ts";
import { RunningFile } from "../../../src/config/running-file.ts";
import { type Configuration, configurationOf } from "../../../src/engine/configuration.ts";
import type { ReloadResult } from "../../../src/systemd/reload-desk.ts";
import { configOf, noFlags } from "../command-line.ts";
import { FakeClock, FakeStore, FakeSystemd, recordingLog, RecordingNotifier, settled } from "../fakes.ts";

export interface Options {
  readonly store?: FakeStore;
  readonly clock?: FakeClock;
  /** The directory of an earlier life. */
  readonly directory?: string;
  readonly random?: number;
  /** The fake of an earlier life, since systemd outlives the sidecar. */
  readonly systemd?: FakeSystemd | Partial<Pick<FakeSystemd, "answers">>;
  /** Runs after the sidecar has read what is published, and before the first fetch. */
  readonly opened?: () => void;
  readonly config?: Readonly<Record<string, object | string | number | boolean | null>>;
  /** A reload reads the configuration's file. These reads are real, and the fake clock does not advance during them. */
  readonly isConfigurable?: boolean;
  /** In place of the file. */
  readonly configuration?: Configuration;
  /** Nobody wants to know for `fetcher status`. */
  readonly isUntold?: boolean;
  /** Runs at the end of each round. */
  readonly idle?: () => void;
  /** Opens the store of another configuration; the running one where it returns nothing. */
  readonly opens?: (config: Config) => Promise<FakeStore | undefined>;
  /** The program's version. */
  readonly version?: string;
}

export function freshDirectory(parent = tmpdir()): string {
  const path = mkdtempSync(join(realpathSync(parent), "fetcher-unit-"));
  onTestFinished(() => {
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/**
 * Replaces a file with a directory, which rename(2) does not replace: this stops a publish, like a full disk.
 */
export function block(path: string): () => void {
  renameSync(path, `${path}.aside`);
  mkdirSync(path);
  return () => {
    rmdirSync(path);
    renameSync(`${path}.aside`, path);
  };
}

/** Starts a sidecar with the secrets a and b, reloadOnChange and a target. */
export async function startSidecar({ random = 0.5, ...options }: Options = {}) {
  const store = options.store ?? new FakeStore({ a: "a1", b: "b1" });
  const clock = options.clock ?? new FakeClock();
  const directory = options.directory ?? join(freshDirectory(), "pub");
  mkdirSync(directory, { recursive: true });
  const json = {
    backend: "static",
    service: "app.service",
    secrets: { a: {}, b: {} },
    config: { reloadOnChange: true },
    output: { directory },
    ...options.config,
    onChange: { settle: 0.5, ...(options.config?.["onChange"] as object | undefined) },
  };
  const config = configOf(json);
  const configFile = join(freshDirectory(), "app.json");
  writeFileSync(configFile, JSON.stringify(json));
  const running = await RunningFile.read(configFile);
  const log = recordingLog();
  const notifier = new RecordingNotifier();
  const systemd =
    options.systemd instanceof FakeSystemd ? options.systemd : Object.assign(new FakeSystemd(clock), options.systemd);
  const { output } = config;
  if (output === undefined) throw new Error("no output");
  const publisher = await Publisher.open(config, output);
  const facts: (Parameters<TellFacts>[1] & { readonly wanted: number })[] = [];
  const sidecar = new Sidecar({
    config,
    store,
    publisher,
    notifier,
    systemd,
    log,
    clock,
    random: () => random,
    idle: options.idle ?? (() => undefined),
    version: options.version,
    facts:
      options.isUntold === true
        ? undefined
        : ({ secrets }, now) => {
            facts.push({ ...now, wanted: secrets.length });
          },
    configuration:
      options.isConfigurable === true
        ? configurationOf(running, noFlags, async (next, before) => (await options.opens?.(next)) ?? before)
        : options.configuration,
  });
  /** Replaces the configuration's file. */
  const configure = (change: object | string) => {
    writeFileSync(`${configFile}.new`, typeof change === "string" ? change : JSON.stringify({ ...json, ...change }));
    renameSync(`${configFile}.new`, configFile);
  };
  const stop = new AbortController();
  const { opened } = options;
  const { before } = store;
  if (opened !== undefined)
    store.before = (signal) => {
      opened();
      store.before = before;
      return before(signal);
    };
  let end: unknown = "runs";
  const run = sidecar.run(stop.signal).then(
    (published) => (end = published ? "stopped" : "stopped early"),
    (error: unknown) => (end = error),
  );
  onTestFinished(async () => {
    stop.abort();
    await run;
  });
  await settled();
  return {
    store,
    clock,
    directory,
    publisher,
    log,
    notifier,
    systemd,
    sidecar,
    facts: () => facts.at(-1),
    configFile,
    configure,
    /** Asks as `fetcher reload` does. @returns the answer, when it is there. */
    ask: () => {
      let answer: ReloadResult | undefined;
      const text = readFileSync(configFile, "utf8");
      sidecar.reload({
        configuration: { file: configFile, text },
        answer: (result) => (answer = result),
      });
      return () => answer;
    },
    stop: async () => {
      stop.abort();
      await run;
    },
    end: () => end,
    file: (name: string) => readFileSync(join(directory, name), "utf8"),
    names: () => readdirSync(directory).sort(),
    pending: () =>
      (JSON.parse(readFileSync(join(directory, ".fetcher-state"), "utf8")) as { pending: unknown }).pending,
    restarts: () => systemd.jobs.filter(({ what }) => what === "restart app.service").length,
  };
}
