/** How a runtime makes connections in a way of its own, where it has one. It is loaded only for a backend that uses it. */
import type { OpenConnection } from "./connection.ts";

/** @param byNode the usual way. */
export type OwnWay = (byNode: OpenConnection) => OpenConnection;

let load: (() => Promise<OwnWay>) | undefined;

export function openConnectionsBy(loadWay: () => Promise<OwnWay>): void {
  load = loadWay;
}

/** @returns the usual way where the runtime has no other. */
export async function ownWayOr(byNode: OpenConnection): Promise<OpenConnection> {
  return load === undefined ? byNode : (await load())(byNode);
}
