/** The names of all units that we make or look for. Only this file derives them from NAME of NAME.json. */

const SERVICE = /\.service$/;

/** Unit names that systemd accepts (unit_name_is_valid(), systemd 252 to 257), except templates. */
const VALID = /^[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\@-]+)?$/;
/** In a unit's name these mean something to systemd, or systemd reads them differently in different settings. */
const SPECIAL = /[@\\:]/g;

const SIDECAR = "-secrets";
const ACT = "-act";
const REFRESH = "-refresh";
const WATCH = "-watch";
const BY_HAND = "fetcher@";

/** The most characters in the name of a unit or a file. */
const LONGEST = 255;
/** With PrivateTmp=, whose directory is `systemd-private-`, the boot's id, `-`, the unit and `-XXXXXX` (252 to 257). */
const LONGEST_PRIVATE = LONGEST - "systemd-private-".length - 32 - "--XXXXXX".length;
/** For a sidecar: another unit may have its name, and other units are named after it. */
const LONGEST_SIDECAR = LONGEST_PRIVATE - "-fetcher-refresh.service".length;
/** For a service: a directory NAME.service.d must be possible. */
const LONGEST_SERVICE = LONGEST - ".service.d".length;

/** @returns what is wrong with the name of a service, or of the file that is named after it. */
export function problemOf(name: string): string | undefined {
  if (name.length > LONGEST_SERVICE)
    return `has ${name.length} characters: systemd can have drop-ins for ${LONGEST_SERVICE} at most`;
  if (/^[^@]+@$/.test(name) && VALID.test(`${name}i`))
    return "is a template: each instance has a file of its own, NAME@INSTANCE.json";
  return VALID.test(name) ? undefined : "is not the name of a service: rename the file after one";
}

/** @param unit with its suffix. */
export function canHaveDropIns(unit: string): boolean {
  return `${unit}.d`.length <= LONGEST;
}

/** @param unit with its suffix. */
export function canHavePrivateTmp(unit: string): boolean {
  return unit.length <= LONGEST_PRIVATE;
}

export function unitOf(name: string): string {
  return `${name}.service`;
}

/** The name of a unit without `.service`. */
export function withoutSuffix(unit: string): string {
  return unit.replace(SERVICE, "");
}

/** The sidecar's unit without `.service`, and its directory below /run. "app@a-secrets" would be an instance of app@.service. */
export function sidecarOf(name: string): string {
  return shortened(name.replaceAll(SPECIAL, "-"), name);
}

/** The same for a name that differs from another file's only in such characters: app@a beside app-a. */
export function otherSidecarOf(name: string): string {
  return shortened(
    name.replaceAll(SPECIAL, (character) => `_${character.charCodeAt(0).toString(16)}`),
    name,
  );
}

/** If the service's name is too long, its sidecar's is cut, and gets a digest of the whole name. */
function shortened(flat: string, name: string): string {
  const usual = `${flat}${SIDECAR}`;
  if (usual.length <= LONGEST_SIDECAR) return usual;
  const digest = process.getBuiltinModule("node:crypto").createHash("sha256").update(name).digest("hex").slice(0, 16);
  const end = `-${digest}${SIDECAR}`;
  return `${flat.slice(0, LONGEST_SIDECAR - end.length)}${end}`;
}

/** Whether the sidecar's name keeps the whole name. */
export function keepsItsName(name: string): boolean {
  return sidecarOf(name) === `${name}${SIDECAR}`;
}

/** The sidecar's name if another unit has the usual one. */
export function insteadOf(sidecar: string): string {
  return sidecar.replace(/-secrets$/, `-fetcher${SIDECAR}`);
}

/** The names of all units of a sidecar. */
export function unitsOf(sidecar: string): readonly string[] {
  const [act, refresh, watch] = [actOf(sidecar), refreshOf(sidecar), watchOf(sidecar)];
  const others = [act, refresh, watch].flatMap((name) => [`${name}.path`, unitOf(name)]);
  return [unitOf(sidecar), ...others, `${refresh}.timer`];
}

/** The unit that acts for a sidecar, without its suffix, and the directory below /run where the sidecar asks for actions. */
export function actOf(sidecar: string): string {
  return `${sidecar}${ACT}`;
}

/** The unit that looks at the store for a sidecar that is not resident, and the directory below /run with its notes. */
export function refreshOf(sidecar: string): string {
  return `${sidecar}${REFRESH}`;
}

/** The unit that notes a change of the store. */
export function watchOf(sidecar: string): string {
  return `${sidecar}${WATCH}`;
}

/** @param unit one that looks at the store. @returns the unit of its sidecar. */
export function lookedFor(unit: string): string {
  return unit.endsWith(unitOf(REFRESH)) ? unitOf(unit.slice(0, -unitOf(REFRESH).length)) : unit;
}

/** The drop-in of a service that a sidecar is for. */
export function dropInOf(target: string, sidecar: string): string {
  return `${target}.d/50-${sidecar}.conf`;
}

/** An instance of the template of examples/systemd, without `.service`. */
export function byHandOf(name: string): string {
  return `${BY_HAND}${name}`;
}

/** Matches all of them. */
export const byHandPattern = unitOf(byHandOf("*"));

/**
 * @param name of a service, or of a sidecar's unit, without `.service`.
 * @returns the possible units of its sidecar; first the one that no other service's sidecar can have.
 */
export function sidecarsFor(name: string): readonly string[] {
  const names = [otherSidecarOf(name), sidecarOf(name)];
  const all = [...names, ...names.map(insteadOf), byHandOf(name), name];
  return [...new Set(all)].map(unitOf);
}

/** The name of the service, as far as its sidecar's unit shows it. */
export function serviceIn(sidecarUnit: string): string {
  const name = withoutSuffix(sidecarUnit);
  return name.startsWith(BY_HAND) ? name.slice(BY_HAND.length) : name.replace(/(?:-fetcher)?-secrets$/, "");
}

/** Undoes systemd-escape(1). */
export function unescaped(text: string): string {
  return text
    .replaceAll("-", "/")
    .replaceAll(/(?:\\x[0-9a-f]{2})+/g, (bytes) => Buffer.from(bytes.replaceAll("\\x", ""), "hex").toString("utf8"));
}
