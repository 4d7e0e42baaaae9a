/** The settings of a Vault, checked: where it is, how to log in, how to know it. */
import * as v from "valibot";
import { ConfigError } from "../../src/contract/errors.ts";
import { oneOf, parse } from "../../src/contract/settings.ts";
import { type Auth, methods } from "./logins/index.ts";
import { Settings, Tls, type TlsSettings } from "./options.ts";

type Parsed = v.InferOutput<typeof Settings>;
export type { Auth, TlsSettings };

/** As the rest of the backend wants them. */
export interface Settings extends Readonly<
  Pick<Parsed, "mount" | "path" | "kvVersion" | "namespace" | "revokeOnStop">
> {
  /** Without a slash at its end; `http://localhost` for a unix socket. */
  readonly url: string;
  /** The unix socket that the server or an agent listens on. */
  readonly socketPath: string | undefined;
  /** `url` as the operator wrote it. */
  readonly server: string;
  readonly auth: Auth;
  readonly tls: TlsSettings;
  /** Seconds: for the connection with its TLS handshake; between two pieces of an answer; for all of a request. */
  readonly timeouts: { readonly connect: number; readonly response: number; readonly total: number };
}

/** @throws ConfigError */
export function parseSettings(input: Readonly<Record<string, unknown>>): Settings {
  const settings = parse(Settings, input);
  const { mount, path, kvVersion, namespace, revokeOnStop } = settings;
  const place = parseUrl(settings.url);
  const tls = settings.tls ?? parse(Tls, {});
  const auth = parseAuth(settings.auth, settings.tokenPath, place.socketPath !== undefined);
  if ((tls.certFile === undefined) !== (tls.keyFile === undefined))
    throw new ConfigError("tls", "certFile and keyFile go together");
  if (settings.tls !== undefined && !place.url.startsWith("https:"))
    throw new ConfigError("tls", "needs a `url` with https");
  if (auth.method === "cert" && tls.certFile === undefined)
    throw new ConfigError("tls.certFile", "is required: auth.method is cert");
  const { connectTimeout: connect, responseTimeout: response, requestTimeout: total } = settings;
  const timeouts = { connect, response, total };
  return { ...place, mount, path, kvVersion, namespace, auth, tls, timeouts, revokeOnStop };
}

function parseUrl(server: string): Pick<Settings, "url" | "socketPath" | "server"> {
  if (server.startsWith("unix:")) {
    const socketPath = server.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    if (!socketPath.startsWith("/")) throw new ConfigError("url", "expected unix:/path/of/the/socket");
    return { url: "http://localhost", socketPath, server };
  }
  if (/^https?:\/\/\[[^\]]*%/i.test(server))
    throw new ConfigError(
      "url",
      "must not hold the zone of an IPv6 address (%…): use a name, or an address without one",
    );
  const url = URL.canParse(server) ? new URL(server) : undefined;
  // A URL's own rules take http:/x, http:x and http:\\x for http://x.
  if (url === undefined || !/^https?:\/\/[^/\\]/i.test(server.trim()))
    throw new ConfigError("url", "expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket");
  // No server listens there: a program that chooses its port by itself says so with 0.
  if (url.port === "0") throw new ConfigError("url", "must not hold the port 0: expected that of the server");
  if (url.username !== "" || url.password !== "") throw new ConfigError("url", "must not hold a user or a password");
  if (url.search !== "" || url.hash !== "") throw new ConfigError("url", "must not hold a query or a fragment");
  // Documents for curl have /v1 in the URL. We add it to every request ourselves.
  const plain = url.href
    .replace(/\/+$/, "")
    .replace(/(?<=[^/]\/)v1$/, "")
    .replace(/\/+$/, "");
  if (/^\/ui(\/|$)/.test(url.pathname))
    throw new ConfigError("url", "is the address of the web interface: expected that of the server, without /ui");
  if (/^\/v1\/./.test(url.pathname))
    throw new ConfigError("url", "must not hold a path of the API: what comes after /v1 belongs in `mount` and `path`");
  return { url: plain, socketPath: undefined, server: plain };
}

function parseAuth(given: unknown, tokenPath: string | undefined, isSocket: boolean): Auth {
  if (given === undefined) {
    if (tokenPath !== undefined) return { method: "token", tokenPath };
    // The socket's mode decides who may use it.
    if (isSocket) return { method: "none" };
    throw new ConfigError("auth", "is required, or tokenPath: the file with the token");
  }
  if (tokenPath !== undefined) throw new ConfigError("tokenPath", "does not go together with auth");
  const { method } = parse(
    v.object({ method: oneOf(Object.keys(methods) as Auth["method"][]) }, ({ path }) =>
      path === undefined
        ? `expected an object with "method": one of ${Object.keys(methods).join(", ")}`
        : `is required: one of ${Object.keys(methods).join(", ")}`,
    ),
    given,
    "auth",
  );
  const auth: Auth = parse(methods[method], given, "auth");
  if (auth.method !== "approle") return auth;
  if ((auth.roleId === undefined) === (auth.roleIdPath === undefined))
    throw new ConfigError("auth.roleId", "is required, or roleIdPath, but not both");
  if (auth.wrapped && auth.secretIdPath === undefined)
    throw new ConfigError("auth.secretIdPath", "is required: auth.wrapped is true");
  return auth;
}
