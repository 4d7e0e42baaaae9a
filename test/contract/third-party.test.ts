import { chmod, copyFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadBackend } from "../../backends/index.ts";
import { contractSuite } from "./contract.ts";
import { temporary } from "./temporary.ts";

const traits = {
  values: "text",
  empty: "value",
  mayAppear: false,
  changes: true,
  watches: true,
  outage: true,
  refuses: true,
  stalls: false,
} as const;

contractSuite("a third party's module", traits, async () => {
  const { path, dispose } = await temporary();
  // A checkout may be writable by a group, which the loader refuses.
  await copyFile(join(import.meta.dirname, "fixtures/json-file.mjs"), join(path, "json-file.mjs"));
  await chmod(join(path, "json-file.mjs"), 0o644);
  const file = join(path, "store.json");
  const values = new Map<string, unknown>();
  const save = async () => {
    await writeFile(`${file}.new`, JSON.stringify(Object.fromEntries(values)));
    await rename(`${file}.new`, file);
  };
  return {
    module: await loadBackend("./json-file.mjs", path),
    settings: () => ({ file }),
    place: (id) => `"${id}" in ${file}`,
    async put(id, value) {
      values.set(id, value.toString());
      await save();
    },
    async remove(id) {
      values.delete(id);
      await save();
    },
    async outage() {
      await rename(file, `${file}.away`);
      return () => rename(`${file}.away`, file);
    },
    async refuse(id) {
      values.set(id, { not: "a string" });
      await save();
      return "invalid" as const;
    },
    dispose,
  };
});
