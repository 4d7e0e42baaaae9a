/** Lets one caller in at a time. */
export class Mutex {
  readonly #waiting = new Set<() => void>();
  #isTaken = false;

  /**
   * @param start is called when it is the caller's turn.
   * @returns a function that ends the turn, or the wait for it. Call it once.
   */
  take(start: () => void): () => void {
    let isMine = false;
    const begin = () => {
      this.#waiting.delete(begin);
      isMine = true;
      this.#isTaken = true;
      start();
    };
    if (this.#isTaken) this.#waiting.add(begin);
    else begin();
    return () => {
      this.#waiting.delete(begin);
      if (!isMine) return;
      isMine = false;
      this.#isTaken = false;
      const [next] = this.#waiting;
      next?.();
    };
  }
}
