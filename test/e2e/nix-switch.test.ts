/** Upgrades of a NixOS host, in the order of calls of its switch-to-configuration. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Evaluation, type RenderedUnits } from "../nix/evaluation.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { installNix, removeNix } from "./nix-units.ts";
import { jobs, switchTo } from "./switch.ts";

const etc = "/etc/systemd/system";
const evaluation = new Evaluation();

interface Host {
  readonly delivery: "credentials" | "private-tmp";
  /** By a target outside of multi-user.target; else the service was started by hand. */
  readonly wanted: boolean;
  readonly secrets?: string;
  readonly sidecar?: string;
  readonly target?: string;
}
interface Upgrade {
  readonly name: string;
  readonly before: Host;
  readonly after: Host;
}

const reload = "secretsConfig.config.reloadOnChange = true;";
const kept = "stopIfChanged = false;";
const left = "restartIfChanged = false;";
const sidecarChanges = "onChange.splay = 1;";
const targetChanges = `environment.X = "1";`;
const changes: Record<string, [before: Partial<Host>, after: Partial<Host>]> = {
  "the sidecar": [{}, { sidecar: sidecarChanges }],
  "the sidecar, which follows changes": [{ sidecar: reload }, { sidecar: `${reload} ${sidecarChanges}` }],
  "the target": [{}, { target: targetChanges }],
  both: [{}, { sidecar: sidecarChanges, target: targetChanges }],
  "both, with another secret": [
    { sidecar: reload },
    { sidecar: reload, secrets: "one = { }; two = { };", target: targetChanges },
  ],
  "both, where the target is restarted and not stopped": [
    { target: kept },
    { sidecar: sidecarChanges, target: `${kept} ${targetChanges}` },
  ],
  "a service that had no secrets before": [{ secrets: "" }, {}],
};
const upgrades = (["credentials", "private-tmp"] as const)
  .flatMap((delivery) => [true, false].map((wanted) => ({ delivery, wanted })))
  .flatMap((base) => Object.entries(changes).map(([what, [before, after]]) => ({ what, base, before, after })))
  .map(({ what, base, before, after }, index) => ({
    title: `to ${what} leaves both running (${base.delivery}, ${base.wanted ? "" : "not "}wanted by a target)`,
    name: `switch-${index}`,
    before: { ...base, ...before },
    after: { ...base, ...after },
  }));
const last: Upgrade = {
  name: "switch-last",
  before: { delivery: "private-tmp", wanted: false },
  after: { delivery: "private-tmp", wanted: false, secrets: "" },
};
const untouched = (["credentials", "private-tmp"] as const).map((delivery) => ({
  name: `switch-untouched-${delivery}`,
  before: { delivery, wanted: false, target: left },
  after: { delivery, wanted: false, sidecar: sidecarChanges, target: `${left} ${targetChanges}` },
}));

/** All hosts in one evaluation. */
function render({ name }: Upgrade): Record<"before" | "after", RenderedUnits> {
  const hosts = [...upgrades, last, ...untouched].map(
    (one) => `${one.name} = { before = ${units(one.name, one.before)}; after = ${units(one.name, one.after)}; };`,
  );
  const all = evaluation.value(`{ ${hosts.join("\n")} }`) as Record<string, Record<"before" | "after", RenderedUnits>>;
  return all[name] ?? expect.unreachable(name);
}

function units(name: string, { delivery, secrets = "one = { };", sidecar = "", target = "", wanted }: Host): string {
  const given = `secrets = { ${secrets} }; secretsConfig.backend = "folder"; delivery = "${delivery}"; ${sidecar}`;
  return `(host [ (nix + "/modules/secrets-store.nix") {
    secretsStore.enable = true;
    secretsStore.folder.secretsDir = "/etc/secrets";
    secretsStore.services = { ${secrets === "" ? "" : `${name} = { ${given} };`} };
    systemd.services.${name} = {
      ${wanted ? `wantedBy = [ "${name}-switch.target" ];` : ""}
      serviceConfig.ExecStart = "/bin/sleep infinity";
      ${target}
    };
  } ]).units`;
}

