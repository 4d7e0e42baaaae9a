/**
 * What hostile code inside the sidecar cannot do. Here it is a third party's backend, in the sandbox that a folder or a
 * Vault gets: an exploited client library could do no more.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { generatedUnits } from "./generated-units.ts";
import { onEachGuest } from "./guests.ts";
import type { PairOptions } from "./pair.ts";
import { scenario } from "./scenario.ts";

const CANARY = `canary-${randomBytes(6).toString("hex")}`;
const PORT = 9911;
const module = readFileSync(join(import.meta.dirname, "fixtures/hostile.mjs"));

interface Findings {
  readonly sockets: Readonly<Record<string, string>>;
  readonly read: Readonly<Record<string, string>>;
  readonly written: Readonly<Record<string, string>>;
  readonly programs: Readonly<Record<string, string>>;
  readonly network: string;
  readonly others: readonly string[];
}

const stores: Readonly<Record<string, PairOptions["config"]>> = {
  folder: {},
  "folder-on-change": { resident: "on-change" },
  vault: { backend: "vault", config: { url: `http://127.0.0.1:${PORT}`, path: "a", tokenPath: "/etc/vault/token" } },
};

onEachGuest("hostile code in a sidecar", (guest) => {
  const places = ["/root/hostile-canary", "/var/lib/hostile-canary"];
  beforeAll(async () => {
    for (const place of places) await guest.write(place, CANARY, 0o400);
    const listen = `require("net").createServer((socket) => socket.end()).listen(${PORT}, "127.0.0.1")`;
    await guest.run(["systemd-run", "--quiet", "--unit=hostile-listener", "node", "-e", listen]);
    await guest.until("it listens", async () => {
      const { code } = await guest.run(["bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${PORT}`], { check: false });
      return code === 0;
    });
  });
  afterAll(async () => {
    await guest.run(`systemctl stop hostile-listener; rm -f ${places.join(" ")}`, { check: false });
  });

  describe.each(Object.entries(stores))("of the store %s", (store, config) => {
    scenario(
      guest,
      "runs no program outside, restarts no other service, reads no other secret, writes nowhere else",
      async (pairOf) => {
        const [own, other] = [`evil-${store}`, `victim-${store}`];
        const victim = await pairOf({ name: other, secrets: { token: CANARY } });
        await victim.start();
        const before = await victim.pids();
        const evil = await pairOf({
          name: own,
          program: "echo start\nexec sleep infinity\n",
          // The unit that acts waits, and so is there to be looked into.
          config: { ...config, onChange: { splay: 5000 }, secrets: { token: { env: null } } },
          sidecar: { flags: ["--backend", `/etc/fetcher/${own}/hostile.mjs`] },
        });
        await guest.write(`/etc/fetcher/${own}/hostile.mjs`, module);
        await guest.write(`/etc/fetcher/${own}/hostile.json`, JSON.stringify({ port: PORT, victim: other, own }));
        await evil.start();
        const found = JSON.parse(await guest.read(`${evil.runtime}/pub/token`)) as Findings;

        expect(found.others[0]).toBe("asked: done");
        const others = found.others.slice(1);
        // Neither into the unit that acts nor into another sidecar.
        expect(others).toEqual([]);

        const connected = Object.entries(found.sockets).filter(([, answer]) => answer === "connected");
        expect(connected.map(([path]) => path)).toEqual([]);
        expect(Object.keys(found.sockets)).toContain("/run/systemd/notify");
        expect(found.programs).toEqual({
          "systemd-run": expect.not.stringMatching(/^0:/) as string,
          restart: expect.not.stringMatching(/^0:/) as string,
          stop: expect.not.stringMatching(/^0:/) as string,
          busctl: expect.not.stringMatching(/^0:/) as string,
          mount: expect.not.stringMatching(/^0:/) as string,
          unshare: expect.not.stringMatching(/^0:/) as string,
          nsenter: expect.not.stringMatching(/^0:/) as string,
        });
        expect(JSON.stringify(found.read)).not.toContain("canary-");
        for (const [path, answer] of Object.entries(found.read))
          // What is closed reads as empty.
          expect(answer, path).toMatch(/^(?:EACCES|EPERM|ENOENT|)$/);
        for (const [path, answer] of Object.entries(found.written))
          if (!path.startsWith("inbox/")) expect(answer, path).toMatch(/^(?:EROFS|ENOENT|EACCES|EPERM|EBUSY)$/);
        expect(found.network).toBe(store === "vault" ? "connected" : "EAFNOSUPPORT");

        // The remains in the inbox restart nothing.
        expect(await victim.pids()).toEqual(before);
        expect(
          await guest.text("ls /root/hostile /etc/systemd/system/hostile.service 2>/dev/null", { check: false }),
        ).toBe("");
        expect(await guest.journal(`${own}-secrets-act.service`)).not.toContain(other);
      },
      { source: generatedUnits, alone: true },
    );
  });
});
