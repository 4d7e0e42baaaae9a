/** Values from the configuration itself. For tests only. */
import * as v from "valibot";
import type { BackendModule, Outcome } from "../src/contract/backend.ts";
import { ConfigError } from "../src/contract/errors.ts";
import { keyHints } from "../src/contract/nearest.ts";
import { aboutBackend, means, option } from "../src/contract/option.ts";
import { object, parse, record, settingsObject } from "../src/contract/settings.ts";

export const about = aboutBackend({
  name: "values from the configuration itself, where anyone can read them; for tests only",
  text: "Values from the configuration itself. For tests: anyone can read them there.",
});

/** As other programs call them. */
const elsewhere = { values: "secrets data" };
export const Settings = settingsObject(elsewhere, {
  values: option(
    v.pipe(
      record(v.string("expected a string"), v.string(), "expected an object of strings"),
      v.transform((values) => new Map(Object.entries(values))),
    ),
    means("id → value, a string"),
  ),
  allowInsecure: option(
    v.optional(v.boolean("expected true or false"), false),
    means("must be `true`", { mustBeSet: true }),
  ),
});
type Settings = v.InferOutput<typeof Settings>;

export const Source = object({});
interface Source {
  readonly id: string;
}

const fixed: BackendModule<Settings, Source> = {
  name: "static",
  defaultPollingInterval: null,

  parseSettings(input) {
    const settings = parse(Settings, input);
    if (!settings.allowInsecure) {
      throw new ConfigError(
        "allowInsecure",
        "must be true: these values are in the configuration, which anyone can read (in the Nix store, for example); for tests only",
      );
    }
    return settings;
  },

  parseSource(id, source) {
    parse(Source, source);
    return { id };
  },

  describe: ({ id }) => place(id),

  open({ values }) {
    return Promise.resolve({
      fetch(requests) {
        const outcomes = new Map<string, Outcome>();
        const near = keyHints(requests.map(({ source }) => source.id));
        for (const { id, source } of requests) {
          const value = values.get(source.id);
          outcomes.set(
            id,
            value === undefined
              ? {
                  status: "missing",
                  where: `no config.values[${JSON.stringify(source.id)}]${near(source.id, [...values.keys()])}`,
                }
              : { status: "value", value: Buffer.from(value), version: "configuration" },
          );
        }
        return Promise.resolve(outcomes);
      },
    });
  },
};
export default fixed;

function place(id: string): string {
  return `config.values[${JSON.stringify(id)}]`;
}
