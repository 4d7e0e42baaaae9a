import { existsSync, readdirSync } from "node:fs";
import { project } from "./evaluation.ts";

/** All Nix files of the project. */
export const files: readonly string[] = ["nix", "examples", "test"]
  .flatMap((directory) =>
    readdirSync(`${project}/${directory}`, { recursive: true }).map((name) => `${directory}/${String(name)}`),
  )
  .concat("flake.nix")
  // A dangling link is not a file.
  .filter((file) => file.endsWith(".nix") && existsSync(`${project}/${file}`))
  .sort();

/** Written as their authors write it, not as we would. */
export const foreign = (file: string): boolean => file.startsWith("test/nix/rfc59/");
