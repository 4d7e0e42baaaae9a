/** Secrets as systemd credentials on plain units: the core of the matrix, and where systemd sets limits. */
import { expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import { coreOfTheMatrix } from "./matrix-core.ts";
import { plainCredentials } from "./plain-units.ts";
import { scenario } from "./scenario.ts";

const place = "$CREDENTIALS_DIRECTORY/token";

onEachGuest("credentials of plain units", (guest) => {
  coreOfTheMatrix(guest, "plain", place, plainCredentials);

  scenario(
    guest,
    "turn the action `reload` into a restart, because a reload would show the service its old copy",
    async (pairOf) => {
      const pair = await pairOf({
        name: "reloads",
        program: `trap 'echo "reload file=$(cat ${place})"' HUP\necho "start file=$(cat ${place})"\nwhile :; do sleep 0.1; done\n`,
        config: { onChange: { action: "reload" } },
        target: { service: ["ExecReload=kill -HUP $MAINPID"] },
      });
      await pair.start();
      await pair.put("token", "two");
      await pair.untilSaid("file=two", { lines: 2 });
      expect(await pair.said()).toEqual(["start file=one", "start file=two"]);
      await guest.systemctl("reload", pair.target);
      await pair.untilSaid(/^reload file=/, { lines: 3 });
    },
    { source: plainCredentials },
  );

  scenario(
    guest,
    "follow a reload with RefreshOnReload=credentials where systemd supports it (260), and a restart elsewhere",
    async (pairOf) => {
      const pair = await pairOf({
        name: "refreshes",
        program: `trap 'echo "reload file=$(cat ${place})"' HUP\necho "start file=$(cat ${place})"\nwhile :; do sleep 0.1; done\n`,
        config: { onChange: { action: "reload" } },
        target: { service: ["ExecReload=kill -HUP $MAINPID", "RefreshOnReload=credentials"] },
      });
      await pair.start();
      const before = await pair.pids();
      await pair.put("token", "two");
      await pair.untilSaid("file=two", { lines: 2 });
      const version = Number(/\d+/.exec(await guest.text(["systemctl", "--version"]))?.[0]);
      const how = version < 260 ? "start" : "reload";
      expect(await pair.said()).toEqual(["start file=one", `${how} file=two`]);
      expect((await pair.pids()).target === before.target).toBe(how === "reload");
    },
    { source: plainCredentials },
  );

  scenario(
    guest,
    "are readable only for a Type=notify service with a dynamic user, which stays the main process",
    async (pairOf) => {
      const pair = await pairOf({
        name: "notifies",
        program: `test -r ${place} && systemd-notify --ready --status=up\necho "start $(cat ${place}) $(id -u)"\nexec sleep infinity\n`,
        wrap: false,
        target: { service: ["Type=notify", "NotifyAccess=all", "DynamicUser=yes", "TimeoutStartSec=90"] },
      });
      await pair.start();
      expect(await pair.untilSaid(/^start one 6\d{4}$/)).toHaveLength(1);
      const other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat"] as const;
      for (const path of [`/run/credentials/${pair.target}/token`, `${pair.runtime}/pub/token`])
        expect((await guest.run([...other, path], { check: false })).stderr).toMatch(/Permission denied/);
      const seen = await guest.inUnit(pair.target, `cat ${pair.runtime}/pub/token`, { asItsUser: true, check: false });
      expect(seen.stderr).toMatch(/Permission denied/);
    },
    { source: plainCredentials },
  );

  scenario(
    guest,
    "exceed a megabyte: the start fails, and the service's status names the credentials as the cause",
    async (pairOf) => {
      const pair = await pairOf({
        name: "large",
        secrets: { token: "one", big: Buffer.alloc(700_000, "b"), bigger: Buffer.alloc(700_000, "c") },
        program: `echo "start file=$(cat ${place})"\nexec sleep infinity\n`,
        wrap: false,
      });
      // A Type=simple service counts as started before systemd has read them.
      await guest.run(["systemctl", "start", pair.target], { check: false, timeout: 60 });
      await pair.untilState(pair.target, "failed");
      expect(await guest.show(pair.target, "Result", "ExecMainStatus")).toEqual({
        Result: "exit-code",
        // EXIT_CREDENTIALS
        ExecMainStatus: "243",
      });
      expect(await guest.status(pair.target)).toMatch(/243\/CREDENTIALS/);
      await pair.put("bigger", "less");
      await pair.start();
      await pair.untilSaid("start file=one");
    },
    { source: plainCredentials },
  );

  scenario(
    guest,
    "need another file name where the secret's name is no valid credential: systemd ignores the line otherwise",
    async (pairOf) => {
      const pair = await pairOf({
        name: "names",
        secrets: { token: "one", clé: "accented" },
        program: `ls $CREDENTIALS_DIRECTORY | tr '\\n' ' '\necho "start"\nexec sleep infinity\n`,
        wrap: false,
      });
      await pair.start();
      expect(await pair.said()).toEqual(["token start"]);
      expect(await guest.journal(undefined)).toMatch(/names\.service\.d\/secrets\.conf.*(?:not valid|Invalid)/i);
    },
    { source: plainCredentials },
  );
});
