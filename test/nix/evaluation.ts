import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { nixpkgsOrStandIn, standInNixpkgs } from "./nixpkgs.ts";
import { nix } from "./programs.ts";

export const project = join(import.meta.dirname, "../..");

/** A path in a Nix expression. If it were bare, a space or a `%` would end it. */
export function nixPath(...parts: readonly string[]): string {
  return `(/. + ${JSON.stringify(join(...parts)).replaceAll("${", "\\${")})`;
}

export interface RenderedUnit {
  readonly text: string;
  /** `multi-user.target.wants/NAME`: where NixOS would link it. */
  readonly links: readonly string[];
}
export type RenderedUnits = Readonly<Record<string, RenderedUnit>>;

/** A Nix store of the test's own: tests can read what evaluation writes, and nothing of it stays. */
export class Evaluation {
  #store: string | undefined;
  readonly #nix: readonly string[];
  readonly #nixpkgs: string;
  /** Nix has no side effects, so an expression always has the same answer. */
  readonly #known = new Map<string, unknown>();

  /**
   * For one test file; its store goes with it.
   * @param command `nix-instantiate`, this machine's or another one.
   * @param nixpkgs has `lib`.
   */
  constructor(command = nix, nixpkgs = nixpkgsOrStandIn()) {
    this.#nix = command;
    this.#nixpkgs = nixpkgs;
    afterAll(() => {
      if (this.#store === undefined) return;
      // Files in a store are read-only.
      spawnSync("chmod", ["-R", "u+w", this.#store]);
      rmSync(this.#store, { recursive: true });
    });
  }

  /**
   * @param expression of Nix; `nix` is the path of the project's nix/, `lib` the library of nixpkgs or the stand-in,
   *   `pkgs` the stand-in, `host [ module … ]` a host of the stand-in (test/nix/stand-in/evaluate.nix).
   * @throws with what Nix says.
   */
  value(expression: string): unknown {
    if (!this.#known.has(expression)) this.#known.set(expression, this.#evaluate(expression));
    return this.#known.get(expression);
  }

  /** Made with the first expression: where all tests of a file are skipped, nothing would remove it. */
  #root(): string {
    return (this.#store ??= mkdtempSync(join(tmpdir(), "fetcher-nix-")));
  }

  #evaluate(expression: string): unknown {
    const whole = `
      let
        nixpkgs = ${nixPath(this.#nixpkgs)};
        lib = import (nixpkgs + "/lib");
        pkgs = import ${nixPath(standInNixpkgs, "pkgs.nix")} { inherit lib; };
        host = modules: import ${nixPath(standInNixpkgs, "evaluate.nix")} { inherit nixpkgs modules; };
        nix = ${nixPath(project, "nix")};
      in
      ${expression}`;
    const store = this.#root();
    const [program = "", ...given] = this.#nix;
    const flags = ["--read-write-mode", "--store", store, "--eval", "--strict", "--json"];
    const { status, stdout, stderr } = spawnSync(program, [...given, ...flags, "-E", whole], {
      encoding: "utf8",
      env: { ...process.env, HOME: store, NIX_PATH: "" },
    });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as unknown;
  }

  /** The units of a host that has secrets-store.nix and this module. */
  units(module: string): RenderedUnits {
    return this.value(`(host [ (nix + "/modules/secrets-store.nix") (${module}) ]).units`) as RenderedUnits;
  }

  /** Nix's complaint about a module, from `error:` on. @throws where Nix accepts the module. */
  complaint(module: string): string {
    try {
      this.units(module);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      return text.slice(Math.max(text.indexOf("error:"), 0));
    }
    throw new Error("the module was accepted");
  }

  /** A file that a unit names: /nix/store/…. */
  read(path: string): string {
    return readFileSync(this.physical(path), "utf8");
  }

  physical(path: string): string {
    return join(this.#root(), path);
  }

  /** Every store file that the text names, and those that these files name. */
  closure(text: string, found = new Map<string, string>()): ReadonlyMap<string, string> {
    for (const [path] of text.matchAll(/\/nix\/store\/[0-9a-z]{32}-[A-Za-z0-9+._?=-]+/g)) {
      if (found.has(path)) continue;
      const content = this.read(path);
      found.set(path, content);
      this.closure(content, found);
    }
    return found;
  }

  /** The sidecar's configuration. */
  config(units: RenderedUnits, sidecar: string): unknown {
    return JSON.parse(this.read(configPath(units, sidecar))) as unknown;
  }
}

/** The names of the units, without `NAME-act.path` and `NAME-act.service`, which act for a sidecar. */
export function namesOf(units: RenderedUnits): string[] {
  const names = Object.keys(units);
  const acting = names.filter((name) => /-act\.(?:path|service)$/.test(name));
  const wanted = acting.map((name) => name.replace(/-act\.\w+$/, ".service"));
  if (wanted.some((name) => !names.includes(name))) throw new Error(`units act for no sidecar: ${acting.join(", ")}`);
  return names.filter((name) => !acting.includes(name));
}

/** The path of the configuration in the sidecar's unit. */
export function configPath(units: RenderedUnits, sidecar: string): string {
  return /--config (\S+)/.exec(units[sidecar]?.text ?? "")?.[1] ?? "";
}

/** The lines of a unit's section, sorted: `["After=a.service", …]`. */
export function lines(text: string, section: "Unit" | "Path" | "Timer" | "Service"): string[] {
  const rest = text.slice(text.indexOf(`[${section}]\n`) + section.length + 3);
  const end = rest.search(/^\[/m);
  return (end < 0 ? rest : rest.slice(0, end)).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

/** The values of one setting, in their order. */
export function setting(units: RenderedUnits, unit: string, name: string): string[] {
  const all = (units[unit]?.text ?? "").split("\n");
  return all.filter((line) => line.startsWith(`${name}=`)).map((line) => line.slice(name.length + 1));
}

/**
 * What a sidecar's unit wants or comes after, without the path unit that starts what acts for it.
 *
 * @throws where that path unit is missing.
 */
export function waitsFor(units: RenderedUnits, unit: string, name: "Wants" | "After"): string[] {
  const path = unit.replace(/\.service$/, "-act.path");
  const all = setting(units, unit, name).flatMap((line) => line.split(" "));
  if (!all.includes(path)) throw new Error(`${unit}: ${name}= has no ${path}`);
  return all.filter((other) => other !== path);
}
