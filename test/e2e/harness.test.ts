/** The harness itself: a guest that lies, or that stays behind, would make all other tests here worthless. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { programFile } from "../program.ts";
import { needs } from "../requirements.ts";
import { guestCommand } from "./boot.ts";
import { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";

onEachGuest("the harness", (guest) => {
  test("runs the systemd that the guest is named after as PID 1", async () => {
    const machine = execFileSync("systemctl", ["--version"], { encoding: "utf8" }).split("\n")[0];
    const inside = await guest.text("systemctl --version | head -n 1");
    if (guest.name === "trixie") expect(inside).toMatch(/^systemd 257 /);
    else if (!guest.system.throwAway || guest.name === "host") expect(inside).toBe(machine);
    expect(await guest.text("cat /proc/1/comm")).toBe("systemd");
  });

  test("runs a unit, and shows its journal and properties", async () => {
    const before = await guest.journalCursor();
    await guest.write(
      "/run/systemd/system/probe.service",
      "[Service]\nExecStart=sh -c 'echo seen by the journal; sleep 600'\n",
    );
    await guest.systemctl("daemon-reload");
    await guest.systemctl("start", "probe.service");
    expect(await guest.show("probe.service", "ActiveState", "SubState")).toEqual({
      ActiveState: "active",
      SubState: "running",
    });
    await guest.until(
      "the message is in the journal",
      async () => await guest.journal("probe.service", { after: before }),
      (text) => text.includes("seen by the journal"),
    );
    expect(await guest.status("probe.service")).toContain("active (running)");
    expect(await guest.journal("probe.service", { after: await guest.journalCursor() })).toBe("");
    await guest.systemctl("stop", "probe.service");
    await expect(guest.mainPid("probe.service")).rejects.toThrow("no main process");
  });

  test("inUnit sees a unit's own /tmp, as the unit's user", async () => {
    await guest.run([
      ..."systemd-run --quiet --unit=private --property=PrivateTmp=yes --property=DynamicUser=yes".split(" "),
      ...["sh", "-c", "umask 077; echo inside > /tmp/note; exec sleep 600"],
    ] as ["systemd-run", ...string[]]);
    await guest.until(
      "the note is written",
      async () => (await guest.inUnit("private", "cat /tmp/note")).stdout === "inside\n",
    );
    expect(await guest.exists("/tmp/note")).toBe(false);
    const { stdout } = await guest.inUnit("private", "cat /tmp/note; id -u; touch /tmp/own", { asItsUser: true });
    expect(stdout).toMatch(/^inside\n6\d{4}\n$/);
    await guest.systemctl("stop", "private");
  });

  test("runUnit applies the given filters, run does not", async () => {
    const chown = "echo x > /tmp/chowned && chown 1 /tmp/chowned && echo chowned";
    expect(await guest.text(chown)).toBe("chowned");
    const filtered = await guest.runUnit(chown, ["SystemCallFilter=~@chown", "SystemCallErrorNumber=EPERM"], {
      check: false,
    });
    expect(filtered).toMatchObject({ code: 1, stdout: "" });
    expect(filtered.stderr).toContain("Operation not permitted");
  });

  test("copies files byte for byte, with their mode", async () => {
    const bytes = Buffer.from([0, 255, 10, 13, 39, 10, 10]);
    await guest.write("/run/probe/file", bytes, 0o440);
    const inode = await guest.text("stat -c '%a %i' /run/probe/file");
    expect(inode).toMatch(/^440 /);
    expect(await guest.readBytes("/run/probe/file")).toEqual(bytes);
    await guest.write("/run/probe/file", "in place", 0o440);
    expect(await guest.text("stat -c '%a %i' /run/probe/file")).toBe(inode);
    await guest.replace("/run/probe/file", "renamed over", 0o440);
    expect(await guest.text("stat -c '%a %i' /run/probe/file")).not.toBe(inode);
    expect(await guest.read("/run/probe/file")).toBe("renamed over");
  });

  test("fills a small file system", async () => {
    await guest.tmpfs("/run/probe-full", "16k");
    const full = await guest.run("head -c 64k /dev/zero > /run/probe-full/file", { check: false });
    expect(full.code).not.toBe(0);
    expect(full.stderr).toContain("No space left");
  });

  test("kills a command that hangs inside the guest, and reports the time-out", async () => {
    await expect(guest.run("echo begun; sleep 987654", { timeout: 5 })).rejects.toThrow(/killed after 5 s:\nbegun/);
    expect(await guest.text("pgrep -fc '^sleep 98765[4]'", { check: false })).toBe("0");
  });

  test("fails a test whose command fails, and shows the output", async () => {
    await expect(guest.run("echo some; echo more >&2; exit 3")).rejects.toThrow(/exit code 3:\nsome\nmore/);
    expect((await guest.run("exit 3", { check: false })).code).toBe(3);
  });

  test("a wait that fails names the state that it saw last", async () => {
    const never = guest.until(
      "the sky falls",
      async () => await guest.text("echo blue"),
      () => false,
      { timeout: 0.2 },
    );
    await expect(never).rejects.toThrow(/not within 0.2 s: the sky falls; last seen:\nblue/);
  });

  test("passes nothing of the tests' environment to commands", async () => {
    const names = (await guest.text("env")).split("\n").map((line) => line.split("=")[0]);
    expect(names.sort()).toEqual(["HOME", "LANG", "PATH", "PWD", "SYSTEMD_COLORS", "SYSTEMD_PAGER"]);
  });

  test("has the program and Node in place", async () => {
    expect(await guest.text("readlink -m /usr/local/bin/fetcher")).toBe(
      `${guest.project}/dist/${basename(programFile)}`,
    );
    expect(await guest.text("/usr/local/bin/node --version")).toMatch(/^v2\d\./);
    if (!guest.system.throwAway) return;
    expect((await guest.run(["touch", guest.project], { check: false })).stderr).toContain("Read-only");
    expect((await guest.read("/proc/net/dev")).match(/\w+(?=:)/g)).toEqual(["lo"]);
  });
});

const tree = process.env["FETCHER_E2E"] === "here" ? undefined : "host";
if (tree !== undefined) {
  needs(`guest-${tree}`).describe("nothing stays behind", () => {
    test("after stop", async () => {
      const guest = await Guest.boot({ tree, tmp: "memory" });
      const name = guest.system.name ?? "";
      expect(await guest.text("findmnt -no FSTYPE /tmp")).toBe("tmpfs");
      expect(traces(name)).not.toEqual([]);
      await guest.stop();
      expect(traces(name)).toEqual([]);
    });

    test("after stop, although a command that has entered the guest goes on", async () => {
      const guest = await Guest.boot({ tree });
      const name = guest.system.name ?? "";
      // With a child, as a shell has one.
      const entered = guest.run("sleep 987655; true", { timeout: 600 }).then(String, String);
      await guest.until("it runs", async () => (await guest.text("pgrep -fc '^sleep 98765[5]'")) === "1");
      await guest.stop();
      expect(traces(name)).toEqual([]);
      expect(await entered).toMatch(/SIGKILL|exit code 137/);
    });

    test("after the tests were killed", async () => {
      const [name, command] = guestCommand({ tree });
      // Stands for the test process: the guest must end although this one cannot do anything any more.
      const script = `const child = require("node:child_process").spawn(${JSON.stringify(command[0])},
        ${JSON.stringify(command.slice(1))}, { detached: true, stdio: ["pipe", "inherit", "inherit"] });`;
      const owner = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
      for await (const line of createInterface(owner.stdout)) if (line.startsWith("nspawn")) break;
      await expect.poll(() => traces(name).length, { timeout: 60_000 }).toBeGreaterThan(3);
      owner.kill("SIGKILL");
      await expect.poll(() => traces(name), { timeout: 60_000 }).toEqual([]);
    });
  });
}

/** Whatever on this machine still belongs to the guest of this name. */
function traces(name: string): string[] {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  const hierarchies = mounts.filter((line) => /- cgroup2? /.test(line)).map((line) => line.split(" ")[4] ?? "");
  const directories = ["/var/tmp", ...hierarchies]
    .map((parent) => `${parent}/${name}`)
    .filter((path) => existsSync(path));
  const processes = readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => ["cgroup", "mountinfo"].some((file) => contentOf(`/proc/${pid}/${file}`).includes(name)));
  return [...directories, ...mounts.filter((line) => line.includes(name)), ...processes.map((pid) => `process ${pid}`)];
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
