/** docs/reference/configuration.md */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";
import { backendPage, polling } from "./backend-pages.ts";
import { backendSections, programSections } from "./sections.ts";
import { table } from "./tables.ts";

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

/** @param root of the project, where the backends have their pages. */
export async function configurationPage(root: string): Promise<string> {
  const paged = backendSections.filter(({ name }) => existsSync(join(root, backendPage(name))));
  const others = backendSections.filter((section) => !paged.includes(section));
  const rows = paged.map(({ name, about }) => `| [\`${name}\`](${name}.md) | ${about.text} |`);
  const parts = [
    head,
    ...programSections.flatMap((section) => [`## ${section.title}`, table(section)]),
    envFile,
    "## Backends",
    "Each has a page with its settings, and with what it says when something is wrong. You can add one of your own: [writing a backend](../how-to/writing-a-backend.md).",
    ["| `backend` | what |", "| --- | --- |", ...rows].join("\n"),
    "Two more have no page:",
    ...(
      await Promise.all(
        others.map(async (section) => [
          `### ${section.title}`,
          section.about.text,
          await polling(section.name),
          table(section),
        ]),
      )
    ).flat(),
  ];
  return format(parts.join("\n\n"), { parser: "markdown", printWidth: 120 });
}
