/** A connection to a server, over TCP or a Unix socket, and how a runtime makes it in a way of its own, where it has one. */

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
  /**
   * Waits for nothing any more, so that it costs nothing until `wake`.
   *
   * @returns whether it can.
   */
  rest?(): boolean;
  /**
   * @param patience seconds: it ends where the peer's system does not confirm within that time what is sent from now on.
   * @returns false: the peer has ended it meanwhile, or has sent something.
   */
  wake?(patience: number | undefined): boolean;
}

/** Never calls `events` before it returns. Asks for each address of a name, of both families. */
export type OpenConnection = (peer: Peer, events: ConnectionEvents) => Connection;

/** To an address, not a name. @returns undefined where there is another such connection, say: the usual way is left. */
export type OpenResting = (...args: Parameters<OpenConnection>) => Connection | undefined;

/** A runtime's own ways. */
export interface OwnWays {
  /** @param byNode the usual way. */
  around(byNode: OpenConnection): OpenConnection;
  /** Connections that can rest. */
  readonly resting: OpenResting;
}

/** They are loaded only for a backend that uses them. */
let load: (() => Promise<OwnWays>) | undefined;

export function openConnectionsBy(loadWays: () => Promise<OwnWays>): void {
  load = loadWays;
}

/** @returns undefined where the runtime has none. */
export async function ownWays(): Promise<OwnWays | undefined> {
  return await load?.();
}
