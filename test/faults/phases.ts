/** The phases of a sidecar's life that get faults, and what must hold of each. */
import * as fs from "node:fs";
import { type Daemon, eventually, type LogLine, logLines } from "../process/daemon.ts";
import type { Verdict } from "./ledger.ts";
import type { Scene } from "./scene.ts";
import type { Fault } from "./shim.ts";

export interface Phase {
  /** How many of them keep one processor busy. */
  readonly scenes: number;
  /** @returns the number of calls when all is well. */
  count(scene: Scene): Promise<number>;
  inject(scene: Scene, fault: Fault): Promise<Verdict>;
}

const sysexits = [66, 69, 73, 74, 77, 78];

export const phases: Readonly<Record<string, Phase>> = {
  start: starting({
    prepare: async (scene) => {
      scene.withoutForeign();
      await scene.clear(false);
    },
    old: () => undefined,
  }),
  rotation: reloading((scene) => {
    scene.next();
  }),
  repair: reloading((scene, fault) => {
    // After a kill, another life comes.
    scene.damage(fault?.how === "kill");
  }),
  adoption: starting({
    // The file may be on its way: the store gets 5 s.
    scenes: 8,
    prepare: async (scene) => {
      const path = `${scene.place.store}/a`;
      if (fs.existsSync(`${path}.away`)) fs.renameSync(`${path}.away`, path);
      await scene.beginFrom("published", () => scene.running());
      fs.renameSync(path, `${path}.away`);
    },
    old: (scene) => scene.generation,
    // The next life need not wait for it.
    again: (scene) => {
      scene.place.age();
    },
    after: async (scene) => {
      const path = `${scene.place.store}/a`;
      fs.renameSync(`${path}.away`, path);
      await scene.reload();
    },
  }),
  restart: starting({
    prepare: async (scene) => {
      const isFirst = await scene.beginFrom("published", () => scene.running());
      if (!isFirst) return;
      scene.next();
      scene.drop();
    },
    old: (scene) => scene.generation - 1,
    after: async (scene) => {
      // Only the next start drops what a failed first publish leaves in use.
      await scene.end();
      await scene.start().ready();
    },
  }),
  recovery: starting({
    prepare: async (scene) => {
      await scene.beginFrom("crashed", () => crash(scene));
    },
    old: (scene) => scene.generation - 1,
  }),
  end: {
    scenes: 2,
    async count(scene) {
      await scene.learn();
      const daemon = await scene.running();
      scene.control.arm();
      await daemon.end();
      return scene.control.disarm().calls;
    },
    async inject(scene, fault) {
      const daemon = await scene.running();
      const lines = daemon.lines.length;
      scene.control.arm(fault);
      await daemon.end();
      const { injected, what } = scene.control.disarm();
      if (injected === 0) return undefined;
      // An output that seems to be gone needs no message.
      const seemsGone = fault.how === "forever" && fault.error === "ENOENT";
      const broken = await said(daemon, lines, fault, !seemsGone && scene.remains.length > 0);
      // A part of the set is gone, and the rest is whole.
      note(broken, scene.consistencyProblem(undefined));
      await heal(scene, broken);
      return { what, broken };
    },
  },
};

interface Beginning {
  /** As of a phase; 2 by default. */
  readonly scenes?: number;
  readonly prepare: (scene: Scene) => Promise<void>;
  /** The generation that was published before; undefined: none. */
  readonly old: (scene: Scene) => number | undefined;
  /** Before another life, where the first has ended. */
  readonly again?: (scene: Scene) => void;
  /** Restores what was missing. */
  readonly after?: (scene: Scene) => Promise<void>;
}

function starting({ scenes = 2, prepare, old, again, after }: Beginning): Phase {
  return {
    scenes,
    async count(scene) {
      await scene.learn();
      await prepare(scene);
      scene.control.arm();
      await scene.start().ready();
      await scene.atRest();
      const { calls } = scene.control.disarm();
      await after?.(scene);
      return calls;
    },
    async inject(scene, fault) {
      await prepare(scene);
      scene.control.arm(fault);
      const daemon = scene.start();
      const isOver = () => !daemon.running || daemon.lines.some(({ message }) => message.startsWith("ready:"));
      const isTold = () => fault.how === "forever" && daemon.lines.some(({ priority }) => priority <= 4);
      await eventually("READY, an end, or a word about the fault", () => isOver() || isTold());
      const { injected, what } = await scene.rested(fault);
      await eventually(`READY or an end after ${what}\n${daemon.stderr}`, isOver);
      const broken: string[] = [];
      if (injected > 0) {
        broken.push(...(await said(daemon, 0, fault, !daemon.running)));
        note(broken, scene.consistencyProblem(old(scene)));
      }
      if (!daemon.running) {
        again?.(scene);
        await scene.start().ready();
      }
      await after?.(scene);
      await heal(scene, broken);
      return injected === 0 ? undefined : { what, broken };
    },
  };
}

