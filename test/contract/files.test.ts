import { mkdir, rename, rm, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { loadBackend } from "../../backends/index.ts";
import { contractSuite, type Fixture } from "./contract.ts";
import { temporary } from "./temporary.ts";

/** As most stores of files do it: a new file, renamed over the old one. */
function renameOver(directory: string) {
  return async (id: string, value: Buffer) => {
    await writeFile(join(directory, `.new-${id}`), value);
    await rename(join(directory, `.new-${id}`), join(directory, id));
  };
}

async function fixture(backend: string, setting: string, put: (directory: string) => Fixture["put"]): Promise<Fixture> {
  const { path, dispose } = await temporary();
  const directory = join(path, "secrets");
  await mkdir(directory);
  return {
    module: await loadBackend(backend, "/"),
    settings: () => ({ [setting]: directory }),
    place: (id) => join(directory, id),
    put: put(directory),
    remove: (id) => unlink(join(directory, id)),
    async outage() {
      await rename(directory, `${directory}.away`);
      return () => rename(`${directory}.away`, directory);
    },
    async refuse(id) {
      await rm(join(directory, id));
      await mkdir(join(directory, id));
      return "invalid";
    },
    dispose,
  };
}

const traits = {
  values: "bytes",
  mayAppear: false,
  changes: true,
  watches: true,
  refuses: true,
  stalls: false,
} as const;

contractSuite("folder, files renamed over", { ...traits, empty: "value", outage: true }, () =>
  fixture("folder", "secretsDir", renameOver),
);

contractSuite("folder, files written in place", { ...traits, empty: "value", outage: true }, () =>
  fixture("folder", "secretsDir", (directory) => (id, value) => writeFile(join(directory, id), value)),
);

// Without its directory, the backend waits for every key: this is not an outage.
contractSuite("nixops", { ...traits, empty: "missing", mayAppear: true, outage: false }, () =>
  fixture("nixops", "keysDir", renameOver),
);
