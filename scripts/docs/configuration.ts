/** docs/reference/configuration.md */
import { format } from "prettier";
import { loadBackend } from "../../backends/index.ts";
import { backendSections, defaultOf, programSections, type Section } from "./sections.ts";

const head = `# Configuration

Made by \`npm run docs\` from the schemas that the program checks a configuration with.

\`fetcher --config FILE\` reads JSON, in UTF-8 (with or without a byte order mark). An unknown key is an error, reported with its full path. Durations are in seconds.
\`ID\` stands for the id of a secret: one component of a path, at most 255 bytes. Every option exists since 0.1.0 unless
its text says otherwise. On NixOS the modules write this file: [options.md](options.md).

\`\`\`sh
fetcher --check=config --config FILE
\`\`\`

checks it without asking any store.

An editor shows the options and their meaning if the file begins with \`"$schema": "/etc/fetcher/fetcher.schema.json"\`. This writes the schema there:

\`\`\`sh
fetcher --print-schema > /etc/fetcher/fetcher.schema.json
\`\`\`

Flags win over the file: \`--backend\`; \`--set KEY=VALUE\`, which sets \`config.KEY\` (dots descend, JSON values count as
JSON); \`--output DIR\` for \`output.directory\`, then without links; ids as arguments, which are added to \`secrets\`.

## A file without \`output\`

For [one file for each service](../how-to/one-file.md), \`/etc/fetcher/NAME.json\` without \`output\`, these defaults differ from those below:

| option | default |
| --- | --- |
| \`service\` | \`NAME.service\` |
| \`backend\` | \`folder\` |
| \`config.secretsDir\` | \`/etc/fetcher/NAME/secrets\` |
| \`config.reloadOnChange\` | \`true\` if the file has \`onChange\`, or \`"resident": "on-change"\`; otherwise \`false\` |
| \`output.directory\` | \`/run/NAME-secrets/pub\` |

Any other file needs \`output\` for the daemon (or \`--output\`). \`--check\` needs none, and \`--once\` without \`--output\` makes a fresh
directory.
`;

const envFile = `## secrets.env

A line \`NAME='value'\` for each secret, which \`sh\`, bash and systemd's \`EnvironmentFile=\` read alike. Trailing newlines are
dropped, as \`$(cat file)\` would. A value that no variable can carry (NUL, not UTF-8, 128 KiB or more) is in its file only,
with a warning; with an explicit \`env\` it is an error. So is what would bring the file over 1 MiB. Two secrets whose derived
names are the same are both left out, with a warning, also while one of them is missing. Names that mean something to shells
and loaders (\`PATH\`, \`LD_PRELOAD\`, \`NODE_OPTIONS\` …) need an explicit \`env\`; those that a shell cannot set (\`UID\`,
\`RANDOM\` …) are errors.

Only shells and systemd read this file as it is meant. \`docker run --env-file\` takes the quotes for a part of the value, and readers of \`.env\` files (dotenv
in its languages, Compose) do not agree on quotes inside a value. For those, make the file with a [template](../how-to/templates.md) and the filter \`line\` or
\`dotenv\`.
`;

export async function configurationPage(): Promise<string> {
  const backends = await Promise.all(
    backendSections.map(async ({ name, about, cases, ...section }) => {
      const { defaultPollingInterval } = await loadBackend(name, "/");
      const polled =
        defaultPollingInterval === null
          ? "Its values cannot change while the sidecar runs: nothing is polled."
          : `Polled every ${defaultPollingInterval} s by default.`;
      return [`### ${section.title}`, about.text, polled, table(section), ...cases.flatMap(part)];
    }),
  );
  const parts = [
    head,
    ...programSections.flatMap((section) => [`## ${section.title}`, table(section)]),
    envFile,
    "## Backends",
    "You can add one of your own: [writing a backend](../how-to/writing-a-backend.md).",
    ...backends.flat(),
  ];
  return format(parts.join("\n\n"), { parser: "markdown", printWidth: 120 });
}

function part(section: Section): string[] {
  return [`#### ${section.title}`, table(section)];
}

function table({ options }: Section): string {
  const rows = options.map((option) => {
    const { text = "", since: version } = option.about;
    const since = version === undefined ? "" : ` (since ${version})`;
    return `| \`${option.path}\` | ${defaultOf(option)} | ${text}${since} |`;
  });
  return ["| option | default | meaning |", "| --- | --- | --- |", ...rows].join("\n");
}
