/** What every measurement needs: a sidecar to time, a clock, the median of what it said. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const project = process.cwd();
export const program = join(project, "dist/fetcher.js");

/** Node itself, that waits for ever. */
export const bareNode = ["-e", 'setInterval(() => {}, 1 << 30); console.error("ready")'];

export interface Daemon {
  readonly child: ChildProcess;
  /** Milliseconds from exec to READY. */
  readonly ready: number;
  /** Milliseconds on a processor until then. */
  readonly processor: number;
  stop(): Promise<void>;
}

/** What the units set. */
export const unitEnvironment = Object.fromEntries(
  [
    ...readFileSync(join(project, "examples/systemd/fetcher@.service"), "utf8").matchAll(/^Environment=(\w+)=(.*)$/gm),
  ].map(([, name, value]) => [name, value]),
) as Readonly<Record<string, string>>;

/** Starts a sidecar as systemd does. @returns when it is ready. @throws where it ends before, with what it said. */
export async function startDaemon(config: string, env: Readonly<Record<string, string>> = {}): Promise<Daemon> {
  const args = [program, "--config", config];
  // A socket that nobody listens on: the notification is made and sent as under systemd.
  const notify = { NOTIFY_SOCKET: "@fetcher-bench-nobody-listens", INVOCATION_ID: "bench" };
  return await startProcess(args, "ready: ", { ...unitEnvironment, ...notify, ...env });
}

/** Starts Node with these arguments. @returns when its standard error has had `word`. */
export async function startProcess(
  args: readonly string[],
  word: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Daemon> {
  const begun = process.hrtime.bigint();
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(child, "exit");
  let log = "";
  const ready = await new Promise<number>((done, fail) => {
    child.stderr.on("data", (data: Buffer) => {
      log += data.toString();
      if (log.includes(word)) done(since(begun));
    });
    ended.then(
      () => {
        fail(new Error(log));
      },
      () => undefined,
    );
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return { child, ready, processor: processorTime(child), stop };
}

/** As every row of starts is measured: until Node has nothing to do. */
export async function bareStart(): Promise<Pick<Daemon, "ready" | "processor">> {
  const begun = process.hrtime.bigint();
  await once(spawn(process.execPath, ["-e", "0"], { env: { PATH: process.env["PATH"] }, stdio: "ignore" }), "exit");
  const ready = since(begun);
  const waiting = await startProcess(bareNode, "ready");
  await waiting.stop();
  return { ready, processor: waiting.processor };
}

/** Milliseconds. */
export function since(begun: bigint): number {
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

export function timed(work: () => void): number {
  const begun = process.hrtime.bigint();
  work();
  return since(begun);
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/** Milliseconds on a processor, of all threads that are still there. (/proc/PID/stat counts in steps of 10.) */
export function processorTime({ pid = 0 }: ChildProcess): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const nanoseconds = tasks.map((task) =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]),
  );
  return nanoseconds.reduce((sum, time) => sum + time, 0) / 1e6;
}

/** MiB over all these processes: their share of all pages (PSS), and what only they have (USS). */
export function memoryOf(children: readonly ChildProcess[]): { pss: number; uss: number } {
  const sum = { pss: 0, uss: 0 };
  for (const { pid = 0 } of children) {
    const smaps = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    const mib = (field: string) => Number(new RegExp(`^${field}: +(\\d+) kB$`, "m").exec(smaps)?.[1]) / 1024;
    sum.pss += mib("Pss");
    sum.uss += mib("Private_Clean") + mib("Private_Dirty");
  }
  return sum;
}

export function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

export function ratio(a: number, b: number): string {
  return `${(a / b).toFixed(a / b < 10 ? 2 : 0)} ×`;
}
