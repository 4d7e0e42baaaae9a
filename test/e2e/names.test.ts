/** Services with names that systemd accepts, but that have a special meaning in a path of a unit file. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Evaluation } from "../nix/evaluation.ts";
import { runsOnNode } from "../program.ts";
import { onEachGuest } from "./guests.ts";
import { installNix, removeNix } from "./nix-units.ts";

const evaluation = new Evaluation();
const example = (file: string) => readFileSync(join(import.meta.dirname, "../../examples/systemd", file));

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

  test.each(["credentials", "private-tmp"])("start with their secrets when Nix renders them: %s", async (delivery) => {
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

  test("start from the template, or it refuses them at once with a reason; their generated units start", async () => {
    const etc = "/etc/systemd/system";
    const generator = "/etc/systemd/system-generators/fetcher";
    await guest.write(`${etc}/fetcher@.service`, example("fetcher@.service"));
    if (!runsOnNode) await guest.write(`${etc}/fetcher@.service.d/executable.conf`, example("executable.conf"));
    // systemd-executor is what cannot read the `\`.
    const cannot = (name: string, executor: boolean) => executor && name.includes("\\");
    const executor = await guest.exists("/usr/lib/systemd/systemd-executor");
    for (const name of names) {
      const [service, sidecar] = [`${name}.service`, `fetcher@${name}.service`];
      const secrets = { service, secrets: { one: {} } };
      const byHand = { backend: "folder", config: { secretsDir: `/etc/fetcher/${name}/secrets` }, ...secrets };
      const file = `/etc/fetcher/${name}.json`;
      await guest.write(file, JSON.stringify({ ...byHand, output: { directory: `/run/${name}-secrets/pub` } }));
      await guest.write(`/etc/fetcher/${name}/secrets/one`, "it's one", 0o400);
      const half = "[Unit]\nRequires=fetcher@%N.service\nAfter=fetcher@%N.service\n";
      await guest.write(`${etc}/${service}`, "[Service]\nExecStart=/bin/sleep infinity\n");
      await guest.write(`${etc}/${service}.d/half.conf`, half);
      await guest.systemctl("daemon-reload");
      const start = await guest.run(["timeout", "100", "systemctl", "start", service], {
        check: false,
        timeout: 120,
      });
      expect(start.code, name).toBe(cannot(name, executor) ? 1 : 0);
      if (start.code === 0) {
        expect(await guest.read(`/run/${name}-secrets/pub/one`)).toBe("it's one");
      } else {
        expect(await guest.show(sidecar, "ActiveState", "NRestarts")).toEqual({
          ActiveState: "inactive",
          NRestarts: "0",
        });
        expect(await guest.text(["fetcher", "status", name])).toContain("leave `output` out of its file");
        await guest.run(["rm", `${etc}/${service}.d/half.conf`]);
        await guest.write(file, JSON.stringify(secrets));
        await guest.run(`mkdir -p ${join(generator, "..")} && ln -sf "$(command -v fetcher)" ${generator}`);
        await guest.systemctl("daemon-reload");
        await guest.systemctl("start", service);
        expect(await guest.text(["systemctl", "is-active", service])).toBe("active");
      }
      await guest.systemctl("stop", service);
    }
    const services = names.map((name) => `'${etc}/${name}.service' '${etc}/${name}.service.d'`).join(" ");
    await guest.run(`rm -rf ${services} ${etc}/fetcher@.service* /etc/fetcher ${generator}; systemctl daemon-reload`);
  });
});
