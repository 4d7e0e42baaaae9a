import type { CommandLine } from "../../src/cli/command-line.ts";
import { type Config, parseConfig } from "../../src/config/config.ts";

export const noFlags: CommandLine = {
  mode: "daemon",
  configFile: undefined,
  backend: undefined,
  set: [],
  output: undefined,
  actions: undefined,
  ids: [],
  logLevel: "info",
};

/** A configuration as a person writes it; the backend is `static` unless it names one. */
export function configOf(json: object, flags: Partial<CommandLine> = {}): Config {
  return parseConfig({ backend: "static", ...json }, { ...noFlags, ...flags }, "/etc/fetcher");
}
