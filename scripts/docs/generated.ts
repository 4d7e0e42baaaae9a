/** The documents that are made of the code. */
import { readFileSync } from "node:fs";
import { configurationPage } from "./configuration.ts";
import { configurationSchema, schemaFile } from "./json-schema.ts";
import { manualPages } from "./manual.ts";

/** @param root of the project. @returns path below it → text. */
export async function generatedDocuments(root: string): Promise<ReadonlyMap<string, string>> {
  const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as { version: string };
  const pages = [...manualPages(version)].map(([name, text]) => [`man/${name}`, text] as const);
  return new Map([
    ["docs/configuration.md", await configurationPage()],
    [`src/cli/${schemaFile}`, json(configurationSchema())],
    ...pages,
  ]);
}

function json(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
