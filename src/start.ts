#!/usr/bin/env -S node --inspect-port=240.0.0.1:9229
/**
 * Where the program begins. systemd waits for its generators at each boot and each `daemon-reload`, so as a generator
 * it loads only what makes units, and nothing of a sidecar.
 */
import "./runtime/no-debugger.ts";

/** systemd runs each program in such a directory, such as a link to this one, for the units that it makes. */
const isGenerator = [process.argv0, process.argv[1] ?? ""].some((path) =>
  /\/(?:system|user)-generators\/[^/]*$/.test(path),
);

void (isGenerator ? import("./cli/as-generator.ts") : import("./main.ts"));
