/** A process with root's uid and a sidecar's capabilities, and no more, cannot look into another sidecar. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { expect } from "vitest";
import { needs } from "../requirements.ts";
import { eventually, Place } from "./daemon.ts";

/** As the units have it: whatever root runs has this capability alone. */
const narrow = "--bounding-set=-all,+dac_read_search";

/** @returns what another process of that kind gets to read of these. */
function readable(pid: number, ...names: readonly string[]): readonly string[] {
  return names.filter((name) => {
    return spawnSync("setpriv", [narrow, "head", "-c", "1", `/proc/${pid}/${name}`]).status === 0;
  });
}

const names = ["environ", "maps", "root/etc/passwd", "status"];

needs("root").test(
  "a sidecar hides its memory, variables and files from a process with the same capabilities",
  async () => {
    const place = new Place();
    place.put({ password: "canary-0b1d" });
    const daemon = place.start(place.config(["password"]), { wrapper: ["setpriv", narrow] });
    await eventually(`ready\n${daemon.stderr}`, () => fs.existsSync(`${place.output}/password`) || !daemon.running);
    expect(fs.readFileSync(`/proc/${daemon.pid}/status`, "utf8")).toMatch(/^CapPrm:\t0000000000000004$/m);
    expect(readable(daemon.pid, ...names)).toEqual(["status"]);
    daemon.signal("SIGTERM");
    expect((await daemon.exit).code).toBe(0);
  },
);

needs("root").test("a process that does not hide itself is readable in this test", async () => {
  const open = spawn("setpriv", [narrow, "sleep", "1000"], { stdio: "ignore" });
  await eventually("it sleeps", () => fs.readFileSync(`/proc/${String(open.pid)}/comm`, "utf8") === "sleep\n");
  expect(readable(Number(open.pid), ...names)).toEqual(names);
  open.kill();
  await once(open, "exit");
});
