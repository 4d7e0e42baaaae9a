/** What a sidecar can reach beyond its own files: the figure of systemd-analyze, and a neighbour's secrets. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blockWith } from "../markdown.ts";
import { Evaluation, project } from "../nix/evaluation.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { installNix, removeNix } from "./nix-units.ts";
import { scenario } from "./scenario.ts";

const CANARY = `canary-${randomBytes(6).toString("hex")}`;
const etc = "/etc/systemd/system";

async function version(guest: Guest): Promise<number> {
  return Number(/\d+/.exec(await guest.text(["systemctl", "--version"]))?.[0]);
}

/** The exposure that systemd-analyze sees, 0 to 10. */
async function exposure(guest: Guest, unit: string): Promise<number> {
  const said = await guest.text(["systemd-analyze", "security", "--no-pager", unit]);
  return Number(/Overall exposure level for \S+: ([\d.]+)/.exec(said)?.[1]);
}

onEachGuest("the sandbox of a sidecar", (guest) => {
  test.each([
    { runtime: "Node", dropIns: [], alone: 1.2, connected: 1.8 },
    { runtime: "its own runtime", dropIns: ["executable.conf"], alone: 1.0, connected: 1.6 },
  ])(
    "is as narrow as recorded: $runtime with $alone, and $connected with the network, on systemd 257 and newer",
    async (figures) => {
      const example = (name: string) => readFileSync(join(project, "examples/systemd", name), "utf8");
      await guest.write(`${etc}/fetcher@.service`, example("fetcher@.service"));
      await guest.write(`${etc}/fetcher@store.service.d/network.conf`, example("network.conf"));
      for (const conf of figures.dropIns)
        for (const name of ["folder", "store"])
          await guest.write(`${etc}/fetcher@${name}.service.d/${conf}`, example(conf));
      await guest.systemctl("daemon-reload");
      const [folder, network] = [
        await exposure(guest, "fetcher@folder.service"),
        await exposure(guest, "fetcher@store.service"),
      ];
      // Older systemd knows no PrivateUsers=identity.
      const older = (await version(guest)) < 257 ? 0.4 : 0;
      expect(folder).toBeLessThanOrEqual(figures.alone + older);
      expect(network).toBeLessThanOrEqual(figures.connected + older);
      await guest.run(`rm -rf ${etc}/fetcher@store.service.d ${etc}/fetcher@folder.service.d`);
    },
  );

  scenario(guest, "hides a neighbour's secrets, wherever root could look for them", async (pairOf) => {
    const pair = await pairOf({ name: "curious" });
    const neighbour = await pairOf({ name: "neighbour", secrets: { token: CANARY } });
    for (const path of [
      "/root/sandbox-canary",
      "/home/sandbox-canary",
      "/var/lib/sandbox-canary",
      "/run/sandbox-canary",
    ])
      await guest.write(path, CANARY, 0o400);
    await neighbour.start();
    await pair.start();
    const { sidecar } = await pair.pids();
    const other = await neighbour.pids();
    const outside = await guest.text(
      `grep -lF ${CANARY} ${neighbour.store}/token ${neighbour.runtime}/pub/token /proc/${other.sidecar}/root${neighbour.runtime}/pub/token`,
    );
    expect(outside.split("\n")).toHaveLength(3);
    // As the sidecar itself: its namespaces (a user namespace on 257 and newer only), its capabilities.
    const namespaces = (await version(guest)) < 257 ? ["--mount"] : ["--mount", "--user"];
    const caps = await guest.text(`sed -n 's/^CapBnd:\t//p' /proc/${sidecar}/status`);
    expect(BigInt(`0x${caps}`) & ~0b101n).toBe(0n);
    const inside = async (command: string) =>
      await guest.run(
        [
          "nsenter",
          `--target=${sidecar}`,
          ...namespaces,
          "--",
          "setpriv",
          "--bounding-set=-all,+chown,+dac_read_search",
          "--inh-caps=-all",
          "sh",
          "-c",
          command,
        ],
        { check: false },
      );
    expect((await inside(`cat ${pair.store}/token ${pair.runtime}/pub/token`)).stdout).toBe("oneone");
    const places = ["/etc/fetcher", "/run", "/root", "/home", "/var", "/tmp", "/etc/shadow"];
    const { stdout } = await inside(`grep -rlF ${CANARY} ${places.join(" ")} 2>/dev/null; ls /etc/fetcher /run`);
    expect(stdout).not.toContain("canary");
    expect(stdout).not.toContain("neighbour");
    expect(stdout).toContain("curious-secrets");
    for (const path of [
      neighbour.store,
      neighbour.runtime,
      `/run/credentials/${neighbour.target}`,
      "/root/sandbox-canary",
      "/var/lib/sandbox-canary",
      "/run/sandbox-canary",
    ])
      expect((await inside(`ls ${path}`)).code, path).not.toBe(0);
    expect((await inside("cat /etc/shadow")).stdout).toBe("");
    if ((await version(guest)) >= 257)
      for (const pid of [other.sidecar, other.target]) {
        const { code, stderr } = await inside(`ls /proc/${pid}/root/`);
        expect({ code: code === 0, stderr }).toEqual({
          code: false,
          stderr: expect.stringMatching(/Permission denied|No such file/) as string,
        });
      }
    await guest.run("rm /root/sandbox-canary /home/sandbox-canary /var/lib/sandbox-canary /run/sandbox-canary");
  });

  // The second one is behind a link, as a pod's secrets are.
  for (const [name, place] of [
    ["elsewhere", "/var/lib/elsewhere"],
    ["linked", "/var/run/elsewhere"],
  ] as const)
    scenario(
      guest,
      `allows a folder in ${place} with the drop-in from the template's comment, and sees its replacement`,
      async (pairOf) => {
        await guest.write(`${place}/current/token`, "one", 0o400);
        const pair = await pairOf({
          name,
          config: { config: { secretsDir: `${place}/current` } },
          sidecar: { service: [`BindReadOnlyPaths=${place}`] },
        });
        await pair.start();
        await guest.write(`${place}/next/token`, "two", 0o400);
        await guest.run(`mv ${place}/current ${place}/last && mv ${place}/next ${place}/current`);
        await pair.untilSaid("file=two variable=two");
        await guest.run(["rm", "-r", place]);
      },
    );

  scenario(
    guest,
    "opens one of the closed places with the drop-in of docs/how-to/sandbox.md, and no other",
    async (pairOf) => {
      const [place, other] = ["/etc/ssl/private/opened", "/etc/ssh/sandbox-canary"];
      await guest.write(`${place}/token`, "one", 0o400);
      await guest.write(other, CANARY, 0o400);
      const { code } = blockWith("docs/how-to/sandbox.md", "ini", "InaccessiblePaths=");
      const pair = await pairOf({
        name: "opened",
        config: { config: { secretsDir: place } },
        sidecar: { service: code.trimEnd().split("\n").slice(1) },
      });
      await pair.start();
      await pair.untilSaid("file=one variable=one");
      expect((await guest.inUnit(pair.sidecar, ["test", "-e", other], { check: false })).code).toBe(1);
      await guest.run(["rm", "-r", place, other]);
    },
  );

  scenario(guest, "gives the `credentials` store the credentials that systemd passes to the unit", async (pairOf) => {
    const pair = await pairOf({
      name: "handed",
      secrets: undefined,
      config: { backend: "credentials", config: { secretsDir: undefined } },
      sidecar: { service: ["SetCredential=token:given"] },
    });
    await pair.start();
    await pair.untilSaid("file=given variable=given");
  });
});

