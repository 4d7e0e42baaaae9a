/** Real Vault or OpenBao servers on free loopback ports. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "../contract/until.ts";
import { freePort } from "../free-port.ts";
import { type Product, serverBinary } from "./binary.ts";

export type Json = Readonly<Record<string, unknown>>;

export interface Reply {
  readonly status: number;
  readonly body: Json;
}

export interface CallOptions {
  readonly token?: string | undefined;
  readonly namespace?: string;
  /** true: accepts any status; otherwise a refusal throws, so a test whose preparation fails stops there. */
  readonly any?: boolean;
}

/** Both projects recommend `raft`, which elects a leader after each start. OpenBao 2.7 no longer has `file`. */
export type Storage = "file" | "raft";

export class VaultServer {
  readonly url: string;
  readonly directory: string;
  readonly program: string;
  rootToken: string;
  readonly #args: readonly string[];
  #child: ChildProcess | undefined;
  #log = "";

  private constructor(
    product: Product | undefined,
    url: string,
    directory: string,
    rootToken: string,
    args: readonly string[],
  ) {
    const program = serverBinary(product);
    if (program === undefined) throw new Error("no bao and no vault: the test should have been skipped");
    this.program = program;
    this.url = url;
    this.directory = directory;
    this.rootToken = rootToken;
    this.#args = args;
  }

  /**
   * A server in memory, unsealed; `secret` is KV version 2.
   *
   * @param product any, where it does not matter.
   */
  static async dev(product?: Product): Promise<VaultServer> {
    const port = await freePort();
    const directory = await mkdtemp(join(await realpath(tmpdir()), "fetcher-vault-"));
    const token = `root-${randomBytes(12).toString("hex")}`;
    const args = [
      `-dev-listen-address=127.0.0.1:${port}`,
      `-dev-root-token-id=${token}`,
      "-dev",
      "-dev-no-store-token",
    ];
    const server = new VaultServer(product, `http://127.0.0.1:${port}`, directory, token, args);
    await server.start();
    return server;
  }

  /**
   * A server on a disk, which can be stopped, started and sealed.
   *
   * @param listener HCL next to the address: TLS files; without it, there is no TLS.
   */
  static async stored(
    listener = "tls_disable = true",
    { storage = "raft", product }: { readonly storage?: Storage; readonly product?: Product } = {},
  ): Promise<VaultServer> {
    const [port, cluster] = [await freePort(), await freePort()];
    const directory = await mkdtemp(join(await realpath(tmpdir()), "fetcher-vault-"));
    const scheme = listener.includes("tls_disable") ? "http" : "https";
    const data = join(directory, "data");
    await mkdir(data);
    const config = join(directory, "server.hcl");
    const url = `${scheme}://127.0.0.1:${port}`;
    await writeFile(
      config,
      `disable_mlock = true
       api_addr = "${url}"
       cluster_addr = "https://127.0.0.1:${cluster}"
       storage "${storage}" {
         path = "${data}"
         ${storage === "raft" ? 'node_id = "one"' : ""}
       }
       listener "tcp" {
         address = "127.0.0.1:${port}"
         cluster_address = "127.0.0.1:${cluster}"
         ${listener}
       }`,
    );
    const server = new VaultServer(product, url, directory, "", [`-config=${config}`]);
    await server.start();
    return server;
  }

  /** The server's own log. */
  get log(): string {
    return this.#log;
  }

  /** Starts the server, also again; resolves when it answers. */
  async start(): Promise<void> {
    const child = spawn(this.program, ["server", ...this.#args], {
      cwd: this.directory,
      env: { PATH: process.env["PATH"] ?? "", HOME: this.directory },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#log += text;
      });
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`the server ended: ${this.#log}`);
      try {
        const { status } = await this.call("GET", "sys/health", undefined, { any: true });
        return status > 0 && (status === 200 || !this.#args.includes("-dev"));
      } catch {
        return false;
      }
    });
  }

  /** Initializes and unseals the server. @returns the key that unseals it. */
  async initialize(): Promise<string> {
    const { body } = await this.call("PUT", "sys/init", { secret_shares: 1, secret_threshold: 1 });
    const [key] = body["keys"] as string[];
    this.rootToken = body["root_token"] as string;
    await this.unseal(key ?? "");
    return key ?? "";
  }

  async unseal(key: string): Promise<void> {
    await this.call("PUT", "sys/unseal", { key });
    await until(async () => (await this.call("GET", "sys/health", undefined, { any: true })).status === 200);
  }

  /** The kernel still takes connections, but the server does not answer. Returns when all its threads are stopped. */
  async freeze(): Promise<void> {
    this.#child?.kill("SIGSTOP");
    const tasks = `/proc/${String(this.#child?.pid)}/task`;
    const stateOf = (task: string) => /\) (\w)/.exec(readFileSync(`${tasks}/${task}/stat`, "utf8"))?.[1];
    await until(() => readdirSync(tasks).every((task) => stateOf(task) === "T"), "the server stands still");
  }

  thaw(): void {
    this.#child?.kill("SIGCONT");
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async dispose(): Promise<void> {
    await this.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Uses the root token if none is given; `token: undefined` sends none. */
  async call(method: string, path: string, body?: object, options: CallOptions = {}): Promise<Reply> {
    const token = "token" in options ? options.token : this.rootToken;
    const { status, text } = await exchange(
      `${this.url}/v1/${path}`,
      method,
      body === undefined ? "" : JSON.stringify(body),
      {
        ...(token === undefined || token === "" ? {} : { "x-vault-token": token }),
        ...(options.namespace === undefined ? {} : { "x-vault-namespace": options.namespace }),
      },
    );
    if (status >= 400 && options.any !== true) throw new Error(`${method} ${path}: ${status} ${text}`);
    return { status, body: (text === "" ? {} : JSON.parse(text)) as Json };
  }

  read(path: string, options?: CallOptions): Promise<Reply> {
    return this.call("GET", path, undefined, options);
  }

  write(path: string, body: object = {}, options?: CallOptions): Promise<Reply> {
    return this.call("POST", path, body, options);
  }

  /** Mounts a KV engine; one of version 2 answers 400 for a moment. */
  async mountKv(path: string, version: 1 | 2, options: CallOptions = {}): Promise<void> {
    await this.write(`sys/mounts/${path}`, { type: "kv", options: { version: String(version) } }, options);
    const isThere = async () => (await this.read(`${path}/config`, { ...options, any: true })).status === 200;
    if (version === 2) await until(isThere);
  }

  /** Makes a new token with these rules. */
  async token(rules: string, more: object = {}): Promise<string> {
    const name = `policy-${randomBytes(4).toString("hex")}`;
    await this.write(`sys/policies/acl/${name}`, { policy: rules });
    const { body } = await this.write("auth/token/create", { policies: [name], ...more });
    return (body["auth"] as { client_token: string }).client_token;
  }
}

async function exchange(url: string, method: string, body: string, headers: Record<string, string>) {
  return await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const client = url.startsWith("https:") ? https : http;
    const request = client.request(url, { method, headers, rejectUnauthorized: false, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => {
        resolve({ status: response.statusCode ?? 0, text });
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}
