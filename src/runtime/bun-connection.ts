/**
 * Connections of the executable. Node's library for them would cost a start a tenth of its processor time, and memory
 * (measured).
 */
import type { Connection, ConnectionEvents, OwnWays, Peer } from "../contract/connection.ts";
import { type NativeSockets, openNatively } from "./native-connection.ts";

/** What Bun has beside Node's names. */
interface Bun {
  connect(options: object): Promise<Socket>;
}

interface Socket {
  /** @returns how many of them the system has taken; negative on a closed socket. */
  write(bytes: Uint8Array): number;
  pause(): void;
  resume(): void;
  terminate(): void;
}

/** Connections that nobody waits for any more, and that are still being made. */
let abandoned = 0;

/**
 * Bun cannot give up a connection that it is still making: the system does, after two minutes. So as long as there is
 * such a one, the next ones go Node's way.
 */
export function byBun(sockets: NativeSockets | undefined): OwnWays {
  const resting: OwnWays["resting"] = (peer, events) => sockets && openNatively(sockets, peer, events);
  const around: OwnWays["around"] = (byNode) => (peer, events) =>
    resting(peer, events) ?? (abandoned > 0 ? byNode(peer, events) : new BunConnection(peer, events));
  return { around, resting };
}

class BunConnection implements Connection {
  readonly #events: ConnectionEvents;
  #socket: Socket | undefined;
  /** What the system has not taken yet. */
  #unsent: Uint8Array | undefined;
  #isConnecting = true;
  #isOver = false;

  constructor(peer: Peer, events: ConnectionEvents) {
    this.#events = events;
    const { Bun } = globalThis as unknown as { Bun: Bun };
    const at = "path" in peer ? { unix: peer.path } : { hostname: peer.host, port: peer.port };
    Bun.connect({ ...at, socket: this.#handlers() }).catch((error: unknown) => {
      this.#connected();
      this.#end(error as Error);
    });
  }

  send(bytes: Uint8Array): void {
    const taken = Math.max(0, this.#socket?.write(bytes) ?? 0);
    this.#unsent = taken < bytes.length ? bytes.subarray(taken) : undefined;
  }

  get isSent(): boolean {
    return this.#unsent === undefined;
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#isConnecting) abandoned += 1;
    this.#socket?.terminate();
  }

  #handlers(): object {
    return {
      open: (socket: Socket) => {
        this.#socket = socket;
        this.#connected();
        if (this.#isOver) socket.terminate();
        else this.#events.opened();
      },
      data: (_: Socket, bytes: Buffer) => {
        if (!this.#isOver) this.#events.received(bytes);
      },
      drain: () => {
        if (this.#unsent !== undefined) this.send(this.#unsent);
      },
      end: () => {
        this.#end();
      },
      error: (_: Socket, error: Error) => {
        this.#end(error);
      },
      close: (_: Socket, error?: Error) => {
        this.#end(error ?? Object.assign(new Error("closed"), { code: "ECONNRESET" }));
      },
      // The promise says it, too, and never before the caller has the connection.
      connectError: () => undefined,
    };
  }

  #connected(): void {
    if (this.#isOver && this.#isConnecting) abandoned -= 1;
    this.#isConnecting = false;
  }

  #end(error?: Error): void {
    if (this.#isOver) return;
    this.destroy();
    this.#events.ended(error);
  }
}
