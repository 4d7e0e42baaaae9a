/** Actions are paced: rotations alone never bring a target to its start limit, and the last value wins. */
import { expect } from "vitest";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import type { Pair } from "./pair.ts";
import { areGenerated, scenario } from "./scenario.ts";

onEachGuest("pacing", (guest) => {
  scenario(guest, "keeps the target alive through 100 rotations in 10 s, with the last value", async (pairOf) => {
    const pair = await pairOf({ name: "many", config: { onChange: { settle: 0.5, minInterval: 3 } } });
    await pair.start();
    const begun = performance.now();
    await rotate(guest, pair, 100);
    await pair.untilSeen("token", "value 100");
    const lines = await pair.untilSaid("file=value 100 variable=value 100");
    const seconds = (performance.now() - begun) / 1000;
    await expectNeverAtTheLimit(guest, pair);
    // At least one while they came, at most one each 3 s that this machine took for them, besides the first and the start.
    expect(lines.length).toBeGreaterThanOrEqual(3);
    expect(lines.length).toBeLessThanOrEqual(2 + seconds / 3);
  });

  scenario(guest, "follows the target's own start limit where no pause is configured", async (pairOf) => {
    const pair = await pairOf({ name: "limit", config: { onChange: { settle: 0, minInterval: 0 } } });
    await pair.start();
    await rotate(guest, pair, 100);
    await pair.untilSeen("token", "value 100");
    await pair.untilSaid("file=value 100 variable=value 100");
    await expectNeverAtTheLimit(guest, pair);
    // One start stays in reserve: an operator can restart it right now.
    await pair.restart();
    await expectNeverAtTheLimit(guest, pair);
  });

  scenario(
    guest,
    "keeps a target alive that crashes twice at each start, and is rotated all the time",
    async (pairOf) => {
      const pair = await pairOf({
        name: "stumbles",
        program: stumbles,
        config: { onChange: { settle: 0.5, minInterval: 3 } },
        // systemd's own start limit.
        target: { unit: ["StartLimitIntervalSec=10", "StartLimitBurst=5"], service: ["Restart=on-failure"] },
      });
      await guest.systemctl("start", pair.target);
      await pair.untilSaid("runs with one");
      for (let turn = 1; turn <= 8; turn += 1) {
        await pair.put("token", `value ${turn}`);
        // As often as somebody rotates it, whatever has become of the one before.
        await new Promise((resolve) => setTimeout(resolve, 4000));
      }
      await pair.untilSaid("runs with value 8", { timeout: 90 });
      await expectNeverAtTheLimit(guest, pair);
    },
  );

  scenario(
    guest,
    "starts a service once more that its own crashes after an action brought to its start limit",
    async (pairOf) => {
      const pair = await pairOf({
        name: "flaps",
        program: flaps,
        config: { onChange: { settle: 0.5, minInterval: 3 } },
        target: { unit: ["StartLimitIntervalSec=10", "StartLimitBurst=5"], service: ["Restart=on-failure"] },
      });
      await pair.start();
      await pair.put("token", "two");
      await pair.untilState(pair.target, "failed");
      await pair.untilSaid("start 6 two");
      await pair.untilState(pair.target, "active");
      expect(await pair.journal()).toContain("started again, its start limit is over");
    },
    { notOnChange: "its sidecar stops with the service, and nobody waits" },
  );

  scenario(
    guest,
    "brings a new value to the target within the minute when it allows 3 starts in 60 s",
    async (pairOf) => {
      const pair = await pairOf({
        name: "slow",
        config: { onChange: { settle: 0.5, minInterval: 3 } },
        target: { unit: ["StartLimitIntervalSec=60", "StartLimitBurst=3"] },
      });
      await pair.start();
      await rotate(guest, pair, 100);
      await pair.untilSeen("token", "value 100");
      await pair.untilStatus(/restart of slow\.service in \d+ s \(paced\)/);
      const lines = await pair.untilSaid("file=value 100 variable=value 100", { timeout: 75 });
      await expectNeverAtTheLimit(guest, pair);
      expect(lines).toHaveLength(3);
    },
  );

  scenario(guest, "counts the starts that a killed sidecar has seen", async (pairOf) => {
    const pair = await pairOf({
      name: "lives",
      config: { onChange: { settle: 0, minInterval: 0 } },
      target: { unit: ["StartLimitIntervalSec=300", "StartLimitBurst=3"] },
    });
    await pair.start();
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two", { lines: 2 });
    await pair.untilStatus(/^1 secret\b/);
    const { sidecar } = await pair.pids();
    await pair.kill(pair.sidecar, "KILL");
    await pair.untilRestarted(pair.sidecar, sidecar);
    await pair.untilState(pair.target, "active");
    const { target } = await pair.pids();
    await pair.put("token", "three");
    await pair.untilStatus(/restart of lives\.service in \d+ s \(paced\)/);
    expect((await pair.pids()).target).toBe(target);
    expect(await guest.show(pair.target, "ActiveState", "Result")).toEqual({
      ActiveState: "active",
      Result: "success",
    });
  });

  scenario(guest, "says why a service stays down when its ExecCondition= stops it with the sidecar", async (pairOf) => {
    const pair = await pairOf({
      name: "cexec",
      target: { service: ["ExecCondition=/usr/bin/test ! -e /run/cexec"] },
    });
    await pair.start();
    await guest.run(["touch", "/run/cexec"]);
    await pair.put("token", "two");
    await pair.untilState(pair.sidecar, "inactive");
    // Where no process of the sidecar stays, it stops so soon that systemd may have forgotten why.
    if (pair.isOnChange) return;
    const result = () => guest.run(["systemctl", "show", "--value", "--property=Result", "cexec.service"]);
    await guest.until(
      "the journal says why, or systemd has forgotten it before the acting unit asked",
      async () => `${areGenerated ? (await result()).stdout.trim() : ""}\n${await pair.journal()}`,
      (said) =>
        said.startsWith("success\n") ||
        said.includes("cexec.service is down since the restart: its ExecCondition= is not met"),
    );
  });

  scenario(guest, "says in STATUS why a service stays down when a condition of its unit fails", async (pairOf) => {
    const pair = await pairOf({ name: "cpath", target: { unit: ["ConditionPathExists=!/run/cpath"] } });
    await pair.start();
    await guest.run(["touch", "/run/cpath"]);
    await pair.put("token", "two");
    const why = /cpath\.service is down since the restart: one of its conditions .* is not met/;
    if (!pair.isOnChange) {
      await pair.untilStatus(why);
      return;
    }
    // Where no process of the sidecar stays, it may stop so soon that systemd has forgotten why.
    await guest.until(
      "the journal says why, or the sidecar is inactive",
      async () => `${await pair.state(pair.sidecar)}\n${await pair.journal()}`,
      (said) => said.startsWith("inactive\n") || why.test(said),
    );
  });

  scenario(guest, "reports once that a service refuses a restart", async (pairOf) => {
    const pair = await pairOf({ name: "refuses", target: { unit: ["RefuseManualStop=yes"] } });
    await pair.start();
    await pair.put("token", "two");
    await pair.untilStatus(/refuses\.service refuses to be restarted \(RefuseManualStart= or RefuseManualStop=\)/);
    expect(await pair.said()).toHaveLength(1);
  });

  scenario(guest, "does not restart a service again that restarted itself while the action waited", async (pairOf) => {
    const pair = await pairOf({
      name: "itself",
      config: { onChange: { settle: 0, minInterval: 20 } },
      // 254+: it comes back without having been inactive; 252 says that it does not know this.
      target: { service: ["Restart=always", "RestartSec=100ms", "RestartMode=direct"] },
    });
    await pair.start();
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two", { lines: 2 });
    await pair.put("token", "three");
    await pair.untilStatus(/restart of itself\.service in \d+ s \(paced\)/);
    await pair.kill(pair.target, "KILL");
    await pair.untilSaid("file=three variable=three", { lines: 3 });
    const { target } = await pair.pids();
    await pair.untilStatus(/^1 secret from folder, version [^;]*$/, 60);
    expect(await pair.said()).toHaveLength(3);
    expect((await pair.pids()).target).toBe(target);
  });

  scenario(guest, "does not cancel a stop in progress for a rotation", async (pairOf) => {
    const pair = await pairOf({ name: "stopping", config: { onChange: { settle: 0, minInterval: 0 } } });
    // It is stopped before the target, and takes until this file is there.
    await guest.write(
      "/run/systemd/system/stopping-front.service",
      `[Unit]
PartOf=${pair.target}
After=${pair.target}
[Service]
ExecStart=sleep infinity
ExecStop=sh -c 'until test -e /run/stopping-go; do sleep 0.1; done'
`,
    );
    try {
      await pair.start();
      await guest.run("systemctl daemon-reload && systemctl start stopping-front.service");
      await guest.run(`systemctl stop --no-block ${pair.target}`);
      await pair.put("token", "two");
      await pair.untilStatus(/restart of stopping\.service waits: another job of it comes first/);
      await guest.run("touch /run/stopping-go");
      await pair.untilState(pair.target, "inactive");
    } finally {
      await guest.run("touch /run/stopping-go; systemctl stop stopping-front.service");
      await guest.run("rm -f /run/systemd/system/stopping-front.service /run/stopping-go; systemctl daemon-reload");
    }
  });

  scenario(
    guest,
    "splay: STATUS says when, the files are new already, the target is left alone so long",
    async (pairOf) => {
      const pair = await pairOf({ name: "splay-long", config: { onChange: { splay: 5000 } } });
      await pair.start();
      const before = await pair.pids();
      await pair.put("token", "two");
      await pair.untilStatus(/restart of splay-long\.service in \d+ s \(splay\)/);
      await pair.untilSeen("token", "two");
      expect(await pair.pids()).toEqual(before);
    },
  );

  scenario(guest, "drops a pending splay when the action is done", async (pairOf) => {
    const pair = await pairOf({ name: "splay-short", config: { onChange: { splay: 2 } } });
    await pair.start();
    await pair.put("token", "two");
    expect(await pair.untilSaid("file=two variable=two")).toHaveLength(2);
  });
});

