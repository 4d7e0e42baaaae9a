/** The narrowest sandbox that works for one configuration, as the NixOS module makes it (nix/lib/render.nix). */
import { dirname } from "node:path";
import type { Config } from "../config/config.ts";
import { CONFIG_DIRECTORY } from "../config/one-file.ts";
import { actOf, refreshOf } from "../config/unit-names.ts";
import type { Needs } from "./needs.ts";
import { type Lines, word } from "./unit-file.ts";

/** The host's secrets. */
export const CLOSED: readonly string[] = [
  "/etc/shadow",
  "/etc/gshadow",
  "/etc/ssh",
  "/etc/ssl/private",
  "/etc/credstore",
  "/etc/credstore.encrypted",
];

export const LOADER_VARIABLES =
  "NODE_OPTIONS NODE_PATH NODE_DEBUG NODE_TLS_REJECT_UNAUTHORIZED DEBUG HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy";

/**
 * A user's manager cannot make the namespaces that the system's makes: 252 ignores them, and 257 makes them in a user
 * namespace, in which root's directories seem to belong to the user nobody. These settings need no privilege.
 */
const WITHOUT_ROOT = new Set([
  ...["LimitCORE", "MemorySwapMax", "MemoryMax", "OOMPolicy", "UMask", "UnsetEnvironment", "NoNewPrivileges"],
  ...["LockPersonality", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "RestrictAddressFamilies"],
  ...["SystemCallArchitectures", "SystemCallFilter"],
]);

export function withoutRoot(lines: Lines): Lines {
  return lines.filter(([option]) => WITHOUT_ROOT.has(option));
}

/** @param own paths in /etc/fetcher that are this sidecar's. */
export function sandbox(config: Config, needs: Needs, runtimeDirectory: string, own: readonly string[]): Lines {
  const reads = [...needs.replaced, ...config.templates.map(({ path }) => path)];
  const owners = [...config.secrets, ...config.templates].some(
    ({ owner, group }) => owner !== undefined || group !== undefined,
  );
  const hidesRun = !needs.everything && !reads.some((path) => isBelow(path, "/run"));
  const hidesVar = !needs.everything && !reads.some((path) => dirname(path) === "/var");
  const hidden = [
    ...(hidesRun ? ["/run"] : []),
    // The sidecar sees nothing of systemd and D-Bus but the socket below.
    ...(hidesRun ? [] : ["/run/systemd"]),
    ...(hidesVar ? ["/var"] : []),
    ...(needs.everything ? [] : [CONFIG_DIRECTORY]),
  ];
  // The directory above each, so that the sidecar sees it when the path itself is replaced.
  const above = reads.map(dirname).filter((path) => isBelow(path, "/var") || isBelow(path, CONFIG_DIRECTORY));
  const shown = [...new Set([...own, ...above, ...needs.stays])].map((path) => `-${word(path).replaceAll(":", "\\:")}`);
  const closed = without(CLOSED, reads);
  const homes = needs.home || reads.some((path) => isBelow(path, "/home") || isBelow(path, "/root"));
  return [
    ["LimitCORE", "0"],
    ["MemorySwapMax", "0"],
    // The last limit, behind those on what a store may send. A command that takes too much fails on its own.
    ["MemoryMax", "1G"],
    ["OOMPolicy", "continue"],
    ["UMask", "0077"],
    ["UnsetEnvironment", LOADER_VARIABLES],
    ["TemporaryFileSystem", hidden.map((path) => `${path}:ro`).join(" ")],
    ["BindPaths", `/run/${word(runtimeDirectory)}`],
    // The sidecar asks for actions there. It may not write what the unit that acts puts beside it.
    ["BindPaths", `/run/${word(actOf(runtimeDirectory))}/inbox`],
    ["BindReadOnlyPaths", `/run/${word(actOf(runtimeDirectory))}`],
    // Not their parent: there the sidecar could replace one with a link, and lead systemd or the service that notes a
    // change as root elsewhere.
    ...(config.onDemand
      ? ["inbox", "ways"].map((name) => ["BindPaths", `/run/${word(refreshOf(runtimeDirectory))}/${name}`] as const)
      : []),
    // READY=1 and STATUS= go there. systemd keeps it across a reexec. Access to its other sockets amounts to root.
    ["BindReadOnlyPaths", "/run/systemd/notify"],
    ...(hidesRun ? ([["BindReadOnlyPaths", "-/run/nscd"]] as const) : []),
    // For name resolution.
    ...(needs.network ? ([["BindReadOnlyPaths", "-/run/systemd/resolve"]] as const) : []),
    ...(hidesRun && needs.network ? ([["BindReadOnlyPaths", "-/run/resolvconf -/run/NetworkManager"]] as const) : []),
    ...(needs.everything ? [] : shown.map((path) => ["BindReadOnlyPaths", path] as const)),
    ["InaccessiblePaths", closed.map((place) => `-${place}`).join(" ")],
    ...(hidesRun ? [] : ([["InaccessiblePaths", "-/run/credentials -/run/dbus -/run/user"]] as const)),
    ...(needs.network ? ([["InaccessiblePaths", "-/run/NetworkManager/system-connections"]] as const) : []),
    ["ProtectHome", homes ? "read-only" : "yes"],
    ["ProtectProc", "invisible"],
    ["PrivateUsers", "identity"],
    // With an owner, the sidecar gives a file away.
    ["CapabilityBoundingSet", owners ? "CAP_CHOWN CAP_DAC_READ_SEARCH" : "CAP_DAC_READ_SEARCH"],
    ...hardening,
    ["PrivateNetwork", needs.network ? "no" : "yes"],
    ...(needs.network ? [] : ([["IPAddressDeny", "any"]] as const)),
    ["RestrictAddressFamilies", needs.network ? "AF_UNIX AF_INET AF_INET6" : "AF_UNIX"],
    ["SystemCallArchitectures", "native"],
    ["SystemCallFilter", "@system-service @pkey"],
    ["SystemCallFilter", "~@privileged @resources"],
    ["SystemCallFilter", owners ? "@chown" : "~@chown:EPERM"],
  ];
}

/** Closes what neither a sidecar nor the unit that acts for one needs. */
export const hardening = [
  ["NoNewPrivileges", "yes"],
  ["ProtectSystem", "strict"],
  ["ProtectClock", "yes"],
  ["ProtectHostname", "yes"],
  ["ProtectKernelLogs", "yes"],
  ["ProtectKernelModules", "yes"],
  ["ProtectKernelTunables", "yes"],
  ["ProtectControlGroups", "yes"],
  ["PrivateDevices", "yes"],
  ["LockPersonality", "yes"],
  ["RestrictNamespaces", "yes"],
  ["RestrictRealtime", "yes"],
  ["RestrictSUIDSGID", "yes"],
] as const;

function isBelow(path: string, above: string): boolean {
  return path.startsWith(`${above}/`);
}

/** @returns the places that are not one of these paths and not above one. */
export function without(places: readonly string[], paths: readonly string[]): readonly string[] {
  return places.filter((place) => !paths.some((path) => path === place || isBelow(path, place)));
}
