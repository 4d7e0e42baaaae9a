/** An end while a thread of the process is blocked: the operator's `systemctl stop` must not wait for dead DNS. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { expect } from "vitest";
import { runsOnNode } from "../program.ts";
import { needs } from "../requirements.ts";
import { eventually, Place } from "./daemon.ts";

needs("gcc").test(
  "a start that is given up, or stopped, ends while a name look-up hangs",
  async () => {
    const place = new Place();
    // A fake of dead DNS: getaddrinfo(3) that never returns.
    const source = place.path("hang.c");
    const library = place.path("hang.so");
    fs.writeFileSync(
      source,
      '#include <unistd.h>\nint getaddrinfo(void) { write(2, "LOOK-UP HANGS\\n", 14); for (;;) pause(); }\n',
    );
    execFileSync("gcc", ["-shared", "-fPIC", "-fno-builtin", "-o", library, source]);
    const token = place.path("token");
    fs.writeFileSync(token, "canary-token-77", { mode: 0o600 });
    const config = { url: "https://vault.example:8200", tokenPath: token, path: "hello" };
    const start = (startTimeout: number | null) =>
      place.start(
        { ...place.config(["id"]), backend: "vault", config, startTimeout },
        { env: { LD_PRELOAD: library } },
      );
    // Node before 22.15 has no way to end with a failure's status while a thread hangs: see src/runtime/end.ts.
    const hasAWay = "execve" in process || !runsOnNode;
    if (hasAWay) {
      const daemon = start(1);
      expect(await daemon.exit).toMatchObject({ code: 69, signal: null });
      expect(daemon.stderr).toContain("given up after startTimeout");
      expect(daemon.stderr).not.toContain("canary");
    }
    const stopped = start(null);
    await eventually("a first attempt", () => stopped.stderr.includes("LOOK-UP HANGS"));
    stopped.signal("SIGTERM");
    const end = await stopped.exit;
    if (hasAWay) expect(end).toMatchObject({ code: 0, signal: null });
    else expect(end).toMatchObject({ code: null, signal: "SIGTERM" });
  },
  20_000,
);
