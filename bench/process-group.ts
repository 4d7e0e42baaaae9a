/** Processes and all that they started, by their process groups: what a shell takes is mostly what its children take. */
import { readdirSync, readFileSync } from "node:fs";

/** Memory in MiB. */
export interface Memory {
  /** Anonymous pages: heaps and stacks. No other process has them, and they cannot be read again from a file. */
  readonly anonymous: number;
  /** All pages that are mapped; those that n processes share count 1/n for each (PSS). */
  readonly pss: number;
}

/** Milliseconds on a processor, with those of children that ended and were waited for, which count in steps of 10. */
export function processorTimeOf(groups: readonly number[]): number {
  return sum(members(groups), ({ pid, fields }) => threadsTime(pid) + endedChildrenTime(fields));
}

export function memoryOfGroups(groups: readonly number[]): Memory {
  const rollups = members(groups).map(({ pid }) => readOrEmpty(`/proc/${pid}/smaps_rollup`));
  const mib = (field: string) =>
    sum(rollups, (text) => Number(new RegExp(`^${field}: +(\\d+) kB$`, "m").exec(text)?.[1] ?? 0) / 1024);
  return { anonymous: mib("Pss_Anon"), pss: mib("Pss") };
}

interface Member {
  readonly pid: number;
  /** Of /proc/PID/stat, by their numbers in proc_pid_stat(5). */
  readonly fields: ReadonlyMap<number, number>;
}

/** A process that ends meanwhile is left out. */
function members(groups: readonly number[]): Member[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids
    .map((pid) => ({ pid: Number(pid), fields: statFields(readOrEmpty(`/proc/${pid}/stat`)) }))
    .filter(({ fields }) => groups.includes(fields.get(GROUP) ?? 0));
}

const [GROUP, CHILDREN_USER, CHILDREN_SYSTEM] = [5, 16, 17];

function statFields(stat: string): ReadonlyMap<number, number> {
  // The name, in parentheses, may hold anything. After it comes the third field.
  const words = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return new Map(words.map((word, index) => [index + 3, Number(word)]));
}

function threadsTime(pid: number): number {
  const times = list(`/proc/${pid}/task`).map((task) => readOrEmpty(`/proc/${pid}/task/${task}/schedstat`));
  return sum(times, (text) => Number(text.split(" ")[0]) / 1e6);
}

function endedChildrenTime(fields: ReadonlyMap<number, number>): number {
  // Ticks of USER_HZ, which is 100 on every architecture that Node runs on.
  return ((fields.get(CHILDREN_USER) ?? 0) + (fields.get(CHILDREN_SYSTEM) ?? 0)) * 10;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((total, value) => total + of(value), 0);
}
