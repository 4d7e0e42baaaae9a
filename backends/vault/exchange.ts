/** One request over a connection, and its answer, within the limits of time and size. */
import { BackendError } from "../../src/contract/backend.ts";
import { Broken } from "../../src/contract/socket-connection.ts";
import type { Traffic } from "../../src/contract/limits.ts";
import { AnswerParser, type Headers, type Receiver } from "./answer-parser.ts";
import { Body } from "./body.ts";
import type { Connections, Line, User } from "./connections.ts";
import { ofConnection } from "./failures.ts";
import { placeOf, type Raw } from "./interpret.ts";
import type { Mutex } from "./mutex.ts";
import type { Settings } from "./settings.ts";
import { stopped, TimeLimits } from "./time-limits.ts";

/** Bytes. Vault's own limit for a request, and so for a stored secret, is 32 MiB; we publish secrets up to 16 MiB. */
export const MAX_BODY = 32 * 1024 * 1024;
/** Bytes. Above this, answers come in one at a time: eight of the largest at once would need too much memory. */
const LARGE = 1024 * 1024;
/** Responses with status 1xx before an answer: some servers send one. */
const MAX_INTERIM = 100;

/** What all requests to a server share. */
export interface Shared {
  readonly settings: Settings;
  readonly traffic: Traffic;
  /** Its owner reads and parses a large answer. */
  readonly large: Mutex;
}

/** The server closed an idle connection just as we used it: it has not seen the request. */
export class StaleConnection extends BackendError {
  constructor(server: string) {
    super("unavailable", `${server}: connection reset`);
  }
}

/**
 * @param bytes the whole request.
 * @throws BackendError
 */
export async function exchange(
  bytes: Buffer,
  url: URL,
  connections: Connections,
  shared: Shared,
  signal: AbortSignal,
): Promise<Raw> {
  if (signal.aborted) throw stopped();
  return await new Promise<Raw>((resolve, reject) => {
    new Exchange(bytes, url, shared, signal, { resolve, reject }).start(connections);
  });
}

interface Settle {
  readonly resolve: (raw: Raw) => void;
  readonly reject: (error: Error) => void;
}

class Exchange implements User, Receiver {
  readonly #bytes: Buffer;
  readonly #place: string;
  readonly #shared: Shared;
  readonly #settle: Settle;
  readonly #limits: TimeLimits;
  readonly #parser = new AnswerParser(this);
  readonly #body = new Body();
  #line: Line | undefined;
  #finish: (isReusable: boolean) => void = () => undefined;
  #isOver = false;
  /** Ends the turn of a large answer. */
  #release: () => void = () => undefined;
  #interim = 0;
  #status = 0;
  #headers: Headers = {};
  #length = 0;
  #isLarge = false;
  /** A large answer waits for its turn. */
  #isWaiting = false;
  /** Is set where it came to its end meanwhile. */
  #atTurn: (() => void) | undefined;

  constructor(bytes: Buffer, url: URL, shared: Shared, signal: AbortSignal, settle: Settle) {
    this.#bytes = bytes;
    this.#place = placeOf(url);
    this.#shared = shared;
    this.#settle = settle;
    this.#limits = new TimeLimits(shared.settings, signal, (error) => {
      this.#fail(error);
    });
  }

  start(connections: Connections): void {
    this.#finish = connections.take(this);
  }

  begin(line: Line): void {
    this.#line = line;
    if (line.isOpen) this.opened();
    else this.#limits.awaitConnection();
  }

  opened(): void {
    this.#limits.awaitAnswer();
    this.#line?.send(this.#bytes);
  }

  received(bytes: Buffer): void {
    try {
      this.#parser.take(bytes);
    } catch (error) {
      this.#fail(ofConnection(error, this.#shared.settings.server));
    }
  }

  ended(error?: Error): void {
    if (this.#atTurn !== undefined || (error === undefined && this.#parser.end())) return;
    const { server } = this.#shared.settings;
    const isStale = this.#line?.isReused === true && !this.#parser.hasBegun;
    this.#fail(isStale ? new StaleConnection(server) : ofConnection(error ?? new Broken(), server));
  }

  interim(): void {
    this.#interim += 1;
    if (this.#interim <= MAX_INTERIM) return;
    const { server } = this.#shared.settings;
    this.#fail(new BackendError("unavailable", `${server}: the answer does not begin (status 1xx again and again)`));
  }

  head(status: number, headers: Headers): void {
    this.#status = status;
    this.#headers = headers;
  }

  part(bytes: Buffer): void {
    if (this.#isOver) {
      bytes.fill(0);
      return;
    }
    if (!this.#isWaiting) this.#limits.awaitAnswer();
    this.#body.add(bytes);
    this.#length += bytes.length;
    const refusal =
      this.#length > MAX_BODY
        ? tooLarge(this.#place, this.#status)
        : this.#shared.traffic.take(bytes.length, this.#place);
    if (refusal !== undefined) this.#fail(refusal);
    else if (this.#length > LARGE && !this.#isLarge) this.#awaitTurn();
  }

  complete(isReusable: boolean): void {
    if (this.#isOver) return;
    if (this.#isWaiting) {
      this.#atTurn = () => {
        this.complete(isReusable);
      };
      return;
    }
    this.#end(isReusable);
    const body = this.#body.take();
    const release = () => {
      this.#release();
    };
    const isKept = this.#line?.isKept ?? false;
    this.#settle.resolve({ status: this.#status, headers: this.#headers, body, release, isKept });
  }

  #awaitTurn(): void {
    this.#isLarge = true;
    this.#isWaiting = true;
    this.#limits.pause();
    this.#line?.pause();
    this.#release = this.#shared.large.take(() => {
      this.#isWaiting = false;
      this.#limits.awaitAnswer();
      this.#line?.resume();
      this.#atTurn?.();
    });
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    this.#end(false);
    this.#release();
    this.#body.forget();
    this.#settle.reject(error);
  }

  #end(isReusable: boolean): void {
    this.#isOver = true;
    this.#limits.end();
    this.#finish(isReusable);
  }
}

/** The body of an error status may be a proxy's. */
function tooLarge(place: string, status: number): BackendError {
  return new BackendError(status < 300 ? "invalid" : "unavailable", `${place}: the answer is larger than 32 MiB`);
}
