import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runsOnNode } from "../program.ts";
import type { Guest } from "./guest.ts";
import type { UnitLines, Wiring } from "./pair.ts";

const examples = join(import.meta.dirname, "../../examples/systemd");
const etc = "/etc/systemd/system";

/** The pair as an operator of plain systemd installs it: the template and the drop-ins of examples/systemd. */
export async function plainUnits(guest: Guest, wiring: Wiring): Promise<string> {
  return await install(guest, wiring, privateTmp(wiring));
}

/** The same with the secrets as credentials: no link, no wrapper, no shared /tmp. */
export async function plainCredentials(guest: Guest, wiring: Wiring): Promise<string> {
  const { directory } = wiring.config["output"] as { directory: string };
  return await install(guest, { ...wiring, config: { ...wiring.config, output: { directory } } }, credentials(wiring));
}

async function install(guest: Guest, { name, config, target, sidecar }: Wiring, dropIn: string): Promise<string> {
  const instance = `fetcher@${name}.service`;
  await guest.write(`/etc/fetcher/${name}.json`, JSON.stringify(config, null, 2));
  // Other tests may be doing the same now.
  await guest.run(
    `mkdir -p ${etc} && new=$(mktemp ${etc}/fetcher.XXXXXX) && chmod 0644 "$new" &&
     cat ${guest.project}/examples/systemd/fetcher@.service > "$new" && mv -T "$new" ${etc}/fetcher@.service`,
  );
  await guest.write(`${etc}/${name}.service`, unitText(target, [`ExecStart=${target.command}`]));
  await guest.write(`${etc}/${name}.service.d/secrets.conf`, dropIn);
  const command = ["fetcher", ...sidecar.flags, "--config", `/etc/fetcher/${name}.json`].join(" ");
  const exec = sidecar.flags.length === 0 ? [] : ["ExecStart=", `ExecStart=${command}`];
  await guest.write(`${etc}/${instance}.d/scenario.conf`, unitText(sidecar, exec));
  const dropIns = [
    ...(runsOnNode ? [] : ["executable.conf"]),
    ...(reloadsOnChange(config) ? [] : [config["resident"] === false ? "no-resident.conf" : "fetch-on-restart.conf"]),
    ...(["vault", "aws"].includes(String(config["backend"])) ? ["network.conf"] : []),
  ];
  for (const conf of dropIns) await guest.write(`${etc}/${instance}.d/${conf}`, readFileSync(join(examples, conf)));
  return instance;
}

function unitText({ unit, service }: UnitLines, more: readonly string[] = []): string {
  return ["[Unit]", ...unit, "[Service]", ...service, ...more, ""].join("\n");
}

/**
 * The drop-in of the example, with this target's command line, and without the mount where the files are in /tmp
 * itself.
 */
function privateTmp({ config, target: { command, wrap } }: Wiring): string {
  const { directory } = config["output"] as { directory: string };
  const lines = exampleLines("hello.service.d/secrets.conf")
    .filter((line) => !line.startsWith("ExecStart="))
    .filter((line) => directory !== "/tmp" || !line.startsWith("BindReadOnlyPaths="));
  const wrapped = wrap ? ["ExecStart=", `ExecStart=with-secrets ${command}`] : [];
  return [...lines, ...wrapped, ""].join("\n");
}

/** The drop-in of the example, with its secret line for each of these. */
function credentials({ config, target: { wrap } }: Wiring): string {
  const secrets = Object.entries(config["secrets"] as Record<string, { optional?: boolean }>);
  const lines = exampleLines("greeter.service.d/secrets.conf").flatMap((line) => {
    if (line.startsWith("EnvironmentFile=")) return wrap ? [line] : [];
    const example = /^(?:Load|Set)Credential=(greeting|motto)\b/.exec(line)?.[1];
    if (example === undefined) return [line];
    return secrets
      .filter(([, { optional = false }]) => optional === (example === "motto"))
      .map(([id]) => line.replaceAll(example, id));
  });
  return [...lines, ""].join("\n");
}

function exampleLines(path: string): string[] {
  return readFileSync(join(examples, path), "utf8").split("\n");
}

function reloadsOnChange(config: Wiring["config"]): boolean {
  return (config["config"] as { reloadOnChange?: boolean }).reloadOnChange === true;
}
