/** Secrets as files in a directory: /etc/secrets, sops-nix, agenix, a Kubernetes volume. */
import * as v from "valibot";
import { BackendError, type BackendModule } from "../../src/contract/backend.ts";
import { printable } from "../../src/contract/errors.ts";
import { aboutBackend, means, option } from "../../src/contract/option.ts";
import { hiddenHint } from "../../src/contract/unit-sandbox.ts";
import { absolutePath, objectAs, parse, settingsObject } from "../../src/contract/settings.ts";
import { joinFile, openFiles, pathInside } from "./files.ts";

export const about = aboutBackend({
  name: "a directory of files: sops-nix, agenix, a Kubernetes volume",
  text: "Files in a directory: sops-nix, agenix, a Kubernetes volume, or one of your own.",
});

/** As other programs call them. */
const elsewhere = { secretsDir: "directory dir path folder" };
export const Settings = settingsObject(elsewhere, {
  secretsDir: option(
    absolutePath,
    means("the directory, an absolute path; it may be or lead through a symbolic link", {
      path: "replaced",
      secret: true,
      example: "/run/secrets",
    }),
  ),
});
type Settings = v.InferOutput<typeof Settings>;

/** As other programs call them. */
const sourceElsewhere = { file: "path name key" };
export const Source = objectAs(sourceElsewhere, {
  file: option(v.optional(pathInside), means("the path of the file inside, without `..`", { otherwise: "the id" })),
});
interface Source {
  /** Relative to `secretsDir`. */
  readonly file: string;
}

const folder: BackendModule<Settings, Source> = {
  name: "folder",
  defaultPollingInterval: 60,

  parseSettings: (settings) => parse(Settings, settings),

  parseSource(id, source) {
    const { file } = parse(Source, source);
    return { file: file ?? parse(pathInside, id, "file") };
  },

  describe: ({ file }, { secretsDir }) => printable(joinFile(secretsDir, file)),

  reads: ({ secretsDir }) => [secretsDir],

  open({ secretsDir }, context) {
    return Promise.resolve(
      openFiles(
        {
          directory: secretsDir,
          fileOf: (source: Source) => source.file,
          // Mounts and the activation of sops-nix come late, and come again.
          withoutDirectory() {
            throw new BackendError(
              "unavailable",
              `no directory ${printable(secretsDir)} (yet)${hiddenHint(secretsDir)}`,
            );
          },
        },
        context,
      ),
    );
  },
};
export default folder;
