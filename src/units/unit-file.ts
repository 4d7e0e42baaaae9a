/** A unit file as text: systemd.syntax(7). */

export type Lines = readonly (readonly [option: string, value: string])[];

export interface UnitFile {
  /** Relative to a directory of units: `hello-secrets.service`, `hello.service.d/50-hello-secrets.conf`. */
  readonly path: string;
  /** One line for a person who reads the file. */
  readonly comment: string;
  readonly unit: Lines;
  /** [Path] or [Timer], of a unit that starts another. */
  readonly triggers?: Lines;
  readonly service: Lines;
}

export function textOf({ path, comment, unit, triggers = [], service }: UnitFile): string {
  const section = (name: string, lines: Lines) =>
    lines.length === 0 ? [] : ["", `[${name}]`, ...lines.map(([option, value]) => `${option}=${value}`)];
  return [
    `# ${comment}`,
    ...section("Unit", unit),
    ...section(path.endsWith(".timer") ? "Timer" : "Path", triggers),
    ...section("Service", service),
    "",
  ].join("\n");
}

/** A word of a list, such as a path, for options that know quotes and escapes. A `%` begins a specifier. */
export function word(text: string): string {
  const escaped = text.replaceAll("%", "%%").replaceAll("\\", "\\\\");
  return /[\s"';]/.test(text) ? `"${escaped.replaceAll('"', '\\"')}"` : escaped;
}

/** A word of a command line, in which `$` begins a variable. */
export function argument(text: string): string {
  return word(text).replaceAll("$", "$$$$");
}
