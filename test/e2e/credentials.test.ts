/** Secrets that systemd itself hands to the sidecar: encrypted for this host alone, of the machine, or of the unit. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { expect } from "vitest";
import type { Requirement } from "../requirements.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import type { Pair, PairOptions } from "./pair.ts";
import { scenario } from "./scenario.ts";

// Made at run time: in the source, the cache of the compiler would hold it in a /tmp.
const canary = `canary-${randomBytes(6).toString("hex")}`;
/** A file of one line on the machine that boots the guests. */
const ofMachine = "/etc/hostname";
const stored = "/etc/credstore.encrypted";

/** Encrypts as an operator does. */
async function encrypt(guest: Guest, path: string, value: string, key = "host"): Promise<void> {
  await guest.run(["mkdir", "-p", "-m", "0700", stored]);
  await guest.run(["systemd-creds", "encrypt", `--with-key=${key}`, "--name=token", "-", path], { input: value });
}

/** A pair whose sidecar's unit has these additional lines. */
async function pairWith(
  pairOf: (options: PairOptions) => Promise<Pair>,
  name: string,
  ...service: readonly string[]
): Promise<Pair> {
  return await pairOf({
    name,
    secrets: {},
    config: { backend: "credentials", config: { secretsDir: undefined }, secrets: { token: {} } },
    sidecar: { service },
  });
}

const options = {
  nspawn: [
    "--set-credential=from.machine:one",
    `--load-credential=of.file:${ofMachine}`,
    ...(existsSync("/dev/tpmrm0") ? ["--bind=/dev/tpmrm0"] : []),
  ],
};

