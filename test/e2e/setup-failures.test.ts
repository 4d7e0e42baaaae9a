/**
 * Where systemd cannot set something up for the sidecar's unit, the unit fails once and says why, and no start hangs.
 */
import { expect } from "vitest";
import { generatedUnits } from "./generated-units.ts";
import { onEachGuest } from "./guests.ts";
import { plainUnits } from "./plain-units.ts";
import { scenario } from "./scenario.ts";

onEachGuest("a sidecar that systemd cannot set up", (guest) => {
  scenario(guest, "fails at once while a path of its sandbox is missing, and starts once it exists", async (pairOf) => {
    const pair = await pairOf({ name: "hidden", sidecar: { service: ["BindReadOnlyPaths=/srv/not-there"] } });
    const { code } = await guest.run(["timeout", "100", "systemctl", "start", pair.target], {
      check: false,
      timeout: 120,
    });
    expect(code).toBe(1);
    expect(await guest.show(pair.sidecar, "ActiveState", "ExecMainStatus", "NRestarts")).toEqual({
      ActiveState: "failed",
      ExecMainStatus: "226",
      NRestarts: "0",
    });
    // Of all units: of a process that has ended at once the journal may not learn any more whose it was.
    await guest.until(
      "the journal names the path",
      async () => await guest.journal(),
      (lines) => lines.split("\n").some((line) => line.startsWith(pair.sidecar) && line.includes("/srv/not-there")),
    );
    await guest.run(["mkdir", "/srv/not-there"]);
    await pair.start();
    await guest.run(["rmdir", "/srv/not-there"]);
  });

  for (const { wiring, source, places } of [
    { wiring: "the template", source: plainUnits, places: [""] },
    { wiring: "generated units", source: generatedUnits, places: ["", "-act", "-act/inbox"] },
  ])
    scenario(
      guest,
      `fails at once with ${wiring} while a file or a link is in the place of a directory, and starts after that`,
      async (pairOf) => {
        const pair = await pairOf({ name: `in-its-way-${places.length}` });
        for (const place of places.map((end) => `${pair.runtime}${end}`))
          for (const put of ["ln -s private/gone", "touch", "ln -s /etc/passwd", "ln -s /srv", "echo x >", "mkfifo"]) {
            const seen = `${put} ${place}`;
            await guest.run(`mkdir -p $(dirname ${place}) && ${seen}`);
            const { code } = await guest.run(["timeout", "60", "systemctl", "start", pair.target], { check: false });
            expect(code, seen).toBe(1);
            const shown = await guest.show(pair.sidecar, "ActiveState", "NRestarts");
            expect(shown, seen).toEqual({ ActiveState: "inactive", NRestarts: "0" });
            const status = await guest.run(["fetcher", "status", pair.target], { check: false });
            expect(status.stdout, seen).toMatch(
              new RegExp(`${place} is (?:a link that leads nowhere|a link|no directory): remove it`),
            );
            await guest.run(["rm", place]);
          }
        expect(await guest.journal(pair.sidecar)).toContain("Assertion failed for");
        await pair.start();
        // Its own directories are none.
        await pair.restart();
      },
      { source },
    );

  scenario(guest, "holds up the connection to a socket-activated service until the store is there", async (pairOf) => {
    const listening = `exec /usr/local/bin/node -e 'require("net").createServer((s) => s.end(process.env.token)).listen({ fd: 3 })'`;
    const pair = await pairOf({ name: "by-socket", program: listening });
    const [unit, socket] = ["by-socket.socket", "/run/by-socket.sock"];
    await guest.write(`/etc/systemd/system/${unit}`, `[Socket]\nListenStream=${socket}\n`);
    await guest.systemctl("daemon-reload");
    await pair.loseStore();
    await guest.systemctl("start", unit);
    const client = `require("net").connect("${socket}").on("data", (text) => { process.stdout.write(text); })`;
    const answer = guest.run(["/usr/local/bin/node", "-e", client], { timeout: 180 });
    await pair.untilStatus(/^waiting for folder: no directory/);
    expect((await guest.show(pair.target, "ActiveState")).ActiveState).toBe("inactive");
    await pair.returnStore();
    expect((await answer).stdout).toBe("one");
    await guest.systemctl("stop", unit);
    await guest.run(["rm", `/etc/systemd/system/${unit}`]);
  });

  scenario(guest, "sees an optional path that appears after its start, and the service starts", async (pairOf) => {
    const folder = "/var/lib/comes-later/secrets";
    const pair = await pairOf({
      name: "later",
      config: { config: { secretsDir: folder } },
      sidecar: { service: ["BindReadOnlyPaths=-/var/lib/comes-later"] },
    });
    const journal = async () => await guest.journal(pair.sidecar);
    await guest.run(["systemctl", "start", "--no-block", pair.target]);
    await guest.until("it says what it waits for", journal, (lines) =>
      lines.includes("no directory /var/lib/comes-later"),
    );
    await guest.write(`${folder}/token`, "late", 0o400);
    await guest.until("it has begun again", journal, (lines) =>
      lines.includes("restarting, in case it is there by now"),
    );
    // Before systemd 254 a start that fails fails what needs it, whatever comes of it later.
    const waits = (await guest.show(pair.sidecar, "RestartMode")).RestartMode === "direct";
    if (!waits)
      await guest.until(
        "another start works",
        async () => (await guest.run(["systemctl", "start", pair.target], { check: false })).code === 0,
      );
    await guest.until(
      "the service runs",
      async () => (await guest.show(pair.target, "ActiveState")).ActiveState,
      (state) => state === "active",
    );
    expect(await guest.read(`${pair.runtime}/pub/token`)).toBe("late");
    await guest.run(["rm", "-r", "/var/lib/comes-later"]);
  });
});
