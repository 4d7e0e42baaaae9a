/**
 * A stand-in for NixOS's switch-to-configuration, after its source (NixOS/nixpkgs,
 * pkgs/by-name/sw/switch-to-configuration-ng/src/main.rs: collect_unit_changes, compare_units, handle_modified_unit and
 * do_system_switch, read in 2026), for service units.
 *
 * It looks at units that are active or activating. It stops those whose file has gone. Those that differ in anything
 * that matters it leaves alone (X-RestartIfChanged=false), restarts (X-StopIfChanged=false), or stops and starts; where
 * only ExecReload= differs, it reloads them. Then it does this, and waits for each step: stop all, activate (the
 * files), reset-failed, daemon-reload, reload all, restart all by their names, start all, together with every active
 * target. Stops and starts are in no particular order.
 */
import type { Evaluation, RenderedUnits } from "../nix/evaluation.ts";
import type { Guest } from "./guest.ts";
import { installNix } from "./nix-units.ts";

interface SwitchOptions {
  /** Targets that are active. */
  readonly targets?: readonly string[];
  /** Another order, where the real one is arbitrary. */
  readonly reversed?: boolean;
}

type Step = "stop" | "reload" | "restart" | "start";

/** @returns the calls for all units but those targets, in their order: `restart a.service`. */
export async function switchTo(
  guest: Guest,
  evaluation: Evaluation,
  before: RenderedUnits,
  after: RenderedUnits,
  { targets = [], reversed = false }: SwitchOptions = {},
): Promise<string[]> {
  const steps: Record<Step, string[]> = { stop: [], reload: [], restart: [], start: [...targets] };
  const gone: string[] = [];
  const running = await active(guest, Object.keys(before));
  for (const [unit, { text }] of Object.entries(before)) {
    if (!running.has(unit)) continue;
    const next = after[unit]?.text;
    if (next === undefined) gone.push(unit);
    for (const step of next === undefined ? (["stop"] as const) : stepsFor(text, next)) steps[step].push(unit);
  }
  const all = async (verb: Step, units: readonly string[]) => {
    if (units.length > 0) await jobs(guest, verb, units);
  };
  const anyOrder = (units: readonly string[]) => (reversed ? units.toReversed() : units);

  await all("stop", anyOrder(steps.stop));
  for (const unit of gone) await guest.run(["rm", `/etc/systemd/system/${unit}`]);
  await installNix(guest, evaluation, after);
  await guest.systemctl("reset-failed");
  await guest.systemctl("daemon-reload");
  await all("reload", steps.reload.toSorted());
  await all("restart", steps.restart.toSorted());
  await all("start", anyOrder(steps.start));
  return (["stop", "reload", "restart", "start"] as const).flatMap((step) =>
    steps[step].filter((unit) => !targets.includes(unit)).map((unit) => `${step} ${unit}`),
  );
}

/** Waits for all of them, which may be dozens on a busy machine. */
export async function jobs(guest: Guest, verb: Step, units: readonly string[]): Promise<void> {
  await guest.run(["systemctl", verb, ...units], { timeout: 240 });
}

async function active(guest: Guest, units: readonly string[]): Promise<Set<string>> {
  const shown = await guest.text(["systemctl", "show", "--property=Id,ActiveState", "--", ...units]);
  const blocks = shown.split("\n\n").filter((block) => /^ActiveState=(active|activating)$/m.test(block));
  return new Set(blocks.map((block) => /^Id=(.*)$/m.exec(block)?.[1] ?? ""));
}

/** Keys of [Unit] that change nothing in the running unit. */
const ignored = new Set(
  [
    ["X-Reload-Triggers", "Description", "Documentation", "OnFailure", "OnSuccess", "OnFailureJobMode", "SourcePath"],
    ["IgnoreOnIsolate", "StopWhenUnneeded", "RefuseManualStart", "RefuseManualStop", "AllowIsolate", "CollectMode"],
  ]
    .flat()
    .map((key) => `Unit.${key}`),
);

function stepsFor(before: string, after: string): readonly Step[] {
  const [old, now] = [parse(before), parse(after)];
  const keys = [...new Set([...old.keys(), ...now.keys()])].filter((key) => !ignored.has(key));
  const differing = keys.filter((key) => String(old.get(key)) !== String(now.get(key)));
  if (differing.length === 0) return [];
  if (differing.every((key) => key === "Service.ExecReload")) return now.has("Service.ExecReload") ? ["reload"] : [];
  const says = (key: string) => now.get(`Service.${key}`)?.at(-1);
  if (says("X-ReloadIfChanged") === "true") return ["reload"];
  if (says("X-RestartIfChanged") === "false") return [];
  return says("X-StopIfChanged") === "false" ? ["restart"] : ["stop", "start"];
}

/** `Section.Key` → its values. */
function parse(text: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  let section = "";
  for (const line of text.split("\n")) {
    section = /^\[(.*)\]$/.exec(line)?.[1] ?? section;
    const [, key, value] = /^([^=[#]+)=(.*)$/.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    found.set(`${section}.${key}`, value === "" ? [] : [...(found.get(`${section}.${key}`) ?? []), value]);
  }
  return found;
}
