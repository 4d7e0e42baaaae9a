/**
 * A person's job and a rotation's at the same time: systemd does the person's, and in the end the service has the last
 * value.
 */
import { expect } from "vitest";
import { generatedUnits } from "./generated-units.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { itsStartReadsThem, type Pair } from "./pair.ts";
import { plainUnits } from "./plain-units.ts";
import { scenario } from "./scenario.ts";

onEachGuest("jobs of the service", (guest) => {
  const sources = [
    ["by hand", "hand", plainUnits],
    ["generated", "made", generatedUnits],
  ] as const;
  for (const [title, word, source] of sources) {
    scenario(
      guest,
      `${title}: a stop of either unit while a restart is due ends both, and the restart never comes`,
      async (pairOf) => {
        const pair = await pairOf({ name: `due-${word}`, config: { onChange: { settle: 0, minInterval: 600 } } });
        for (const unit of [pair.target, pair.sidecar]) {
          const lines = (await pair.said()).length;
          await pair.put("token", "one");
          await pair.start();
          await pair.put("token", "two");
          await pair.untilSaid("file=two", { lines: lines + 2 });
          await pair.put("token", "three");
          await pair.untilSeen("token", "three");
          await guest.systemctl("stop", unit);
          await expectBothStopped(pair, lines + 2);
        }
        await pair.start();
        expect((await pair.said()).at(-1)).toContain("file=three");
      },
      { source },
    );

    scenario(
      guest,
      `${title}: a stop of either unit while a restart is in progress ends both`,
      async (pairOf) => {
        const pair = await pairOf({ name: `flight-${word}`, ...slow(`flight-${word}`) });
        for (const unit of [pair.target, pair.sidecar]) {
          const lines = (await pair.said()).length;
          await hold(guest, pair);
          await pair.put("token", "one");
          await pair.start();
          await pair.put("token", "two");
          // By the rotation's restart: nothing else stops it.
          await pair.untilState(pair.target, "deactivating");
          const stopped = guest.run(["systemctl", "stop", unit], { timeout: 180 });
          await guest.until(
            "the stop has taken the place of the restart",
            async () => await guest.text("systemctl list-jobs --full --no-legend"),
            (jobs) => jobs.split("\n").some((job) => job.includes(` ${pair.target} `) && / stop +/.test(job)),
          );
          await release(guest, pair);
          await stopped;
          await expectBothStopped(pair, lines + 1);
        }
      },
      { source },
    );

    for (const [command, action] of [
      ["ExecReload", "reload"],
      ["ExecStartPre", "restart"],
    ] as const)
      scenario(
        guest,
        `${title}: a stop while ${command}= of a ${action} is running ends both, though systemd calls that a failure`,
        async (pairOf) => {
          const name = `${action}-killed-${word}`;
          const wait = `while test -e /run/hold-${name}; do touch /run/runs-${name}; sleep 0.05; done`;
          const onChange = { settle: 0, minInterval: 0, action };
          const pair = await pairOf({
            name,
            config: { onChange },
            target: { service: [`${command}=/bin/sh -c '${wait}'`] },
          });
          await pair.start();
          await hold(guest, pair);
          await pair.put("token", "two");
          await guest.until("the command runs", () => guest.exists(`/run/runs-${name}`));
          const stopped = guest.run(["systemctl", "stop", pair.target], { timeout: 180 });
          // For these, a sidecar would start a service again that its action broke.
          await pair.put("token", "three");
          await stopped;
          await release(guest, pair);
          await pair.untilState(pair.sidecar, "inactive");
          expect(await pair.state(pair.target)).toBe("failed");
          expect(await pair.said()).toHaveLength(1);
          expect(await pair.journal()).not.toContain("newer secrets are there");
        },
        { source },
      );

    scenario(
      guest,
      `${title}: a manual restart in progress covers a rotation too: one start, with the new value`,
      async (pairOf) => {
        const pair = await pairOf({ name: `manual-${word}`, ...slow(`manual-${word}`) });
        await hold(guest, pair);
        await pair.start();
        const restarted = guest.run(["systemctl", "restart", pair.target], { timeout: 180 });
        await pair.untilState(pair.target, "deactivating");
        await pair.put("token", "two");
        await untilPublished(pair, "two");
        await release(guest, pair);
        expect((await restarted).code).toBe(0);
        await pair.untilSaid("file=two", { lines: 2 });
        await guest.until(
          "the rotation is done with it",
          () => pair.journal(),
          (lines) => itsStartReadsThem.test(lines),
        );
        expect(await pair.said()).toHaveLength(2);
      },
      { source },
    );

    scenario(
      guest,
      `${title}: a start in a manual restart takes a rotation made since the stop, and the journal says so`,
      async (pairOf) => {
        const name = `gap-${word}`;
        const gate = `${name}-gate.service`;
        // As long as this is on its way up, the target is down.
        const open = `/bin/sh -c 'while test -e /run/hold-${name}; do sleep 0.05; done'`;
        await guest.write(`/run/systemd/system/${gate}`, `[Service]\nType=oneshot\nExecStart=${open}\n`);
        const pair = await pairOf({
          name,
          config: { onChange: { settle: 0, minInterval: 0 } },
          target: { unit: [`After=${gate}`] },
        });
        try {
          await pair.start();
          await hold(guest, pair);
          await guest.systemctl("start", "--no-block", gate);
          await pair.untilState(gate, "activating");
          await guest.systemctl("restart", "--no-block", pair.target);
          await pair.untilState(pair.target, "inactive");
          await pair.put("token", "two");
          await guest.until(
            "the sidecar has seen it down",
            () => pair.journal(),
            (lines) => lines.includes("is not running; the new secrets are there for its next start"),
          );
        } finally {
          await release(guest, pair);
        }
        await pair.untilSaid("file=two", { lines: 2 });
        await pair.untilState(pair.target, "active");
        expect(await pair.said()).toHaveLength(2);
      },
      { source },
    );

    scenario(
      guest,
      `${title}: a manual restart during a rotation's restart works, and the target gets the last value`,
      async (pairOf) => {
        const pair = await pairOf({ name: `both-${word}`, ...slow(`both-${word}`) });
        await hold(guest, pair);
        await pair.start();
        await pair.put("token", "two");
        await pair.untilState(pair.target, "deactivating");
        const restarted = guest.run(["systemctl", "restart", pair.target], { timeout: 180 });
        await pair.put("token", "three");
        await untilPublished(pair, "three");
        await release(guest, pair);
        expect((await restarted).code).toBe(0);
        await pair.untilSaid("file=three");
        await guest.until(
          "nothing is due",
          async () => await guest.read(`${pair.runtime}/pub/.fetcher-state`),
          (state) => state.includes('"pending":null'),
        );
        await pair.untilState(pair.target, "active");
      },
      { source },
    );
  }
});

