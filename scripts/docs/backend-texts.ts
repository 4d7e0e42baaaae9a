/** What the settings of each backend mean, and the keys of its sources. */
import type { OptionTexts } from "./texts.ts";

/** By backend. */
export const about: Readonly<Record<string, string>> = {
  folder: "Files in a directory: sops-nix, agenix, a Kubernetes volume, or one of your own.",
  vault: "HashiCorp Vault and OpenBao: [vault.md](vault.md).",
  aws: "AWS Secrets Manager. Credentials come as the AWS SDK finds them. With `config.secretId`, an id is a JSON key of that secret; else it is the name of a secret.",
  credentials:
    "What systemd hands to the sidecar's own unit: `LoadCredentialEncrypted=`, `LoadCredential=`, `SetCredential=`, `ImportCredential=`.",
  command:
    "The output of a program, without a shell: `sops -d`, `age -d`, `pass show`, anything. Exit status 66 says that there is no such secret, 77 that it is refused, 64 and 78 that something is wrong for good; after any other it is tried again.",
  nixops: "Keys that NixOps uploads. A missing key is waited for.",
  static: "Values from the configuration itself. For tests: anybody may read them there.",
};

export const folder: OptionTexts = {
  "config.secretsDir": { meaning: "the directory, an absolute path; it may be or lead through a symbolic link" },
  "secrets.ID.source.file": { meaning: "the path of the file inside, without `..`", otherwise: "the id" },
};

export const nixops: OptionTexts = {
  "config.keysDir": { meaning: "the directory, an absolute path" },
  "secrets.ID.source.key": { meaning: "the name of the key", otherwise: "the id" },
};

export const credentials: OptionTexts = {
  "secrets.ID.source.name": { meaning: "the name of the credential", otherwise: "the id" },
};

export const command: OptionTexts = {
  "config.command": { meaning: "argv of the program", otherwise: "required, here or in each source" },
  "config.timeout": { meaning: "a program that takes longer is killed, and run again later; at most 100" },
  "config.environment": {
    meaning: "variables for the program, which inherits none but `PATH`; none whose name begins with `LD_`",
  },
  "secrets.ID.source.command": { meaning: "argv of another program", otherwise: "`config.command`" },
  "secrets.ID.source.args": {
    meaning: "what is added to argv",
    otherwise: "the id; nothing after a `command` of its own",
  },
  "secrets.ID.source.timeout": { meaning: "as above, for this one", otherwise: "`config.timeout`" },
};

export const fixed: OptionTexts = {
  "config.values": { meaning: "id → value, a string" },
  "config.allowInsecure": { meaning: "must be `true`" },
};

export const aws: OptionTexts = {
  "config.region": {
    meaning: "of the secrets; the region in an ARN wins",
    otherwise: "`AWS_REGION`, `AWS_DEFAULT_REGION`",
  },
  "config.endpoint": { meaning: "another address of the service, `https://HOST:PORT`", otherwise: "the region's own" },
  "config.profile": { meaning: "a profile of the AWS configuration files", otherwise: "the SDK's choice" },
  "config.roleArn": { meaning: "the ARN of a role to assume", otherwise: "none" },
  "config.externalId": { meaning: "what the role's trust policy asks for; needs `roleArn`", otherwise: "none" },
  "config.secretId": {
    meaning: "name or ARN of the secret that has all of this scope",
    otherwise: "each id is a secret",
  },
  "config.timeout": { meaning: "for a request; at most 100" },
  "secrets.ID.source.valueFrom": {
    meaning:
      "all in one, as Amazon ECS writes it: `ARN:json-key:version-stage:version-id`, empty fields keep their colons",
    otherwise: "none",
  },
  "secrets.ID.source.secretId": { meaning: "name or ARN", otherwise: "`config.secretId`, or else the id" },
  "secrets.ID.source.jsonKey": {
    meaning: "a key of a secret that is a JSON object",
    otherwise: "the id, if the secret is that of `config.secretId`; else the whole value",
  },
  "secrets.ID.source.versionStage": { meaning: "`AWSPREVIOUS`, or a label of your own", otherwise: "`AWSCURRENT`" },
  "secrets.ID.source.versionId": { meaning: "one version for good", otherwise: "the newest" },
};

