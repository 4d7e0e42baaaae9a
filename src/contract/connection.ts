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
}

/** Never calls `events` before it returns. Asks for each address of a name, of both families. */
export type OpenConnection = (peer: Peer, events: ConnectionEvents) => Connection;

/** @param byNode the usual way. */
export type OwnWay = (byNode: OpenConnection) => OpenConnection;

/** It is loaded only for a backend that uses it. */
let load: (() => Promise<OwnWay>) | undefined;

export function openConnectionsBy(loadWay: () => Promise<OwnWay>): void {
  load = loadWay;
}

/** @returns the usual way where the runtime has no other. */
export async function ownWayOr(byNode: OpenConnection): Promise<OpenConnection> {
  return load === undefined ? byNode : (await load())(byNode);
}
