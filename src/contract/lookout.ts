/**
 * How a runtime asks a server again and again by itself, for as long as nothing changes, and where it has no way to: then
 * the engine's own polls do it.
 */
import type { Lookout, Plan } from "./backend.ts";
import type { Peer } from "./connection.ts";

/** A request and the body of its answer, of status 200. */
export interface Asked {
  readonly request: Buffer;
  readonly body: Buffer;
  /** Between which bytes it holds another identifier each time: small hexadecimal digits and hyphens. */
  readonly varies: readonly [from: number, to: number];
}

/** What must stay as it is, for there to be no news. */
export interface Sight {
  /** An address, not a name. */
  readonly peer: Peer;
  /** The file of the token that the requests carry, and the token. Spaces around it do not matter. */
  readonly word: { readonly path: string; readonly text: string } | undefined;
  /** The receiver overwrites them. */
  readonly asked: readonly Asked[];
}

/** @param news is called once, for a difference, an error or an answer that is late. @returns undefined: not possible. */
export type LookOut = (sight: Sight, plan: Plan, news: () => void) => Lookout | undefined;

let load: (() => Promise<LookOut>) | undefined;
let way: LookOut | undefined;

/** @param loadWay is called when it is first asked for. */
export function lookOutBy(loadWay: (() => Promise<LookOut>) | undefined): void {
  load = loadWay;
  way = undefined;
}

/** Whether the runtime has a way. The first call loads it. */
export function canLookOut(): boolean {
  if (load === undefined) return false;
  if (way === undefined)
    void load().then((loaded) => {
      way = loaded;
    });
  return true;
}

/** Overwrites `sight.asked`. @returns undefined also where the way is not loaded yet. */
export function lookOut(...[sight, plan, news]: Parameters<LookOut>): ReturnType<LookOut> {
  try {
    return way?.(sight, plan, news);
  } finally {
    forget(sight.asked);
  }
}

export function forget(asked: readonly Asked[]): void {
  for (const { request, body } of asked) for (const bytes of [request, body]) bytes.fill(0);
}
