/** What an operator may say about a Vault: where it is, how to log in, how to know it. */
import * as v from "valibot";
import { ConfigError } from "../../src/contract/errors.ts";
import { absolutePath, object, oneOf, parse, requestSeconds, text } from "../../src/contract/settings.ts";

/** `secret`, `team/kv`: kept as it is typed, without the slashes around it. */
export const pathText = v.pipe(
  text,
  v.transform((path) => path.replace(/^\/+|\/+$/g, "")),
  v.check((path) => path !== "", "must not be empty"),
  v.check((path) => !/[\u0000-\u001f\u007f]/.test(path), "must not contain control characters"),
  // A URL with such a segment is another URL.
  v.check(
    (path) => path.split("/").every((segment) => segment !== "" && segment !== "." && segment !== ".."),
    'must not contain empty segments, "." or ".."',
  ),
);

const flag = v.boolean("expected true or false");

/** Goes into a header. */
const headerText = v.pipe(
  text,
  v.check((value) => /^[\x21-\x7e]+$/.test(value), "expected printable ASCII without spaces"),
);

const Tls = object({
  caFile: v.optional(absolutePath),
  caDirectory: v.optional(absolutePath),
  certFile: v.optional(absolutePath),
  keyFile: v.optional(absolutePath),
  serverName: v.optional(text),
  minVersion: v.optional(oneOf(["TLSv1.2", "TLSv1.3"]), "TLSv1.2"),
  insecureDoNotVerifyServer: v.optional(flag, false),
});
export type TlsSettings = v.InferOutput<typeof Tls>;

export const Settings = object({
  url: v.optional(text, "http://localhost:8200"),
  mount: v.optional(pathText, "secret"),
  path: v.optional(pathText),
  kvVersion: v.optional(v.picklist([1, 2], "expected 1 or 2")),
  namespace: v.optional(headerText),
  tokenPath: v.optional(absolutePath),
  auth: v.optional(v.unknown()),
  tls: v.optional(Tls),
  connectTimeout: v.optional(requestSeconds, 5),
  responseTimeout: v.optional(requestSeconds, 20),
  requestTimeout: v.optional(requestSeconds, 60),
  revokeOnStop: v.optional(flag, false),
});

/** Each login method with its options; `mount` is where the method is mounted under `auth/`. */
export const methods = {
  token: object({ method: v.literal("token"), tokenPath: absolutePath }),
  approle: object({
    method: v.literal("approle"),
    mount: v.optional(pathText, "approle"),
    roleId: v.optional(text),
    roleIdPath: v.optional(absolutePath),
    secretIdPath: v.optional(absolutePath),
    /** The file holds a wrapping token, and the secret id is inside. */
    wrapped: v.optional(flag, false),
    /** The role's name, as a wrapped secret id was made for it; absent: any role of this mount. */
    role: v.optional(text),
  }),
  jwt: object({
    method: v.literal("jwt"),
    mount: v.optional(pathText, "jwt"),
    role: v.optional(text),
    jwtPath: absolutePath,
  }),
  kubernetes: object({
    method: v.literal("kubernetes"),
    mount: v.optional(pathText, "kubernetes"),
    role: text,
    jwtPath: v.optional(absolutePath, "/var/run/secrets/kubernetes.io/serviceaccount/token"),
  }),
  cert: object({ method: v.literal("cert"), mount: v.optional(pathText, "cert"), role: v.optional(text) }),
  aws: object({
    method: v.literal("aws"),
    mount: v.optional(pathText, "aws"),
    role: v.optional(text),
    /** Of the STS that Vault asks, as its `sts_endpoint` has it; absent: the global one. */
    region: v.optional(v.pipe(text, v.regex(/^[a-z0-9-]+$/, "expected the name of an AWS region"))),
    /** Vault's `iam_server_id_header_value`. */
    serverId: v.optional(headerText),
    profile: v.optional(text),
  }),
  none: object({ method: v.literal("none") }),
};
type Method = keyof typeof methods;
export type Auth = { [M in Method]: v.InferOutput<(typeof methods)[M]> }[Method];

export interface Settings {
  /** Without a slash at its end; of a unix socket `http://localhost`. */
  readonly url: string;
  /** The unix socket that the server or an agent listens on. */
  readonly socketPath: string | undefined;
  /** `url` as the operator wrote it. */
  readonly server: string;
  readonly mount: string;
  readonly path: string | undefined;
  readonly kvVersion: 1 | 2 | undefined;
  readonly namespace: string | undefined;
  readonly auth: Auth;
  readonly tls: TlsSettings;
  /** Seconds: for the connection with its TLS handshake; between two pieces of an answer; for all of a request. */
  readonly timeouts: { readonly connect: number; readonly response: number; readonly total: number };
  /** Leases, and the token where a login made it, end with the sidecar. */
  readonly revokeOnStop: boolean;
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
    throw new ConfigError("tls", "is for an https URL, and `url` is none");
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
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (url === undefined || !["http:", "https:"].includes(url.protocol))
    throw new ConfigError("url", "expected https://HOST:PORT, http://HOST:PORT or unix:/path/of/the/socket");
  if (url.username !== "" || url.password !== "") throw new ConfigError("url", "must not hold a user or a password");
  if (url.search !== "" || url.hash !== "") throw new ConfigError("url", "must not hold a query or a fragment");
  const plain = url.href.replace(/\/+$/, "");
  return { url: plain, socketPath: undefined, server: plain };
}

function parseAuth(given: unknown, tokenPath: string | undefined, isSocket: boolean): Auth {
  if (given === undefined) {
    if (tokenPath !== undefined) return { method: "token", tokenPath };
    // Who may use a socket is decided by its mode.
    if (isSocket) return { method: "none" };
    throw new ConfigError("auth", "is required, or tokenPath: the file that the token is in");
  }
  if (tokenPath !== undefined) throw new ConfigError("tokenPath", "does not go together with auth");
  const { method } = parse(
    v.looseObject({ method: oneOf(Object.keys(methods) as Method[]) }, "expected an object"),
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
