/** The options of a Vault. */
import * as v from "valibot";
import { aboutBackend, means, option } from "../../src/contract/option.ts";
import { absolutePath, objectAs, oneOf, requestSeconds, settingsObject, text } from "../../src/contract/settings.ts";
import { methods } from "./logins/index.ts";
import { flag, headerText, pathText } from "./setting-types.ts";

export const about = aboutBackend({
  name: "HashiCorp Vault or OpenBao",
  text: "HashiCorp Vault and OpenBao: KV secrets, and secrets that the server makes for each client.",
  network: true,
});

/** As Vault Agent, consul-template, Terraform and External Secrets call them. */
const tlsElsewhere = {
  caFile: "ca cacert cacertfile cabundle",
  caDirectory: "cadir capath cacertdir",
  certFile: "cert clientcert clientcertfile certificate",
  keyFile: "key clientkey clientkeyfile privatekey",
  serverName: "tlsservername sni",
  minVersion: "tlsminversion",
  insecureDoNotVerifyServer: "insecure tlsskipverify skipverify skiptlsverify insecureskipverify",
};
const elsewhere = {
  url: "address addr vaultaddr vaultaddress server endpoint host uri",
  mount: "mountpath engine secretengine enginepath backend",
  path: "secretpath",
  kvVersion: "version engineversion",
  namespace: "vaultnamespace",
  tokenPath: "tokenfile tokenfilepath vaulttoken vaulttokenfile vaultagenttokenfile",
  auth: "autoauth authmethod login approle kubernetes jwt",
  "auth.method": "method",
  "auth.role": "role",
  "auth.roleId": "roleid",
  "auth.roleIdPath": "roleidpath roleidfile roleidfilepath",
  "auth.secretIdPath": "secretid secretidpath secretidfile secretidfilepath",
  tls: "ssl",
  "tls.caFile": "ca cacert cafile cacertfile cabundle",
  "tls.caDirectory": "cadir capath cadirectory cacertdir",
  "tls.certFile": "cert certfile clientcert clientcertfile",
  "tls.keyFile": "keyfile clientkey clientkeyfile",
  "tls.serverName": "servername tlsservername",
  "tls.minVersion": "minversion tlsminversion",
  "tls.insecureDoNotVerifyServer": "insecure tlsskipverify skipverify skiptlsverify",
  requestTimeout: "timeout",
};

export const Tls = objectAs(tlsElsewhere, {
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

export const Settings = settingsObject(elsewhere, {
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
