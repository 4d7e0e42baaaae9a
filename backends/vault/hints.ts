/** Guesses the operator's mistake at an empty path: Vault says no more than 403 or 404. */
import type { Place } from "./source.ts";

/** @returns the end of a sentence, or "". @param point where the server has the mount; undefined: it did not say. */
export function hintFor({ mount, path }: Pick<Place, "mount" | "path">, point: string | undefined): string {
  const prefix = [`${mount}/data/`, `${mount}/`].find((one) => path.startsWith(one));
  if (prefix !== undefined) return `; \`path\` begins below the mount: leave "${prefix}" out of it`;
  if (mount.startsWith("v1/")) return '; leave "v1/" out of `mount`: fetcher adds it';
  if (path.startsWith("v1/")) return '; leave "v1/" out of `path`: fetcher adds it';
  if (path.startsWith("data/")) return '; leave "data/" out of `path`: fetcher adds it for KV version 2';
  // Other programs write a key so.
  if (path.includes("#")) return "; `#` is a part of the path: name the key in `key`";
  if (point === undefined || point === mount) return "";
  return `; the mount there is "${point}": what comes after it belongs in \`path\``;
}
