/** The one table of backends, and the loader for a backend outside it. */
import type { BackendModule } from "../src/contract/backend.ts";
import { ConfigError } from "../src/contract/errors.ts";
import { didYouMean } from "../src/contract/nearest.ts";

/** Each `import()` becomes its own chunk in the bundle, which is loaded only when used. */
const backends = new Map<string, () => Promise<{ default: BackendModule }>>([
  ["folder", () => import("./files/folder.ts")],
  ["nixops", () => import("./files/nixops.ts")],
  ["aws", () => import("./aws/index.ts")],
  ["command", () => import("./command.ts")],
  ["credentials", () => import("./files/credentials.ts")],
  ["static", () => import("./static.ts")],
  ["vault", () => import("./vault/index.ts")],
]);

/** The names that `backend` may have, beside paths. */
export const backendNames: readonly string[] = [...backends.keys()];

/** Whether it is the path of a module, and not a name of the table. */
export function isForeign(name: string): boolean {
  return !backends.has(name) && (name.includes("/") || /\.(?:m?js|m?ts)$/.test(name));
}

/**
 * @param name in the table, or the path of an ES module: what has a `/` in it or ends in `.js`, `.mjs`, `.ts` or `.mts`.
 * @param baseDirectory where a relative path starts: the directory of the configuration file.
 * @throws ConfigError at "backend": unknown name, or a module that does not exist, that others can write to, that
 *   cannot be loaded, or whose default export is not a backend.
 */
export async function loadBackend(name: string, baseDirectory: string): Promise<BackendModule> {
  const load = backends.get(name);
  if (load !== undefined) return (await load()).default;
  if (isForeign(name)) {
    const { loadForeignBackend } = await import("./foreign.ts");
    return await loadForeignBackend(name, baseDirectory);
  }
  const known = `known are ${backendNames.join(", ")}, or the path of an ES module`;
  throw new ConfigError("backend", `unknown: ${known}${didYouMean(name, backendNames)}`);
}
