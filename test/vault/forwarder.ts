/** A TCP port in front of a server, which can go away, fall silent, and count. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { freePort } from "../free-port.ts";

export class Forwarder {
  readonly #target: URL;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  readonly #port: number;
  #silent = false;
  /** Connections so far. */
  connections = 0;
  /** The first lines of requests, for HTTP in the clear: `GET /v1/secret/data/app HTTP/1.1`. */
  readonly requests: string[] = [];
  /** The number of answers, for HTTP in the clear. */
  answers = 0;
  /** Sees each piece of an answer before it goes back. */
  onAnswer: (data: Buffer) => void = () => undefined;

  private constructor(target: string, port: number) {
    this.#target = new URL(target);
    this.#port = port;
  }

  static async to(target: string): Promise<Forwarder> {
    const forwarder = new Forwarder(target, await freePort());
    await forwarder.up();
    return forwarder;
  }

  get url(): string {
    return `${this.#target.protocol}//127.0.0.1:${this.#port}`;
  }

  /** Listens again, on the same port. */
  async up(): Promise<void> {
    this.#silent = false;
    const server = createServer((socket) => {
      this.#forward(socket);
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.#port, "127.0.0.1", resolve));
  }

  /** Refuses new connections and breaks open ones. */
  async down(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Takes connections, but never answers. */
  silent(): void {
    this.#silent = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  #forward(socket: Socket): void {
    this.connections += 1;
    const upstream = this.#silent ? undefined : connect(Number(this.#target.port), this.#target.hostname);
    for (const end of [socket, upstream]) {
      if (end === undefined) continue;
      this.#sockets.add(end);
      end.on("error", () => undefined);
      end.on("close", () => {
        this.#sockets.delete(end);
        socket.destroy();
        upstream?.destroy();
      });
    }
    socket.on("data", (data) => {
      this.requests.push(...(data.toString("latin1").match(/^[A-Z]+ \S+ HTTP\/1\.1$/gm) ?? []));
    });
    upstream?.on("data", (data: Buffer) => {
      this.onAnswer(data);
      this.answers += data.toString("latin1").match(/^HTTP\/1\.1 \d/gm)?.length ?? 0;
    });
    if (upstream !== undefined) socket.pipe(upstream).pipe(socket);
    else socket.resume();
  }
}