export const vault: OptionTexts = {
  "config.url": { meaning: "`https://…`, `http://…`, or `unix:/path/of/the/socket`" },
  "config.mount": { meaning: "where the secrets engine is mounted" },
  "config.path": { meaning: "of the secret, below `mount`", otherwise: "required, here or in each source" },
  "config.kvVersion": { meaning: "1 or 2, for `mount`", otherwise: "the server is asked, once for each mount" },
  "config.namespace": { meaning: "of login, mount and secrets", otherwise: "none" },
  "config.tokenPath": { meaning: "a file with a token; short for the login `token`", otherwise: "none" },
  "config.auth": {
    meaning: "a login, by `method`: see below",
    otherwise: "required, or `tokenPath`; for a socket `none`",
  },
  "config.tls.caFile": { meaning: "PEM; the authorities to trust", otherwise: "those that Node brings" },
  "config.tls.caDirectory": { meaning: "a directory of such files", otherwise: "none" },
  "config.tls.certFile": { meaning: "PEM; a client certificate, with its `keyFile`", otherwise: "none" },
  "config.tls.keyFile": { meaning: "PEM; its key", otherwise: "none" },
  "config.tls.serverName": {
    meaning: "the name that the server's certificate must have",
    otherwise: "the host of `url`",
  },
  "config.tls.minVersion": { meaning: "`TLSv1.2` or `TLSv1.3`" },
  "config.tls.insecureDoNotVerifyServer": { meaning: "trust whoever answers. For experiments" },
  "config.connectTimeout": { meaning: "for the connection and its TLS handshake" },
  "config.responseTimeout": { meaning: "until an answer begins, and between its parts" },
  "config.requestTimeout": { meaning: "for a request in all; at most 100" },
  "config.revokeOnStop": { meaning: "when the sidecar stops, leases end, and the token too where a login made it" },
  "secrets.ID.source.path": { meaning: "as above, for this one", otherwise: "`config.path`" },
  "secrets.ID.source.key": { meaning: "the key of what is at the path", otherwise: "the id" },
  "secrets.ID.source.mount": { meaning: "as above, for this one", otherwise: "`config.mount`" },
  "secrets.ID.source.version": { meaning: "of a secret of KV version 2", otherwise: "the newest" },
  "secrets.ID.source.data": {
    meaning: "written to the path, and the secrets are in the answer: `pki/issue/ROLE`",
    otherwise: "the path is read",
  },
};

const method = { meaning: "the word itself" };
const mount = { meaning: "where the method is mounted below `auth/`" };
const jwtPath = { meaning: "a file with the token, read at each login" };

/** By method. */
export const vaultLogins: Readonly<Record<string, OptionTexts>> = {
  token: {
    "config.auth.method": method,
    "config.auth.tokenPath": { meaning: "a file with a token, read at every poll" },
  },
  approle: {
    "config.auth.method": method,
    "config.auth.mount": mount,
    "config.auth.roleId": { meaning: "the role id itself", otherwise: "required, or `roleIdPath`" },
    "config.auth.roleIdPath": { meaning: "a file with it", otherwise: "required, or `roleId`" },
    "config.auth.secretIdPath": { meaning: "a file with the secret id", otherwise: "none" },
    "config.auth.wrapped": { meaning: "that file has a wrapping token, and the secret id is inside" },
    "config.auth.role": {
      meaning: "the role that the wrapped secret id must be made for",
      otherwise: "any of this mount",
    },
  },
  jwt: {
    "config.auth.method": method,
    "config.auth.mount": mount,
    "config.auth.role": { meaning: "the role to log in as", otherwise: "the server's default" },
    "config.auth.jwtPath": jwtPath,
  },
  kubernetes: {
    "config.auth.method": method,
    "config.auth.mount": mount,
    "config.auth.role": { meaning: "the role to log in as" },
    "config.auth.jwtPath": jwtPath,
  },
  cert: {
    "config.auth.method": method,
    "config.auth.mount": mount,
    "config.auth.role": {
      meaning: "the role to log in as; the certificate is that of `tls`",
      otherwise: "any that fits",
    },
  },
  aws: {
    "config.auth.method": method,
    "config.auth.mount": mount,
    "config.auth.role": { meaning: "the role to log in as", otherwise: "the server's choice" },
    "config.auth.region": { meaning: "of the STS that the server asks", otherwise: "the global one" },
    "config.auth.serverId": { meaning: "the server's `iam_server_id_header_value`", otherwise: "none" },
    "config.auth.profile": { meaning: "a profile of the AWS configuration files", otherwise: "the SDK's choice" },
  },
  none: { "config.auth.method": method },
};
