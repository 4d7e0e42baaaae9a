/** The connections to one server: a few at once, each for one request after another. */
import type { Connection, ConnectionEvents } from "../../src/contract/connection.ts";
import { Broken } from "../../src/contract/socket-connection.ts";

/** Connections at once. */
const MOST = 8;
/** ms that an idle connection is kept for the requests of one fetch, and for those between two. */
const IDLE = 3000;
/** ms that one is kept for the next fetch: load balancers commonly end an idle one after a minute. */
export const KEPT = 40_000;
/** ms of a connection's life, so that another address or certificate of the server's comes into use. */
const LIFE = 300_000;
/** Seconds. Something on the way may have forgotten a connection that was idle, and say nothing. */
const PATIENCE = 3;

/** A request that uses a connection. */
export interface User extends ConnectionEvents {
  /** It has a connection now. `opened` follows where it is not open yet. */
  begin(line: Line): void;
}

/** A connection, as its user sees it. */
export interface Line extends Omit<Connection, "destroy" | "rest" | "wake"> {
  readonly isOpen: boolean;
  /** It has served another request. */
  readonly isReused: boolean;
  /** It is of an earlier fetch. */
  readonly isKept: boolean;
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

  /** Closes the idle ones. @param keeps whether to keep one of them, where that costs nothing. */
  end(keeps = false): void {
    for (const line of this.#idle.splice(0)) {
      if (keeps && line.isResting && !line.isOld && this.#idle.length === 0) {
        line.isKept = true;
        this.#lay(line, KEPT);
      } else this.#drop(line);
    }
  }

  /** Closes those of an earlier fetch. */
  forget(): void {
    for (const line of [...this.#idle]) if (line.isKept) line.drop();
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
      const line = this.#wake() ?? (this.#lines.size < MOST ? this.#add() : undefined);
      if (line === undefined) return;
      this.#waiting.delete(user);
      line.user = user;
      user.begin(line);
    }
  }

  #wake(): PooledLine | undefined {
    for (;;) {
      const line = this.#idle.pop();
      clearTimeout(line?.idle);
      if (line === undefined || line.wake()) return line;
      this.#drop(line);
    }
  }

  #lay(line: PooledLine, time: number): void {
    clearTimeout(line.idle);
    line.idle = setTimeout(line.drop, time);
    line.idle.unref();
    this.#idle.push(line);
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
    line.rest();
    this.#lay(line, IDLE);
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
  isKept = false;
  isResting = false;
  readonly #since = Date.now();

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

  /** So it is, too, once somebody has set the clock back. */
  get isOld(): boolean {
    const age = Date.now() - this.#since;
    return age < 0 || age > LIFE;
  }

  rest(): void {
    this.isResting = this.connection.rest?.() ?? false;
  }

  /** @returns whether it can be used. */
  wake(): boolean {
    const isFit = !this.isResting || (this.connection.wake?.(this.isKept ? PATIENCE : undefined) ?? false);
    this.isResting = false;
    return isFit;
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
