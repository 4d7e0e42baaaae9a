/**
 * The units that act for a sidecar, which may not talk to systemd itself: as soon as there is something in the inbox, the path
 * unit starts the service. It sees systemd, and neither a store nor a secret nor a network.
 */
import type { Config } from "../config/config.ts";
import { actOf, unitOf } from "../config/unit-names.ts";
import type { Needs } from "./needs.ts";
import { CLOSED, hardening, LOADER_VARIABLES } from "./sandbox.ts";
import { type Lines, type UnitFile, word } from "./unit-file.ts";

/** What is out of sight as a whole. */
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
        // As it says so itself, it refers to the sidecar's unit, which systemd 254+ may unload with its directory still there where nothing
        // does. And no PartOf=: one that is to stop starts nothing, and a sidecar that stops may have a target started again.
        ["Before", unitOf(sidecar)],
        ["StopWhenUnneeded", "yes"],
      ],
      triggers: [
        // As long as something is there, it is started again: nothing is lost that comes while it ends.
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
    // Not oneshot: as long as a start is in progress, systemd stops nothing of its own accord that would end it too, and calls itself
    // starting. Nor does it end with the sidecar but when it sees that the inbox is gone.
    ["Type", "exec"],
    ["ExecStart", command],
    // What is due stays due.
    ["Restart", "on-failure"],
    ["RestartSec", "10"],
    ["LimitCORE", "0"],
    ["MemorySwapMax", "0"],
    ["MemoryMax", "256M"],
    ["UMask", "0077"],
    ["UnsetEnvironment", LOADER_VARIABLES],
    ["PrivateTmp", "yes"],
    ["TemporaryFileSystem", "/run:ro /var:ro /etc/fetcher:ro"],
    // The sidecar may have stopped, and its directories be gone.
    ["BindPaths", `-/run/${word(actOf(runtimeDirectory))}`],
    ["BindReadOnlyPaths", "/run/systemd:/run/systemd:norbind -/run/dbus"],
    ["BindReadOnlyPaths", `-${word(file).replaceAll(":", "\\:")}`],
    ["InaccessiblePaths", closed.join(" ")],
    ["ProtectHome", "yes"],
    ["ProtectProc", "invisible"],
    ["PrivateUsers", "identity"],
    // Neither is of use here. But where systemd has no PrivateUsers=identity (before 257), a sidecar may look into each process of root's
    // that has no more than its own two (ptrace(2)), and would find systemd's socket in there. Containers leave one or the other.
    ["CapabilityBoundingSet", "CAP_NET_BROADCAST CAP_NET_BIND_SERVICE"],
    ...hardening,
    ["PrivateNetwork", "yes"],
    ["IPAddressDeny", "any"],
    ["RestrictAddressFamilies", "AF_UNIX"],
    ["SystemCallArchitectures", "native"],
    ["SystemCallFilter", "@system-service @pkey"],
    ["SystemCallFilter", "~@privileged @resources"],
    // Last: the first SystemCallFilter= decides whether it is what is allowed or what is not.
    ...program,
  ];
}
