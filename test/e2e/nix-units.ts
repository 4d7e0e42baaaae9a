import type { Evaluation, RenderedUnits } from "../nix/evaluation.ts";
import type { Guest } from "./guest.ts";
import type { UnitLines, UnitSource, Wiring } from "./pair.ts";

/** `scope`: RFC 59's serviceSecretsScope; the others: secretsStore.services, next to a module that knows no secrets. */
export type NixDelivery = "scope" | "private-tmp" | "credentials";

const etc = "/etc/systemd/system";

/** The pair of a NixOS host, with the programs of the guest instead of a package's. */
export function nixUnits(evaluation: Evaluation, delivery: NixDelivery): UnitSource {
  return async (guest, wiring) => {
    const module = delivery === "scope" ? scopeModule(wiring) : servicesModule(wiring, delivery);
    await installNix(guest, evaluation, evaluation.units(module));
    return `${wiring.name}-secrets.service`;
  };
}

/** Paths that installNix has written, for a guest that is not thrown away. */
const installed = new WeakMap<Guest, Set<string>>();

/** Reads path, mode and content of file after file, each with a NUL behind it. */
const writeFiles = `while IFS= read -r -d "" path && IFS= read -r -d "" mode && IFS= read -r -d "" content; do
  mkdir -p "\${path%/*}" && printf %s "$content" >"$path" && chmod "$mode" "$path" || exit
done`;

/** Writes unit files, their links, and every store file that they name, at the same paths. */
export async function installNix(guest: Guest, evaluation: Evaluation, units: RenderedUnits): Promise<void> {
  const paths = installed.get(guest) ?? new Set();
  installed.set(guest, paths);
  const files: string[] = [];
  for (const [name, { text }] of Object.entries(units)) {
    for (const [path, content] of evaluation.closure(text)) {
      // Files in a store do not change.
      if (!paths.has(path)) files.push(path, "0755", content);
      paths.add(path);
    }
    files.push(`${etc}/${name}`, "0644", text);
    paths.add(`${etc}/${name}`);
  }
  await guest.run(["bash", "-c", writeFiles], { input: files.map((field) => `${field}\0`).join("") });
  for (const [name, { links }] of Object.entries(units))
    for (const link of links) {
      paths.add(`${etc}/${link}`);
      await guest.run(["sh", "-c", 'mkdir -p "${1%/*}" && ln -sf "../$2" "$1"', "sh", `${etc}/${link}`, name]);
    }
}

/** Removes all that installNix has written. */
export async function removeNix(guest: Guest): Promise<void> {
  const paths = [...(installed.get(guest) ?? [])];
  if (paths.length > 0) await guest.run(["xargs", "-0", "rm", "-f"], { input: paths.join("\0") });
}

/** A value of Nix. */
export function nixValue(value: unknown): string {
  return `(builtins.fromJSON ${JSON.stringify(JSON.stringify(value)).replaceAll("${", "\\${")})`;
}

function scopeModule({ name, config, target, sidecar }: Wiring): string {
  const { backend, config: settings, secrets, onChange, startTimeout, resident } = parts(config);
  return `({ config, lib, pkgs, ... }: {
    secretsStore.enable = true;
    systemd.services = lib.mkMerge [
      ((import (nix + "/lib/secrets.nix") { inherit pkgs lib config; }).serviceSecretsScope {
        loadSecrets = ${nixValue(secrets)};
        backendConfig = { backend = "${backend}"; config = ${nixValue(settings)}; };
        onChange = ${nixValue(onChange)};
        startTimeout = ${nixValue(startTimeout)};
      resident = ${nixValue(resident)};
      } (_: { ${JSON.stringify(name)} = ${unit(target, target.command)}; }))
      { ${JSON.stringify(`${name}-secrets`)} = ${unit(sidecar)}; }
    ];
  })`;
}

function servicesModule({ name, config, target, sidecar }: Wiring, delivery: NixDelivery): string {
  const { backend, config: settings, secrets, onChange, startTimeout, resident } = parts(config);
  return `{
    secretsStore.enable = true;
    secretsStore.services.${JSON.stringify(name)} = {
      secrets = ${nixValue(secrets)};
      secretsConfig = { backend = "${backend}"; config = ${nixValue(settings)}; };
      delivery = "${delivery}";
      environment = ${String(target.wrap)};
      onChange = ${nixValue(onChange)};
      startTimeout = ${nixValue(startTimeout)};
      resident = ${nixValue(resident)};
    };
    systemd.services.${JSON.stringify(name)} = ${unit(target, target.command)};
    systemd.services.${JSON.stringify(`${name}-secrets`)} = ${unit(sidecar)};
  }`;
}

function parts(config: Wiring["config"]) {
  const { backend, config: settings, secrets, onChange = {}, startTimeout = null, resident = true } = config;
  return { backend: String(backend), config: settings, secrets, onChange, startTimeout, resident };
}

/** Lines of a unit as attributes; a repeated setting makes a list. */
function unit({ unit: unitLines, service }: UnitLines, command?: string): string {
  const all = command === undefined ? service : [...service, `ExecStart=${command}`];
  return `{ unitConfig = ${nixValue(attributes(unitLines))}; serviceConfig = ${nixValue(attributes(all))}; }`;
}

function attributes(lines: readonly string[]): Record<string, string | string[]> {
  const found: Record<string, string | string[]> = {};
  for (const line of lines) {
    const equals = line.indexOf("=");
    const [key, value] = [line.slice(0, equals), line.slice(equals + 1)];
    const before = found[key];
    found[key] = before === undefined ? value : [before, value].flat();
  }
  return found;
}
