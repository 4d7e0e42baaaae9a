/** What an operator may have mistaken where a path has nothing for us: Vault says no more than 403 or 404. */
import type { Place } from "./source.ts";

/** @returns the end of a sentence, or "". @param point where the server has the mount; undefined: it did not say. */
export function hintFor({ mount, path }: Pick<Place, "mount" | "path">, point: string | undefined): string {
  if (path.startsWith(`${mount}/`)) return `; \`path\` begins below the mount: leave "${mount}/" out of it`;
  if (mount.startsWith("v1/")) return '; leave "v1/" out of `mount`: every request has it';
  if (path.startsWith("v1/")) return '; leave "v1/" out of `path`: every request has it';
  if (path.startsWith("data/")) return '; leave "data/" out of `path`: every request to KV version 2 has it';
  // As other programs write it.
  if (path.includes("#")) return "; the `#` is a part of the path: a key is said by `key`";
  if (point === undefined || point === mount) return "";
  return `; the mount there is "${point}": what comes after it belongs into \`path\``;
}
