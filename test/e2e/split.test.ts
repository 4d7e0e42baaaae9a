/**
 * The process that talks to a store cannot talk to systemd: another unit acts, and no action is lost between the two.
 */
import { expect, test } from "vitest";
import { generatedUnits } from "./generated-units.ts";
import { onEachGuest } from "./guests.ts";
import type { Pair } from "./pair.ts";
import { scenario } from "./scenario.ts";

const source = { source: generatedUnits };
const actOf = ({ name }: Pair) => `${name}-secrets-act.service`;
const pathOf = ({ name }: Pair) => `${name}-secrets-act.path`;

onEachGuest("a sidecar whose actions another unit does", (guest) => {
  const inbox = async ({ name }: Pair) => await guest.text(["ls", "-A", `/run/${name}-secrets-act/inbox`]);

  scenario(
    guest,
    "learns that an action is done; the inbox is empty again, and the unit has ended",
    async (pairOf) => {
      const pair = await pairOf({ name: "told" });
      await pair.start();
      for (const value of ["two", "three", "four"]) {
        await pair.put("token", value);
        await pair.untilSaid(`file=${value} variable=${value}`);
      }
      await guest.until("the inbox is empty", async () => (await inbox(pair)) === "");
      await pair.untilState(actOf(pair), "inactive");
      expect(await pair.state(pathOf(pair))).toBe("active");
      await guest.until(
        "the sidecar knows",
        async () => JSON.parse((await guest.run(["fetcher", "status", "--json", "told"])).stdout) as unknown,
        (status) => JSON.stringify(status).includes('"actions":3,"actionsFailed":0'),
      );
      expect(await guest.journal(actOf(pair))).toContain("told.service: restart done");
      expect(await guest.journal(pair.sidecar)).toContain("told.service: restart done");
    },
    source,
  );

  for (const [how, end] of [
    ["killed", (pair: Pair) => pair.kill(actOf(pair), "KILL")],
    ["stopped", (pair: Pair) => guest.systemctl("stop", actOf(pair))],
  ] as const)
    scenario(
      guest,
      `gets its action done even if that unit is ${how} while it waits`,
      async (pairOf) => {
        const pair = await pairOf({ name: `act-${how}`, config: { onChange: { minInterval: 6 } } });
        await pair.start();
        await pair.put("token", "two");
        await pair.untilSaid("file=two");
        await pair.put("token", "three");
        await pair.untilStatus(/restart of act-\w+\.service in \d+ s \(paced\)/);
        await end(pair);
        await pair.untilSaid("file=three variable=three", { lines: 3, timeout: 60 });
        expect(await pair.said()).toHaveLength(3);
        await pair.untilStatus(/^1 secret from folder, version [^;]*$/);
      },
      source,
    );

  scenario(
    guest,
    "stops with its target while an action waits; nothing keeps running, and nothing is left",
    async (pairOf) => {
      const pair = await pairOf({ name: "waits", config: { onChange: { splay: 5000 } } });
      await pair.start();
      await pair.put("token", "two");
      await pair.untilStatus(/restart of waits\.service in \d+ s \(splay\)/);
      expect(await pair.state(actOf(pair))).toBe("active");
      await pair.stop();
      for (const unit of [actOf(pair), pathOf(pair)]) await pair.untilState(unit, "inactive");
      await guest.until(
        "no directory is left",
        async () => (await guest.run("ls -d /run/waits-secrets*", { check: false })).stdout === "",
      );
      await pair.start();
      await pair.untilSaid("file=two variable=two", { lines: 2 });
    },
    source,
  );

  scenario(
    guest,
    "reports a wrong configuration in STATUS when the action is due, and acts once it is right",
    async (pairOf) => {
      const pair = await pairOf({ name: "wrong" });
      await pair.start();
      const file = "/etc/fetcher/wrong.json";
      const right = await guest.read(file);
      await guest.write(file, '{ "secrets": { "token": { "mod": "0400" } } }');
      await pair.put("token", "two");
      await pair.untilStatus(/no action is done: configuration: .*secrets\.token\.mod/);
      expect(await pair.said()).toHaveLength(1);
      await guest.write(file, right);
      await pair.untilSaid("file=two variable=two", { lines: 2, timeout: 60 });
      await pair.untilStatus(/^1 secret from folder, (?!.*no action)/);
      expect(await guest.journal(pair.sidecar)).not.toContain("has not begun");
    },
    source,
  );

  scenario(
    guest,
    "keeps its due action when systemd reexecutes in between",
    async (pairOf) => {
      const pair = await pairOf({ name: "reexec", config: { onChange: { minInterval: 5 } } });
      await pair.start();
      await pair.put("token", "two");
      await pair.untilSaid("file=two");
      await pair.put("token", "three");
      await pair.untilStatus(/restart of reexec\.service in \d+ s \(paced\)/);
      await guest.systemctl("daemon-reexec");
      await pair.untilSaid("file=three variable=three", { lines: 3, timeout: 60 });
      await pair.untilStatus(/^1 secret from folder, version [^;]*$/);
      await pair.put("token", "four");
      await pair.untilSaid("file=four variable=four", { lines: 4, timeout: 60 });
    },
    { ...source, alone: true },
  );

  scenario(
    guest,
    "can be checked while none of its units runs",
    async (pairOf) => {
      const pair = await pairOf({ name: "checked" });
      const { code, stdout } = await guest.run(["fetcher", "check", "checked"], { check: false });
      expect(stdout).toContain("token");
      expect(code).toBe(0);
      expect(await pair.state(pair.sidecar)).toBe("inactive");
    },
    source,
  );

  scenario(
    guest,
    "leaves nothing behind when its service stops, even one that nothing else refers to",
    async (pairOf) => {
      const pair = await pairOf({ name: "leaves" });
      for (let time = 0; time < 20; time += 1) {
        await guest.run(`systemctl start ${pair.target}; systemctl stop ${pair.target}`);
        await pair.untilState(pair.sidecar, "inactive");
        await guest.until(
          "no directory is left",
          async () => (await guest.run("ls -d /run/leaves-secrets*", { check: false })).stdout === "",
        );
      }
    },
    source,
  );

  test("uses an acting unit whose sandbox is as narrow as its own", async () => {
    await guest.write("/etc/fetcher/narrow.json", JSON.stringify({ secrets: { a: {} } }));
    const printed = await guest.text(["fetcher", "units", "narrow"]);
    const units = printed.split(/^# \/run\/systemd\/generator\/(.*)\n/m).slice(1);
    const at = units.indexOf("narrow-secrets-act.service");
    await guest.write("/etc/systemd/system/narrow-secrets-act.service", units[at + 1] ?? "");
    await guest.systemctl("daemon-reload");
    const said = await guest.text(["systemd-analyze", "security", "--no-pager", "narrow-secrets-act.service"]);
    const version = Number(/\d+/.exec(await guest.text(["systemctl", "--version"]))?.[0]);
    expect(Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1])).toBeLessThanOrEqual(
      version < 257 ? 1.4 : 1.0,
    );
    await guest.run("rm /etc/fetcher/narrow.json /etc/systemd/system/narrow-secrets-act.service");
  });
});
