import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Guest } from "./guest.ts";
import type { UnitLines, Wiring } from "./pair.ts";

const examples = join(import.meta.dirname, "../../examples/systemd");
const etc = "/etc/systemd/system";

/** The pair as an operator of plain systemd installs it: the template and the drop-ins of examples/systemd. */
export async function plainUnits(guest: Guest, { name, config, target, sidecar }: Wiring): Promise<string> {
  const instance = `fetcher@${name}.service`;
  await guest.write(`/etc/fetcher/${name}.json`, JSON.stringify(config, null, 2));
  // Others may be doing the same at this moment.
  await guest.run(
    `mkdir -p ${etc} && new=$(mktemp ${etc}/fetcher.XXXXXX) && chmod 0644 "$new" &&
     cat ${guest.project}/examples/systemd/fetcher@.service > "$new" && mv -T "$new" ${etc}/fetcher@.service`,
  );
  await guest.write(`${etc}/${name}.service`, unitText(target, [`ExecStart=${target.command}`]));
  await guest.write(`${etc}/${name}.service.d/secrets.conf`, dropIn(config, target));
  const command = ["/usr/local/bin/fetcher", ...sidecar.flags, "--config", `/etc/fetcher/${name}.json`].join(" ");
  const exec = sidecar.flags.length === 0 ? [] : ["ExecStart=", `ExecStart=${command}`];
  await guest.write(`${etc}/${instance}.d/scenario.conf`, unitText(sidecar, exec));
  if (!reloadsOnChange(config)) {
    const conf = config["resident"] === false ? "no-resident.conf" : "fetch-on-restart.conf";
    await guest.write(`${etc}/${instance}.d/${conf}`, readFileSync(join(examples, conf)));
  }
  return instance;
}

function unitText({ unit, service }: UnitLines, more: readonly string[] = []): string {
  return ["[Unit]", ...unit, "[Service]", ...service, ...more, ""].join("\n");
}

/** The drop-in of the example, with this target's command line, and without the mount where files are in /tmp itself. */
function dropIn(config: Wiring["config"], { command, wrap }: Wiring["target"]): string {
  const { directory } = config["output"] as { directory: string };
  const lines = readFileSync(join(examples, "hello.service.d/secrets.conf"), "utf8")
    .split("\n")
    .filter((line) => !line.startsWith("ExecStart="))
    .filter((line) => directory !== "/tmp" || !line.startsWith("BindReadOnlyPaths="));
  const wrapped = wrap ? ["ExecStart=", `ExecStart=/usr/local/bin/with-secrets ${command}`] : [];
  return [...lines, ...wrapped, ""].join("\n");
}

function reloadsOnChange(config: Wiring["config"]): boolean {
  return (config["config"] as { reloadOnChange?: boolean }).reloadOnChange === true;
}
