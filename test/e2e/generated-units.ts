import type { Guest } from "./guest.ts";
import type { UnitLines, UnitSource } from "./pair.ts";

const etc = "/etc/systemd/system";

/**
 * The pair as a file in /etc/fetcher makes it: the sidecar may not talk to systemd, and `NAME-secrets-act.service` acts for it. The
 * units are those that `fetcher units` prints.
 */
export const generatedUnits: UnitSource = async (guest, { name, config, target, sidecar }) => {
  // With `output` the file would be one that is wired by hand.
  const file = { delivery: "private-tmp", environment: target.wrap, ...config, output: undefined };
  await guest.write(`/etc/fetcher/${name}.json`, JSON.stringify(file, null, 2));
  const service = [...target.service, `ExecStart=${target.command}`];
  await guest.write(`${etc}/${name}.service`, unitText({ unit: target.unit, service }));
  const [program = "", ...words] = (await install(guest, name)).split(" ");
  const exec = `ExecStart=${[program, ...sidecar.flags, ...words].join(" ")}`;
  await guest.write(
    `${etc}/${name}-secrets.service.d/scenario.conf`,
    unitText({
      unit: sidecar.unit,
      service: [...sidecar.service, ...(sidecar.flags.length === 0 ? [] : ["ExecStart=", exec])],
    }),
  );
  return `${name}-secrets.service`;
};

/** @returns the command line of the sidecar. */
async function install(guest: Guest, name: string): Promise<string> {
  const printed = await guest.text(["fetcher", "units", name]);
  const units = printed.split(/^# \/run\/systemd\/generator\/(.*)\n/m).slice(1);
  for (let at = 0; at + 1 < units.length; at += 2) await guest.write(`${etc}/${units[at] ?? ""}`, units[at + 1] ?? "");
  return /^ExecStart=(.* --actions .*)$/m.exec(units[1] ?? "")?.[1] ?? "";
}

function unitText({ unit, service }: UnitLines): string {
  return ["[Unit]", ...unit, "[Service]", ...service, ""].join("\n");
}
