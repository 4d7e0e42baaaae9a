/** docs/reference/limits.md gives limits: they are those of the code. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { MAX_PAGES } from "../../../backends/aws/client.ts";
import { MAX_ANSWER, MAX_BATCH } from "../../../backends/aws/handler.ts";
import { MAX_BODY } from "../../../backends/vault/exchange.ts";
import { MAX_DEPTH, MAX_NUMBER, MAX_PARTS } from "../../../src/contract/json.ts";
import { MAX_TRAFFIC, MAX_VALUE, MAX_VALUES } from "../../../src/contract/limits.ts";
import { MAX_FILTERED } from "../../../src/publish/filters.ts";
import { MAX_FILE } from "../../../src/publish/one-template.ts";
import { project } from "../../markdown.ts";

const read = (path: string) => readFileSync(join(project, path), "utf8");
const mib = (bytes: number) => `${bytes / 1024 / 1024} MiB`;

test("the table of limits", () => {
  const cells = [...read("docs/reference/limits.md").matchAll(/^\| [^|]+ \| ([^|]+?) +\|/gm)].map(([, limit]) => limit);
  const [memory] = /^MemoryMax=\w+$/m.exec(read("examples/systemd/fetcher@.service")) ?? [];
  expect(cells.slice(2)).toEqual([
    mib(MAX_VALUE),
    mib(MAX_VALUES),
    mib(MAX_FILE),
    mib(MAX_FILTERED),
    mib(MAX_BODY),
    mib(MAX_ANSWER),
    mib(MAX_BATCH),
    String(MAX_PAGES),
    mib(MAX_TRAFFIC),
    `${MAX_DEPTH} levels, ${MAX_PARTS} members, ${MAX_NUMBER} characters of a number; UTF-8`,
    `\`${String(memory)}\``,
  ]);
});
