import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { describe, expect, onTestFinished } from "vitest";
import { needs } from "../requirements.ts";
import { eventually, logLines, Place } from "./daemon.ts";

const KIB = 1024;
const large = (letter: string) => letter.repeat(200 * KIB);

/** A place whose output lies on its own small tmpfs. */
function smallPlace(options: string): Place {
  const place = new Place();
  const mountPoint = place.path("small");
  fs.mkdirSync(mountPoint);
  execFileSync("mount", ["-t", "tmpfs", "-o", `mode=0700,${options}`, "tmpfs", mountPoint]);
  onTestFinished(() => {
    execFileSync("umount", ["--lazy", mountPoint]);
  });
  return place;
}

const config = (place: Place) =>
  place.config({ large: { env: null }, other: {} }, { output: { directory: place.path("small", "out") } });
const read = (place: Place, name: string) => fs.readFileSync(place.path("small", "out", name), "utf8");

needs("mount-namespace").describe("a full output", () => {
  // At the file itself, and at the directory that is to hold it, which is then not ours.
  describe.each([
    ["bytes", "size=64k", 74, []],
    ["inodes", "nr_inodes=2", 73, ["out"]],
  ])("before READY, no %s left", (_, options, exitCode, there) => {
    needs("mount-namespace").test("reports it in one line, and leaves nothing of the attempt", async () => {
      const place = smallPlace(options);
      place.put({ large: large("1"), other: "one" });
      for (const name of there) fs.mkdirSync(place.path("small", name));
      const exit = await place.start(config(place)).exit;
      expect(exit.code).toBe(exitCode);
      const lines = logLines(exit.stderr);
      expect(lines).toHaveLength(1);
      expect(lines[0]?.message).toContain("no space left on");
      expect(lines[0]?.message).toContain(place.path("small"));
      expect(fs.readdirSync(place.path("small"), { recursive: true })).toEqual(there);
    });
  });

  needs("mount-namespace").test(
    "starts after a kill with the earlier set, and publishes when there is space",
    async () => {
      const place = smallPlace("size=1m");
      place.put({ large: large("1"), other: "one" });
      await (await place.start(config(place)).ready()).end("SIGKILL");
      fs.writeFileSync(place.path("small", "filler"), Buffer.alloc(750 * KIB));
      place.put({ large: large("2"), other: "two" });
      const daemon = await place.start(config(place)).ready();
      await daemon.says(/are not published: .*no space left on/);
      expect([read(place, "large"), read(place, "other")]).toEqual([large("1"), "one"]);
      fs.rmSync(place.path("small", "filler"));
      await daemon.says(/^published/);
      expect([read(place, "large"), read(place, "other")]).toEqual([large("2"), "two"]);
    },
  );

  needs("mount-namespace").test(
    "does not begin a set without room beside the old one, and says how much it needs",
    async () => {
      const place = smallPlace("size=1m");
      place.put({ large: large("1").repeat(3), other: "one" });
      const daemon = await place.start(config(place)).ready();
      // What others need of it is never taken, not even for a moment.
      const seen: string[] = [];
      const watcher = fs.watch(place.path("small", "out"), (_, name) => seen.push(name ?? ""));
      for (const round of ["2", "3"]) {
        const lines = daemon.lines.length;
        place.put({ large: large(round).repeat(3) });
        daemon.signal("SIGHUP");
        await daemon.says(/nothing new is published: .*the new secrets need 6\d\d KiB beside the old ones/, lines);
      }
      watcher.close();
      expect(seen.filter((name) => name.startsWith(".fetcher-stage-"))).toEqual([]);
      expect(read(place, "large")).toBe(large("1").repeat(3));
    },
  );

  needs("mount-namespace").test(
    "after READY: keeps the old set whole, and publishes the new one when there is space",
    async () => {
      const place = smallPlace("size=1m");
      place.put({ large: large("1"), other: "one" });
      const daemon = await place.start(config(place)).ready();
      fs.writeFileSync(place.path("small", "filler"), Buffer.alloc(750 * KIB));
      place.put({ large: large("2"), other: "two" });
      const line = await daemon.says(/are not published: .*no space left on/);
      expect(line.level).toBe("error");
      await eventually("another try", () => daemon.running && place.leftovers(place.path("small", "out")).length === 0);
      expect([read(place, "large"), read(place, "other")]).toEqual([large("1"), "one"]);
      fs.rmSync(place.path("small", "filler"));
      // Written one after the other, they may be seen so.
      await eventually(
        "both are published",
        () => read(place, "other") === "two" && read(place, "large") === large("2"),
      );
      // However often it was tried.
      expect(daemon.lines.filter(({ level }) => level === "error")).toHaveLength(1);
    },
  );
});

needs("mount-namespace").describe("a read-only output", () => {
  const remount = (place: Place, mode: "ro" | "rw") => {
    execFileSync("mount", ["-o", `remount,${mode}`, place.path("small")]);
  };

  needs("mount-namespace").test("before READY: reports it in one line, and exits 73", async () => {
    for (const made of [true, false]) {
      const place = smallPlace("size=1m");
      place.put({ large: large("1"), other: "one" });
      if (made) fs.mkdirSync(place.path("small", "out"));
      remount(place, "ro");
      const exit = await place.start(config(place)).exit;
      expect(exit.code).toBe(73);
      expect(logLines(exit.stderr)).toHaveLength(1);
      expect(exit.stderr).toMatch(/read-only|EROFS/);
      expect(exit.stderr).toContain(place.path("small", "out"));
    }
  });

  needs("mount-namespace").test(
    "after READY: keeps running with the old set, and publishes the new one when it can write",
    async () => {
      const place = smallPlace("size=2m");
      place.put({ large: large("1"), other: "one" });
      const daemon = await place.start(config(place)).ready();
      remount(place, "ro");
      place.put({ other: "two" });
      await daemon.says(/are not published: .*read-only/);
      expect([read(place, "large"), read(place, "other")]).toEqual([large("1"), "one"]);
      remount(place, "rw");
      await daemon.says(/^published/);
      expect(read(place, "other")).toBe("two");
    },
  );

  needs("mount-namespace").test("while verify runs: keeps running, whether verify refuses or not", async () => {
    const place = smallPlace("size=2m");
    place.put({ large: large("1"), other: "one" });
    const go = place.path("go");
    const script = `touch '${go}.asked'; while ! test -e '${go}'; do sleep 0.05; done; test "$other" != bad`;
    const verify = { command: ["sh", "-c", script], timeout: 1000 };
    const daemon = await place.start({ ...config(place), onChange: { settle: 0, verify } }).ready();
    for (const value of ["bad", "good"]) {
      fs.rmSync(go, { force: true });
      fs.rmSync(`${go}.asked`, { force: true });
      const lines = daemon.lines.length;
      place.put({ other: value });
      await eventually("the question", () => fs.existsSync(`${go}.asked`));
      remount(place, "ro");
      fs.writeFileSync(go, "");
      await daemon.says(/are not published/, lines);
      expect(read(place, "other")).toBe("one");
      remount(place, "rw");
    }
    await daemon.says(/^published/);
    expect(read(place, "other")).toBe("good");
  });
});
