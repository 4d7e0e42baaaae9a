/** Exchanges a proof of who we are for a token. Every login reads the proof from its file again. */
import { BackendError } from "../../src/contract/backend.ts";
import { notYet, readFiles } from "../files/read.ts";
import { unlessAborted } from "../../src/contract/bounded-wait.ts";
import { dataOf, type Grant, grantOf, strange } from "./answers.ts";
import type { Call, Client } from "./client.ts";
import { ofStatus, Refused } from "./failures.ts";
import type { Auth, Settings } from "./settings.ts";

type LoginAuth = Exclude<Auth, { method: "token" | "none" }>;

export class Login {
  readonly #client: Client;
  readonly #server: string;
  readonly #auth: LoginAuth;
  /** A wrapping token opens once: its secret id is kept for the next login. */
  #unwrapped: { readonly wrappingToken: string; readonly secretId: Promise<string> } | undefined;

  constructor(client: Client, settings: Settings, auth: LoginAuth) {
    this.#client = client;
    this.#server = settings.server;
    this.#auth = auth;
  }

  /** For messages: `auth/approle/login`. */
  get place(): string {
    return `auth/${this.#auth.mount}/login`;
  }

  /** @throws BackendError */
  async login(signal: AbortSignal): Promise<Grant> {
    const data = await this.#proof(signal);
    const path = this.place;
    try {
      return grantOf(await this.#client.call({ method: "POST", path, data, signal }, undefined), path);
    } catch (error) {
      throw error instanceof Refused ? this.#refused(error) : error;
    }
  }

  /** Servers answer 400 as well as 403 to a login that they refuse. */
  #refused(refused: Refused): BackendError {
    const { status } = refused;
    if (refused.isOfOthers)
      return new BackendError(
        "unavailable",
        `${this.place}: the server refuses the login (status ${status}): a clock may be wrong, or a system that the server asks may be away`,
      );
    // Both servers answer so for a missing login; some logins refuse so, too.
    const isHidden = status === 403 || (status === 400 && refused.isOfToken);
    const remedy = isHidden ? `${this.#remedy()}. Or ${this.#whichMount()}` : this.#remedy();
    if (status === 400 || status === 401 || status === 403)
      return new BackendError("denied", `${this.place}: the server refuses the login (status ${status}): ${remedy}`);
    if (status === 404 && !refused.isOfNamespace)
      return new BackendError("invalid", `${this.place}: there is no such login (status 404): ${this.#whichMount()}`);
    return ofStatus(refused, this.place, this.#server);
  }

  #whichMount(): string {
    return `no login is mounted at auth/${this.#auth.mount}: set auth.mount to one that \`vault auth list\` shows, without "auth/"`;
  }

  #remedy(): string {
    const auth = this.#auth;
    switch (auth.method) {
      case "approle":
        return auth.secretIdPath === undefined
          ? "see the role id"
          : `see the role id, and the secret id in ${auth.secretIdPath}`;
      case "jwt":
      case "kubernetes":
        return `see the role, and the token in ${auth.jwtPath}`;
      case "cert":
        return "see the certificate in tls.certFile";
      case "aws":
        return "see the role, and whose AWS credentials these are";
    }
  }

  async #proof(signal: AbortSignal): Promise<Record<string, unknown>> {
    const auth = this.#auth;
    switch (auth.method) {
      case "approle": {
        const roleId = auth.roleId ?? (await readWord(auth.roleIdPath ?? "", "role id", signal));
        if (auth.secretIdPath === undefined) return { role_id: roleId };
        const word = await readWord(auth.secretIdPath, auth.wrapped ? "wrapping token" : "secret id", signal);
        return { role_id: roleId, secret_id: auth.wrapped ? await this.#unwrap(word, signal) : word };
      }
      case "jwt":
      case "kubernetes": {
        const jwt = await readWord(auth.jwtPath, "token", signal);
        return auth.role === undefined ? { jwt } : { jwt, role: auth.role };
      }
      case "cert":
        return auth.role === undefined ? {} : { name: auth.role };
      case "aws": {
        const { awsProof } = await import("./aws-login.ts");
        return await awsProof(auth, signal);
      }
    }
  }

  /**
   * A wrapping token opened before is a sign of theft. So is one that was not made where secret ids are
   * made: a thief who opened the first can wrap something into a second.
   */
  async #unwrap(wrappingToken: string, signal: AbortSignal): Promise<string> {
    if (this.#unwrapped?.wrappingToken === wrappingToken) return await unlessAborted(signal, this.#unwrapped.secretId);
    const auth = this.#auth;
    if (auth.method !== "approle") throw new TypeError("only AppRole has wrapped secret ids");
    const file = auth.secretIdPath ?? "";
    const call = async (request: Pick<Call, "path" | "data" | "signal">, token?: string) => {
      const { path } = request;
      try {
        return dataOf(await this.#client.call({ method: "POST", ...request }, token), path);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (error.status !== 400 && error.status !== 403) throw ofStatus(error, path, this.#server);
        throw new BackendError(
          "denied",
          `the wrapped secret id in ${file} was opened before, or is too old: if nobody here opened it, it may have been stolen`,
        );
      }
    };
    const { creation_path: madeAt } = await call({
      path: "sys/wrapping/lookup",
      data: { token: wrappingToken },
      signal,
    });
    const madeFor = typeof madeAt === "string" && madeAt.startsWith(`auth/${auth.mount}/role/`) ? madeAt : "";
    const [role = "", end, ...more] = madeFor.slice(`auth/${auth.mount}/role/`.length).split("/");
    if (end !== "secret-id" || more.length > 0 || (auth.role !== undefined && auth.role !== role))
      throw new BackendError(
        "denied",
        `the wrapping token in ${file} was not made for a secret id of ${auth.role ?? "a role"} in auth/${auth.mount}: somebody may have replaced it`,
      );
    const open = async () => {
      const path = "sys/wrapping/unwrap";
      const { secret_id: secretId } = await call({ path, signal: new AbortController().signal }, wrappingToken);
      if (typeof secretId !== "string") throw strange(path, "no secret id in the answer");
      return secretId;
    };
    // The caller may give up before the answer is here, and it comes only once.
    const secretId = open();
    this.#unwrapped = { wrappingToken, secretId };
    secretId.catch(() => {
      if (this.#unwrapped?.secretId === secretId) this.#unwrapped = undefined;
    });
    return await unlessAborted(signal, secretId);
  }
}

/**
 * One word in a file, without the spaces and line ends around it.
 *
 * @throws BackendError `unavailable` while it is missing, `denied` or `invalid` if it cannot be read.
 */
export async function readWord(path: string, what: string, signal: AbortSignal): Promise<string> {
  const outcome = (await readFiles(new Map([["word", path]]), signal)).get("word");
  if (outcome === undefined || !("status" in outcome)) throw outcome ?? new BackendError("unavailable", "not read");
  if (outcome.status === "missing") throw new BackendError("unavailable", `no ${what}: ${notYet(path)}`);
  // trim() removes a byte order mark, too.
  const word = outcome.value.toString("utf8").trim();
  outcome.value.fill(0);
  if (word === "") throw new BackendError("unavailable", `no ${what}: ${path} is empty (yet)`);
  if (!/^[\x21-\x7e]+$/.test(word))
    throw new BackendError("invalid", `${path} is not a ${what}: expected one word of printable ASCII`);
  return word;
}
