import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A fresh directory by its real path, and the function that removes it. */
export async function temporary(): Promise<{ path: string; dispose: () => Promise<void> }> {
  const path = await mkdtemp(join(await realpath(tmpdir()), "fetcher-backend-"));
  return { path, dispose: () => rm(path, { recursive: true, force: true }) };
}
