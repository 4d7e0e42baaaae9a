/** What a fetch asked and what came, to compare later answers with. It holds secrets, so it is kept only where it is wanted. */
import { type Asked, forget } from "../../src/contract/lookout.ts";

/** Requests of one fetch. */
const MOST = 16;
/** Bytes of all bodies. */
const LARGEST = 64 * 1024;
/** Vault and OpenBao begin an answer so. */
const IDENTIFIER = /^\{"request_id":"([0-9a-f-]{36})"/;

export class Evidence {
  #asked: Asked[] = [];
  #size = 0;
  #isWanted = false;
  #isSpoilt = false;

  /** A fetch begins. */
  begin(): void {
    forget(this.#asked);
    this.#asked = [];
    this.#size = 0;
    this.#isSpoilt = false;
  }

  /** Copies them. @param isRead it has no effect on the server, so that it can go out again. */
  note(request: Buffer, isRead: boolean, status: number, body: Buffer): void {
    if (!this.#isWanted || this.#isSpoilt) return;
    this.#size += body.length;
    if (!isRead || status !== 200 || this.#asked.length === MOST || this.#size > LARGEST) {
      this.begin();
      this.#isSpoilt = true;
      return;
    }
    const identifier = IDENTIFIER.exec(body.toString("latin1", 0, 60))?.[1] ?? "";
    const from = identifier === "" ? 0 : '{"request_id":"'.length;
    this.#asked.push({
      request: Buffer.concat([request]),
      body: Buffer.concat([body]),
      varies: [from, from + identifier.length],
    });
  }

  /**
   * What the last fetch asked, which is the caller's own from now on. The fetches after the first call note it.
   *
   * @returns undefined where it is not known, or more than a few reads.
   */
  take(): readonly Asked[] | undefined {
    const isKnown = this.#isWanted && !this.#isSpoilt && this.#asked.length > 0;
    const asked = this.#asked;
    this.#isWanted = true;
    this.#asked = [];
    this.begin();
    return isKnown ? asked : undefined;
  }

  /** Nobody takes it any more. */
  end(): void {
    this.begin();
    this.#isWanted = false;
  }
}
