import { expect, test } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import { contractSuite } from "./contract.ts";
import { Observed } from "./observed.ts";

const traits = {
  values: "text",
  empty: "value",
  mayAppear: false,
  changes: false,
  watches: false,
  outage: false,
  refuses: false,
  stalls: false,
} as const;

contractSuite("static", traits, async () => {
  const values = new Map<string, string>();
  return {
    module: await loadBackend("static", "/"),
    settings: () => ({ values: Object.fromEntries(values), allowInsecure: true }),
    place: (id) => `values["${id}"]`,
    put: (id, value) => Promise.resolve(void values.set(id, value.toString())),
    remove: (id) => Promise.resolve(void values.delete(id)),
    dispose: () => Promise.resolve(),
  };
});

test("a mistyped id: names the nearest of the values", async () => {
  const settings = { values: { db_password: "canary" }, allowInsecure: true };
  const observed = await Observed.open(await loadBackend("static", "/"), settings);
  expect(await observed.outcome("db_pasword")).toMatchObject({
    where: 'no config.values["db_pasword"]; did you mean "db_password"?',
  });
});
