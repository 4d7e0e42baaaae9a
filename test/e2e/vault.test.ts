/**
 * Services under a real systemd with secrets in a real Vault or OpenBao, which is late, goes, comes back sealed,
 * refuses. FETCHER_TEST_OUTAGE=60 keeps it away for a minute under a running target, instead of ten seconds: the states
 * are the same.
 */
import { beforeAll, expect } from "vitest";
import { onEachGuest } from "./guests.ts";
import type { Pair, PairOptions } from "./pair.ts";
import { scenario } from "./scenario.ts";
import { GuestVault, tokenPath, url } from "./vault-server.ts";

/** Seconds. */
const OUTAGE = Number(process.env["FETCHER_TEST_OUTAGE"] ?? 10);

onEachGuest(
  "Vault",
  (guest) => {
    const server = new GuestVault(guest);

    beforeAll(async () => {
      await server.install();
    });

    /** A pair whose secrets are at secret/NAME. */
    async function pairWith(
      pairOf: (options: PairOptions) => Promise<Pair>,
      name: string,
      more: PairOptions["config"] = {},
      program?: string,
    ): Promise<Pair> {
      await server.put(name, "one");
      await server.grant(name);
      return await pairOf({
        name,
        secrets: {},
        config: {
          backend: "vault",
          config: { secretsDir: undefined, url, path: name, tokenPath: tokenPath(name), pollingInterval: 1 },
          secrets: { token: {} },
          ...more,
        },
        ...(program === undefined ? {} : { program }),
      });
    }

    const alone = { alone: true };

    scenario(
      guest,
      "restarts the target for a new version, and the sidecar keeps running",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "rotates");
        await pair.start();
        const before = await pair.pids();
        await pair.untilStatus(/^1 secret from vault, version 1, checked at /);
        await server.put("rotates", "two");
        await pair.untilSaid("file=two variable=two", { lines: 2 });
        expect((await pair.pids()).sidecar).toBe(before.sidecar);
        await pair.untilStatus(/^1 secret from vault, version 2, checked at [\d:]+(?:Z|[+-][\d:]+)$/);
      },
      alone,
    );

    scenario(
      guest,
      "is down at boot, then sealed: the start waits, says for what, and continues in the end",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "late");
        await server.down();
        await guest.systemctl("start", "--no-block", pair.target);
        await pair.untilStatus(
          /^waiting for vault: http:\/\/127\.0\.0\.1:8200: connection refused \(attempt \d+, next in /,
        );
        // The outage itself is what is tested.
        await new Promise((resolve) => setTimeout(resolve, 20_000));
        expect(await pair.state(pair.sidecar)).toBe("activating");
        await server.up();
        await pair.untilStatus(/^waiting for vault: \S+ the server is sealed \(status 503\) \(attempt /, 60);
        expect(await pair.state(pair.target)).toBe("inactive");
        await server.unseal();
        await pair.untilSaid("file=one variable=one", { timeout: 60 });
        await pair.untilState(pair.target, "active");
      },
      alone,
    );

    /** All that an outage may not touch. */
    async function untouched(pair: Pair) {
      const files = await guest.text(`cd ${pair.runtime}/pub && stat --format='%n %i %y %z %s %a %u' * && sha256sum *`);
      const shown = await guest.show(pair.target, "MainPID", "ActiveState", "NRestarts", "InvocationID");
      return { files, ...shown, sidecar: await guest.mainPid(pair.sidecar), said: await pair.said() };
    }

    scenario(
      guest,
      "is killed while the target runs, and comes back sealed: nothing restarts, and changes made meanwhile arrive in the end",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "away");
        await pair.start();
        const before = await untouched(pair);
        const after = await guest.journalCursor();
        const end = performance.now() + OUTAGE * 1000;
        await server.down();
        await pair.untilStatus(/connection refused, since /);
        await server.whileDown(() => server.put("away", "two"));
        do {
          expect(await untouched(pair)).toEqual(before);
          await new Promise((resolve) => setTimeout(resolve, 500));
        } while (performance.now() < end);
        await server.up();
        await pair.untilStatus(/the server is sealed \(status 503\), since /, 60);
        expect(await untouched(pair)).toEqual(before);
        await server.unseal();
        await pair.untilSaid("file=two variable=two", { lines: 2, timeout: 60 });
        await pair.untilStatus(/^1 secret from vault, version 2, checked at [\d:]+(?:Z|[+-][\d:]+)$/, 60);
        expect(await pair.said()).toHaveLength(2);
        const journal = (await guest.journal(pair.sidecar, { after }))
          .split("\n")
          .filter((line) => line.includes("vault: "));
        expect(journal, "one line at the beginning, one at the end").toEqual([
          // Reset: a request was under way.
          expect.stringMatching(/connection (?:refused|reset); the published values stay in use/) as string,
          expect.stringMatching(/vault: answers again/) as string,
        ]);
      },
      alone,
    );

    scenario(
      guest,
      "is killed under a running target: a restart of either unit uses the published set, and only the later change counts",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "killed");
        await pair.start();
        const before = await pair.pids();
        await server.down();
        await pair.untilStatus(/connection refused, since /);
        expect((await pair.seen("token")).toString()).toBe("one");
        // The target restarts on what was published, and so does the sidecar.
        await pair.kill(pair.sidecar, "SIGKILL");
        await pair.untilRestarted(pair.sidecar, before.sidecar);
        await pair.restart();
        await pair.untilSaid("file=one variable=one", { lines: 2 });
        const lines = (await pair.said()).length;
        await server.up();
        await server.unseal();
        await server.put("killed", "two");
        await pair.untilSaid("file=two variable=two", { lines: lines + 1, timeout: 60 });
        await pair.untilStatus(/^1 secret from vault, version 2, checked at [\d:]+(?:Z|[+-][\d:]+)$/, 60);
      },
      alone,
    );

    scenario(
      guest,
      "revokes the token: nothing restarts, and the sidecar continues with a new one in its file",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "revoked");
        await pair.start();
        const before = await pair.pids();
        await server.command(`token revoke ${(await guest.read(tokenPath("revoked"))).trim()}`);
        await pair.untilStatus(/the token in \/etc\/fetcher\/revoked\/token is not valid \(any more\), or .*, since /);
        expect(await pair.pids()).toEqual(before);
        await server.put("revoked", "two");
        const token = await server.grant("revoked");
        await pair.untilSaid("file=two variable=two", { lines: 2 });
        const journal = await guest.text("journalctl --quiet --boot");
        expect(journal).toContain("is not valid (any more), or may neither read this nor look itself up");
        expect(journal).not.toContain(token);
      },
      alone,
    );

    scenario(
      guest,
      "replaces a certificate and its key together, by one restart, while the old ones are valid",
      async (pairOf) => {
        await server.command("secrets enable pki");
        await server.command("write pki/root/generate/internal common_name=root ttl=24h key_type=ec");
        await server.command("write pki/roles/app allow_any_name=true key_type=ec generate_lease=true max_ttl=1h");
        const program = `echo "start $(cat /tmp/cert /tmp/key | sha256sum | cut -c1-8)"\nexec sleep infinity\n`;
        const place = { mount: "pki", path: "issue/app", data: { common_name: "app.test", ttl: "15s" } };
        const secrets = {
          cert: { source: { ...place, key: "certificate" }, env: null },
          key: { source: { ...place, key: "private_key" }, env: null },
        };
        const pair = await pairWith(pairOf, "leases", { secrets }, program);
        await pair.start();
        const [first] = await pair.said();
        const lines = await pair.untilSaid(/^start/, { lines: 2 });
        expect(lines[1]).not.toBe(first);
        await pair.untilStatus(/^2 secrets from vault/);
        expect(await pair.said(), "one restart for both").toHaveLength(2);
      },
      alone,
    );
  },
  {},
  ["vault-server"],
);
