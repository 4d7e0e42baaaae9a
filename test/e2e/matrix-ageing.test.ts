/**
 * systemd-tmpfiles removes old files in a service's private /tmp while the service runs. Here "old" means one second.
 */
import { expect } from "vitest";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import type { Pair } from "./pair.ts";
import { scenario } from "./scenario.ts";

/** File systems differ in how far in the future a time may be. */
for (const tmp of ["disk", "memory"] as const)
  onEachGuest(
    `an aged /tmp (${tmp})`,
    (guest) => {
      keepsWhatIsNeverOld(guest);
    },
    { tmp },
  );

function keepsWhatIsNeverOld(guest: Guest): void {
  scenario(guest, "keeps the mount of the files and the links, which never age", async (pairOf) => {
    const pair = await pairOf({ name: "aged-links" });
    await pair.start();
    await age(guest, pair);
    expect((await links(guest, pair)).toSorted()).toEqual(["secrets.env", "token"]);
    expect((await guest.inUnit(pair.target, "mountpoint /tmp/.secrets && cat /tmp/.secrets/token")).stdout).toMatch(
      /one$/,
    );
    await pair.restart();
    await pair.untilSaid("file=one variable=one", { lines: 2 });
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
  });
}

onEachGuest("a /tmp whose links are removed", (guest) => {
  scenario(guest, "gets removed links back by systemctl reload of the sidecar", async (pairOf) => {
    const pair = await pairOf({ name: "unlinked-reload" });
    await pair.start();
    await unlink(guest, pair);
    await guest.systemctl("reload", pair.sidecar);
    await guest.until("the links are back", async () => (await links(guest, pair)).length === 2);
    await pair.restart();
    await pair.untilSaid("file=one variable=one", { lines: 2 });
  });

  scenario(guest, "gets them back by a rotation, before the target restarts", async (pairOf) => {
    const pair = await pairOf({ name: "unlinked-rotation" });
    await pair.start();
    await unlink(guest, pair);
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
  });

  scenario(guest, "gets them back within a minute if nothing else happens", async (pairOf) => {
    const pair = await pairOf({ name: "unlinked-minute" });
    await pair.start();
    await unlink(guest, pair);
    await guest.until("the links are back", async () => (await links(guest, pair)).length === 2, Boolean, {
      timeout: 100,
    });
    await pair.restart();
    await pair.untilSaid("file=one variable=one", { lines: 2 });
  });

  scenario(guest, "keeps files published in /tmp itself", async (pairOf) => {
    const pair = await pairOf({ name: "aged-files", config: { output: { directory: "/tmp", links: null } } });
    await pair.start();
    await age(guest, pair);
    await pair.restart();
    await pair.untilSaid("file=one variable=one", { lines: 2 });
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
  });
});

/** Cleans the pair's /tmp as the timer does (the rule of tmp.conf, but for the age) until all that is not kept is gone. */
async function age(guest: Guest, { name, target }: Pair): Promise<void> {
  const pid = await guest.mainPid(target);
  await guest.run(
    `cd /proc/${pid}/root/tmp && echo > witness && ln -s nowhere witness-link && mkdir witness-directory`,
  );
  const rules = `/run/aged-${name}.conf`;
  await guest.write(rules, `e /tmp/systemd-private-%b-*${name}.service-*/tmp - - - 1s\n`);
  await guest.until(
    "the witnesses are gone",
    async () => {
      await guest.run(["systemd-tmpfiles", "--clean", rules]);
      return await guest.text(`ls -A /proc/${pid}/root/tmp`);
    },
    (names) => !names.includes("witness"),
  );
}

async function unlink(guest: Guest, pair: Pair): Promise<void> {
  const pid = await guest.mainPid(pair.target);
  await guest.run(`find /proc/${pid}/root/tmp -maxdepth 1 -type l -delete`);
  expect(await links(guest, pair)).toEqual([]);
}

/** Names of the symbolic links that are in the target's /tmp. */
async function links(guest: Guest, { target }: Pair): Promise<readonly string[]> {
  const pid = await guest.mainPid(target);
  return (await guest.text(`find /proc/${pid}/root/tmp -maxdepth 1 -type l -printf '%f\\n'`))
    .split("\n")
    .filter(Boolean);
}
