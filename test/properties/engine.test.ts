/**
 * The engine, in any order of failures and recoveries: of the store, the disk, the templates, the published files, the
 * sidecar itself. Meanwhile nothing ends it, and it publishes nothing that the store never held. Once nothing stands in
 * the way, it recovers by itself: what the store holds is published, the service has it, and STATUS is clean.
 */
import fc from "fast-check";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Event, event, ids, Machine, type Options, options, origin, trouble } from "./engine-machine.ts";

/** Seconds in which all comes right: a poll, a retry, a lease that was put off, the start limit. */
const BOUND = 240;

/** The last request, and the temporary obstacle. */
const ending = fc.record({
  changes: fc.subarray([...ids]),
  trouble: fc.array(trouble, { maxLength: 4 }),
  reload: fc.boolean(),
  seconds: fc.constantFrom(0, 1, 20, 90, 200),
});
type Ending = typeof ending extends fc.Arbitrary<infer T> ? T : never;

async function live(chosen: Options, events: readonly Event[], end: Ending): Promise<void> {
  const machine = new Machine(chosen);
  await machine.start();
  for (const event of events) {
    await machine.apply(event);
    machine.check();
  }
  machine.mendStore(end.changes);
  for (const event of end.trouble) await machine.apply(event);
  // Without reloadOnChange the sidecar does not look, and reads no template, until asked.
  if (end.reload || !chosen.reloadOnChange || machine.isTemplateNews) await machine.apply({ what: "reload" });
  await machine.pass(end.seconds);
  machine.check();
  machine.heal();
  await machine.pass(BOUND);
  machine.check();
  expectAllDone(machine, chosen);
  if (!chosen.reloadOnChange && !chosen.lease) {
    const { length } = machine.store.fetches;
    await machine.pass(3600);
    expect(machine.store.fetches).toHaveLength(length);
  }
  await machine.life.stop();
}

function expectAllDone(machine: Machine, { action }: Options): void {
  const { life, stored } = machine;
  const [a, b] = ids.map((id) => life.file(id));
  expect({ a: origin(a), b: origin(b) }).toEqual(stored);
  expect(life.file("app.ini")).toBe(`${a ?? ""}-${b ?? ""}`);
  expect(life.file("secrets.env")).toBe(`a='${a ?? ""}'\nb='${b ?? ""}'\n`);
  expect(machine.linked() ?? machine.files()).toEqual(machine.files());
  expect(life.notifier.last).toMatch(/^2 secrets from fake, version [\d ,to]+, checked at [\d:]+(?:Z|[+-][\d:]+)$/);
  expect(readFileSync(join(life.directory, ".fetcher-state"), "utf8")).not.toContain("aside");
  expect(life.pending()).toBeNull();
  if (action === "restart") expect(machine.seen).toEqual(machine.files());
}

/** What was found before. */
const known: [Options, Event[], Ending][] = [
  // No set could take both values. The store replaced one a minute later, but the other was never requested again.
  [
    { reloadOnChange: false, optional: false, action: "restart", settle: 0, lease: true, links: false },
    [
      { what: "failure", id: "b", kind: "unavailable" },
      { what: "binary", id: "a" },
      { what: "template", text: "nothing" },
      { what: "reload" },
      { what: "value", id: "a" },
    ],
    { changes: [], trouble: [{ what: "full", after: 0 }], reload: false, seconds: 0 },
  ],
];

test("whatever went wrong, the service gets the store's values without help once no obstacle is left", async () => {
  await fc.assert(fc.asyncProperty(options, fc.array(event, { minLength: 1, maxLength: 25 }), ending, live), {
    numRuns: 150,
    examples: known,
    // On a busy machine fewer are tried.
    interruptAfterTimeLimit: 60_000,
  });
});
