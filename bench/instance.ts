/** One running peer, watched from outside: its files, its processes. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { since } from "./measure.ts";
import { type Command, KEYS, type Peer } from "./peer.ts";
import { processorTimeOf } from "./process-group.ts";

/** Milliseconds. */
const PATIENCE = 60_000;

/** Process groups. However the bench ends, they end too. */
const running = new Set<number>();
process.on("exit", () => {
  for (const pid of running) process.kill(-pid, "SIGKILL");
});

export interface Instance {
  readonly peer: Peer;
  /** Of its process group. */
  readonly pid: number;
  /** Milliseconds from exec until all files were there, and on a processor until then. */
  readonly ready: number;
  readonly processor: number;
  /** Resolves when all files have this value. */
  has(value: string): Promise<void>;
  stop(): Promise<void>;
}

/**
 * @param directory is made, and removed by stop().
 * @param value that each file will have.
 * @throws where it ends before, with what it said.
 */
export async function startInstance(
  peer: Peer,
  at: { readonly directory: string; readonly url: string; readonly tokenPath: string },
  value: string,
): Promise<Instance> {
  return await startCommand(peer, at, value, () => peer.command(at), KEYS);
}

/** @param ids the files, of which the last one of a folder comes last. */
export async function startCommand(
  peer: Peer,
  at: { readonly directory: string },
  value: string,
  command: () => Command,
  ids: readonly string[],
): Promise<Instance> {
  const files = ids.map((id) => join(at.directory, "out", id));
  mkdirSync(join(at.directory, "out"), { recursive: true });
  const [executable, ...args] = command();
  const log = join(at.directory, "log");
  const output = openSync(log, "w");
  const env = { PATH: process.env["PATH"], HOME: at.directory, ...peer.env };
  const begun = process.hrtime.bigint();
  const child = spawn(executable, args, { env, stdio: ["ignore", output, output], detached: true });
  const ended = once(child, "exit");
  closeSync(output);
  const { pid } = child;
  if (pid === undefined) throw new Error(`${executable} cannot be run`);
  running.add(pid);
  child.once("exit", () => running.delete(pid));

  const has = async (wanted: string) => {
    const asked = process.hrtime.bigint();
    while (!files.every((file) => readIfThere(file) === wanted)) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`${peer.name} ended: ${readFileSync(log, "utf8")}`);
      if (since(asked) > PATIENCE)
        throw new Error(`${peer.name} does not write its files: ${readFileSync(log, "utf8")}`);
      await sleep(1);
    }
  };
  const stop = async () => {
    process.kill(-pid, "SIGKILL");
    await ended;
    rmSync(at.directory, { recursive: true, force: true });
  };
  await has(value);
  return { peer, pid, ready: since(begun), processor: processorTimeOf([pid]), has, stop };
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
