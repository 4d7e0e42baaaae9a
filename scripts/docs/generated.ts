/** The documents that are made from the code. */
import { readFileSync } from "node:fs";
import { loadBackend } from "../../backends/index.ts";
import { executableTable } from "../../src/units/executable.ts";
import { backendPages } from "./backend-pages.ts";
import { completions } from "./completions.ts";
import { configurationPage } from "./configuration.ts";
import { configurationSchema, schemaFile } from "./json-schema.ts";
import { manualPages } from "./manual.ts";
import { codedTexts, distinctMessages, messagesPage } from "./messages.ts";
import { metricsPage } from "./metrics.ts";
import { nixTable } from "./nix-table.ts";
import { overviewPictures } from "./overview.ts";
import { backendSections } from "./sections.ts";

/** @param root of the project. @returns path below it → text. */
export async function generatedDocuments(root: string): Promise<ReadonlyMap<string, string>> {
  const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as { version: string };
  const pages = [...manualPages(version)].map(([name, text]) => [`man/${name}`, text] as const);
  const intervals = backendSections.map(async ({ name }) => {
    const { defaultPollingInterval } = await loadBackend(name, "/");
    return [name, defaultPollingInterval] as const;
  });
  const messages = distinctMessages(root);
  return new Map([
    ["nix/lib/options.json", json(nixTable(new Map(await Promise.all(intervals))))],
    ["nix/lib/executable.json", json(executableTable())],
    ["docs/reference/configuration.md", await configurationPage(root)],
    ...(await backendPages(root)),
    ["docs/reference/metrics.md", await metricsPage()],
    ["docs/reference/messages.md", await messagesPage(messages)],
    ["src/runtime/message-texts.json", json(codedTexts(messages))],
    [`src/cli/${schemaFile}`, json(configurationSchema())],
    ...pages,
    ...[...completions()].map(([name, text]) => [`completions/${name}`, text] as const),
    ...overviewPictures(),
  ]);
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
