/** What must hold of everything that the program prints. */
import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import { expect } from "vitest";
import { BackendError, type Outcome } from "../../src/contract/backend.ts";
import { EnvError } from "../../src/publish/env-file.ts";
import { ConfigError, FatalError } from "../../src/contract/errors.ts";

/** Part of every value, token and body: not a plain word, and in no source file. */
export const CANARY = `c4n4ry-${randomBytes(6).toString("hex")}`;

const sysexits = [64, 66, 69, 73, 74, 77, 78];

/** One line, short enough for a person, without a secret and without anything that moves a terminal's cursor. */
export function expectFitToSay(text: string): void {
  expect(text).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
  expect(text.length).toBeLessThan(4000);
  expect(text).not.toContain(CANARY);
  expect(text).not.toContain(JSON.stringify(CANARY).slice(1, -1));
  expect(text).not.toContain(Buffer.from(CANARY).toString("base64").slice(0, -4));
}

/** An error of our own, fit for the journal, with no foreign error attached. */
export function expectOurs(error: unknown): void {
  if (!(error instanceof FatalError || error instanceof BackendError || error instanceof EnvError))
    throw new Error(`not an error of ours: ${inspect(error)}`);
  expect(error.message).not.toBe("");
  expectFitToSay(error.message);
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(CANARY);
  if (error instanceof FatalError) expect(sysexits).toContain(error.exitCode);
}

/** The same for an error of the configuration: it names the option. */
export function expectConfigError(error: unknown, roots: readonly string[]): void {
  expectOurs(error);
  if (!(error instanceof ConfigError)) throw new Error(`no configuration error: ${inspect(error)}`);
  expect(error.exitCode).toBe(78);
  expect(error.problem).not.toBe("");
  // An unknown option may have any name.
  if (!error.problem.startsWith("unknown option")) expect(roots).toContain(/^[\w$]*/.exec(error.path)?.[0]);
}

/** A value, or a message for people. */
export function expectFitOutcome(outcome: Outcome | undefined): void {
  if (outcome instanceof BackendError) {
    expectOurs(outcome);
    if (outcome.retryAfter !== undefined) {
      expect(outcome.retryAfter).toBeGreaterThanOrEqual(0);
      expect(outcome.retryAfter).toBeLessThanOrEqual(3600);
    }
  } else if (outcome?.status === "missing") expectFitToSay(outcome.where);
  else if (outcome?.status === "value") {
    expect(Buffer.isBuffer(outcome.value)).toBe(true);
    expect(outcome.version).not.toBe("");
    // The store's own text, which is shown: whatever it is, it is short and printable.
    expect(outcome.version).toMatch(/^\P{Cc}{1,200}$/u);
    if (outcome.refreshAfter !== undefined) expect(outcome.refreshAfter).toBeGreaterThan(0);
  } else throw new Error(`no outcome: ${inspect(outcome)}`);
}

/** Fails where `work` takes longer than limits of a second or two allow. */
export async function expectEnd<T>(what: string, work: Promise<T>, seconds = 60): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, fail) => {
    timer = setTimeout(() => {
      fail(new Error(`${what} hangs`));
    }, seconds * 1000);
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
  }
}
