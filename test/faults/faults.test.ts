/**
 * Every file system call of a start, a rotation, a repair, an adoption and an end fails once, fails for ever, or is the
 * last one of the process's life. `npm run faults` tries all of them; without it, the test tries a sample, which
 * FETCHER_FAULTS_SEED repeats. A whole phase takes long: FETCHER_FAULTS_PART=2/5 tries the second of each five,
 * FETCHER_FAULTS_FROM=99 begins with that call, and FETCHER_FAULTS_ONLY="ENOENT once" tries those that match.
 */
import { availableParallelism } from "node:os";
import { describe, expect } from "vitest";
import { needs } from "../requirements.ts";
import { Ledger, type Verdict } from "./ledger.ts";
import { type Fault, errors } from "./shim.ts";
import { Scene } from "./scene.ts";
import { type Phase, phases } from "./phases.ts";

/** Milliseconds. */
const MINUTES = 60_000;
/** Injections of each phase. */
const SAMPLE = 8;
const [part = 1, parts = 1] = (process.env["FETCHER_FAULTS_PART"] ?? "1/1").split("/").map(Number);
const from = Number(process.env["FETCHER_FAULTS_FROM"] ?? 1);
const only = new RegExp(process.env["FETCHER_FAULTS_ONLY"] ?? "");
const wanted = process.env["FETCHER_FAULTS"] === "all" ? Infinity : Number(process.env["FETCHER_FAULTS"] ?? SAMPLE);

needs("gcc").describe("a fault of the file system", () => {
  const ledger = new Ledger(process.env["FETCHER_FAULTS_SEED"]);

  describe.each(Object.entries(phases))("at %s", (name, phase) => {
    needs("gcc").test(
      "is logged with its path and code, does not end a running sidecar, and ends with its cause",
      async () => {
        const scenes = Array.from({ length: sideBySide(phase) }, () => new Scene());
        const calls = Math.max(...(await Promise.all(scenes.map((scene) => phase.count(scene)))));
        expect(calls).toBeGreaterThan(10);
        const all = Array.from({ length: calls }, (_, index) => index + 1)
          .flatMap((nth): Fault[] => [
            ...errors.flatMap((error) => (["once", "forever"] as const).map((how) => ({ nth, how, error }))),
            { nth, how: "kill" },
          ])
          .filter((fault, index) => fault.nth >= from && index % parts === part - 1 && only.test(wordsOf(fault)));
        // Some lives make fewer calls than the counted one: a fault after their last call is not injected.
        const left = wanted === Infinity ? all : ledger.sample(all, 3 * wanted);
        const work = async (scene: Scene) => {
          while (ledger.injected(name) < wanted) {
            const fault = left.shift();
            if (fault === undefined) return;
            await ledger.enter(name, fault, () => injectInto(phase, scene, fault));
          }
        };
        await Promise.all(scenes.map(work));
        console.log(ledger.summary(name, calls));
        expect(ledger.failures(name)).toEqual([]);
        expect(ledger.injected(name)).toBeGreaterThan(Math.min(wanted, all.length) / 2);
      },
      60 * MINUTES,
    );
  });
});

/** The sidecars wait more than they work: as many scenes as keep the processors busy. A sample is not worth many. */
function sideBySide({ scenes }: Phase): number {
  return Math.ceil(Math.min(scenes * availableParallelism(), wanted / 2));
}

function wordsOf(fault: Fault): string {
  return fault.how === "kill" ? "kill" : `${fault.error} ${fault.how}`;
}

/** What never comes is one failure among the others, and the next injection begins from nothing. */
async function injectInto(phase: Phase, scene: Scene, fault: Fault): Promise<Verdict> {
  try {
    return await phase.inject(scene, fault);
  } catch (error) {
    const { what } = scene.control.disarm();
    await scene.clear(true);
    return { what, broken: [String(error)] };
  }
}
