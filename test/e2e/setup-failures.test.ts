/** What systemd cannot set up for the sidecar's unit: it fails once and says why, and no start hangs. */
import { expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import { scenario } from "./scenario.ts";

onEachGuest("a sidecar that systemd cannot set up", (guest) => {
  scenario(guest, "fails at once where a path of the sandbox is not there, and starts when it is", async (pairOf) => {
    const pair = await pairOf({ name: "hidden", sidecar: { service: ["BindReadOnlyPaths=/srv/not-there"] } });
    const { code } = await guest.run(["timeout", "60", "systemctl", "start", pair.target], { check: false });
    expect(code).toBe(1);
    expect(await guest.show(pair.sidecar, "ActiveState", "ExecMainStatus", "NRestarts")).toEqual({
      ActiveState: "failed",
      ExecMainStatus: "226",
      NRestarts: "0",
    });
    expect(await guest.journal(pair.sidecar)).toContain("/srv/not-there");
    await guest.run(["mkdir", "/srv/not-there"]);
    await pair.start();
    await guest.run(["rmdir", "/srv/not-there"]);
  });
});
