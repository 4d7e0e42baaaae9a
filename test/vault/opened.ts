/**
 * A vault backend, used as the engine uses it. In the end, the test searches everything that others could see of it
 * for canaries.
 */
import { inspect } from "node:util";
import { expect, onTestFinished } from "vitest";
import { loadBackend } from "../../backends/index.ts";
import type { Settings } from "../../backends/vault/settings.ts";
import { VaultStore } from "../../backends/vault/store.ts";
import type { BackendModule } from "../../src/contract/backend.ts";
import { Observed } from "../contract/observed.ts";

/** Canaries that must be in no log and no error. A test that makes a token or a secret adds it. */
export class Canaries {
  readonly #all = new Set<string>();

  add<T extends string>(canary: T): T {
    this.#all.add(canary);
    return canary;
  }

  /** Fails if `said` contains one of them, as it is or in base64. */
  check(said: string): void {
    for (const canary of this.#all) {
      expect(said, "no token, secret id or value in what is said").not.toContain(canary);
      expect(said).not.toContain(Buffer.from(canary).toString("base64url").slice(0, -1));
    }
  }
}

/**
 * @param sources of the ids; `{}` where absent.
 * @param now seconds of a clock that the test moves.
 */
export async function openVault(
  settings: Record<string, unknown>,
  canaries: Canaries,
  sources: Readonly<Record<string, Record<string, unknown>>> = {},
  now?: () => number,
): Promise<Observed> {
  const vault = await loadBackend("vault", "/");
  const atTime: BackendModule["open"] = (parsed, context) =>
    Promise.resolve(new VaultStore(parsed as Settings, context, now) as Awaited<ReturnType<BackendModule["open"]>>);
  const module = now === undefined ? vault : { ...vault, open: atTime };
  const observed = await Observed.open(
    module,
    settings,
    (id) => (Object.hasOwn(sources, id) ? sources[id] : undefined) ?? {},
  );
  onTestFinished(async () => {
    await observed.backend.close?.();
    canaries.check(observed.said.join("\n"));
    canaries.check(inspect(observed.backend, { depth: 9, showHidden: true }));
  });
  return observed;
}

/** The value of one id as text. */
export async function textOf(observed: Observed, id: string): Promise<string> {
  return (await observed.value(id)).value.toString();
}
