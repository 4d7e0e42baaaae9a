/**
 * Credentials that systemd itself hands to the sidecar's unit: LoadCredentialEncrypted= (decrypted with the host's key or
 * its TPM2), LoadCredential=, SetCredential= and ImportCredential= all arrive in one directory (systemd.exec(5)).
 */
import fs from "node:fs";
import * as v from "valibot";
import { BackendError, type BackendModule, type Outcome } from "../../src/contract/backend.ts";
import { promised } from "../../src/contract/file-calls.ts";
import { keyHints } from "../../src/contract/nearest.ts";
import { aboutBackend, means, option } from "../../src/contract/option.ts";
import { objectAs, parse, settingsObject, text } from "../../src/contract/settings.ts";
import { readFiles } from "./read.ts";

export const about = aboutBackend({
  name: "systemd credentials of the sidecar's own unit: `LoadCredentialEncrypted=`, `ImportCredential=`",
  text: "What systemd hands to the sidecar's own unit: `LoadCredentialEncrypted=`, `LoadCredential=`, `SetCredential=`, `ImportCredential=`.",
});

export const Settings = settingsObject({}, {});

/** systemd refuses other names (systemd 252–257: credential_name_valid()). */
const credentialName = v.pipe(
  text,
  v.regex(/^[\x20-\x7e]+$/, "must be ASCII: it is the name of a systemd credential"),
  v.check((name) => !/[/:]/.test(name), "must not contain a slash or a colon: it is the name of a systemd credential"),
  v.check((name) => name !== "." && name !== "..", "must not be . or .."),
);
/** As other programs call them. */
const sourceElsewhere = { name: "credential file key id" };
export const Source = objectAs(sourceElsewhere, {
  name: option(v.optional(credentialName), means("the name of the credential", { otherwise: "the id" })),
});
interface Source {
  readonly name: string;
}

const credentials: BackendModule<unknown, Source> = {
  name: "credentials",
  // systemd copies them when the unit starts; `systemctl reload` reads them again, for a systemd that refreshes them.
  defaultPollingInterval: null,

  parseSettings: (settings) => parse(Settings, settings),

  parseSource(id, source) {
    const { name } = parse(Source, source);
    return { name: name ?? parse(credentialName, id, "name") };
  },

  describe: ({ name }) => `credential ${name}`,

  reads() {
    const directory = process.env["CREDENTIALS_DIRECTORY"];
    return directory?.startsWith("/") === true ? [directory] : [];
  },

  open() {
    const directory = process.env["CREDENTIALS_DIRECTORY"];
    if (directory === undefined || directory === "")
      return Promise.reject(
        new BackendError(
          "invalid",
          "credentials: this unit has none: give the sidecar's unit LoadCredentialEncrypted=, SetCredential= or ImportCredential=",
        ),
      );
    return Promise.resolve({
      async fetch(requests, signal) {
        const names = new Map(requests.map(({ id, source }) => [id, source.name]));
        const files = new Map([...names].map(([id, name]) => [id, `${directory}/${name}`]));
        const outcomes = await readFiles(files, signal, directory);
        const isOneMissing = [...outcomes.values()].some(
          (outcome) => "status" in outcome && outcome.status === "missing",
        );
        const there = isOneMissing ? await namesIn(directory) : [];
        const near = keyHints(names.values());
        const hintFor = (name: string) => near(name, there);
        return new Map(Array.from(outcomes, ([id, outcome]) => [id, named(outcome, names.get(id) ?? id, hintFor)]));
      },
    });
  },
};
export default credentials;

/** The directory's path says nothing to the operator; the setting that is missing does. */
function named(outcome: Outcome, name: string, hintFor: (name: string) => string): Outcome {
  if (!("status" in outcome)) return new BackendError(outcome.kind, `credential ${name}: ${outcome.message}`);
  if (outcome.status === "value") {
    // systemd writes credentials whole, so their age does not matter.
    const { status, value, version } = outcome;
    return { status, value, version };
  }
  return {
    status: "missing",
    where: `the sidecar's unit has no credential ${name} (LoadCredential=${name}:...)${hintFor(name)}`,
  };
}

async function namesIn(directory: string): Promise<readonly string[]> {
  const names = promised<string[]>((done) => {
    fs.readdir(directory, done);
  });
  return await names.catch(() => []);
}
