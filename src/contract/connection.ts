/** One connection to a server, over TCP or a Unix socket. */
import type { Socket } from "node:net";
import { ownWayOr } from "./own-connections.ts";

export type Peer = { readonly host: string; readonly port: number } | { readonly path: string };

/** What happens to a connection. After `destroy` nothing is called any more. */
export interface ConnectionEvents {
  opened(): void;
  /** @param bytes are the receiver's own: it may overwrite them. */
  received(bytes: Buffer): void;
  /** The last call. @param error undefined: the peer has sent all that it wanted to. */
  ended(error?: Error): void;
}

export interface Connection {
  /** Call it once `opened` was called. Do not overwrite `bytes` before `isSent`. */
  send(bytes: Buffer): void;
  /** Whether the system has taken all that was sent. */
  readonly isSent: boolean;
  /** Stops reading, so that the peer must wait. A little that has been read already may follow. */
  pause(): void;
  resume(): void;
  destroy(): void;
}

/** Never calls `events` before it returns. Asks for each address of a name, of both families. */
export type OpenConnection = (peer: Peer, events: ConnectionEvents) => Connection;

/** The way of Node, and of each runtime that has its libraries. */
const openByNode: OpenConnection = (peer, events) =>
  new SocketConnection(process.getBuiltinModule("node:net").connect({ ...peer, noDelay: true }), "connect", events);

/** @returns the way that costs this runtime least. */
export async function connectionOpener(): Promise<OpenConnection> {
  return await ownWayOr(openByNode);
}

/** A connection over a socket of Node's: plain, or TLS. */
export class SocketConnection implements Connection {
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  #isOver = false;

  /** @param ready the socket's event when the connection is there. */
  constructor(socket: Socket, ready: "connect" | "secureConnect", events: ConnectionEvents) {
    this.#socket = socket;
    this.#events = events;
    socket
      .once(ready, () => {
        if (!this.#isOver) events.opened();
      })
      .on("data", (bytes: Buffer) => {
        if (!this.#isOver) events.received(bytes);
      })
      .on("end", () => {
        this.#end();
      })
      .on("error", (error) => {
        this.#end(error);
      })
      .on("close", () => {
        this.#end(new Broken());
      });
  }

  send(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  get isSent(): boolean {
    return this.#socket.writableLength === 0;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  destroy(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #end(error?: Error): void {
    if (this.#isOver) return;
    this.destroy();
    this.#events.ended(error);
  }
}

/** The connection is no more, and nothing says why. */
export class Broken extends Error {
  readonly code = "ECONNRESET";
}
