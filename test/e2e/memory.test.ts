/** Secrets stay in memory: with /tmp on a real ext4, no byte of them reaches its blocks or any other disk. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
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

    test("the search finds what was on the disk, even after its deletion", async () => {
      expect(await guest.text("stat -f -c %T /tmp")).toBe("ext2/ext3");
      const control = `control-${randomBytes(8).toString("hex")}`;
      await guest.write("/tmp/control", control.repeat(1000));
      await guest.write(`${home}/control`, control);
      await guest.write("/var/tmp/control", control);
      await guest.run("sync; rm /tmp/control; sync");
      expect(await traces(guest, control)).toEqual(["tmp.img", `layers/upper${home}/control`, "vartmp/control"]);
      await guest.run(`rm ${home}/control /var/tmp/control`);
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

    test("files: live on tmpfs, and reach no disk by rotation, kill or stop", async () => {
      const [unit, file, store] = [
        "fetcher@shared.service",
        "/run/shared-secrets/pub/tls.key",
        "/etc/fetcher/shared/secrets/tls.key",
      ];
      const etc = "/etc/systemd/system";
      await guest.run(
        `cd ${guest.project}/examples/systemd && mkdir -p ${etc}/${unit}.d && install -d -m 0700 /etc/fetcher/shared &&
         cp fetcher@.service ${etc}/ && cp files.conf ${etc}/${unit}.d/ && cp shared.json /etc/fetcher/`,
      );
      await guest.write(store, `${CANARY} one`, 0o400);
      await guest.systemctl("daemon-reload");
      await guest.systemctl("start", unit);
      expect(await guest.text(["stat", "-f", "-c", "%T", file])).toBe("tmpfs");
      const before = await guest.mainPid(unit);
      await guest.run(["systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit]);
      await guest.until(
        "it is back",
        async () => await guest.show(unit, "MainPID", "ActiveState"),
        ({ MainPID, ActiveState }) => ActiveState === "active" && MainPID !== "0" && MainPID !== String(before),
      );
      await guest.replace(store, `${CANARY} two`, 0o400);
      await guest.until("it rotated", async () => (await guest.read(file)).endsWith("two"));
      expect(await traces(guest, CANARY)).toEqual([]);
      await guest.systemctl("stop", unit);
      expect(await traces(guest, CANARY)).toEqual([]);
      expect((await guest.run(`grep -rlF ${CANARY} /run /tmp /dev/shm`, { check: false })).stdout).toBe("");
      await guest.run(`rm -r ${etc}/${unit}.d`);
    });

    for (const [delivery, source, options, published] of deliveries)
      scenario(
        guest,
        `${delivery}: secrets live on tmpfs or ramfs, and reach no disk by rotation, kill or stop`,
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
          await guest.until("it is nowhere", async () => (await guest.run(left, { check: false })).stdout === "");
        },
        { source, alone: true },
      );
  },
  { tmp: "image" },
  // Not in somebody else's container, whose /tmp may be anything.
  ["guest-host", "own-guest"],
);

/** Where the bytes are: in the blocks of /tmp's disk, deleted files' too, or in a file of the guest's own. */
async function traces(guest: Guest, bytes: string): Promise<string[]> {
  const { name } = guest.system;
  await guest.run("sync");
  const image = await execute(["grep", "-cF", bytes, `/var/tmp/${name ?? ""}/tmp.img`], { check: false });
  // What the guest has written to its own tree, and to /var/tmp. nspawn, the parent of its init, sees the layers.
  const init = guest.system.enter.map((word) => /^--target=(\d+)$/.exec(word)?.[1]).find((pid) => pid !== undefined);
  const nspawn = /^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${init ?? ""}/status`, "utf8"))?.[1] ?? "";
  const root = `/proc/${nspawn}/root/var/tmp/${name ?? ""}`;
  const places = [`${root}/layers/upper`, `${root}/vartmp`];
  const { stdout } = await execute(["grep", "-rlF", bytes, ...places], { check: false, timeout: 120 });
  const files = stdout.toString().split("\n").filter(Boolean);
  return [...(image.code === 0 ? ["tmp.img"] : []), ...files.map((file) => file.replace(`${root}/`, ""))];
}
