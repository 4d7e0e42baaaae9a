/** The connections to one server: a few at once, each for one request after another. */
import type { Connection, ConnectionEvents } from "../../src/contract/connection.ts";
import { Broken } from "../../src/contract/socket-connection.ts";

/** Connections at once. */
const MOST = 8;
/** ms that an idle connection is kept for the requests of one fetch, and for those between two. */
const IDLE = 3000;

/** A request that uses a connection. */
export interface User extends ConnectionEvents {
  /** It has a connection now. `opened` follows where it is not open yet. */
  begin(line: Line): void;
}

/** A connection, as its user sees it. */
export interface Line extends Omit<Connection, "destroy"> {
  readonly isOpen: boolean;
  /** It has served another request. */
  readonly isReused: boolean;
}

export class Connections {
  readonly #open: (events: ConnectionEvents) => Connection;
  readonly #lines = new Set<PooledLine>();
  readonly #idle: PooledLine[] = [];
  readonly #waiting = new Set<User>();
  #isRetired = false;

  constructor(open: (events: ConnectionEvents) => Connection) {
    this.#open = open;
  }

  /**
   * Gives a connection to `user`, at once or when another request has finished with it.
   *
   * @returns a function that ends the use, or the wait. Its argument says whether the connection can serve another
   *   request.
   */
  take(user: User): (isReusable: boolean) => void {
    this.#waiting.add(user);
    this.#serve();
    return (isReusable) => {
      this.#waiting.delete(user);
      for (const line of this.#lines) if (line.user === user) this.#release(line, isReusable);
      this.#serve();
    };
  }

  /** Closes the idle ones. */
  end(): void {
    for (const line of this.#idle.splice(0)) this.#drop(line);
  }

  /** Takes no more connections back: others replace them. Requests under way end on theirs. */
  retire(): void {
    this.#isRetired = true;
    this.end();
  }

  /** Closes all, and fails the requests. */
  close(): void {
    const users = [...Array.from(this.#lines, ({ user }) => user), ...this.#waiting];
    this.#waiting.clear();
    for (const line of this.#lines) this.#drop(line);
    this.#idle.length = 0;
    for (const user of users) user?.ended(new Broken());
  }

  #serve(): void {
    for (const user of this.#waiting) {
      const line = this.#idle.pop() ?? (this.#lines.size < MOST ? this.#add() : undefined);
      if (line === undefined) return;
      clearTimeout(line.idle);
      this.#waiting.delete(user);
      line.user = user;
      user.begin(line);
    }
  }

  #add(): PooledLine {
    const line = new PooledLine(this.#open, () => {
      this.#drop(line);
      const at = this.#idle.indexOf(line);
      if (at !== -1) this.#idle.splice(at, 1);
    });
    this.#lines.add(line);
    return line;
  }

  #release(line: PooledLine, isReusable: boolean): void {
    if (!isReusable || !line.isSent || this.#isRetired) {
      this.#drop(line);
      return;
    }
    line.user = undefined;
    line.isReused = true;
    line.idle = setTimeout(line.drop, IDLE);
    line.idle.unref();
    this.#idle.push(line);
  }

  #drop(line: PooledLine): void {
    clearTimeout(line.idle);
    this.#lines.delete(line);
    line.user = undefined;
    line.connection.destroy();
  }
}

class PooledLine implements Line {
  readonly connection: Connection;
  readonly drop: () => void;
  /** undefined: nobody's, and whatever comes from the server then ends it. */
  user: User | undefined;
  idle: NodeJS.Timeout | undefined;
  isOpen = false;
  isReused = false;

  constructor(open: (events: ConnectionEvents) => Connection, drop: () => void) {
    this.drop = drop;
    this.connection = open({
      opened: () => {
        this.isOpen = true;
        this.user?.opened();
      },
      received: (bytes) => {
        if (this.user === undefined) drop();
        else this.user.received(bytes);
      },
      ended: (error) => {
        const { user } = this;
        drop();
        user?.ended(error);
      },
    });
  }

  get isSent(): boolean {
    return this.connection.isSent;
  }

  send(bytes: Buffer): void {
    this.connection.send(bytes);
  }

  pause(): void {
    this.connection.pause();
  }

  resume(): void {
    this.connection.resume();
  }
}
