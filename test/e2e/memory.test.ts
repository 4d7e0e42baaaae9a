/** Secrets are in memory alone: with /tmp on a real ext4, nothing of them is ever written to its blocks or elsewhere. */
import { randomBytes } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { execute } from "./command.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { home, type PairOptions, type UnitSource } from "./pair.ts";
import { plainCredentials, plainUnits } from "./plain-units.ts";
import { scenario } from "./scenario.ts";

/** Made at run time, and in two pieces on the way to the guest: only values have it whole. */
const CANARY = `canary-${randomBytes(8).toString("hex")}`;

onEachGuest(
  "in memory alone",
  (guest) => {
    beforeAll(async () => {
      // The stores themselves are not what is looked for.
      await guest.tmpfs("/etc/fetcher", "4m");
    });

    test("the search would find what was on the disk, also when it is deleted", async () => {
      expect(await guest.text("stat -f -c %T /tmp")).toBe("ext2/ext3");
      const control = `control-${randomBytes(8).toString("hex")}`;
      await guest.write("/tmp/control", control.repeat(1000));
      await guest.write(`${home}/control`, control);
      await guest.run("sync; rm /tmp/control; sync");
      expect(await traces(guest, control)).toEqual(["tmp.img", `${home}/control`]);
      await guest.run(`rm ${home}/control`);
    });

    const deliveries: [string, UnitSource, Partial<PairOptions>, (name: string) => string[]][] = [
      ["private-tmp", plainUnits, {}, (pid) => [`/proc/${pid}/root/tmp/token`, `/proc/${pid}/root/tmp/secrets.env`]],
      [
        "credentials",
        plainCredentials,
        { program: 'echo "start $(wc -c < $CREDENTIALS_DIRECTORY/token)"\nexec sleep infinity\n' },
        () => ["/run/credentials/memory-credentials.service/token"],
      ],
    ];
    for (const [delivery, source, options, published] of deliveries)
      scenario(
        guest,
        `${delivery}: on tmpfs or ramfs, and on no disk after rotation, kill and stop`,
        async (pairOf) => {
          const pair = await pairOf({
            name: `memory-${delivery}`,
            secrets: { token: `${CANARY} one` },
            program: "echo start $(wc -c < /tmp/token)\nexec sleep infinity\n",
            ...options,
          });
          await pair.start();
          await pair.put("token", `${CANARY} two, longer`);
          await pair.untilSaid("start 35", { lines: 2 });
          const { target, sidecar } = await pair.pids();
          const files = [...published(String(target)), `${pair.runtime}/pub/token`, `${pair.runtime}/pub/secrets.env`];
          const types = await guest.text(["stat", "-L", "-f", "-c", "%T", ...files]);
          expect(types.split("\n").filter((type) => type !== "tmpfs" && type !== "ramfs")).toEqual([]);
          expect(types.split("\n")).toHaveLength(files.length);
          expect(await traces(guest, CANARY)).toEqual([]);
          await pair.kill(pair.sidecar, "KILL");
          await pair.untilRestarted(pair.sidecar, sidecar);
          await pair.untilState(pair.target, "active");
          await pair.put("token", `${CANARY} three`);
          await pair.untilSaid("start 29", { lines: 3 });
          await pair.kill(pair.target, "KILL");
          await pair.untilState(pair.sidecar, "inactive");
          await pair.stop();
          expect(await traces(guest, CANARY)).toEqual([]);
          const left = `grep -rlF ${CANARY} /run /tmp /var/tmp /dev/shm`;
          expect((await guest.run(left, { check: false })).stdout).toBe("");
        },
        { source, alone: true },
      );
  },
  { tmp: "image" },
);

/** Where the bytes are: in the blocks of /tmp's disk, deleted files' too, or in a file of the guest's own. */
async function traces(guest: Guest, bytes: string): Promise<string[]> {
  const { name } = guest.system;
  await guest.run("sync");
  const image = await execute(["grep", "-cF", bytes, `/var/tmp/${name ?? ""}/tmp.img`], { check: false });
  // All that was changed since the boot: what the guest's overlay has in its upper layer. And /var/tmp, a disk too.
  const find = `find / /var/tmp -xdev -type f -newerct "@$(stat -c %Z /proc/1)" -exec grep -lF ${bytes} {} +`;
  const files = (await guest.text(find, { check: false, timeout: 60 })).split("\n").filter(Boolean);
  return [...(image.code === 0 ? ["tmp.img"] : []), ...files];
}
