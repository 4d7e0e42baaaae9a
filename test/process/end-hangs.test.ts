/** An end while a thread of the process is blocked: the operator's `systemctl stop` must not wait for dead DNS. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { Place } from "./daemon.ts";

test("a start that is given up ends while a name look-up hangs", async () => {
  const place = new Place();
  // A fake of dead DNS: getaddrinfo(3) that never returns.
  const source = place.path("hang.c");
  const library = place.path("hang.so");
  fs.writeFileSync(source, "#include <unistd.h>\nint getaddrinfo(void) { for (;;) pause(); }\n");
  execFileSync("gcc", ["-shared", "-fPIC", "-fno-builtin", "-o", library, source]);
  const token = place.path("token");
  fs.writeFileSync(token, "canary-token-77", { mode: 0o600 });
  const config = { url: "https://vault.example:8200", tokenPath: token, path: "hello" };
  const daemon = place.start(
    { ...place.config(["id"]), backend: "vault", config, startTimeout: 1 },
    { env: { LD_PRELOAD: library } },
  );
  const end = await daemon.exit;
  expect(daemon.stderr).toContain("id");
  // Node before 22.15 ends by a signal: see src/runtime/end.ts.
  if ("execve" in process) expect(end).toMatchObject({ code: 75, signal: null });
  else expect(end).toMatchObject({ code: null, signal: "SIGKILL" });
}, 20_000);
