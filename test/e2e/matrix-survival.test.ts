/** Rotation must continue when the sidecar is killed, terminated or frozen, or when systemd itself is reloaded. */
import { expect } from "vitest";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { comesBackAlone, type Pair } from "./pair.ts";
import { areGenerated, areOnChange, scenario } from "./scenario.ts";

/** A target that is reloaded keeps its process: what it sees afterwards, it sees in its old namespace. */
const reloading = {
  config: { onChange: { action: "reload" } },
  target: { service: ["ExecReload=/bin/sh -c 'echo \"reload file=$(cat /tmp/token)\"'", "Restart=on-failure"] },
} as const;

onEachGuest("when the sidecar dies", (guest) => {
  for (const [signal, how] of [
    ["KILL", "killed"],
    ["TERM", "terminated from outside"],
  ] as const) {
    scenario(guest, `restarts a ${how} sidecar, and the next rotation arrives`, async (pairOf) => {
      const pair = await pairOf({ name: `sidecar-${signal.toLowerCase()}`, ...reloading });
      await pair.start();
      const before = await pair.pids();
      await pair.kill(pair.sidecar, signal);
      await untilBack(guest, pair, before);
      const { target } = await pair.pids();
      await pair.put("token", "two");
      await pair.untilSaid("reload file=two");
      expect((await pair.pids()).target).toBe(target);
      expect((await pair.seen("token")).toString()).toBe("two");
      // The service says that it is reloaded before the reload is over.
      await guest.until(
        "the reload is done",
        () => pair.journal(),
        (lines) => lines.includes(`${pair.target}: reload done`),
      );
    });

    scenario(
      guest,
      `${how} during an outage, it adopts the published set, and the target can restart`,
      async (pairOf) => {
        const pair = await pairOf({ name: `outage-${signal.toLowerCase()}`, ...reloading });
        await pair.start();
        const before = await pair.pids();
        await pair.loseStore();
        await pair.kill(pair.sidecar, signal);
        await untilBack(guest, pair, before);
        // One that stays adopts what it published; a look has it.
        await pair.untilStatus(pair.isOnChange ? /no directory/ : /published before.*no directory/);
        await pair.restart();
        await pair.untilSaid("file=one variable=one");
        await pair.returnStore();
        await pair.put("token", "two");
        await pair.untilSaid("reload file=two");
        await pair.untilStatus(/^1 secret from folder, version [^;]*$/);
      },
    );
  }

  scenario(guest, "sees a rotation that happened meanwhile, and acts on it", async (pairOf) => {
    const pair = await pairOf({ name: "between" });
    await pair.start();
    await pair.kill(pair.sidecar, "STOP");
    await pair.put("token", "two");
    await pair.kill(pair.sidecar, "KILL");
    await pair.untilSaid("file=two variable=two");
  });

  scenario(guest, "does an action that was due when the sidecar died", async (pairOf) => {
    // A unit that acts for the sidecar may outlive it, and keeps its pace.
    const pair = await pairOf({ name: "due", config: { onChange: { minInterval: areGenerated ? 15 : 600 } } });
    await pair.start();
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
    await pair.put("token", "three");
    await pair.untilStatus(/restart of due\.service in \d+ s \(paced\)/);
    await pair.kill(pair.sidecar, "KILL");
    await pair.untilSaid("file=three variable=three");
  });

  scenario(
    guest,
    "kills a hanging sidecar by its watchdog, and not a live one; it comes back",
    async (pairOf) => {
      const pair = await pairOf({ name: "watchdog", ...reloading, sidecar: { service: ["WatchdogSec=5"] } });
      await pair.start();
      const before = await pair.pids();
      await guest.until(
        "the sidecar has run for more than two periods",
        async () => Number(await guest.text(`ps -o etimes= -p ${before.sidecar}`)),
        (seconds) => seconds >= 12,
      );
      expect(await pair.pids()).toEqual(before);
      await pair.kill(pair.sidecar, "STOP");
      await untilBack(guest, pair, before);
      expect(await pair.journal()).toMatch(/Watchdog timeout/);
      await pair.put("token", "two");
      await pair.untilSaid("reload file=two");
    },
    { notOnChange: "no process is alive for two periods; the next scenario has one of a look that lasts as long" },
  );

  if (areOnChange)
    scenario(guest, "kills a hanging look by its watchdog, and not a slow one, and makes up for it", async (pairOf) => {
      const slow = { ...reloading, config: { onChange: { action: "reload", settle: 12 } } };
      const pair = await pairOf({ name: "look-watchdog", ...slow, sidecar: { service: ["WatchdogSec=5"] } });
      await pair.start();
      await pair.untilAsked();
      await pair.put("token", "two");
      await pair.untilSaid("reload file=two");
      expect(await pair.journal()).not.toMatch(/Watchdog timeout/);
      await pair.put("token", "three");
      await pair.untilState(pair.asking, "active");
      await pair.kill(pair.sidecar, "STOP");
      await pair.untilSaid("reload file=three", { timeout: 60 });
      expect(await pair.journal()).toMatch(/Watchdog timeout/);
    });

  scenario(guest, "does not start a stopped target", async (pairOf) => {
    const pair = await pairOf({ name: "sleeper" });
    await pair.start();
    await pair.stop();
    await pair.put("token", "two");
    await guest.run(["systemctl", "start", pair.sidecar], { check: false });
    await pair.untilState(pair.sidecar, "inactive");
    expect(await pair.state(pair.target)).toBe("inactive");
    expect(await pair.said()).toHaveLength(1);
  });

  for (const command of ["daemon-reload", "daemon-reexec"])
    scenario(
      guest,
      `keeps rotating and restarting after systemctl ${command}`,
      async (pairOf) => {
        const pair = await pairOf({ name: command, target: { service: ["Restart=on-failure"] } });
        await pair.start();
        const before = await pair.pids();
        await guest.systemctl(command);
        expect(await pair.pids()).toEqual(before);
        await pair.put("token", "two");
        await pair.untilSaid("file=two variable=two");
        await pair.kill(pair.sidecar, "KILL");
        await pair.untilRestarted(pair.sidecar, before.sidecar);
        await pair.put("token", "three");
        await pair.untilSaid("file=three variable=three");
      },
      { alone: true },
    );
});

/** Both run again, the sidecar as another process. */
async function untilBack(guest: Guest, pair: Pair, before: { target: number; sidecar: number }): Promise<void> {
  await pair.untilRestarted(pair.sidecar, before.sidecar);
  if (pair.isOnChange || (await comesBackAlone(guest))) expect((await pair.pids()).target).toBe(before.target);
  else {
    await pair.untilRestarted(pair.target, before.target);
    await pair.untilSaid("start", { lines: 2 });
  }
}
