import * as fs from "node:fs";
import { join } from "node:path";
import type { Place } from "./daemon.ts";

/**
 * A third party's backend on the place's store (without a watch), which notes every fetch: a test can wait for polls,
 * or show that there are none.
 */
export function countingBackend(place: Place): { readonly backend: string; readonly fetches: () => number } {
  const count = place.path("fetches");
  const backend = place.path("counting.mjs");
  fs.writeFileSync(count, "");
  fs.writeFileSync(
    backend,
    `import fs from "node:fs";
export default {
  name: "counting",
  defaultPollingInterval: 600,
  parseSettings: () => ({}),
  parseSource: (id) => ({ id }),
  describe: ({ id }) => id,
  open: async () => ({
    async fetch(requests) {
      fs.appendFileSync(${JSON.stringify(count)}, "x");
      return new Map(requests.map(({ id }) => {
        const value = fs.readFileSync(${JSON.stringify(join(place.store, "/"))} + id);
        return [id, { status: "value", value, version: "1" }];
      }));
    },
  }),
};
`,
  );
  return { backend, fetches: () => fs.statSync(count).size };
}
