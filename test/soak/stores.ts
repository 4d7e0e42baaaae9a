/** The stores in the guest, and what can happen to each. */
import { posix } from "node:path";
import type { Guest } from "../e2e/guest.ts";
import { generatedUnits } from "../e2e/generated-units.ts";
import type { PairOptions, UnitSource } from "../e2e/pair.ts";
import { GuestVault, url } from "../e2e/vault-server.ts";

export interface Outage {
  readonly name: string;
  /** Whether the store accepts new values during the outage. */
  readonly writable: boolean;
  begin(): Promise<unknown>;
  end(): Promise<unknown>;
}

export interface SoakStore {
  readonly backend: string;
  /** The source of its units, unless they are written by hand. */
  readonly source?: UnitSource;
  /** The options of its pair beyond the usual. */
  readonly options: Omit<PairOptions, "name">;
  /** The possible outages. While none is under way, the store takes writes. */
  readonly outages: readonly Outage[];
  install(): Promise<unknown>;
  put(value: string): Promise<void>;
}

const polling = { reloadOnChange: true, pollingInterval: 2 };
const everySecond = { ...polling, pollingInterval: 1 };

export function folder(guest: Guest, name: string): SoakStore {
  const directory = `/etc/fetcher/${name}/secrets`;
  const away = `${directory}.away`;
  let isAway = false;
  return {
    backend: "folder",
    options: { secrets: {}, config: { config: { pollingInterval: 5 }, secrets: { token: {} } } },
    install: () => Promise.resolve(),
    put: (value) => guest.replace(`${isAway ? away : directory}/token`, value, 0o400),
    outages: [
      {
        name: "the folder is away",
        writable: true,
        async begin() {
          await guest.run(["mv", "-T", directory, away]);
          isAway = true;
        },
        async end() {
          await guest.run(["mv", "-T", away, directory]);
          isAway = false;
        },
      },
      {
        name: "the file is a directory",
        writable: false,
        begin: () => guest.run(`cd ${directory} && mv token .kept && mkdir token`),
        end: () => guest.run(`cd ${directory} && rmdir token && mv .kept token`),
      },
    ],
  };
}

/** Another folder, whose sidecar is not resident. */
export function onChange(guest: Guest, name: string): SoakStore {
  const store = folder(guest, name);
  const config = {
    ...store.options.config,
    resident: "on-change",
    // systemd does not see changes during a daemon-reload.
    config: { reloadOnChange: true, pollingInterval: 5 },
    onChange: { verify: refusing },
  };
  return { ...store, source: generatedUnits, options: { ...store.options, config } };
}

const refusing = { command: ["/bin/sh", "-c", '! grep -q refused "$SECRETS_DIRECTORY/token"'] };

export function nixops(guest: Guest, name: string): SoakStore {
  const directory = `/run/keys-${name}`;
  return {
    backend: "nixops",
    options: {
      secrets: {},
      config: {
        backend: "nixops",
        config: { ...polling, secretsDir: undefined, keysDir: directory },
        secrets: { token: {} },
        onChange: { action: "reload" },
      },
      sidecar: { service: [`BindReadOnlyPaths=${directory}`] },
      // The program can reload: it reports that, and keeps running.
      target: {
        service: [`ExecReload=/bin/sh -c 'echo "reload file=$$(cat /tmp/token)" >>/var/lib/pairs/${name}.log'`],
      },
    },
    install: () => guest.run(["mkdir", "-m", "0700", directory]),
    put: (value) => guest.replace(`${directory}/token`, value, 0o400),
    outages: [
      {
        name: "the key is away",
        writable: false,
        begin: () => guest.run(["mv", "-T", `${directory}/token`, `${directory}.kept`]),
        end: () => guest.run(["mv", "-T", `${directory}.kept`, `${directory}/token`]),
      },
      {
        name: "the key is empty",
        writable: false,
        begin: () => guest.run(`cd ${directory} && cp token ../keys-${name}.kept && : > token`),
        end: () => guest.run(["mv", "-T", `${directory}.kept`, `${directory}/token`]),
      },
    ],
  };
}

export function command(guest: Guest, name: string): SoakStore {
  const home = `/etc/fetcher/${name}/command`;
  const mode = (text: string) => guest.replace(posix.join(home, "mode"), text);
  const outage = (what: string, how: string): Outage => ({
    name: what,
    writable: true,
    begin: () => mode(how),
    end: () => mode("works"),
  });
  return {
    backend: "command",
    options: {
      secrets: {},
      config: {
        backend: "command",
        config: { ...everySecond, secretsDir: undefined, command: ["/bin/sh", `${home}/program`], timeout: 2 },
        secrets: { token: {} },
        onChange: { verify: refusing },
      },
    },
    async install() {
      await guest.write(
        `${home}/program`,
        `case $(cat ${home}/mode) in
           works) cat ${home}/value ;;
           fails) echo "cannot decrypt" >&2; exit 1 ;;
           refuses) exit 77 ;;
           knows-nothing) exit 66 ;;
           hangs) sleep 600 ;;
           is-loud) head -c 20000000 /dev/zero ;;
         esac\n`,
      );
      await mode("works");
    },
    put: (value) => guest.replace(posix.join(home, "value"), value, 0o400),
    outages: [
      outage("the program fails", "fails"),
      outage("the program refuses", "refuses"),
      outage("the program knows no such secret", "knows-nothing"),
      outage("the program hangs", "hangs"),
      outage("the program prints 20 MB", "is-loud"),
    ],
  };
}

