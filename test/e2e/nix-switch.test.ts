/**
 * Upgrades of a NixOS host. The order of calls is that of switch-to-configuration (NixOS/nixpkgs,
 * pkgs/by-name/sw/switch-to-configuration-ng, main.rs, do_system_switch and handle_modified_unit, read in 2026): of the
 * active units, those whose file has gone are stopped; those whose file differs are stopped and started, or, with
 * X-StopIfChanged=false, restarted. Then, each waited for: stop all, activate (the files), reset-failed, daemon-reload,
 * restart all, start all, together with every active target.
 */
import { afterAll, expect, test } from "vitest";
import { Evaluation, type RenderedUnits } from "../nix/evaluation.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { installNix, removeNix } from "./nix-units.ts";

const etc = "/etc/systemd/system";

onEachGuest(
  "an upgrade",
  (guest) => {
    const evaluation = new Evaluation();
    afterAll(async () => {
      await removeNix(guest);
    });

    interface Host {
      readonly delivery: "credentials" | "private-tmp";
      readonly secrets?: string;
      readonly sidecar?: string;
      readonly target?: string;
      readonly wanted: boolean;
    }
    const render = ({ delivery, secrets = "one = { };", sidecar = "", target = "", wanted }: Host, name: string) =>
      evaluation.units(`{
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "/etc/secrets";
        secretsStore.services = ${
          secrets === ""
            ? "{ }"
            : `{ ${name} = { secrets = { ${secrets} }; secretsConfig.backend = "folder"; delivery = "${delivery}"; ${sidecar} }; }`
        };
        systemd.services.${name} = {
          ${wanted ? `wantedBy = [ "${name}-switch.target" ];` : ""}
          serviceConfig.ExecStart = "/bin/sleep infinity";
          ${target}
        };
      }`);

    const reload = "secretsConfig.config.reloadOnChange = true;";
    const change: Record<string, [before: Partial<Host>, after: Partial<Host>]> = {
      "the sidecar": [{}, { sidecar: "onChange.splay = 1;" }],
      "the sidecar, which follows changes": [{ sidecar: reload }, { sidecar: `${reload} onChange.splay = 1;` }],
      "the target": [{}, { target: `environment.X = "1";` }],
      both: [{}, { sidecar: "onChange.splay = 1;", target: `environment.X = "1";` }],
      "both, with another secret": [
        { sidecar: reload },
        { sidecar: reload, secrets: "one = { }; two = { };", target: `environment.X = "1";` },
      ],
      "both, where the target is restarted and not stopped": [
        { target: "stopIfChanged = false;" },
        { sidecar: "onChange.splay = 1;", target: `stopIfChanged = false; environment.X = "1";` },
      ],
      "a service that had no secrets before": [{ secrets: "" }, {}],
    };

    let count = 0;
    for (const delivery of ["credentials", "private-tmp"] as const)
      for (const wanted of [true, false])
        for (const [what, [before, after]] of Object.entries(change))
          test(`of ${what} ends with both running (${delivery}, ${wanted ? "" : "not "}wanted by a target)`, async () => {
            const name = `switch-${(count += 1)}`;
            const base = { delivery, wanted };
            await guest.write("/etc/secrets/one", "1", 0o400);
            await guest.write("/etc/secrets/two", "2", 0o400);
            await guest.write(`${etc}/${name}-switch.target`, "[Unit]\nDescription=Wants a service\n");
            const old = render({ ...base, ...before }, name);
            await installNix(guest, evaluation, old);
            await guest.systemctl("daemon-reload");
            await guest.systemctl("start", `${name}-switch.target`, `${name}.service`);

            await switchTo(guest, evaluation, old, render({ ...base, ...after }, name), [`${name}-switch.target`]);

            for (const unit of [`${name}.service`, `${name}-secrets.service`]) {
              await stays(guest, unit);
              expect(await guest.show(unit, "NeedDaemonReload", "Result")).toEqual({
                NeedDaemonReload: "no",
                Result: "success",
              });
            }
            await guest.systemctl("stop", `${name}.service`);
          });

    test("of a service that needs no secrets any more ends without the sidecar", async () => {
      const base = { delivery: "private-tmp", wanted: false } as const;
      await guest.write("/etc/secrets/one", "1", 0o400);
      const old = render(base, "switch-last");
      await installNix(guest, evaluation, old);
      await guest.systemctl("daemon-reload");
      await guest.systemctl("start", "switch-last.service");
      await switchTo(guest, evaluation, old, render({ ...base, secrets: "" }, "switch-last"), []);
      await stays(guest, "switch-last.service");
      expect((await guest.show("switch-last-secrets.service", "LoadState")).LoadState).toBe("not-found");
      await guest.systemctl("stop", "switch-last.service");
    });
  },
  {},
  ["nix", "nixpkgs-lib"],
);

async function switchTo(
  guest: Guest,
  evaluation: Evaluation,
  before: RenderedUnits,
  after: RenderedUnits,
  targets: readonly string[],
): Promise<void> {
  const active: string[] = [];
  for (const unit of Object.keys(before))
    if ((await guest.show(unit, "ActiveState")).ActiveState !== "inactive") active.push(unit);
  const gone = active.filter((unit) => after[unit] === undefined);
  const changed = active.filter((unit) => after[unit] !== undefined && after[unit].text !== before[unit]?.text);
  const restart = changed.filter((unit) => after[unit]?.text.includes("X-StopIfChanged=false"));
  const stopAndStart = changed.filter((unit) => !restart.includes(unit));
  expect([...gone, ...changed]).not.toEqual([]);

  const all = async (verb: string, units: readonly string[]) => {
    if (units.length > 0) await guest.systemctl(verb, ...units);
  };
  await all("stop", [...gone, ...stopAndStart]);
  for (const unit of gone) await guest.run(["rm", `${etc}/${unit}`]);
  await installNix(guest, evaluation, after);
  await guest.systemctl("reset-failed");
  await guest.systemctl("daemon-reload");
  await all("restart", restart);
  await all("start", [...stopAndStart, ...targets]);
}

/** Active, with the same process at three looks in a row: a sidecar that nothing needs would be on its way out. */
async function stays(guest: Guest, unit: string): Promise<void> {
  let seen: string[] = [];
  await guest.until(
    `${unit} runs and stays`,
    async () => {
      const { ActiveState, MainPID, Job } = await guest.show(unit, "ActiveState", "MainPID", "Job");
      return `${ActiveState} ${MainPID} ${Job}`;
    },
    (now) => {
      seen = [...seen, now].slice(-3);
      return seen.length === 3 && seen.every((one) => one === now) && /^active [1-9]\d* 0?$/.test(now);
    },
  );
}
