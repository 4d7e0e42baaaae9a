/**
 * `fetcher add` refuses a sidecar; `fetcher remove` shows what a person wrote, and names what systemd made of it. Their
 * systemctl(1) is a fake.
 */
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { Place } from "./daemon.ts";

/** A user's host, where systemd knows every service. */
function host() {
  const place = new Place();
  for (const directory of ["config/fetcher", "bin"]) fs.mkdirSync(place.path(directory), { recursive: true });
  const answers = "Id=web.service\\nLoadState=loaded\\nActiveState=active\\n";
  fs.writeFileSync(place.path("bin/systemctl"), `#!/bin/sh\nprintf '${answers}'\n`, { mode: 0o755 });
  const env = {
    ...{ PATH: `${place.path("bin")}:${process.env["PATH"] ?? ""}`, FETCHER_LOG_FORMAT: undefined },
    ...{ HOME: place.root, XDG_CONFIG_HOME: place.path("config"), XDG_RUNTIME_DIR: place.path("runtime") },
  };
  const runs = (...words: readonly string[]) => place.run([...words, "--user", "--dry-run"], { env });
  return { place, runs, removes: () => runs("remove", "web") };
}

test("the file is shown whole, the units by name, and all of it fits a screen", async () => {
  const { place, removes } = host();
  const file = place.path("config/fetcher/web.json");
  fs.writeFileSync(file, '{\n  "delivery": "env",\n  "secrets": { "db_password": {} }\n}\n');
  const { code, stdout, stderr } = await removes();
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toBe(`--- ${file}
+++ /dev/null
@@ -1,4 +0,0 @@
-{
-  "delivery": "env",
-  "secrets": { "db_password": {} }
-}
the units that systemd makes from it go, too (fetcher units --user web shows them):
  web-secrets.service
  web.service.d/50-web-secrets.conf
web.service: what runs keeps running. It loses:
  variables db_password, from its next start on
  restarts for new values
`);
});

test("of a file that is wrong, too, whose units nothing can show", async () => {
  const { place, removes } = host();
  fs.writeFileSync(place.path("config/fetcher/web.json"), '{ "secrets": 7 }\n');
  const { code, stdout } = await removes();
  expect(code).toBe(0);
  expect(stdout).toContain('-{ "secrets": 7 }\nthe units that systemd makes from it go, too:\n  web-secrets.service\n');
});

test("a sidecar gets no sidecar: add names the service that it belongs to", async () => {
  const { place, runs } = host();
  fs.writeFileSync(place.path("config/fetcher/web.json"), '{ "secrets": { "a": {} } }\n');
  for (const name of ["web-secrets", "web-secrets.service"])
    expect(await runs("add", name, "b")).toMatchObject({
      ...{ code: 64, stdout: "" },
      stderr: "error: add: web-secrets.service is the sidecar of web: run fetcher add web\n",
    });
});
