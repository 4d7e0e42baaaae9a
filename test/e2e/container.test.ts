/** A container of systemd-nspawn, started in the guest by the unit of the distribution: systemd-nspawn@web.service. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEachGuest } from "./guests.ts";
import { leftIn } from "./pair.ts";

onEachGuest(
  "a container",
  (guest) => {
    const etc = "/etc/systemd/system";
    const container = "systemd-nspawn@web.service";
    const sidecar = `fetcher@${container}`;
    const root = "/var/lib/machines/web";
    const store = "/etc/fetcher/systemd-nspawn@web/secrets/greeting";

    beforeAll(async () => {
      await guest.run(
        `cd ${guest.project}/examples/systemd && mkdir -p /etc/fetcher ${etc} && cp -r fetcher@.service ${container}.d ${etc}/ &&
       cp systemd-nspawn@web.json /etc/fetcher/`,
      );
      // Its tree is the guest's own, below a throw-away layer that each start creates again.
      await guest.write(
        `${etc}/${container}.d/tree.conf`,
        `[Service]\nEnvironment=UNIFIED_CGROUP_HIERARCHY=yes\nDevicePolicy=auto\nExecStartPre=/var/lib/container-tree\n`,
      );
      await guest.write(
        "/var/lib/container-tree",
        `#!/bin/sh
       set -e
       mkdir -p ${root} /run/container/layers /run/container/lower
       ! mountpoint -q ${root} || umount ${root}
       mountpoint -q /run/container/layers || mount -t tmpfs layers /run/container/layers
       mountpoint -q /run/container/lower || mount --bind / /run/container/lower
       rm -rf /run/container/layers/*
       mkdir /run/container/layers/upper /run/container/layers/work
       mount -t overlay -o lowerdir=/run/container/lower,upperdir=/run/container/layers/upper,workdir=/run/container/layers/work container ${root}
       mkdir -p ${root}/usr/local/lib/systemd/system
       cat > ${root}/usr/local/lib/systemd/system/inside.service <<'X'
[Service]
LoadCredential=greeting
DynamicUser=yes
StandardOutput=append:/var/lib/inside.log
ExecStart=sh -c 'echo "inside: $$(cat $$CREDENTIALS_DIRECTORY/greeting)"; exec sleep infinity'
X
       printf '[Unit]\\nRequires=basic.target inside.service\\n' > ${root}/usr/local/lib/systemd/system/web.target\n`,
        0o755,
      );
      const conf = `${etc}/${container}.d/secrets.conf`;
      const text = await guest.read(conf);
      await guest.write(
        conf,
        text.replace(/(--machine=%i \\\n.*)/, "$1 systemd.unit=web.target systemd.mask=timers.target"),
      );
      await guest.write(store, "one", 0o400);
      await guest.systemctl("daemon-reload");
    });
    afterAll(async () => {
      await guest.run(
        `systemctl stop ${container}; umount ${root} /run/container/lower /run/container/layers
       rm -rf /etc/fetcher/systemd-nspawn@web* ${etc}/${container}.d /var/lib/container-*; systemctl daemon-reload`,
        { timeout: 120 },
      );
    });

    const says = async (text: string) =>
      await guest.until(
        `the service in the container says ${text}`,
        async () => await guest.read(`${root}/var/lib/inside.log`),
        (said) => said.includes(text),
        { timeout: 60 },
      );

    test("gets its secret when it starts, and a service in it reads the secret as its own credential", async () => {
      await guest.run(["systemctl", "start", container], { timeout: 120 });
      expect(await says("inside:")).toBe("inside: one\n");
      const pid = await guest.mainPid(container);
      const argv = await guest.text(`tr '\\0' ' ' < /proc/${pid}/cmdline`);
      expect(argv).toContain("--load-credential=greeting:/run/systemd-nspawn@web-secrets/pub/greeting");
      const init = await guest.text(`cat /proc/${pid}/task/*/children | tr ' ' '\\n' | head -n 1`);
      const inside = await guest.text([
        "nsenter",
        `--target=${init}`,
        "--mount",
        "--pid",
        "systemctl",
        "is-active",
        "inside",
      ]);
      expect(inside).toBe("active");
    });

    test("restarts with the new value when the secret changes; its sidecar alone does it", async () => {
      const before = await guest.mainPid(container);
      const of = await guest.mainPid(sidecar);
      await guest.replace(store, "two", 0o400);
      await guest.until(
        "the container was restarted",
        async () => await guest.show(container, "MainPID", "ActiveState"),
        ({ MainPID, ActiveState }) => ActiveState === "active" && MainPID !== "0" && MainPID !== String(before),
        { timeout: 120 },
      );
      expect(await says("inside: two")).toBe("inside: two\n");
      expect(await guest.mainPid(sidecar)).toBe(of);
    });

    test("stops its sidecar and removes the files when it stops", async () => {
      await guest.run(["systemctl", "stop", container], { timeout: 120 });
      await guest.until(
        "the sidecar has stopped",
        async () => (await guest.show(sidecar, "ActiveState")).ActiveState === "inactive",
      );
      expect(await leftIn(guest, "/run/systemd-nspawn@web-secrets")).toBe("");
    });
  },
  {},
  ["guest-host", "own-guest"],
);
