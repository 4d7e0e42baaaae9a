/** Secrets stay in memory: with /tmp on a real ext4, no byte of them reaches its blocks or any other disk. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { execute } from "./command.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { generatedUnits } from "./generated-units.ts";
import { comesBackAlone, home, type Pair, type PairOptions, type UnitSource } from "./pair.ts";
import { plainCredentials, plainUnits } from "./plain-units.ts";
import { scenario } from "./scenario.ts";

/** Made at run time, and in two pieces on the way to the guest: only values have it whole. */
const CANARY = `canary-${randomBytes(8).toString("hex")}`;

onEachGuest(
  "in memory alone",
  (guest) => {
    beforeAll(async () => {
      // The stores themselves are not what is looked for.
      await guest.tmpfs("/etc/fetcher", "80m");
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

    scenario(
      guest,
      "a sidecar killed for want of memory comes back, says why, and goes on once the answer of its store is small again",
      async (pairOf) => {
        const pair = await pairOf({ name: "too-large", secrets: { token: "one", a: "1", b: "1", c: "1" } });
        await limitMemory(guest, pair, 120 << 20);
        await pair.start();
        const target = await guest.mainPid(pair.target);
        // Within all limits on values; limits.md says how much memory a sidecar needs for so many.
        const large = ["a", "b", "c"].map((id) => `head -c 16000000 /dev/urandom > .${id}`);
        await guest.run(`cd ${pair.store} && ${large.join(" && ")} && mv .a a && mv .b b && mv .c c`);
        await guest.until(
          "it is killed",
          async () => await guest.text(["fetcher", "status", pair.target], { check: false }),
          (shown) => shown.includes("killed (SIGKILL), perhaps for want of memory"),
        );
        const isAlone = await comesBackAlone(guest);
        if (isAlone) expect(await guest.mainPid(pair.target)).toBe(target);
        await pair.putTogether({ token: "two", a: "2", b: "2", c: "2" });
        // Before systemd 254 the service goes with its sidecar, and its start fails with the sidecar's.
        if (!isAlone)
          await guest.until(
            "a start works",
            async () => (await guest.run(["systemctl", "start", pair.target], { check: false })).code === 0,
          );
        await pair.untilSaid("start", { lines: 2, timeout: 60 });
        expect((await pair.seen("token")).toString()).toBe("two");
        await pair.untilStatus(/^4 secrets from folder, checked at [^;]*$/);
      },
      { source: generatedUnits, also: ["memory-limits"] },
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

/**
 * Gives a sidecar so many bytes. Where the machine has its memory controller in a hierarchy of cgroup v1, which systemd
 * does not use beside v2, the sidecar joins a group there by itself.
 */
async function limitMemory(guest: Guest, { name, sidecar }: Pair, bytes: number): Promise<void> {
  const lines = [`MemoryMax=${String(bytes)}`];
  const controllers = await guest.text("cat /sys/fs/cgroup/cgroup.controllers");
  if (!controllers.split(" ").includes("memory")) {
    const group = `/srv/memory/fetcher-${name}-${String(process.pid)}`;
    await guest.run(
      `mkdir -p /srv/memory && mount -t cgroup -o memory none /srv/memory && mkdir ${group} && echo ${String(bytes)} > ${group}/memory.limit_in_bytes`,
    );
    onTestFinished(async () => {
      // systemd ends first what is in it.
      await guest.run(`systemctl stop ${sidecar}; rmdir ${group}; umount /srv/memory`);
    });
    const command = /^ExecStart=(.*)$/m.exec(await guest.read(`/etc/systemd/system/${sidecar}`))?.[1] ?? "";
    lines.push(`BindPaths=${group}`, "ExecStart=");
    lines.push(`ExecStart=sh -c 'echo $$$$ > ${group}/cgroup.procs && exec "$$@"' sh ${command}`);
  }
  await guest.write(`/etc/systemd/system/${sidecar}.d/memory.conf`, `[Service]\n${lines.join("\n")}\n`);
  await guest.systemctl("daemon-reload");
}
