/**
 * Whether a unit gets this sidecar's files as credentials: systemd copies them when the unit starts, so a reload would
 * see the old ones. `systemctl show` cannot print LoadCredential= ("[unprintable]"), so this reads the unit's files.
 */
import { readFileSync } from "node:fs";

/**
 * @param files the unit's own file and its drop-ins; an empty name or an unreadable file counts as none.
 * @param ours where this sidecar publishes: its RuntimeDirectory=. Without one, no unit gets copies.
 */
export function getsCopies(
  unit: string,
  files: readonly (string | undefined)[],
  ours = process.env["RUNTIME_DIRECTORY"]?.split(":")[0],
): boolean {
  if (ours === undefined || ours === "") return false;
  return files.some((file) => {
    if (file === undefined || file === "") return false;
    return sources(read(file)).some((path) => `${expand(path, unit)}/`.startsWith(`${ours}/`));
  });
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** PATH of each LoadCredential=ID:PATH. */
function sources(text: string): string[] {
  return [...text.matchAll(/^[ \t]*LoadCredential[ \t]*=[^:\n]*:(.*)$/gm)].map(([, path = ""]) => path.trim());
}

/** The specifiers of systemd.unit(5) that name the unit, and the directory of runtime directories. */
function expand(path: string, unit: string): string {
  const name = unit.replace(/\.service$/, "");
  const at = name.indexOf("@");
  const names: Readonly<Record<string, string>> = {
    "%n": unit,
    "%N": name,
    "%p": at < 0 ? name : name.slice(0, at),
    "%i": at < 0 ? "" : name.slice(at + 1),
    // Only a user's manager gives its units the variable.
    "%t": process.env["XDG_RUNTIME_DIR"] ?? "/run",
    "%%": "%",
  };
  return path.replaceAll(/%./g, (specifier) => names[specifier] ?? specifier);
}