function reloading(change: (scene: Scene, fault?: Fault) => void): Phase {
  return {
    scenes: 2,
    async count(scene) {
      await scene.learn();
      await scene.running();
      scene.control.arm();
      change(scene);
      await scene.reload();
      await scene.atRest();
      return scene.control.disarm().calls;
    },
    async inject(scene, fault) {
      const daemon = await scene.running();
      const old = scene.generation;
      const lines = daemon.lines.length;
      change(scene, fault);
      const isRotation = scene.generation !== old;
      scene.control.arm(fault);
      daemon.signal("SIGHUP");
      const isOver = () =>
        !daemon.running || daemon.lines.slice(lines).some(({ message }) => /^(published|fetched again)/.test(message));
      await eventually("the end of a reload", isOver);
      const { injected, what } = await scene.rested(fault);
      const broken: string[] = [];
      if (injected > 0) {
        const isBehind =
          !daemon.running || daemon.lines.slice(lines).some(({ message }) => message.includes("nothing new"));
        broken.push(...(await said(daemon, lines, fault, isBehind)));
        if (isRotation) note(broken, scene.consistencyProblem(old));
        if (!daemon.running && fault.how !== "kill") broken.push("it ended");
      }
      const isFailed = daemon.lines.slice(lines).some(({ message }) => message.includes("are not published"));
      // Some phases need no request: the sidecar tries again by itself. If a store refuses for good, a person asks
      // again.
      const refuses = fault.how === "forever" && fault.error === "EACCES";
      if (daemon.running && isFailed && !refuses && fault.nth % 7 === 0)
        await eventually(`the set by itself after ${what}`, () => scene.restProblem() === undefined);
      await heal(scene, broken);
      return injected === 0 ? undefined : { what, broken };
    },
  };
}

/** A publish that a kill cut off among its renames. */
async function crash(scene: Scene): Promise<void> {
  const daemon = await scene.running();
  scene.next();
  scene.control.arm({ nth: 3, how: "kill", of: `rename ${scene.place.output}/.fetcher-commit-` });
  daemon.signal("SIGHUP");
  await daemon.exit;
  scene.control.disarm();
  if (!fs.readdirSync(scene.place.output).some((name) => name.startsWith(".fetcher-commit-")))
    throw new Error("the kill did not come between two renames");
}

/** Checks that all is well again once the fault is gone. */
async function heal(scene: Scene, broken: string[]): Promise<void> {
  if (scene.daemon?.running !== true) await scene.start().ready();
  await scene.reload();
  note(broken, await scene.restProblemSoon());
  if (broken.length > 0) await scene.clear(true);
}

/**
 * Judges its log and how it ended.
 *
 * @param mustTell something is wrong, and the operator has to hear of it.
 * @returns what is wrong with them.
 */
async function said(daemon: Daemon, from: number, fault: Fault, mustTell: boolean): Promise<string[]> {
  const broken: string[] = [];
  const lines = daemon.running ? daemon.lines.slice(from) : logLines((await daemon.exit).stderr).slice(from);
  if (lines.some(({ message }) => /\bbug\b/.test(message))) broken.push("it says that it has a bug");
  if (fault.how === "kill") return broken;
  if (mustTell && !lines.some((line) => isTold(line, fault.error))) broken.push(`nothing names the path and the code`);
  if (broken.length > 0) broken.push(`it said ${JSON.stringify(lines.map(({ message }) => message))}`);
  if (daemon.running) return broken;
  const { code, signal } = await daemon.exit;
  if (code !== 0 && !sysexits.includes(code ?? 0)) broken.push(`exit ${code ?? signal ?? ""}`);
  return broken;
}

function isTold({ message, priority }: LogLine, error: string): boolean {
  if (priority > 4 || !message.includes("/")) return false;
  // Other words mostly say that something is missing.
  return message.includes(`(${error})`) || error === "ENOENT";
}

function note(broken: string[], problem: string | undefined): void {
  if (problem !== undefined) broken.push(problem);
}