onEachGuest(
  "an upgrade",
  (guest) => {
    afterAll(async () => {
      await removeNix(guest);
      await guest.run(["sh", "-c", `rm -rf /etc/secrets ${etc}/switch-*`]);
    });

    /** Hosts as they were before, in one, with the services started. */
    async function begin(...all: readonly Upgrade[]): Promise<Record<"before" | "after", RenderedUnits>> {
      const each = all.map(render);
      const before = Object.assign({}, ...each.map((one) => one.before)) as RenderedUnits;
      const after = Object.assign({}, ...each.map((one) => one.after)) as RenderedUnits;
      await guest.write("/etc/secrets/one", "1", 0o400);
      await guest.write("/etc/secrets/two", "2", 0o400);
      for (const target of all.map(targetOf))
        await guest.write(`${etc}/${target}`, "[Unit]\nDescription=Wants a service\n");
      await installNix(guest, evaluation, before);
      await guest.systemctl("daemon-reload");
      await jobs(guest, "start", [...all.map(targetOf), ...all.map(({ name }) => `${name}.service`)]);
      return { before, after };
    }
    const targetOf = ({ name }: Upgrade) => `${name}-switch.target`;
    const unitsOf = ({ name }: Upgrade) => [`${name}.service`, `${name}-secrets.service`] as const;
    const pids = async (upgrade: Upgrade) =>
      await Promise.all(unitsOf(upgrade).map(async (unit) => await guest.mainPid(unit)));

    // As on a host, one switch changes many services. Where the order of jobs is arbitrary there, half of them have one
    // order here and half the other.
    for (const reversed of [false, true])
      describe(reversed ? "in another order of jobs" : "in one order of jobs", () => {
        const all = upgrades.filter((_, index) => (index % 2 === 1) === reversed);
        let done: readonly string[] = [];
        beforeAll(async () => {
          const { before, after } = await begin(...all);
          done = await switchTo(guest, evaluation, before, after, { targets: all.map(targetOf), reversed });
        }, 600_000);
        afterAll(async () => {
          const services = all.map(({ name }) => `${name}.service`);
          await jobs(guest, "stop", services);
        }, 300_000);

        test.each(all.map((upgrade) => [upgrade.title, upgrade] as const))("%s", async (_, upgrade) => {
          // There was something to do.
          expect(unitsOf(upgrade).filter((unit) => done.some((step) => step.endsWith(` ${unit}`)))).not.toEqual([]);
          for (const unit of unitsOf(upgrade)) {
            await stays(guest, unit);
            expect(await guest.show(unit, "NeedDaemonReload", "Result")).toEqual({
              NeedDaemonReload: "no",
              Result: "success",
            });
          }
        });
      });

    test("removes the sidecar of a service that needs no secrets any more", async () => {
      const { before, after } = await begin(last);
      await switchTo(guest, evaluation, before, after);
      await stays(guest, "switch-last.service");
      expect((await guest.show("switch-last-secrets.service", "LoadState")).LoadState).toBe("not-found");
      await guest.systemctl("stop", "switch-last.service");
    });

    test.each(untouched.map((upgrade) => [upgrade.before.delivery, upgrade] as const))(
      "leaves a pair that must not be restarted alone, until its sidecar restarts (%s)",
      async (_, upgrade) => {
        const { before, after } = await begin(upgrade);
        const running = await pids(upgrade);
        expect(await switchTo(guest, evaluation, before, after)).toEqual([]);
        for (const unit of unitsOf(upgrade)) await stays(guest, unit);
        expect(await pids(upgrade)).toEqual(running);

        await guest.systemctl("restart", `${upgrade.name}-secrets.service`);
        for (const unit of unitsOf(upgrade)) await stays(guest, unit);
        const [target] = await pids(upgrade);
        expect(running).not.toContain(target);
        expect(await guest.text(`tr '\\0' '\\n' </proc/${target}/environ`)).toContain("X=1");
        await guest.systemctl("stop", `${upgrade.name}.service`);
      },
    );
  },
  {},
  ["nix"],
);

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