/** Two kinds of secrets: a key of KV version 2, and a certificate with a lease. The login is AppRole's, with short tokens. */
export function vault(guest: Guest, name: string): SoakStore & { readonly server: GuestVault } {
  const server = new GuestVault(guest);
  const proof = `/etc/fetcher/${name}/secret-id`;
  const auth = { method: "approle", roleIdPath: `/etc/fetcher/${name}/role-id`, secretIdPath: proof };
  const certificate = { mount: "pki", path: "issue/soak", data: { common_name: "soak" }, key: "certificate" };
  return {
    server,
    backend: "vault",
    options: {
      secrets: {},
      config: {
        backend: "vault",
        config: { ...polling, secretsDir: undefined, url, path: name, auth, revokeOnStop: true, responseTimeout: 3 },
        secrets: { token: {}, certificate: { source: certificate, env: null } },
      },
    },
    async install() {
      await server.install();
      for (const line of [
        "secrets enable pki",
        "write pki/root/generate/internal common_name=soak ttl=24h key_type=ec",
        `write pki/roles/soak allow_any_name=true key_type=ec generate_lease=true ttl=${LEASE}s max_ttl=${LEASE}s`,
        "auth enable approle",
        `write auth/approle/role/soak token_policies=app token_ttl=${LEASE}s token_max_ttl=1h`,
      ])
        await server.command(line);
      await guest.write(auth.roleIdPath, await server.command("read -field=role_id auth/approle/role/soak/role-id"));
      await guest.write(proof, await server.command("write -force -field=secret_id auth/approle/role/soak/secret-id"));
    },
    put: (value) => server.put(name, value),
    outages: [
      {
        name: "the server is killed",
        writable: false,
        begin: () => server.down(),
        async end() {
          await server.up();
          await server.unseal();
        },
      },
      { name: "the server is sealed", writable: false, begin: () => server.seal(), end: () => server.unseal() },
      {
        name: "the server does not answer",
        writable: false,
        begin: () => server.signal("SIGSTOP"),
        end: () => server.signal("SIGCONT"),
      },
    ],
  };
}

/** Seconds that a lease and a token live. */
export const LEASE = 45;

export function aws(guest: Guest, name: string): SoakStore {
  const endpoint = "http://127.0.0.1:5000";
  let value = "";
  const start = async () => {
    await guest.run(
      "systemd-run --quiet --collect --unit=aws-emulator --setenv=PYTHONDONTWRITEBYTECODE=1 -- moto_server -H 127.0.0.1 -p 5000",
    );
    await guest.until(
      "the emulator answers",
      async () => (await guest.run(["curl", "-sf", `${endpoint}/moto-api/data.json`])).code === 0,
      Boolean,
      { timeout: 120 },
    );
  };
  const call = async (operation: string, body: object) => {
    const headers = {
      "X-Amz-Target": `secretsmanager.${operation}`,
      "Content-Type": "application/x-amz-json-1.1",
      Authorization: "AWS4-HMAC-SHA256 Credential=soak/20200101/eu-west-1/secretsmanager/aws4_request",
    };
    const fields = Object.entries(headers).flatMap(([key, text]) => ["-H", `${key}: ${text}`]);
    const argv = ["curl", "-sS", "--fail", "--max-time", "20", ...fields, "--data-binary", "@-", endpoint] as const;
    await guest.run([...argv], { input: JSON.stringify(body) });
  };
  const put = async (next: string) => {
    await call("PutSecretValue", { SecretId: name, SecretString: JSON.stringify({ token: next }) });
    value = next;
  };
  const create = () => call("CreateSecret", { Name: name, SecretString: JSON.stringify({ token: value }) });
  const signal = (which: string) => guest.run(["systemctl", "kill", `--signal=${which}`, "aws-emulator"]);
  return {
    backend: "aws",
    options: {
      secrets: {},
      config: {
        backend: "aws",
        config: { ...polling, secretsDir: undefined, region: "eu-west-1", endpoint, secretId: name, timeout: 3 },
        secrets: { token: {} },
      },
      sidecar: { service: ["Environment=AWS_ACCESS_KEY_ID=soak AWS_SECRET_ACCESS_KEY=soak"] },
    },
    async install() {
      await start();
      await create();
    },
    put,
    outages: [
      {
        name: "the service does not answer",
        writable: false,
        begin: () => signal("SIGSTOP"),
        end: () => signal("SIGCONT"),
      },
      {
        // The store comes back empty: for a moment the secret is missing, and then the same bytes are a new version.
        name: "the service is killed",
        writable: false,
        begin: async () => {
          await signal("SIGKILL");
          await guest.until(
            "the emulator is gone",
            async () => (await guest.show("aws-emulator", "LoadState")).LoadState === "not-found",
          );
        },
        end: async () => {
          await start();
          await create();
        },
      },
    ],
  };
}
