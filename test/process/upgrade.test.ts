/** A new version of the program under a running sidecar: the same process continues with it, unnoticed. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { nodeFor } from "../e2e/boot.ts";
import { runsOnNode } from "../program.ts";
import { eventually, logLines, Place } from "./daemon.ts";

/** The executable, or the newest Node there is. */
const newest = runsOnNode ? nodeFor("trixie") : undefined;
const canExec = newest === undefined || newest !== process.execPath || Number(process.versions.node.split(".")[0]) > 22;

test("SIGUSR2 continues with the installed program, or reports that it cannot, and keeps running", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const wrapper = newest === undefined ? [] : ["sh", "-c", 'shift; exec "$0" "$@"', newest];
  const daemon = await place.start({ ...place.config(["id"]), service: "x.service" }, { wrapper }).ready();
  const before = statSync(join(place.output, "id"));
  daemon.signal("SIGUSR2");
  await eventually(`it is ready again\n${daemon.stderr}`, () => {
    const messages = daemon.lines.map(({ message }) => message);
    return (
      !daemon.running ||
      messages.filter((message) => message.startsWith("ready:")).length > 1 ||
      messages.some((message) => message.includes("cannot change to the installed program in this process"))
    );
  });
  expect(daemon.running).toBe(true);
  expect(daemon.lines.some(({ message }) => message.includes("cannot be started"))).toBe(!canExec);
  expect(statSync(join(place.output, "id")).ino).toBe(before.ino);
  // It is the daemon that it was: it publishes, and takes its files along.
  place.put({ id: "two" });
  await eventually("published", () => {
    daemon.signal("SIGHUP");
    return place.read("id") === "two";
  });
  const exit = await daemon.end();
  expect(exit.code).toBe(0);
  expect(logLines(exit.stderr).some(({ level }) => level === "error")).toBe(false);
  expect(existsSync(join(place.output, "id"))).toBe(false);
});
