/** Keys that NixOps uploads after boot: like a folder, but fetcher waits for a missing key. */
import * as v from "valibot";
import type { BackendModule } from "../../src/contract/backend.ts";
import { printable } from "../../src/contract/errors.ts";
import { aboutBackend, means, option } from "../../src/contract/option.ts";
import { hiddenHint } from "../../src/contract/unit-sandbox.ts";
import { absolutePath, objectAs, parse, settingsObject } from "../../src/contract/settings.ts";
import { joinFile, openFiles, pathInside } from "./files.ts";

export const about = aboutBackend({
  name: "keys that NixOps uploads after boot",
  text: "Keys that NixOps uploads. fetcher waits for a missing key.",
});

/** As other programs call them. */
const elsewhere = { keysDir: "directory dir path folder secretsdir" };
export const Settings = settingsObject(elsewhere, {
  keysDir: option(
    v.optional(absolutePath, "/run/keys"),
    // A mount of NixOps' own.
    means("the directory, an absolute path", { path: "stays", secret: true }),
  ),
});
type Settings = v.InferOutput<typeof Settings>;

const keyName = v.pipe(
  pathInside,
  v.check((key) => !key.includes("/"), "expected the name of a key, without a slash"),
);
/** As other programs call them. */
const sourceElsewhere = { key: "name file path" };
export const Source = objectAs(sourceElsewhere, {
  key: option(v.optional(keyName), means("the name of the key", { otherwise: "the id" })),
});
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
            if (outcome.status === "missing") return { status: "missing", where: outcome.where, mayAppear: true };
            // NixOps makes the file first, and fills it then.
            if (outcome.value.length > 0) return outcome;
            return { status: "missing", where: `${printable(path)} is still empty`, mayAppear: true };
          },
          withoutDirectory: () => ({
            status: "missing",
            where: `no directory ${printable(keysDir)}${hiddenHint(keysDir)}`,
            mayAppear: true,
          }),
        },
        context,
      ),
    );
  },
};
export default nixops;
