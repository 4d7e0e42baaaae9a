/** Asks the person at the terminal before a command changes anything. */
import { createInterface } from "node:readline";
import { UsageError } from "../contract/errors.ts";

/** @returns whether the answer is yes. @throws UsageError without a terminal. */
export async function ask(command: string, question: string): Promise<boolean> {
  if (!process.stdin.isTTY) throw new UsageError(`${command}: no terminal to ask in: give --yes or --dry-run`);
  process.stderr.write(`${question} [y/N] `);
  const lines = createInterface({ input: process.stdin, terminal: false });
  try {
    for await (const line of lines) return /^y(es)?$/i.test(line.trim());
    return false;
  } finally {
    lines.close();
  }
}
