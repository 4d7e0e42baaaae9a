/** What a rotation does to a target: restart, reload, signal or nothing, depending on the target's state. */
import { expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import { home, itsStartReadsThem, saysStart } from "./pair.ts";
import { scenario } from "./scenario.ts";

/** Says what it reads at each signal, and has a child that no signal may reach. It says that it is there when it listens. */
const listening = `for signal in HUP USR1; do trap "echo $signal file=\\$(cat /tmp/token)" $signal; done
sleep infinity & child=$!
${saysStart}
while kill -0 $child; do wait $child; done
`;

onEachGuest("a rotation", (guest) => {
  scenario(guest, "restarts the target, which starts with the new file and variable", async (pairOf) => {
    const pair = await pairOf({ name: "restarts" });
    await pair.start();
    const before = await pair.pids();
    await pair.put("token", "two");
    const lines = await pair.untilSaid(/^start/, { lines: 2 });
    const target = await pair.untilRestarted(pair.target, before.target);
    expect(lines).toEqual([expect.any(String), `start pid=${target} file=two variable=two`]);
    expect((await pair.pids()).sidecar).toBe(before.sidecar);
  });

  scenario(guest, "of two secrets at the same moment is one restart, with both values", async (pairOf) => {
    const program = 'echo "start $(cat /tmp/token) $(cat /tmp/key)"\nexec sleep infinity\n';
    const config = { onChange: { settle: 1 } };
    const pair = await pairOf({ name: "together", secrets: { token: "one", key: "one" }, program, config });
    await pair.start();
    await pair.putTogether({ token: "two", key: "two" });
    await pair.untilSaid("start two");
    await pair.untilStatus(/^2 secrets from folder, [^;]*$/);
    expect(await pair.said()).toEqual(["start one one", "start two two"]);
  });

  scenario(guest, "reloads the target, which finds the new value during the reload", async (pairOf) => {
    const pair = await pairOf({
      name: "reloads",
      config: { onChange: { action: "reload" } },
      target: { service: ["ExecReload=/bin/sh -c 'echo \"reload file=$(cat /tmp/token)\"'"] },
    });
    await pair.start();
    const before = await pair.pids();
    await pair.put("token", "two");
    expect(await pair.untilSaid(/^reload/)).toEqual([expect.stringMatching(/^start/), "reload file=two"]);
    expect(await pair.pids()).toEqual(before);
  });

  scenario(guest, "restarts a target that cannot reload", async (pairOf) => {
    const pair = await pairOf({ name: "noreload", config: { onChange: { action: "reload" } } });
    await pair.start();
    await pair.put("token", "two");
    expect(await pair.untilSaid("file=two variable=two")).toHaveLength(2);
  });

  for (const signal of ["SIGHUP", "SIGUSR1"])
    scenario(guest, `sends ${signal} to the main process alone, which then reads the new value`, async (pairOf) => {
      const name = `gets-${signal.toLowerCase()}`;
      const pair = await pairOf({ name, config: { onChange: { action: "signal", signal } }, program: listening });
      await pair.start();
      const { target } = await pair.pids();
      const children = await guest.until("it has a child", async () => await guest.text(["pgrep", "-P", `${target}`]));
      await pair.put("token", "two");
      expect(await pair.untilSaid(/^[A-Z]/)).toEqual([
        expect.stringMatching(/^start/),
        `${signal.slice("SIG".length)} file=two`,
      ]);
      expect((await pair.pids()).target).toBe(target);
      expect(await guest.text(["pgrep", "-P", `${target}`])).toBe(children);
    });

  scenario(guest, "with the action none is published only", async (pairOf) => {
    const pair = await pairOf({ name: "none", config: { onChange: { action: "none" } } });
    await pair.start();
    const before = await pair.pids();
    await pair.put("token", "two");
    await pair.untilSeen("token", "two");
    // The sidecar has done all that it does for a rotation when it has done the next one's first half.
    await pair.put("token", "three");
    await pair.untilSeen("token", "three");
    expect(await pair.pids()).toEqual(before);
    expect(await pair.said()).toHaveLength(1);
  });

  for (const reloadOnChange of [true, false])
    scenario(
      guest,
      `happens once at systemctl reload of the sidecar, with its action (reloadOnChange: ${reloadOnChange})`,
      async (pairOf) => {
        const pair = await pairOf({
          name: `forced-${reloadOnChange}`,
          // So long that nothing else fetches it.
          config: { config: { reloadOnChange }, onChange: { settle: reloadOnChange ? 600 : 0.1 } },
        });
        await pair.start();
        await pair.put("token", "two");
        await guest.systemctl("reload", pair.sidecar);
        await pair.untilSaid("file=two variable=two");
        // The restart of the target restarts a sidecar without reloadOnChange: that must be the end of it.
        await pair.untilState(pair.sidecar, "active");
        await guest.systemctl("reload", pair.sidecar);
        await guest.until(
          "it has fetched again",
          async () => await pair.journal(),
          (text) => text.includes("nothing has changed"),
        );
        expect(await pair.said()).toHaveLength(2);
      },
    );

  scenario(guest, "does not disturb a oneshot at work, and its next run has the new value", async (pairOf) => {
    const pair = await pairOf({
      name: "oneshot",
      program: `${saysStart}\nuntil [ -e ${home}/oneshot.go ]; do sleep 0.1; done\necho "end file=$(cat /tmp/token)"\n`,
      target: { service: ["Type=oneshot"] },
    });
    await guest.systemctl("start", "--no-block", pair.target);
    await pair.untilSaid(/^start/);
    const before = await pair.pids();
    await pair.put("token", "two");
    await guest.until(
      "the sidecar says why it leaves it alone",
      async () => await pair.journal(),
      (text) => text.includes("is a oneshot service: not touched"),
    );
    expect(await pair.pids()).toEqual(before);
    await guest.run(`touch ${home}/oneshot.go`);
    await pair.untilSaid(/^end/);
    await pair.untilState(pair.target, "inactive");
    await pair.untilState(pair.sidecar, "inactive");
    await guest.systemctl("start", pair.target);
    const lines = (await pair.said()).map((line) => line.replace(/pid=\d+ /, ""));
    expect(lines).toEqual([
      "start file=one variable=one",
      "end file=two",
      "start file=two variable=two",
      "end file=two",
    ]);
  });

  scenario(guest, "runs a oneshot with RemainAfterExit= again", async (pairOf) => {
    const pair = await pairOf({
      name: "remains",
      program: `${saysStart}\n`,
      target: { service: ["Type=oneshot", "RemainAfterExit=yes"] },
    });
    await pair.start();
    await pair.put("token", "two");
    expect(await pair.untilSaid("file=two variable=two")).toHaveLength(2);
    await pair.untilState(pair.target, "active");
  });

  scenario(guest, "waits for a target that is still starting, which then gets the new value", async (pairOf) => {
    const pair = await pairOf({
      name: "activating",
      target: { service: [`ExecStartPre=/bin/sh -c 'until [ -e ${home}/activating.go ]; do sleep 0.1; done'`] },
    });
    await guest.systemctl("start", "--no-block", pair.target);
    await guest.until(
      "it is in ExecStartPre=",
      async () => (await guest.show(pair.target, "SubState")).SubState,
      (state) => state === "start-pre",
    );
    const { ControlPID } = await guest.show(pair.target, "ControlPID");
    await pair.put("token", "two");
    await pair.untilStatus(/restart of activating.service waits: it is activating/);
    expect(await guest.show(pair.target, "ControlPID")).toEqual({ ControlPID });
    await guest.run(`touch ${home}/activating.go`);
    await pair.untilSaid("file=two variable=two");
    await pair.untilState(pair.target, "active");
  });

  scenario(
    guest,
    "between two tries of a failing target reaches its next try, without an extra restart",
    async (pairOf) => {
      const pair = await pairOf({
        name: "tries",
        program: `${saysStart}\n[ "$(cat /tmp/token)" = two ] || exit 1\nexec sleep infinity\n`,
        target: { service: ["Restart=on-failure", "RestartSec=8"] },
      });
      await pair.start();
      await guest.until(
        "it waits for its next try",
        async () => (await guest.show(pair.target, "SubState")).SubState,
        (state) => state === "auto-restart",
      );
      await pair.put("token", "two");
      await pair.untilSaid("file=two variable=two");
      await guest.until(
        "the sidecar has noticed",
        async () => await pair.journal(),
        (text) => itsStartReadsThem.test(text),
      );
      expect((await pair.said()).filter((line) => line.includes("two"))).toHaveLength(1);
    },
  );

  scenario(guest, "does not revive a failed target, and STATUS says so", async (pairOf) => {
    // Only a sidecar that another unit needs outlives its failed target.
    const pair = await pairOf({ name: "failed", config: { service: ["failed.service", "needs-failed.service"] } });
    const needs = [`Requires=${pair.sidecar}`, `After=${pair.sidecar}`].join("\n");
    await guest.write(
      "/run/systemd/system/needs-failed.service",
      `[Unit]\n${needs}\n[Service]\nExecStart=sleep infinity\n`,
    );
    await guest.systemctl("daemon-reload");
    await guest.systemctl("start", "needs-failed");
    await pair.start();
    const before = await guest.mainPid("needs-failed");
    await pair.kill(pair.target, "KILL");
    await pair.untilState(pair.target, "failed");
    await pair.put("token", "two");
    await pair.untilStatus(/failed\.service has failed and stays so; the new secrets are there for its next start/);
    await pair.untilRestarted("needs-failed", before);
    expect(await pair.state(pair.target)).toBe("failed");
    await pair.start();
    await pair.untilSaid("file=two variable=two");
    await guest.systemctl("stop", "needs-failed");
    await guest.run("rm /run/systemd/system/needs-failed.service");
  });

  scenario(guest, "that breaks the target leaves it failed, and does not loop", async (pairOf) => {
    const pair = await pairOf({
      name: "breaks",
      program: `${saysStart}\n[ "$(cat /tmp/token)" != two ] || exit 1\nexec sleep infinity\n`,
    });
    await pair.start();
    await pair.put("token", "two");
    await pair.untilState(pair.target, "failed");
    await pair.untilState(pair.sidecar, "inactive");
    expect(await pair.journal()).toContain("published 1 changed secret");
    expect(await pair.said()).toHaveLength(2);
    await pair.put("token", "three");
    await pair.start();
    await pair.untilSaid("file=three variable=three");
  });
});