/** Two of three starts crash, half a second after systemd has called them active. */
const stumbles = `n=$(($(cat /var/lib/pairs/stumbles.count 2>/dev/null || echo 0) + 1))
echo $n >/var/lib/pairs/stumbles.count
echo "start $n"
if [ $((n % 3)) -ne 0 ]; then sleep 0.5; exit 1; fi
echo "runs with $(cat /tmp/token)"
exec sleep infinity
`;

/** The second start to the fifth crash. */
const flaps = `n=$(($(cat /var/lib/pairs/flaps.count 2>/dev/null || echo 0) + 1))
echo $n >/var/lib/pairs/flaps.count
echo "start $n $(cat /tmp/token)"
[ $n -eq 1 ] || [ $n -ge 6 ] || { sleep 0.2; exit 1; }
exec sleep infinity
`;

/** So many values within 10 s, each renamed over the one before. */
async function rotate(guest: Guest, { store }: Pair, times: number): Promise<void> {
  const script = `for i in $(seq ${times}); do
    printf 'value %d' $i > .new && mv -T .new token && sleep ${(9 / times).toFixed(3)}
  done`;
  await guest.run(["sh", "-euc", `cd "$0" && ${script}`, store], { timeout: 120 });
}

async function expectNeverAtTheLimit(guest: Guest, pair: Pair): Promise<void> {
  const { target, sidecar } = pair;
  // Another restart may be due for what was published last. A service at its limit stays "failed".
  await pair.untilState(target, "active");
  expect(await guest.show(target, "Result")).toEqual({ Result: "success" });
  expect(await guest.journal(target)).not.toMatch(/start-limit|repeated too quickly/);
  expect(await guest.show(sidecar, "ActiveState", "NRestarts")).toEqual({ ActiveState: "active", NRestarts: "0" });
}
