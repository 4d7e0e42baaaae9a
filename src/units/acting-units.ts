/**
 * The units that act for a sidecar, which itself may not talk to systemd. The path unit starts the service as soon as
 * something is in the inbox. The service sees systemd, but no store, no secret and no network.
 */
import type { Config } from "../config/config.ts";
import { actOf, unitOf } from "../config/unit-names.ts";
import type { Needs } from "./needs.ts";
import { CLOSED, hardening, LOADER_VARIABLES } from "./sandbox.ts";
import { type Lines, type UnitFile, word } from "./unit-file.ts";

/** These directories are hidden as a whole. */
const HIDDEN = ["/run", "/var", "/home", "/root", "/etc/fetcher"];

export interface ActingUnitsOptions {
  readonly comment: string;
  /** The sidecar's unit without `.service`. */
  readonly sidecar: string;
  /** Below /run. */
  readonly runtimeDirectory: string;
  /** The configuration. */
  readonly file: string;
  readonly command: string;
  /** Lines that all services of this program have. */
  readonly program: Lines;
}

export function actingUnits(config: Config, needs: Needs, options: ActingUnitsOptions): readonly UnitFile[] {
  const { comment, sidecar, runtimeDirectory, file } = options;
  const description = `Actions for the secrets of ${config.targets.join(" ").replaceAll("%", "%%")}`;
  const common: Lines = [
    ["Description", description],
    ["Documentation", "man:fetcher(8)"],
    ["SourcePath", file.replaceAll("%", "%%")],
  ];
  return [
    {
      path: `${actOf(sidecar)}.path`,
      comment,
      unit: [
        ...common,
        // Before= also refers to the sidecar's unit: systemd 254+ may unload a unit that nothing refers to while its
        // directory is still there. No PartOf=: a path unit that is to stop starts nothing, and a sidecar that stops
        // may have a target started again.
        ["Before", unitOf(sidecar)],
        ["StopWhenUnneeded", "yes"],
      ],
      triggers: [
        // systemd starts the service again while something is there: no request is lost that comes as it ends.
        ["DirectoryNotEmpty", `/run/${actOf(runtimeDirectory)}/inbox`],
        // A limit would end the path unit, and with it all actions.
        ["TriggerLimitIntervalSec", "0"],
      ],
      service: [],
    },
    {
      path: unitOf(actOf(sidecar)),
      comment,
      unit: [...common, ["StartLimitIntervalSec", "0"]],
      service: service(needs, options),
    },
  ];
}

function service(needs: Needs, options: ActingUnitsOptions): Lines {
  const { runtimeDirectory, file, command, program } = options;
  const isIn = (path: string, places: readonly string[]) => places.some((place) => `${path}/`.startsWith(`${place}/`));
  const stores = [...needs.replaced, ...needs.stays].filter((path) => !isIn(path, [...HIDDEN, ...CLOSED]));
  const closed = [...CLOSED, ...stores].map((path) => `-${word(path)}`);
  return [
    // Not oneshot: while a start is in progress, systemd does not by itself stop a unit if that would end the start
    // too, and its own state stays `starting`. The service does not end with the sidecar, but when the inbox is gone.
    ["Type", "exec"],
    ["ExecStart", command],
    // An action that is due stays due.
    ["Restart", "on-failure"],
    ["RestartSec", "10"],
    ["LimitCORE", "0"],
    ["MemorySwapMax", "0"],
    ["MemoryMax", "256M"],
    ["UMask", "0077"],
    ["UnsetEnvironment", LOADER_VARIABLES],
    ["PrivateTmp", "yes"],
    ["TemporaryFileSystem", "/run:ro /var:ro /etc/fetcher:ro"],
    // The sidecar may have stopped, and its directories may be gone.
    ["BindPaths", `-/run/${word(actOf(runtimeDirectory))}`],
    ["BindReadOnlyPaths", "/run/systemd:/run/systemd:norbind -/run/dbus"],
    ["BindReadOnlyPaths", `-${word(file).replaceAll(":", "\\:")}`],
    ["InaccessiblePaths", closed.join(" ")],
    ["ProtectHome", "yes"],
    ["ProtectProc", "invisible"],
    ["PrivateUsers", "identity"],
    // The service uses neither capability. But before systemd 257, which brought PrivateUsers=identity, a sidecar may
    // look into each process of root that has no capability beyond the sidecar's two (ptrace(2)), and would find
    // systemd's socket there. There are two because a container may keep only one of them.
    ["CapabilityBoundingSet", "CAP_NET_BROADCAST CAP_NET_BIND_SERVICE"],
    ...hardening,
    ["PrivateNetwork", "yes"],
    ["IPAddressDeny", "any"],
    ["RestrictAddressFamilies", "AF_UNIX"],
    ["SystemCallArchitectures", "native"],
    ["SystemCallFilter", "@system-service @pkey"],
    ["SystemCallFilter", "~@privileged @resources"],
    // Last: the first SystemCallFilter= decides whether the list allows or denies.
    ...program,
  ];
}
