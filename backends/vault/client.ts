/**
 * node-vault builds the requests; Transport sends them and reads the answers. We turn off node-vault's own handling of
 * environment, debugging, proxies and errors.
 */
import nodeVault from "node-vault";
import { BackendError } from "../../src/contract/backend.ts";
import { Refused } from "./failures.ts";
import type { Settings } from "./settings.ts";
import type { Answer } from "./interpret.ts";
import { type Request, Transport } from "./transport.ts";

export type Body = Answer["body"];

export interface Call {
  readonly method: "GET" | "POST";
  /** Below /v1, with plain names: `call` encodes it. */
  readonly path: string;
  readonly query?: string | undefined;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
  readonly signal: AbortSignal;
}

export class Client {
  readonly #transport: Transport;
  readonly #vault: ReturnType<typeof nodeVault>;
  readonly #namespace: string | undefined;

  constructor(settings: Settings) {
    const transport = new Transport(settings);
    this.#transport = transport;
    this.#namespace = settings.namespace;
    this.#vault = nodeVault({
      endpoint: settings.url,
      commands: {},
      debug: () => undefined,
      ...validator,
      "request-promise": {
        defaults: () => async (request: Request) => ({
          ...(await transport.send(request)),
          request: { path: request.uri },
        }),
      },
    });
    // If they are undefined in the options, node-vault takes VAULT_TOKEN, VAULT_NAMESPACE and VAULT_PREFIX.
    Object.assign(this.#vault, { token: undefined, namespace: undefined, pathPrefix: "" });
  }

  /**
   * @param token goes into this request only.
   * @throws Refused for an error status, BackendError for everything else.
   */
  async call({ method, path, query, data, signal }: Call, token: string | undefined): Promise<Body> {
    const headers: Record<string, string> = { "X-Vault-Request": "true" };
    if (token !== undefined) headers["X-Vault-Token"] = token;
    if (this.#namespace !== undefined) headers["X-Vault-Namespace"] = this.#namespace;
    const target = path.split("/").map(encodeURIComponent).join("/") + (query === undefined ? "" : `?${query}`);
    const options = { headers, signal };
    try {
      const answer: unknown =
        method === "GET" ? await this.#vault.read(target, options) : await this.#vault.write(target, data, options);
      return answer as Body;
    } catch (error) {
      if (error instanceof Refused || error instanceof BackendError) throw error;
      throw new BackendError("unavailable", "node-vault cannot make the request");
    }
  }

  /** Seconds since 1970 by the server's clock, as of the last answer. */
  get serverTime(): number {
    return this.#transport.serverTime;
  }

  /** A fetch begins. */
  begin(): void {
    this.#transport.begin();
  }

  /** It ends. */
  end(): void {
    this.#transport.end();
  }

  takeEvidence(): ReturnType<Transport["takeEvidence"]> {
    return this.#transport.takeEvidence();
  }

  close(): void {
    this.#transport.close();
  }
}

/** node-vault would check that path and method are strings, which the compiler does. Its types want a function. */
const validator = { tv4: { validate: () => true } } as unknown as { tv4: () => boolean };
