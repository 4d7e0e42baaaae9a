#!/usr/bin/env -S node --inspect-port=240.0.0.1:9229
/**
 * What the program begins with. systemd waits for its generators at each boot and each `daemon-reload`, so as one of them it
 * loads what makes units, and nothing of a sidecar.
 */
import "./runtime/no-debugger.ts";
import { endProcess } from "./runtime/end.ts";

/** systemd runs what lies in such a directory, a link to this program say, for the units that it makes. */
function isGeneratorOf(whose: "system" | "user"): boolean {
  return [process.argv0, process.argv[1] ?? ""].some((path) => new RegExp(`/${whose}-generators/[^/]*$`).test(path));
}

const isUser = isGeneratorOf("user");
if (isUser || isGeneratorOf("system"))
  import("./cli/units.ts").then(
    ({ generateUnits }) => {
      endProcess(generateUnits(process.argv.slice(2), isUser));
    },
    () => {
      endProcess(70);
    },
  );
else void import("./main.ts");
