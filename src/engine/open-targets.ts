/** Decides who does the actions of a sidecar, as its unit file says. */
import { AllTargets, type AllTargetsParts } from "../systemd/all-targets.ts";
import type { Systemd } from "../systemd/systemctl.ts";
import type { Targets } from "../systemd/targets.ts";

/** Who starts a broken target again. */
export type Help = Pick<Systemd, "isStopping" | "reviveBoth">;

export interface OpenedTargets {
  readonly targets: Targets;
  readonly help: Help;
}

/** Where another unit acts for this process. */
export type AskAnother = (parts: AllTargetsParts) => Targets & Help;

/** @param ask undefined: this process acts itself. */
export function openTargets(parts: AllTargetsParts, ask: AskAnother | undefined): OpenedTargets {
  if (ask === undefined) return { targets: new AllTargets(parts), help: parts.systemd };
  const asked = ask(parts);
  return { targets: asked, help: asked };
}
