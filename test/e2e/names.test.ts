/** Services with names that systemd accepts, though they mean something in a path of a unit file. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Evaluation } from "../nix/evaluation.ts";
import { onEachGuest } from "./guests.ts";
import { installNix, removeNix } from "./nix-units.ts";

const evaluation = new Evaluation();

onEachGuest("names of services", (guest) => {
  const names = [String.raw`foo\x2dbar`, String.raw`app@a\x2db`, "a:b"];
  const results = "/var/lib/names";

  beforeAll(async () => {
    await guest.write("/etc/secrets/one", "it's one", 0o400);
    await guest.run(["mkdir", "-p", results]);
  });
  afterAll(async () => {
    await guest.run(["rm", "-rf", "/etc/secrets", results]);
    await removeNix(guest);
  });

  test.each(["credentials", "private-tmp"])("that Nix renders start, and have their secrets: %s", async (delivery) => {
    const file = delivery === "credentials" ? "$CREDENTIALS_DIRECTORY/one" : "/tmp/one";
    const services = names.map((name, index) => {
      const nix = JSON.stringify(name);
      return `
        secretsStore.services.${nix} = {
          secrets.one = { }; secretsConfig.backend = "folder"; delivery = "${delivery}";
        };
        systemd.services.${nix}.serviceConfig = {
          Type = "oneshot"; RemainAfterExit = true;
          ExecStart = "/bin/sh -c 'cat ${file} > ${results}/${index}'";
        };`;
    });
    const units = evaluation.units(
      `{ secretsStore.enable = true; secretsStore.folder.secretsDir = "/etc/secrets"; ${services.join("\n")} }`,
    );
    await installNix(guest, evaluation, units);
    await guest.systemctl("daemon-reload");
    for (const [index, name] of names.entries()) {
      await guest.run(["rm", "-f", `${results}/${index}`]);
      await guest.systemctl("start", `${name}.service`);
      expect(await guest.read(`${results}/${index}`), name).toBe("it's one");
      await guest.systemctl("stop", `${name}.service`);
    }
  });
});
