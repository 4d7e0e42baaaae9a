/** What a secret's bytes must be where a configuration asks for text: in a variable or a template. */

import { printable } from "../contract/errors.ts";

/** A secret whose value does not fit its destination. `reason` and the message never hold the value. */
export class ValueError extends Error {
  override readonly name: string = "ValueError";
  readonly id: string;
  readonly reason: string;
  constructor(id: string, reason: string) {
    super(printable(`secret ${JSON.stringify(id)}: ${reason}`));
    this.id = id;
    this.reason = reason;
  }
}

const NEWLINE = 0x0a;
const BLOCK = Buffer.alloc(4096, NEWLINE);

/** Drops them as `$(cat file)` does. Returns a view, not a copy. */
export function withoutTrailingNewlines(value: Buffer): Buffer {
  let end = value.length;
  // A value may be 16 MiB of them, and the executable looks at 100 ns a byte.
  while (end >= BLOCK.length && value.subarray(end - BLOCK.length, end).equals(BLOCK)) end -= BLOCK.length;
  while (end > 0 && value[end - 1] === NEWLINE) end -= 1;
  return value.subarray(0, end);
}
