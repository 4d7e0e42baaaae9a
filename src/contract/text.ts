/** Text as programs of other systems write it. */

/** A byte order mark in UTF-8, which some editors put before a text. */
const MARK = Buffer.from([0xef, 0xbb, 0xbf]);

export function hasByteOrderMark(bytes: Buffer): boolean {
  return bytes.subarray(0, MARK.length).equals(MARK);
}

/** @returns a view without the mark. */
export function withoutByteOrderMark(bytes: Buffer): Buffer {
  return hasByteOrderMark(bytes) ? bytes.subarray(MARK.length) : bytes;
}

/**
 * Says so where a text is UTF-16, which Windows' own tools may write.
 *
 * @returns the end of a sentence about a text that cannot be used.
 */
export function utf16Hint(bytes: Buffer): string {
  const [first, second] = bytes;
  const isUtf16 = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
  return isUtf16 ? ": it is UTF-16; save it as UTF-8" : "";
}
