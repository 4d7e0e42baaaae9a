#!/usr/bin/env -S node --inspect-port=240.0.0.1:9229
/**
 * What the program begins with. systemd waits for its generators at each boot and each `daemon-reload`, so as one of them it
 * loads what makes units, and nothing of a sidecar.
 */
import "./runtime/no-debugger.ts";

/** systemd runs what lies in such a directory, a link to this program say, for the units that it makes. */
const isGenerator = [process.argv0, process.argv[1] ?? ""].some((path) =>
  /\/(?:system|user)-generators\/[^/]*$/.test(path),
);

void (isGenerator ? import("./cli/as-generator.ts") : import("./main.ts"));
