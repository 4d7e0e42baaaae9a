/** What the comparison with other programs counts: without its children a shell loop would seem to cost nothing. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { memoryOfGroups, processorTimeOf } from "../../bench/process-group.ts";

/** Milliseconds on a processor. */
const BUSY = 100;
const busy = `while (process.cpuUsage().user + process.cpuUsage().system < ${BUSY * 1000});`;
const quoted = (script: string) => `'${process.execPath}' -e '${script}'`;

/** A shell that leads a group, and has said that its command line did what it should. */
async function shell(commands: string): Promise<number> {
  const child = spawn("/bin/sh", ["-c", commands], { detached: true, stdio: ["ignore", "pipe", "inherit"] });
  const { pid } = child;
  if (pid === undefined) throw new Error("no shell");
  onTestFinished(async () => {
    const ended = once(child, "exit");
    process.kill(-pid, "SIGKILL");
    await ended;
  });
  await once(child.stdout, "data");
  return pid;
}

test("processor time includes children, both running and ended", async () => {
  const waiting = 'console.log("ready"); setInterval(() => {}, 1 << 30)'.replaceAll('"', "`");
  const running = await shell(`${quoted(`${busy} ${waiting}`)} & wait`);
  const ended = await shell(`${quoted(busy)}; echo ready; sleep 1000 & wait`);
  const idle = await shell("echo ready; sleep 1000 & wait");
  // The two parts of an ended child's time are cut to tens of milliseconds each.
  for (const group of [running, ended]) expect(processorTimeOf([group])).toBeGreaterThanOrEqual(BUSY - 20);
  expect(processorTimeOf([running, ended])).toBeGreaterThanOrEqual(2 * (BUSY - 20));
  expect(processorTimeOf([idle])).toBeLessThan(BUSY - 20);
});

test("memory is that of all processes in the group, and anonymous memory is a part of it", async () => {
  const MIB = 64;
  const large = `global.kept = Buffer.alloc(${MIB} << 20, 1); console.log(1); setInterval(() => {}, 1 << 30)`;
  const one = await shell(`${quoted(large)} & wait`);
  const { anonymous, pss } = memoryOfGroups([one]);
  expect(anonymous).toBeGreaterThanOrEqual(MIB);
  expect(pss).toBeGreaterThan(anonymous);
  expect(memoryOfGroups([])).toEqual({ anonymous: 0, pss: 0 });
});

test("counts a program whose name looks like the fields after it", async () => {
  const name = "a) S 1 2 3 (b";
  const renamed = `process.title = "${name}"; console.log(1); setInterval(() => {}, 1 << 30)`;
  const group = await shell(`${quoted(renamed)} & wait`);
  expect(memoryOfGroups([group]).anonymous).toBeGreaterThan(1);
});
