/** The Debian package on empty systems: installed, upgraded under a service that runs, removed, purged. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { project } from "../markdown.ts";
import { onEmptyGuests } from "./guests.ts";

let directory = "";

/** Inside the checkout, which guests see. Two of the same program: the second is the upgrade. */
function build(): void {
  if (directory !== "") return;
  directory = mkdtempSync(join(project, "dist.packages-"));
  for (const release of ["1", "2"])
    execFileSync(
      "node",
      ["scripts/package.mjs", "--only", "deb", "--out", join(directory, release), "--release", release],
      {
        cwd: project,
        stdio: ["ignore", "ignore", "inherit"],
      },
    );
}

afterAll(() => {
  if (directory !== "") rmSync(directory, { recursive: true, force: true });
});

onEmptyGuests(
  "the Debian package",
  (guest) => {
    const deb = (release: number) => {
      const [name] = readdirSync(join(directory, String(release)));
      return `${guest.project}/${directory.slice(project.length + 1)}/${String(release)}/${String(name)}`;
    };
    const pids = async () => ({ service: await guest.mainPid("web"), sidecar: await guest.mainPid("web-secrets") });
    const starts = async () =>
      (await guest.journal("web")).split("\n").filter((line) => line.startsWith("started with"));
    /** systemd calls a simple service active before its program says a word. */
    const startedWith = async (...values: readonly string[]) => {
      const seen = await guest.until(
        `${values.length} starts`,
        async () => (await starts()).map((line) => line.slice("started with".length).trim()),
        (lines) => lines.length >= values.length,
      );
      expect(seen).toEqual(values);
    };
    const said = async (text: string) =>
      await guest.until(
        text,
        async () => (await guest.journal("web")) + (await guest.journal("web-secrets")),
        (journal) => journal.includes(text),
        { timeout: 60 },
      );
    const program = async () => await guest.text(`readlink /proc/${(await pids()).sidecar}/exe`);

    const apt = async (...words: readonly string[]) =>
      await guest.run(["apt-get", "--assume-yes", "--quiet", ...words], { timeout: 120 });
    /** Every file but those in which apt and dpkg keep account. */
    const files = async () =>
      (await guest.text("find / -xdev -path /var/lib/apt -prune -o -path /var/lib/dpkg -prune -o -print"))
        .split("\n")
        .filter(
          (path) => !/^\/var\/(?:cache|log|lib\/systemd)\/|^\/etc\/(?:systemd|fetcher)|^\/(?:root|tmp)\/?/.test(path),
        );
    let atFirst: readonly string[] = [];

    beforeAll(async () => {
      build();
      // Of the harness: the test must show what the package brings.
      await guest.run("rm -f /usr/local/bin/fetcher /usr/local/bin/with-secrets");
      atFirst = await files();
    }, 600_000);

    test("installs with one command, and one file wires a service", async () => {
      await apt("install", deb(1));
      expect(await guest.text("fetcher --version")).toMatch(/^fetcher \d/);
      expect(await guest.text("command -v fetcher")).toBe("/usr/bin/fetcher");
      await guest.write(
        "/etc/systemd/system/web.service",
        `[Service]\nExecStart=/bin/sh -c 'echo started with $$password; exec sleep infinity'\n`,
      );
      const config = { delivery: "env", secrets: { password: {} }, config: { reloadOnChange: true } };
      await guest.write("/etc/fetcher/web.json", JSON.stringify(config));
      await guest.write("/etc/fetcher/web/secrets/password", "one", 0o400);
      await guest.systemctl("daemon-reload");
      await guest.systemctl("start", "web");
      await startedWith("one");
    });

    test("publishes a rotation", async () => {
      await guest.replace("/etc/fetcher/web/secrets/password", "two", 0o400);
      await said("started with two");
    });

    test("upgrades the sidecar to the new program without touching the service", async () => {
      await said("web.service: restart done");
      const before = await pids();
      await apt("install", deb(2));
      await said("continuing with the installed program");
      await guest.until("the new program runs", program, (path) => path === "/usr/bin/fetcher");
      // It is the same process: to systemd nothing has happened.
      expect(await pids()).toEqual(before);
      expect(await guest.show("web-secrets", "NRestarts", "ActiveState")).toEqual({
        NRestarts: "0",
        ActiveState: "active",
      });
      await startedWith("one", "two");
      await guest.until(
        "it watches again",
        async () => (await guest.journal("web-secrets")).split("\n").filter((line) => line.includes("ready:")).length,
        (count) => count === 2,
      );
      await guest.replace("/etc/fetcher/web/secrets/password", "three", 0o400);
      await said("started with three");
    });

    test("removal ends the sidecar and leaves the service alone; purge keeps the administrator's files", async () => {
      await guest.until(
        "the action is over",
        async () => await guest.journal("web-secrets"),
        (journal) => /started with three|restart done/.test(journal),
      );
      const before = await pids();
      await apt("remove", "secrets-sidecar");
      expect(await guest.mainPid("web")).toBe(before.service);
      const ours = `/proc/${before.sidecar} /run/web-secrets /run/web-secrets-act`;
      expect(await guest.text(`ls -d ${ours} 2>/dev/null || true`)).toBe("");
      await apt("purge", "secrets-sidecar");
      expect((await files()).filter((path) => !atFirst.includes(path))).toEqual([]);
      expect(await guest.text("ls -d /run/systemd/generator/web* 2>/dev/null || true")).toBe("");
      expect(await guest.text("cat /etc/fetcher/web/secrets/password")).toBe("three");
      // As it was before: the unit says nothing of secrets.
      await guest.systemctl("restart", "web");
      await startedWith("one", "two", "three", "");
    });
  },
  ["packages"],
);
