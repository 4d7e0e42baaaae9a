/** The body of an answer, as it comes. A server chooses the size of its packets, and how little of the body each has. */

/** Bytes: a smaller part is copied, since it would take many times as much memory by itself. */
const SMALL = 4096;
const BLOCK = 16 * 1024;

export class Body {
  readonly #parts: Buffer[] = [];
  /** What is free at the end of the last part. */
  #free = 0;

  /** @param bytes are the body's own from now on. */
  add(bytes: Buffer): void {
    // A view keeps all of its packet.
    const isMostOfPacket = 2 * bytes.length >= bytes.buffer.byteLength;
    if (isMostOfPacket && (bytes.length >= SMALL || this.#parts.length === 0)) {
      this.#trim();
      this.#parts.push(bytes);
      return;
    }
    for (let at = 0; at < bytes.length;) {
      if (this.#free === 0) {
        this.#parts.push(Buffer.alloc(BLOCK));
        this.#free = BLOCK;
      }
      const copied = bytes.copy(this.#parts[this.#parts.length - 1] ?? bytes, BLOCK - this.#free, at);
      this.#free -= copied;
      at += copied;
    }
    bytes.fill(0);
  }

  /** @returns all of it; it is forgotten here. */
  take(): Buffer {
    this.#trim();
    const all = Buffer.concat(this.#parts);
    this.forget();
    return all;
  }

  /** Overwrites it: a part of a secret is a secret, too. */
  forget(): void {
    for (const part of this.#parts.splice(0)) part.fill(0);
    this.#free = 0;
  }

  /** Leaves the free bytes at the end out. */
  #trim(): void {
    const last = this.#parts[this.#parts.length - 1];
    if (this.#free > 0 && last !== undefined)
      this.#parts[this.#parts.length - 1] = last.subarray(0, BLOCK - this.#free);
    this.#free = 0;
  }
}
