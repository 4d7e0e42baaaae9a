/**
 * The program uses or refuses whatever others hand it: never with a crash, a hang, a second line in the journal, or a
 * secret in it. Here each target gets some hundred inputs and all earlier findings; `npm run fuzz SECONDS` goes on for
 * any length of time. FETCHER_FUZZ_SEED repeats a run. The suite always uses the same seed, so that it fails because of
 * a change, not by chance.
 */
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { commandLines } from "./targets/command-lines.ts";
import { configurations } from "./targets/configurations.ts";
import { envFiles } from "./targets/env-files.ts";
import { foreignAnswers, foreignModules } from "./targets/foreign.ts";
import { httpAnswers } from "./targets/http.ts";
import { programs } from "./targets/programs.ts";
import { publishedSets, staleStates } from "./targets/published.ts";
import { awsAnswers } from "./targets/aws.ts";
import { systemctlAnswers } from "./targets/systemd.ts";
import type { Target } from "./target.ts";
import { templates } from "./targets/templates.ts";
import { valueFroms } from "./targets/value-from.ts";
import { vaultAnswers, vaultBytes } from "./targets/vault.ts";

const targets: readonly Target[] = [
  configurations,
  commandLines,
  valueFroms,
  publishedSets,
  staleStates,
  templates,
  vaultAnswers,
  vaultBytes,
  httpAnswers,
  awsAnswers,
  programs,
  foreignModules,
  foreignAnswers,
  systemctlAnswers,
];
/** What needs a shell. */
const withDash: readonly Target[] = [envFiles];

/** undefined: a run of the suite. */
const seconds = process.env["FETCHER_FUZZ_SECONDS"];
const seed = Number(
  process.env["FETCHER_FUZZ_SEED"] ?? (seconds === undefined ? 20260101 : Math.floor(Math.random() * 2 ** 31)),
);
const total = [...targets, ...withDash].reduce((sum, { weight }) => sum + weight, 0);

describe(`fuzzing with seed ${seed}`, () => {
  for (const target of targets) test(target.title, () => run(target), Infinity);
  for (const target of withDash) needs("dash").test(target.title, () => run(target), Infinity);
});

async function run(target: Target): Promise<void> {
  const { title, weight } = target;
  const budget =
    seconds === undefined
      ? { seed, runs: 100 * weight, seconds: 120 }
      : { seed, runs: Infinity, seconds: (Number(seconds) * weight) / total };
  const begun = process.cpuUsage();
  const tried = await target.run(budget);
  const { user, system } = process.cpuUsage(begun);
  if (seconds !== undefined)
    console.log(`fuzz: ${tried} inputs, ${((user + system) / 1e6).toFixed(0)} s of CPU, seed ${seed}: ${title}`);
  expect(tried).toBeGreaterThan(0);
}
