/** The options of a Vault. */
import * as v from "valibot";
import { aboutBackend, means, option } from "../../src/contract/option.ts";
import { absolutePath, object, oneOf, requestSeconds, settingsObject, text } from "../../src/contract/settings.ts";
import { methods } from "./logins/index.ts";
import { flag, headerText, pathText } from "./setting-types.ts";

export const about = aboutBackend({
  name: "HashiCorp Vault or OpenBao",
  text: "HashiCorp Vault and OpenBao: KV secrets, and secrets that the server makes for each client.",
  network: true,
});

export const Tls = object({
  caFile: option(
    v.optional(absolutePath),
    means("PEM; the authorities to trust", { otherwise: "those that Node brings", path: "replaced" }),
  ),
  caDirectory: option(
    v.optional(absolutePath),
    means("a directory of such files", { otherwise: "none", path: "replaced" }),
  ),
  certFile: option(
    v.optional(absolutePath),
    means("PEM; a client certificate, with its `keyFile`; read again when it changes", {
      otherwise: "none",
      path: "replaced",
    }),
  ),
  keyFile: option(
    v.optional(absolutePath),
    means("PEM; the key of `certFile`", { otherwise: "none", path: "replaced", secret: true }),
  ),
  serverName: option(
    v.optional(text),
    means("the name that the server's certificate must have", { otherwise: "the host of `url`" }),
  ),
  minVersion: option(v.optional(oneOf(["TLSv1.2", "TLSv1.3"]), "TLSv1.2"), means("`TLSv1.2` or `TLSv1.3`")),
  insecureDoNotVerifyServer: option(v.optional(flag, false), means("trust whoever answers. For experiments")),
});
export type TlsSettings = v.InferOutput<typeof Tls>;

export const Settings = settingsObject({
  url: option(
    v.optional(text, "http://localhost:8200"),
    means("`https://…`, `http://…`, or `unix:/path/of/the/socket`", { path: "url" }),
  ),
  mount: option(v.optional(pathText, "secret"), means("where the secrets engine is mounted")),
  path: option(
    v.optional(pathText),
    means("the path of the secret, below `mount`; its keys are the ids", {
      otherwise: "required, here or in each source",
      example: "nixos-testsecrets",
    }),
  ),
  kvVersion: option(
    v.optional(v.picklist([1, 2], "expected 1 or 2")),
    means("1 or 2, for `mount`", { otherwise: "the server is asked, once for each mount" }),
  ),
  namespace: option(v.optional(headerText), means("of login, mount and secrets", { otherwise: "none" })),
  tokenPath: option(
    v.optional(absolutePath),
    means("a file with a token, read again when it changes; short for the login `token`", {
      otherwise: "none",
      path: "replaced",
      secret: true,
      insteadOf: "login",
      example: "/etc/secrets/service_secrets_token",
    }),
  ),
  auth: option(
    v.optional(v.unknown()),
    means("a login, by `method`: see the logins", {
      otherwise: "required, or `tokenPath`; for a socket `none`",
      insteadOf: "login",
      forms: { by: "method", schemas: methods },
    }),
  ),
  tls: v.optional(Tls),
  connectTimeout: option(v.optional(requestSeconds, 5), means("for the connection and its TLS handshake")),
  responseTimeout: option(v.optional(requestSeconds, 20), means("until an answer begins, and between its parts")),
  requestTimeout: option(v.optional(requestSeconds, 60), means("for a request in all; at most 100")),
  revokeOnStop: option(
    v.optional(flag, false),
    means("when the sidecar stops, leases end, and the token too where a login made it"),
  ),
});
