/** Connections over sockets of Node's. */
import type { Socket } from "node:net";
import { type Connection, type ConnectionEvents, type OpenConnection, ownWays } from "./connection.ts";

/** The way of Node, and of each runtime that has its libraries. */
const openByNode: OpenConnection = (peer, events) =>
  new SocketConnection(process.getBuiltinModule("node:net").connect({ ...peer, noDelay: true }), "connect", events);

/** @returns the way that costs this runtime least. */
export async function connectionOpener(): Promise<OpenConnection> {
  return (await ownWays())?.around(openByNode) ?? openByNode;
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
