/**
 * A connection of the executable's addon. With Bun's own sockets the process would wake a second after each connection, and
 * need more work for it (measured). It waits in one of the threads that read files, so there is only one at a time.
 */
import type { Connection, ConnectionEvents, Peer } from "../contract/connection.ts";

/** Functions of the addon (native.c). */
export interface NativeSockets {
  dial(address: string, port: number): number | undefined;
  tell(file: number, bytes: Uint8Array): number;
  turn(file: number, isReading: boolean): Promise<Buffer | number> | undefined;
  quiet(file: number, patience: number): boolean;
  hangUp(file: number, mayWait: boolean): void;
}

let isTaken = false;

/** @returns undefined where it has to go another way: to a name, say, or while there is another one. */
export function openNatively(sockets: NativeSockets, peer: Peer, events: ConnectionEvents): Connection | undefined {
  if (isTaken) return undefined;
  const dialed = "path" in peer ? sockets.dial(peer.path, 0) : sockets.dial(peer.host, peer.port);
  return dialed === undefined ? undefined : new NativeConnection(sockets, dialed, events);
}

class NativeConnection implements Connection {
  readonly #sockets: NativeSockets;
  readonly #events: ConnectionEvents;
  readonly #file: number;
  /** What the system has not taken yet. */
  #unsent: Uint8Array | undefined;
  /** Threads that wait for it: the file stays open until they have ended. */
  #turns = 0;
  #isReading = false;
  #next: NodeJS.Immediate | undefined;
  #isPaused = false;
  #isResting = false;
  #isOver = false;

  constructor(sockets: NativeSockets, dialed: number, events: ConnectionEvents) {
    this.#sockets = sockets;
    this.#events = events;
    isTaken = true;
    const isOpen = dialed >= 0;
    this.#file = isOpen ? dialed : -1 - dialed;
    const opened = () => {
      if (this.#isOver) return;
      events.opened();
      this.#read();
    };
    if (isOpen) queueMicrotask(opened);
    else this.#take(false, opened);
  }

  send(bytes: Uint8Array): void {
    if (this.#unsent !== undefined && bytes !== this.#unsent) {
      this.#unsent = Buffer.concat([this.#unsent, bytes]);
      return;
    }
    const taken = this.#isOver ? 0 : this.#sockets.tell(this.#file, bytes);
    if (taken < 0) {
      queueMicrotask(() => {
        this.#end(failure(-taken));
      });
      return;
    }
    this.#unsent = taken < bytes.length ? bytes.subarray(taken) : undefined;
    if (this.#unsent === undefined || this.#isOver) return;
    this.#take(false, () => {
      if (this.#unsent !== undefined) this.send(this.#unsent);
    });
  }

  get isSent(): boolean {
    return this.#unsent === undefined;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#read();
  }

  rest(): boolean {
    if (this.#turns > 0 || !this.isSent || this.#isOver) return false;
    this.#isResting = true;
    return true;
  }

  wake(patience = 0): boolean {
    this.#isResting = false;
    if (this.#isOver || !this.#sockets.quiet(this.#file, patience * 1000)) return false;
    this.#read();
    return true;
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    isTaken = false;
    if (this.#next !== undefined) clearImmediate(this.#next);
    this.#sockets.hangUp(this.#file, this.#turns > 0);
  }

  #read(): void {
    if (this.#isReading || this.#isPaused || this.#isResting || this.#isOver) return;
    this.#isReading = true;
    this.#take(true, (answer) => {
      this.#isReading = false;
      const bytes = answer as Buffer;
      if (bytes.length === 0) {
        this.#end();
        return;
      }
      this.#events.received(bytes);
      // Most often these were all, and the receiver is about to destroy it.
      if (!this.#isOver && !this.#isResting)
        this.#next = setImmediate(() => {
          this.#read();
        });
    });
  }

  #take(isReading: boolean, then: (answer: Buffer | number) => void): void {
    this.#turns += 1;
    const turn = this.#sockets.turn(this.#file, isReading) ?? Promise.resolve(ENOMEM);
    void turn.then((answer) => {
      this.#turns -= 1;
      if (this.#isOver) {
        if (this.#turns === 0) this.#sockets.hangUp(this.#file, false);
      } else if (typeof answer === "number" && answer !== 0) this.#end(failure(answer));
      else then(answer);
    });
  }

  #end(error?: Error): void {
    if (this.#isOver) return;
    this.destroy();
    this.#events.ended(error);
  }
}

const ENOMEM = 12;

function failure(errno: number): Error {
  const code = process.getBuiltinModule("node:util").getSystemErrorName(-errno);
  return Object.assign(new Error(code), { code });
}
