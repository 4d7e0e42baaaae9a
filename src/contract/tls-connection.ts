/** TLS, over a socket of Node's or over a connection of the runtime's own, which can rest. */
import type { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import type { Connection, ConnectionEvents, OpenConnection, OpenResting, Peer } from "./connection.ts";
import { SocketConnection } from "./socket-connection.ts";

/** ms. The usual way asks all addresses of a name at once, so it goes on where one is silent. */
const SILENCE = 250;

/** @param resting undefined: the usual way. It is asked for each connection. */
export function tlsOpener(options: ConnectionOptions, resting: () => OpenResting | undefined): OpenConnection {
  // Loads the library, which a server without TLS, an agent on this machine say, does not need.
  const tls: Tls = (peer, events, socket) =>
    new SocketConnection(
      process.getBuiltinModule("node:tls").connect({ ...peer, ...options, ...(socket && { socket }) }),
      "secureConnect",
      events,
    );
  return (peer, events) => {
    const way = "path" in peer ? undefined : resting();
    return "path" in peer || way === undefined ? tls(peer, events) : new TlsConnection(peer, way, tls, events);
  };
}

type Host = Extract<Peer, { host: string }>;
type Tls = (peer: Peer, events: ConnectionEvents, socket?: Duplex) => Connection;

class TlsConnection implements Connection {
  readonly #peer: Host;
  readonly #resting: OpenResting;
  readonly #tls: Tls;
  readonly #events: ConnectionEvents;
  /** What carries it; undefined: a socket of Node's. */
  #carrier: Connection | undefined;
  #secure: Connection | undefined;
  #late: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(peer: Host, resting: OpenResting, tls: Tls, events: ConnectionEvents) {
    this.#peer = peer;
    this.#resting = resting;
    this.#tls = tls;
    this.#events = {
      opened: () => {
        events.opened();
      },
      received: (bytes) => {
        events.received(bytes);
      },
      ended: (error) => {
        if (this.#isOver) return;
        this.destroy();
        events.ended(error);
      },
    };
    process.getBuiltinModule("node:dns").lookup(peer.host, { all: true }, (error, found) => {
      if (this.#isOver) return;
      this.#late = setTimeout(() => {
        this.#goUsualWay();
      }, SILENCE);
      this.#dial(error === null ? found.map(({ address }) => address) : []);
    });
  }

  send(bytes: Buffer): void {
    this.#secure?.send(bytes);
  }

  get isSent(): boolean {
    return this.#secure?.isSent !== false && this.#carrier?.isSent !== false;
  }

  pause(): void {
    this.#secure?.pause();
    this.#carrier?.pause();
  }

  resume(): void {
    this.#secure?.resume();
    this.#carrier?.resume();
  }

  destroy(): void {
    this.#isOver = true;
    clearTimeout(this.#late);
    this.#secure?.destroy();
    this.#carrier?.destroy();
  }

  rest(): boolean {
    return this.#carrier?.rest?.() ?? false;
  }

  wake(patience: number | undefined): boolean {
    return this.#carrier?.wake?.(patience) ?? false;
  }

  /** One after another. */
  #dial([address, ...others]: readonly string[]): void {
    if (address === undefined) {
      this.#goUsualWay();
      return;
    }
    let duplex: Duplex | undefined;
    const carrier = this.#resting(
      { host: address, port: this.#peer.port },
      {
        opened: () => {
          clearTimeout(this.#late);
          duplex = this.#duplexOver(carrier);
          this.#secure = this.#tls(this.#peer, this.#events, duplex);
        },
        received: (bytes) => {
          duplex?.push(bytes);
        },
        ended: (error) => {
          if (duplex === undefined) this.#dial(others);
          else if (error === undefined) duplex.push(null);
          else this.#events.ended(error);
        },
      },
    );
    this.#carrier = carrier;
    if (carrier === undefined) this.#dial(others);
  }

  #goUsualWay(): void {
    clearTimeout(this.#late);
    this.#carrier?.destroy();
    this.#carrier = undefined;
    this.#secure = this.#tls(this.#peer, this.#events);
  }

  #duplexOver(carrier: Connection | undefined): Duplex {
    const { Duplex: Stream } = process.getBuiltinModule("node:stream");
    return new Stream({
      read: () => undefined,
      write: (bytes: Buffer, _, done) => {
        carrier?.send(bytes);
        done();
      },
    });
  }
}
