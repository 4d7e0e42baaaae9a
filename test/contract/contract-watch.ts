/** The part of the contract that is about hints. */
import { describe, expect, test } from "vitest";
import type { Fixture, Traits } from "./contract.ts";
import { following, isMissing } from "./following.ts";
import type { Observed } from "./observed.ts";
import { quiet, until } from "./until.ts";

interface Given {
  readonly store: Fixture;
  /** A canary with a suffix. */
  readonly secret: (suffix?: string) => Buffer;
}

export function watchSuite(traits: Traits, open: () => Promise<Observed>, given: () => Given): void {
  describe("watch", () => {
    const ids = ["one", "two"];

    test("hints when armed and at every change, so a rotation does not wait for the poll", async () => {
      const { store, secret } = given();
      await store.put("one", secret("0"));
      await following(await open(), ids, async ({ sees }) => {
        for (const suffix of ["1", "2", "3"]) {
          await sees(() => store.put("one", secret(suffix)), "one", secret(suffix).toString());
        }
      });
    });

    test("hints when a secret appears, disappears and comes back", async () => {
      const { store, secret } = given();
      await store.put("one", secret());
      await following(await open(), ids, async ({ sees }) => {
        await sees(() => store.put("two", secret("2")), "two", secret("2").toString());
        await sees(() => store.remove("two"), "two", isMissing);
        await sees(() => store.put("two", secret("3")), "two", secret("3").toString());
      });
    });

    test("does not hint at its own fetches: fetch and hint never loop", async () => {
      const { store, secret } = given();
      await store.put("one", secret());
      await following(await open(), ids, async ({ observed, hints }) => {
        const before = await quiet(hints);
        for (let round = 0; round < 3; round++) await observed.fetch(...ids);
        expect(await quiet(hints)).toBe(before);
      });
    });

    if (traits.outage) {
      test("sees changes again after an outage", async () => {
        const { store, secret } = given();
        await store.put("one", secret());
        await following(await open(), ids, async ({ observed, sees }) => {
          const restore = await store.outage?.();
          expect(await observed.outage(...ids)).toMatchObject({ kind: "unavailable" });
          await restore?.();
          // The poll may cause this fetch: a watch over the network may find only then that its store is back.
          await observed.value("one");
          await sees(() => store.put("one", secret("after")), "one", secret("after").toString());
        });
      });
    }

    test("ends when aborted, leaves nothing open, and gives no further hint", async () => {
      const { store, secret } = given();
      await store.put("one", secret());
      const observed = await open();
      await observed.fetch(...ids);
      const before = activeResources();
      for (let round = 0; round < 3; round++) {
        const abort = new AbortController();
        let hints = 0;
        const watch = observed.backend.watch?.(observed.requests(...ids), () => hints++, abort.signal);
        // The test aborts the first one while it is being armed.
        if (round > 0) await until(() => hints > 0);
        abort.abort();
        await watch;
        const last = hints;
        await store.put("one", secret(String(round)));
        expect(await quiet(() => hints)).toBe(last);
      }
      await until(() => isWithin(activeResources(), before));
    });
  });
}

/** Resources that keep the process alive or cost it a descriptor; timers of the test runner come and go. */
function activeResources(): string[] {
  return process.getActiveResourcesInfo().filter((kind) => kind !== "Timeout" && kind !== "Immediate");
}

/** Checks that `now` has nothing more often than `before`. */
function isWithin(now: readonly string[], before: readonly string[]): boolean {
  const count = (list: readonly string[], kind: string) => list.filter((other) => other === kind).length;
  return now.every((kind) => count(now, kind) <= count(before, kind));
}
