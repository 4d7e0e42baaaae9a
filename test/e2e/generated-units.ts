import type { Guest } from "./guest.ts";
import type { UnitLines, UnitSource } from "./pair.ts";

const etc = "/etc/systemd/system";

/**
 * The pair as a file in /etc/fetcher makes it: the sidecar may not talk to systemd, and `NAME-secrets-act.service` acts
 * for it. `fetcher units` prints the units.
 */
export const generatedUnits: UnitSource = async (guest, { name, config, target, sidecar }) => {
  // With `output`, the file would be one that an operator wires by hand.
  const file = { delivery: "private-tmp", environment: target.wrap, ...config, output: undefined };
  await guest.write(`/etc/fetcher/${name}.json`, JSON.stringify(file, null, 2));
  const service = [...target.service, `ExecStart=${target.command}`];
  await guest.write(`${etc}/${name}.service`, unitText({ unit: target.unit, service }));
  const units = await install(guest, name);
  for (const unit of [`${name}-secrets.service`, `${name}-secrets-refresh.service`]) {
    // A resident sidecar has no looks.
    const line = /^ExecStart=(\S+) (.* --actions .*)$/m.exec(units.get(unit) ?? "");
    if (line === null) continue;
    const [, program = "", words = ""] = line;
    const exec = `ExecStart=${[program, ...withFlags(words, sidecar.flags)].join(" ")}`;
    const lines = [...sidecar.service, ...(sidecar.flags.length === 0 ? [] : ["ExecStart=", exec])];
    await guest.write(`${etc}/${unit}.d/scenario.conf`, unitText({ unit: sidecar.unit, service: lines }));
  }
  return `${name}-secrets.service`;
};

/** The command's name comes before its flags. */
function withFlags(words: string, flags: readonly string[]): readonly string[] {
  const all = words.split(" ");
  return all[0] === "refresh" ? ["refresh", ...flags, ...all.slice(1)] : [...flags, ...all];
}

/** @returns the text of each unit. */
async function install(guest: Guest, name: string): Promise<ReadonlyMap<string, string>> {
  const printed = await guest.text(["fetcher", "units", name]);
  const parts = printed.split(/^# \/run\/systemd\/generator\/(.*)\n/m).slice(1);
  const units = new Map<string, string>();
  for (let at = 0; at + 1 < parts.length; at += 2) units.set(parts[at] ?? "", parts[at + 1] ?? "");
  for (const [unit, text] of units) await guest.write(`${etc}/${unit}`, text);
  return units;
}

function unitText({ unit, service }: UnitLines): string {
  return ["[Unit]", ...unit, "[Service]", ...service, ""].join("\n");
}