onEachGuest(
  "systemd credentials",
  (guest) => {
    scenario(guest, "encrypted with the host's key, in a file: the value arrives, and nowhere else", async (pairOf) => {
      const file = `${stored}/token.file`;
      await encrypt(guest, file, canary);
      const pair = await pairWith(pairOf, "infile", `LoadCredentialEncrypted=token:${file}`);
      await pair.start();
      await pair.untilSaid(`file=${canary} variable=${canary}`);
      await pair.untilStatus(/^1 secret from credentials/);
      const grep = `grep -rlF ${canary} /etc /run /tmp /var/lib/systemd`;
      expect(await guest.text(grep), "the search finds what is there").toContain(`${pair.runtime}/pub/token`);
      await pair.stop();
      await guest.until("it is nowhere", async () => (await guest.run(grep, { check: false })).stdout === "");
    });

    scenario(
      guest,
      "encrypted again with a new value: a restart of the sidecar brings it to the target",
      async (pairOf) => {
        const file = `${stored}/token.anew`;
        await encrypt(guest, file, "one");
        const pair = await pairWith(pairOf, "anew", `LoadCredentialEncrypted=token:${file}`);
        await pair.start();
        await encrypt(guest, file, "two");
        await guest.systemctl("restart", pair.sidecar);
        await pair.untilSaid("file=two variable=two", { lines: 2 });
        await pair.untilState(pair.target, "active");
      },
    );

    scenario(guest, "encrypted in the unit itself", async (pairOf) => {
      const lines = await guest.text("systemd-creds encrypt --with-key=host --pretty --name=token - -", {
        input: "one",
      });
      expect(lines).toMatch(/^SetCredentialEncrypted=token: /);
      const pair = await pairWith(pairOf, "inunit", lines);
      await pair.start();
      await pair.untilSaid("file=one variable=one");
    });

    scenario(guest, "in the clear, in the unit and in a file: the values arrive", async (pairOf) => {
      const inUnit = await pairWith(pairOf, "clear", "SetCredential=token:one");
      await inUnit.start();
      await inUnit.untilSaid("file=one variable=one");
      await guest.write("/etc/fetcher/token.clear", "one");
      const inFile = await pairWith(pairOf, "clearfile", "LoadCredential=token:/etc/fetcher/token.clear");
      await inFile.start();
      await inFile.untilSaid("file=one variable=one");
    });

    // The machine's own systemd, where it is not a guest, has no such credentials.
    if (guest.name !== "here") {
      scenario(guest, "given to the machine at its boot: the unit loads them by name", async (pairOf) => {
        const set = await pairWith(pairOf, "machine", "LoadCredential=token:from.machine");
        await set.start();
        await set.untilSaid("file=one variable=one");
        const loaded = await pairWith(pairOf, "file", "LoadCredential=token:of.file");
        await loaded.start();
        expect((await loaded.seen("token")).toString()).toBe(readFileSync(ofMachine, "utf8"));
      });

      scenario(
        guest,
        "given to the machine at its boot: ImportCredential= loads them by a pattern",
        async (pairOf) => {
          const pair = await pairOf({
            name: "imported",
            secrets: {},
            config: {
              backend: "credentials",
              config: { secretsDir: undefined },
              secrets: { token: { source: { name: "from.machine" } } },
            },
            sidecar: { service: ["ImportCredential=from.*"] },
          });
          await pair.start();
          await pair.untilSaid("file=one variable=one");
        },
        { alone: true, also: guest.name === "host" ? ["import-credential"] : [] },
      );
    }

    const tpm: Requirement[] = ["tpm2"];
    scenario(
      guest,
      "encrypted with the TPM2, in a file",
      async (pairOf) => {
        const file = `${stored}/token.tpm2`;
        await encrypt(guest, file, "one", "tpm2");
        const pair = await pairWith(pairOf, "tpm", `LoadCredentialEncrypted=token:${file}`);
        await pair.start();
        await pair.untilSaid("file=one variable=one");
      },
      { also: tpm },
    );

    scenario(guest, "missing: the start fails, and the status names the setting to add", async (pairOf) => {
      const pair = await pairWith(pairOf, "not-given", "SetCredential=other:one");
      const { code } = await guest.run(["systemctl", "start", pair.target], { check: false, timeout: 60 });
      expect(code).not.toBe(0);
      expect(await guest.show(pair.sidecar, "StatusText", "ExecMainStatus")).toEqual({
        StatusText:
          'credentials: secret "token": the sidecar\'s unit has no credential token (LoadCredential=token:...)',
        ExecMainStatus: "66",
      });
    });

    scenario(guest, "none at all: the start fails, and one line says which settings pass some", async (pairOf) => {
      const pair = await pairWith(pairOf, "none");
      const { code } = await guest.run(["systemctl", "start", pair.target], { check: false, timeout: 60 });
      expect(code).not.toBe(0);
      expect(await guest.show(pair.sidecar, "ExecMainStatus")).toEqual({ ExecMainStatus: "78" });
      expect(await guest.status(pair.sidecar)).toMatch(/credentials: this unit has none: .*LoadCredentialEncrypted=/);
    });

    scenario(
      guest,
      "encrypted for another host: with the documented drop-in the start fails at once, and works when corrected",
      async (pairOf) => {
        const file = `${stored}/token.foreign`;
        await encrypt(guest, file, "one");
        // As if it came from another host: the bytes are not those that this one's key gives.
        await guest.run(`sed -i 's/A/B/g; s/E/F/g' ${file}`);
        const pair = await pairWith(
          pairOf,
          "foreign",
          `LoadCredentialEncrypted=token:${file}`,
          "RestartPreventExitStatus=243",
        );
        const after = await guest.journalCursor();
        const { code } = await guest.run(["systemctl", "start", pair.target], { check: false, timeout: 60 });
        expect(code).not.toBe(0);
        expect(await pair.state(pair.target)).toBe("inactive");
        expect(await guest.status(pair.sidecar)).toContain("status=243/CREDENTIALS");
        // Of all units: for a process that ended at once, the journal may not learn its unit.
        expect(await guest.journal(undefined, { after })).toContain(`${pair.sidecar}: Failed to set up credentials: `);
        await encrypt(guest, file, "one");
        await pair.start();
        await pair.untilSaid("file=one variable=one");
      },
    );
  },
  options,
);
