/** Keys that NixOps uploads after boot: as a folder, but a key that is not there yet is waited for. */
import * as v from "valibot";
import type { BackendModule } from "../../src/contract/backend.ts";
import { printable } from "../../src/contract/errors.ts";
import { absolutePath, object, parse } from "../../src/contract/settings.ts";
import { joinFile, openFiles, pathInside } from "./files.ts";

export const Settings = object({ keysDir: v.optional(absolutePath, "/run/keys") });
type Settings = v.InferOutput<typeof Settings>;

const keyName = v.pipe(
  pathInside,
  v.check((key) => !key.includes("/"), "expected the name of a key, without a slash"),
);
export const Source = object({ key: v.optional(keyName) });
interface Source {
  readonly key: string;
}

const nixops: BackendModule<Settings, Source> = {
  name: "nixops",
  defaultPollingInterval: 60,

  parseSettings: (settings) => parse(Settings, settings),

  parseSource(id, source) {
    const { key } = parse(Source, source);
    return { key: key ?? parse(keyName, id, "key") };
  },

  describe: ({ key }, { keysDir }) => printable(joinFile(keysDir, key)),

  reads: ({ keysDir }) => [keysDir],

  open({ keysDir }, context) {
    return Promise.resolve(
      openFiles(
        {
          directory: keysDir,
          fileOf: (source: Source) => source.key,
          judge(outcome, path) {
            if (!("status" in outcome)) return outcome;
            if (outcome.status === "missing") return { ...outcome, mayAppear: true };
            // The file is made first and filled then.
            if (outcome.value.length > 0) return outcome;
            return { status: "missing", where: `${printable(path)} is still empty`, mayAppear: true };
          },
          withoutDirectory: () => ({
            status: "missing",
            where: `no directory ${printable(keysDir)}`,
            mayAppear: true,
          }),
        },
        context,
      ),
    );
  },
};
export default nixops;