onEachGuest(
  "the sandbox that Nix renders",
  (guest) => {
    // Not in the test: the evaluation removes its results after the tests of its block.
    const evaluation = new Evaluation();
    test("is as narrow as recorded for each store", async () => {
      const stores = {
        folder: `{ backend = "folder"; config.secretsDir = "/run/secrets"; }`,
        vault: `{ backend = "vault"; config.tokenPath = "/run/secrets/token"; }`,
        aws: `{ backend = "aws"; config.region = "eu-central-1"; }`,
        nixops: `{ backend = "nixops"; }`,
        credentials: `{ backend = "credentials"; }`,
      };
      const services = Object.entries(stores).map(
        ([name, settings]) => `app-${name} = { secrets.a = { }; secretsConfig = ${settings}; };`,
      );
      const units = evaluation.units(
        `{ secretsStore.enable = true; secretsStore.services = { ${services.join("\n")} };
           systemd.services = lib.genAttrs [ ${Object.keys(stores)
             .map((name) => `"app-${name}"`)
             .join(" ")} ] (_: { serviceConfig.ExecStart = "/bin/true"; }); }`.replace(/^\{/, "({ lib, ... }: {") + ")",
      );
      await installNix(guest, evaluation, units);
      await guest.systemctl("daemon-reload");
      const older = (await version(guest)) < 257 ? 0.3 : 0;
      for (const name of Object.keys(stores)) {
        const limit = name === "vault" || name === "aws" ? 2.0 : 1.5;
        expect(await exposure(guest, `app-${name}-secrets.service`), name).toBeLessThanOrEqual(limit + older);
      }
      await removeNix(guest);
    });
  },
  {},
  ["nix"],
);
