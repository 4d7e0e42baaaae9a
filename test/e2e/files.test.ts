/** Secrets as files that the whole host can see, each with an owner, on plain units: reader.service of the examples. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { blockWith } from "../markdown.ts";
import { onEachGuest } from "./guests.ts";
import { leftIn } from "./pair.ts";

onEachGuest("files on the host", (guest) => {
  const etc = "/etc/systemd/system";
  const sidecar = "fetcher@shared.service";
  const file = "/run/shared-secrets/pub/tls.key";
  const look = async () => await guest.text(["stat", "-c", "%F %a %U %G", file]);

  beforeAll(async () => {
    await guest.run(
      `cd ${guest.project}/examples/systemd && mkdir -p /etc/fetcher &&
       cp -r fetcher@.service reader.service reader.service.d ${etc}/ && cp shared.json /etc/fetcher/ &&
       install -d -m 0700 /etc/fetcher/shared/secrets`,
    );
    await guest.write("/etc/fetcher/shared/secrets/tls.key", "one", 0o400);
    const { code } = blockWith("docs/how-to/deliveries.md", "sh", "files.conf");
    await guest.run(`set -e; cd ${guest.project}/examples/systemd\n${code}`);
  });
  afterAll(async () => {
    await guest.run(
      `systemctl stop reader ${sidecar}; rm -rf /etc/fetcher/shared* ${etc}/reader.service* ${etc}/${sidecar}.d \
         ${etc}/multi-user.target.wants/${sidecar}; systemctl daemon-reload`,
    );
  });

  test("exist before any unit that starts after them, and stay without a consumer", async () => {
    expect((await guest.show("multi-user.target", "Wants")).Wants).toContain(sidecar);
    expect((await guest.show(sidecar, "ActiveState")).ActiveState).toBe("active");
    const start = await guest.journalCursor();
    await guest.systemctl("start", "reader");
    await guest.until(
      "the reader has read",
      async () => await guest.journal("reader", { after: start }),
      (text) => text.includes("reader: 3 bytes"),
    );
    await guest.systemctl("stop", "reader");
    expect((await guest.show(sidecar, "ActiveState")).ActiveState).toBe("active");
  });

  test("have the configured mode, owner and group, and are closed to all others", async () => {
    expect(await look()).toBe("regular file 440 nobody daemon");
    const as = (id: string) =>
      guest.run(["setpriv", `--reuid=${id}`, `--regid=${id}`, "--clear-groups", "cat", file], { check: false });
    expect((await as("65534")).stdout).toBe("one");
    // The group of daemon, and a stranger.
    expect((await as("1")).stdout).toBe("one");
    expect((await as("7")).stderr).toMatch(/Permission denied/);
    expect(await guest.text(["stat", "-f", "-c", "%T", file])).toBe("tmpfs");
  });

  test("rotate by a rename, so open files stay whole, and restart their consumers", async () => {
    await guest.systemctl("start", "reader");
    const [before, inode] = [await guest.mainPid("reader"), await guest.text(["stat", "-c", "%i", file])];
    const open = guest.run(
      `exec 3< ${file}; touch /run/files-open; until [ -e /run/files-rotated ]; do sleep 0.1; done; cat <&3`,
      { timeout: 120 },
    );
    await guest.until("it is open", async () => await guest.exists("/run/files-open"));
    await guest.replace("/etc/fetcher/shared/secrets/tls.key", "another", 0o400);
    await guest.until(
      "the reader was restarted",
      async () => await guest.mainPid("reader"),
      (pid) => pid !== before,
    );
    await guest.write("/run/files-rotated", "");
    expect((await open).stdout).toBe("one");
    expect(await guest.read(file)).toBe("another");
    expect(await guest.text(["stat", "-c", "%i", file])).not.toBe(inode);
    expect(await look()).toBe("regular file 440 nobody daemon");
    await guest.run("rm /run/files-open /run/files-rotated");
  });

  test("survive a kill of their sidecar, which keeps rotating them", async () => {
    const before = await guest.mainPid(sidecar);
    await guest.run(["systemctl", "kill", "--kill-whom=main", "--signal=KILL", sidecar]);
    await guest.until(
      "it is back",
      async () => await guest.show(sidecar, "MainPID", "ActiveState"),
      ({ MainPID, ActiveState }) => ActiveState === "active" && MainPID !== "0" && MainPID !== String(before),
    );
    expect(await guest.read(file)).toBe("another");
    await guest.replace("/etc/fetcher/shared/secrets/tls.key", "third", 0o400);
    await guest.until("it rotated", async () => (await guest.read(file)) === "third");
    expect(await look()).toBe("regular file 440 nobody daemon");
  });

  test("go when the sidecar stops, and the consumer that requires them stops too", async () => {
    await guest.systemctl("start", "reader");
    await guest.systemctl("stop", sidecar);
    expect(await leftIn(guest, "/run/shared-secrets")).toBe("");
    await guest.until(
      "the reader stopped",
      async () => (await guest.show("reader", "ActiveState")).ActiveState === "inactive",
    );
  });
});
