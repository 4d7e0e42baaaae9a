/** `systemctl reload` of a sidecar takes over a changed configuration, and returns with the result. */
import { expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import type { Pair } from "./pair.ts";
import { scenario } from "./scenario.ts";

interface FileOfConfig {
  [option: string]: unknown;
  secrets: Record<string, object>;
}

onEachGuest("a reload of the sidecar", (guest) => {
  const fileOf = (pair: Pair) => `/etc/fetcher/${pair.name}.json`;

  /** Replaces the file, as most editors do: the sidecar's own sandbox still shows the one that was there. */
  async function edit(pair: Pair, change: (config: FileOfConfig) => void): Promise<void> {
    const config = JSON.parse(await guest.read(fileOf(pair))) as FileOfConfig;
    change(config);
    await guest.replace(fileOf(pair), JSON.stringify(config));
  }

  const reload = async (pair: Pair) =>
    (await guest.run(["systemctl", "reload", pair.sidecar], { check: false, timeout: 60 })).code;

  scenario(guest, "takes over added and removed secrets, and no process notices", async (pairOf) => {
    const pair = await pairOf({ name: "takes", secrets: { token: "one", old: "leaves", key: "canary-key" } });
    await edit(pair, (config) => delete config.secrets["key"]);
    await pair.start();
    const before = await pair.pids();
    await edit(pair, (config) => {
      delete config.secrets["old"];
      config.secrets["key"] = {};
      config.secrets["late"] = {};
    });
    // One that the store does not have yet is waited for, and said.
    expect(await reload(pair)).not.toBe(0);
    expect((await pair.seen("key")).toString()).toBe("canary-key");
    expect(await guest.exists(`${pair.runtime}/pub/old`)).toBe(false);
    await pair.untilStatus(/no file .*late/);
    await pair.put("late", "comes");
    expect(await reload(pair)).toBe(0);
    expect(await guest.read(`${pair.runtime}/pub/late`)).toBe("comes");
    await pair.untilSeen("late", "comes");
    await edit(pair, (config) => delete config.secrets["late"]);
    expect(await reload(pair)).toBe(0);
    expect(await guest.exists(`${pair.runtime}/pub/late`)).toBe(false);
    await pair.put("key", "rotated");
    await pair.untilSeen("key", "rotated");
    expect((await pair.pids()).sidecar).toBe(before.sidecar);
    expect(await guest.journal(pair.sidecar)).not.toContain("canary-key");
  });

  scenario(guest, "reports in STATUS when the file differs, and refuses a wrong one with one line", async (pairOf) => {
    const pair = await pairOf({ name: "refuses" });
    await pair.start();
    const before = await pair.pids();
    const good = await guest.read(fileOf(pair));
    await edit(pair, (config) => (config["onChange"] = { settel: 1 }));
    await pair.untilStatus(/refuses\.json was replaced .*systemctl reload/, 90);
    expect(await reload(pair)).not.toBe(0);
    await pair.untilStatus(/onChange\.settel: .*not taken over/);
    const journal = await guest.journal(pair.sidecar);
    expect(journal.match(/onChange\.settel/g)).toHaveLength(1);
    await guest.replace(fileOf(pair), good);
    expect(await reload(pair)).toBe(0);
    await pair.untilStatus(/^1 secret from folder(?:, version \S+)?, checked at [^;]*$/);
    expect(await pair.pids()).toEqual(before);
  });

  scenario(guest, "takes over another action, and names what needs a restart", async (pairOf) => {
    const pair = await pairOf({ name: "keeps" });
    await pair.start();
    const before = await pair.pids();
    await edit(pair, (config) => {
      config["onChange"] = { settle: 0.1, action: "none" };
      config["output"] = { directory: `${pair.runtime}/other`, links: "/tmp" };
    });
    expect(await reload(pair)).toBe(0);
    await pair.untilStatus(/output\.directory: cannot change while the sidecar runs/);
    await pair.put("token", "two");
    await pair.untilSeen("token", "two");
    expect(await pair.pids()).toEqual(before);
  });

  scenario(guest, "fetches in a unit of an earlier version, and says why it takes nothing over", async (pairOf) => {
    const pair = await pairOf({
      name: "earlier",
      sidecar: { service: ["ExecReload=", "ExecReload=kill -HUP $MAINPID"] },
    });
    await pair.start();
    await edit(pair, (config) => (config.secrets["more"] = {}));
    expect(await reload(pair)).toBe(0);
    await pair.untilStatus(/somebody replaced .*, and this unit's sandbox hides/);
    await pair.put("token", "two");
    await pair.untilSeen("token", "two");
  });
});