/** A target whose stop takes until the test lets it go. */
const slow = (name: string) => ({
  config: { onChange: { settle: 0, minInterval: 0 } },
  target: { service: [`ExecStop=/bin/sh -c 'while test -e /run/hold-${name}; do sleep 0.05; done'`] },
});

const hold = (guest: Guest, { name }: Pair) => guest.run(["touch", `/run/hold-${name}`]);
const release = (guest: Guest, { name }: Pair) => guest.run(["rm", "-f", `/run/hold-${name}`]);

/** With the time noted from which a start has the new values: one that comes before is not told from one without them. */
async function untilPublished({ guest, runtime }: Pair, value: string): Promise<void> {
  await guest.until(
    `${value} is published, and since when`,
    async () => [await guest.read(`${runtime}/pub/token`), await guest.read(`${runtime}/pub/.fetcher-state`)],
    ([token, state]) => token === value && /"pending":\{"publishedAt":\d/.test(state ?? ""),
  );
}

/** @param lines that the target has said: one for each start. */
async function expectBothStopped(pair: Pair, lines: number): Promise<void> {
  await pair.untilState(pair.target, "inactive");
  await pair.untilState(pair.sidecar, "inactive");
  await pair.guest.until(
    "no job is left",
    async () => await pair.guest.text("systemctl list-jobs --full --no-legend"),
    (jobs) => !jobs.includes(` ${pair.target} `) && !jobs.includes(` ${pair.sidecar} `),
  );
  expect(await pair.said()).toHaveLength(lines);
  expect((await pair.guest.show(pair.target, "Result")).Result).toBe("success");
}
