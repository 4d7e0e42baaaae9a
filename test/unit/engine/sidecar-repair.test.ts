/** The sidecar repairs damage to the published set. */
import { chmodSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FailingDisk } from "./failing-disk.ts";
import { block, freshDirectory, startSidecar } from "./running-sidecar.ts";

type Life = Awaited<ReturnType<typeof startSidecar>>;

const harm: Readonly<Record<string, { act: boolean; harm: (life: Life) => void }>> = {
  "a removed file": {
    act: false,
    harm: ({ directory }) => {
      rmSync(join(directory, "a"));
    },
  },
  "the removed directory": {
    act: false,
    harm: ({ directory }) => {
      rmSync(directory, { recursive: true });
    },
  },
  "a file with another mode": {
    act: false,
    harm: ({ directory }) => {
      chmodSync(join(directory, "a"), 0o666);
    },
  },
  "a file with other bytes": {
    act: true,
    harm: ({ directory }) => {
      rmSync(join(directory, "a"));
      writeFileSync(join(directory, "a"), "other");
    },
  },
};

describe.each(Object.entries(harm))("%s", (_, { act, harm }) => {
  test.each(["a poll", "a reload"])("is repaired by %s", async (by) => {
    const life = await startSidecar({ config: { config: { reloadOnChange: by === "a poll" } } });
    const { clock, directory, sidecar, file, names, restarts, log } = life;
    const before = { names: names(), mode: statSync(join(directory, "a")).mode, directory: statSync(directory).mode };
    harm(life);
    if (by === "a reload") sidecar.reload();
    await clock.advance(120);
    expect([file("a"), file("b")]).toEqual(["a1", "b1"]);
    expect({ names: names(), mode: statSync(join(directory, "a")).mode, directory: statSync(directory).mode }).toEqual(
      before,
    );
    expect(restarts()).toBe(act ? 1 : 0);
    expect(log.at("warn")).toEqual(["restored published files that somebody removed or altered"]);
  });
});

test.each([
  ["is restarted with it", true],
  ["is restarted with it at a reload", false],
])("a target that runs on something removed during the sidecar's downtime %s", async (_, reloadOnChange) => {
  const config = { config: { reloadOnChange } };
  const first = await startSidecar({ config });
  await first.stop();
  rmSync(join(first.directory, "a"));
  first.store.put("a", "a2");
  const { clock, directory, store } = first;
  const { sidecar, file, restarts } = await startSidecar({ config, directory, clock, store });
  await clock.advance(30);
  expect(file("a")).toBe("a2");
  expect(restarts()).toBe(reloadOnChange ? 1 : 0);
  sidecar.reload();
  await clock.advance(30);
  expect(restarts()).toBe(1);
});

test("repairs the set once the obstacle is gone, and STATUS shows the problem meanwhile", async () => {
  const { clock, directory, sidecar, file, notifier, restarts } = await startSidecar({ config: { config: {} } });
  const unblock = block(join(directory, "a"));
  sidecar.reload();
  await clock.advance(1);
  expect(notifier.last).toContain("are not restored");
  unblock();
  rmSync(join(directory, "a"));
  await clock.advance(120);
  expect(file("a")).toBe("a1");
  expect(notifier.last).not.toContain("are not restored");
  expect(restarts()).toBe(0);
});

test("polls do not write an untouched set again", async () => {
  const { clock, directory, store } = await startSidecar();
  const before = statSync(join(directory, ".fetcher-state")).ino;
  await clock.advance(300);
  expect(store.fetches.length).toBeGreaterThan(2);
  expect(statSync(join(directory, ".fetcher-state")).ino).toBe(before);
});

describe("a disk that fails", () => {
  async function failing() {
    const root = freshDirectory();
    const life = await startSidecar({ config: { config: {} }, directory: join(root, "pub") });
    return { ...life, disk: new FailingDisk(root) };
  }

  test("the rest of a repair follows when the disk works again, without polls, too", async () => {
    const { clock, directory, sidecar, file, notifier, disk, log } = await failing();
    for (const name of ["a", "b"]) rmSync(join(directory, name));
    // A directory, two files and the state; the rename that decides, that of the state, and that of the first file.
    disk.fail(7);
    sidecar.reload();
    await clock.advance(1);
    expect(file("a")).toBe("a1");
    expect(log.at("error").join()).toContain("are not restored");
    disk.heal();
    await clock.advance(120);
    expect([file("a"), file("b")]).toEqual(["a1", "b1"]);
    expect(notifier.last).toMatch(/^2 secrets from fake, version 1, checked at [\d:]+(?:Z|[+-][\d:]+)$/);
  });

  test("during the action: its mark is removed when the disk works again", async () => {
    const { clock, store, sidecar, systemd, pending, disk, log, restarts } = await failing();
    systemd.jobTime = 5;
    store.put("a", "a2");
    sidecar.reload();
    await clock.advance(1);
    disk.fail(0);
    await clock.advance(200);
    expect(pending()).not.toBeNull();
    expect(log.at("warn")).toHaveLength(1);
    disk.heal();
    await clock.advance(60);
    expect(pending()).toBeNull();
    await clock.advance(600);
    expect(restarts()).toBe(1);
  });
});
