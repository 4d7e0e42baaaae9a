/**
 * What every backend owes to the engine. To test a backend, describe its store in a `Fixture` and call `contractSuite`;
 * the store should be a real one.
 */
import { createHash, randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { BackendErrorKind, BackendModule } from "../../src/contract/backend.ts";
import { ConfigError } from "../../src/contract/errors.ts";
import { asValue, Observed } from "./observed.ts";
import { quiet } from "./until.ts";
import { watchSuite } from "./contract-watch.ts";

/** What this kind of store can do. The suite does not test what it cannot do. */
export interface Traits {
  /** Any bytes, or UTF-8 text only. */
  readonly values: "bytes" | "text";
  /** The most bytes of a value, where that is less than 1 MiB. */
  readonly largest?: number;
  /** What an empty value counts as. */
  readonly empty: "value" | "missing" | "impossible";
  /** The backend waits for a missing secret. */
  readonly mayAppear: boolean;
  /** Values can change while the backend is open. */
  readonly changes: boolean;
  /** It has a watch(), whose hints come without a poll. */
  readonly watches: boolean;
  /** The fixture has `outage`. */
  readonly outage: boolean;
  /** The fixture has `refuse`. */
  readonly refuses: boolean;
  /** The fixture has `stall`. */
  readonly stalls: boolean;
}

/** A fresh store, which the suite fills. */
export interface Fixture {
  readonly module: BackendModule;
  /** Valid settings for the store as it is now. */
  settings(): Record<string, unknown>;
  /** The source of a secret; `{}` where absent. */
  source?(id: string): Record<string, unknown>;
  /**
   * How people name the place of this secret: `describe` contains it, and so does `where` when the secret is missing.
   */
  place(id: string): string;
  put(id: string, value: Buffer): Promise<void>;
  remove(id: string): Promise<void>;
  /** Takes the store away; the returned function brings it back with what it held. */
  outage?(): Promise<() => Promise<void>>;
  /** Makes the store refuse this one secret. @returns the kind of error to expect. */
  refuse?(id: string): Promise<BackendErrorKind>;
  /** Makes the store take requests without an answer from now on. */
  stall?(): Promise<void>;
  /** Removes the store. */
  dispose(): Promise<void>;
}

export function contractSuite(name: string, traits: Traits, prepare: () => Promise<Fixture>): void {
  describe(`${name} keeps the contract`, () => {
    let store: Fixture;
    let canary: string;
    const opened: Observed[] = [];

    beforeEach(async () => {
      canary = `canary-${randomBytes(12).toString("hex")}`;
      store = await prepare();
    });

    afterEach(async () => {
      const said = opened.flatMap((observed) => observed.said).join("\n");
      for (const { backend } of opened.splice(0)) await backend.close?.();
      await store.dispose();
      for (const encoding of ["utf8", "base64url", "hex"] as const) {
        // The last character depends on what follows.
        const trace = Buffer.from(canary).toString(encoding).slice(0, -1);
        expect(said, "no value in log, error, version or place").not.toContain(trace);
      }
    });

    const open = async () => {
      const observed = await Observed.open(store.module, store.settings(), store.source?.bind(store));
      opened.push(observed);
      return observed;
    };
    const secret = (suffix = "") => Buffer.from(canary + suffix);

    describe("values", () => {
      const samples: [string, () => Buffer][] = [
        ["UTF-8 with line ends", () => secret(" ä🔑 \"'$\\\r\nlast line\n\n")],
        ["64 KiB", () => secret("x".repeat(65536))],
      ];
      if (traits.values === "bytes") {
        samples.push([
          "every byte",
          () => Buffer.concat([secret(), Buffer.from(Array.from({ length: 256 }, (_, i) => i))]),
        ]);
        const { largest = 1024 * 1024 } = traits;
        samples.push([`${largest} random bytes`, () => Buffer.concat([secret(), randomBytes(largest)])]);
      }
      if (traits.empty === "value") samples.push(["nothing at all", () => Buffer.alloc(0)]);

      test.each(samples)("arrive byte for byte: %s", async (_, make) => {
        const value = make();
        await store.put("one", value);
        expect((await (await open()).value("one")).value.equals(value)).toBe(true);
      });

      if (traits.empty === "missing") {
        test("are waited for while empty: an upload is in progress", async () => {
          await store.put("one", Buffer.alloc(0));
          expect(await (await open()).outcome("one")).toMatchObject({ status: "missing", mayAppear: true });
        });
      }

      test("arrive under their own ids, 100 at once", async () => {
        const ids = Array.from({ length: 100 }, (_, index) => `secret ${index}`);
        for (const id of ids) await store.put(id, secret(id));
        const outcomes = await (await open()).fetch(...ids);
        for (const id of ids) expect(asValue(outcomes.get(id)).value.toString()).toBe(canary + id);
      });

      test("belong to the receiver: overwriting one spoils neither the next fetch nor another secret", async () => {
        await store.put("one", secret("1"));
        await store.put("two", secret("2"));
        const backend = await open();
        const outcomes = await backend.fetch("one", "two");
        asValue(outcomes.get("one")).value.fill(0);
        expect(asValue(outcomes.get("two")).value.toString()).toBe(canary + "2");
        expect((await backend.value("one")).value.toString()).toBe(canary + "1");
      });
    });

    describe("versions", () => {
      test("are printable, stay the same while nothing changes, and do not derive from the value", async () => {
        await store.put("one", secret());
        const backend = await open();
        const { version } = await backend.value("one");
        expect(version).toMatch(/^[\x21-\x7e][\x20-\x7e]{0,199}$/);
        expect((await backend.value("one")).version).toBe(version);
        for (const algorithm of ["md5", "sha1", "sha256", "sha512"]) {
          const digest = createHash(algorithm).update(secret()).digest();
          expect(version).not.toContain(digest.toString("hex").slice(0, 8));
          expect(version).not.toContain(digest.toString("base64url").slice(0, 8));
        }
      });

      if (traits.changes) {
        test("change with the value, even at the same length or back to an earlier value", async () => {
          const backend = await open();
          const versions = new Set<string>();
          for (const suffix of ["a", "b", "a", "b"]) {
            await store.put("one", secret(suffix));
            const { value, version } = await backend.value("one");
            expect(value.toString()).toBe(canary + suffix);
            versions.add(version);
          }
          expect(versions.size).toBe(4);
        });
      }
    });

    describe("a missing secret", () => {
      test("is reported as missing, with its place, and does not hold up others", async () => {
        await store.put("one", secret());
        const backend = await open();
        const outcomes = await backend.fetch("one", "absent");
        expect(asValue(outcomes.get("one")).value.equals(secret())).toBe(true);
        const absent = outcomes.get("absent");
        expect(absent).toMatchObject({
          status: "missing",
          where: expect.stringContaining(store.place("absent")) as string,
        });
        expect(absent !== undefined && "mayAppear" in absent && absent.mayAppear).toBe(traits.mayAppear);
      });

      if (traits.changes) {
        test("is found once it exists, and missing again once it is removed", async () => {
          await store.put("other", secret());
          const backend = await open();
          expect(await backend.outcome("one")).toMatchObject({ status: "missing" });
          await store.put("one", secret("late"));
          expect((await backend.value("one")).value.toString()).toBe(canary + "late");
          await store.remove("one");
          expect(await backend.outcome("one")).toMatchObject({ status: "missing" });
        });
      }
    });

    if (traits.refuses) {
      test("a refused secret fails alone, with its place", async () => {
        for (const id of ["one", "bad", "two"]) await store.put(id, secret(id));
        const kind = await store.refuse?.("bad");
        const outcomes = await (await open()).fetch("one", "bad", "two", "absent");
        expect(outcomes.get("bad")).toMatchObject({
          kind,
          name: "BackendError",
          message: expect.stringContaining(store.place("bad")) as string,
        });
        for (const id of ["one", "two"]) expect(asValue(outcomes.get(id)).value.equals(secret(id))).toBe(true);
        expect(outcomes.get("absent")).toMatchObject({ status: "missing" });
      });
    }

    if (traits.outage) {
      test("a store in an outage is unavailable, never without its secrets, and serves again afterwards", async () => {
        await store.put("one", secret());
        const backend = await open();
        await backend.value("one");
        for (let round = 0; round < 2; round++) {
          const restore = await store.outage?.();
          expect(await backend.outage("one", "two")).toMatchObject({ kind: "unavailable" });
          await restore?.();
          expect((await backend.value("one")).value.equals(secret())).toBe(true);
        }
      });

      test("opens during an outage: a boot survives a late store", async () => {
        await store.put("one", secret());
        const restore = await store.outage?.();
        const backend = await open();
        expect(await backend.outage("one")).toMatchObject({ kind: "unavailable" });
        await restore?.();
        expect((await backend.value("one")).value.equals(secret())).toBe(true);
      });
    }

    describe("an aborted fetch", () => {
      test("ends, whether aborted before or during the fetch", async () => {
        await store.put("one", secret());
        const { backend, request } = await openWithRequest("one");
        await Promise.allSettled([backend.fetch([request], AbortSignal.abort())]);
        const abort = new AbortController();
        const fetching = Promise.allSettled([backend.fetch([request], abort.signal)]);
        abort.abort();
        await fetching;
        expect((await backend.fetch([request], new AbortController().signal)).get("one")).toMatchObject({
          status: "value",
        });
      });

      if (traits.stalls) {
        test("ends while the store does not answer: stopping the sidecar never hangs", async () => {
          await store.put("one", secret());
          const { backend, request } = await openWithRequest("one");
          await store.stall?.();
          const abort = new AbortController();
          let over = false;
          const fetching = Promise.allSettled([backend.fetch([request], abort.signal)]).then(() => (over = true));
          await quiet(() => Number(over));
          expect(over, "the store does stall").toBe(false);
          abort.abort();
          await fetching;
        });
      }
    });

    async function openWithRequest(id: string) {
      const observed = await open();
      return { backend: observed.backend, request: observed.request(id) };
    }

    if (traits.watches) watchSuite(traits, open, () => ({ store, secret }));

    describe("configuration", () => {
      test("an error names an unknown setting, and does not show its value", () => {
        const error = caught(() => store.module.parseSettings({ ...store.settings(), nonsense: canary }));
        expect(error.path).toBe("nonsense");
        expect(error.message).not.toContain(canary);
      });

      test("an error gives the path of a setting of the wrong type", () => {
        const settings = store.settings();
        for (const key of Object.keys(settings)) {
          expect(caught(() => store.module.parseSettings({ ...settings, [key]: [[]] })).path.startsWith(key)).toBe(
            true,
          );
        }
      });

      test("an error names an unknown key in a source, and does not show its value", () => {
        const settings = store.module.parseSettings(store.settings());
        const source = { ...store.source?.("one"), nonsense: canary };
        const error = caught(() => store.module.parseSource("one", source, settings));
        expect(error.path).toBe("nonsense");
        expect(error.message).not.toContain(canary);
      });

      test("one line describes the place of a secret", async () => {
        const described = (await open()).describe("one");
        expect(described).toContain(store.place("one"));
        expect(described).not.toMatch(/[\r\n]/);
      });
    });
  });
}

function caught(action: () => unknown): ConfigError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error as ConfigError;
  }
  throw new Error("nothing was thrown");
}
