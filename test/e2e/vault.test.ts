/** Services under a real systemd whose secrets are in a real Vault or OpenBao: it is late, goes, comes back, refuses. */
import { readFileSync } from "node:fs";
import { beforeAll, expect } from "vitest";
import { serverBinary } from "../vault/binary.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import type { Pair, PairOptions } from "./pair.ts";
import { scenario } from "./scenario.ts";

const url = "http://127.0.0.1:8200";
const bao = "/opt/vault-server/bao";

/** The server in the guest, on file storage, as a unit of its own. */
class Server {
  readonly #guest: Guest;
  #token = "";
  #key = "";

  constructor(guest: Guest) {
    this.#guest = guest;
  }

  async install(): Promise<void> {
    await this.#guest.write(bao, readFileSync(serverBinary() ?? ""), 0o755);
    await this.#guest.write(
      "/etc/vault-server.hcl",
      `disable_mlock = true
       api_addr = "${url}"
       storage "file" { path = "/var/lib/vault-server" }
       listener "tcp" { address = "127.0.0.1:8200", tls_disable = true }`,
    );
    await this.#run();
    const made = JSON.parse(await this.command("operator init -format=json -key-shares=1 -key-threshold=1")) as {
      root_token: string;
      unseal_keys_b64: [string];
    };
    [this.#token, this.#key] = [made.root_token, made.unseal_keys_b64[0]];
    await this.#unseal();
    await this.command("secrets enable -version=2 -path=secret kv");
    await this.#guest.run([bao, "policy", "write", "app", "-"], {
      env: this.#environment(),
      input: 'path "secret/*" { capabilities = ["read"] } path "pki/*" { capabilities = ["update"] }',
    });
  }

  async up(): Promise<void> {
    await this.#run();
    await this.#unseal();
  }

  /** Killed, and not there until `up`. */
  async down(): Promise<void> {
    await this.#guest.run("systemctl kill --signal=SIGKILL vault-server; systemctl reset-failed vault-server", {
      check: false,
    });
    await this.#guest.until(
      "the server is gone",
      async () => (await this.#guest.show("vault-server", "MainPID")).MainPID === "0",
    );
  }

  async command(line: string): Promise<string> {
    return await this.#guest.text([bao, ...line.split(" ")], { env: this.#environment() });
  }

  async put(name: string, value: string): Promise<void> {
    await this.command(`kv put secret/${name} token=${value}`);
  }

  /** Writes a new token for a pair over its old one. @returns it */
  async grant(name: string): Promise<string> {
    const token = await this.command("token create -orphan -period=1h -policy=app -field=token");
    await this.#guest.replace(tokenPath(name), token, 0o400);
    return token;
  }

  async #run(): Promise<void> {
    await this.#guest.run(
      `systemd-run --quiet --unit=vault-server --setenv=HOME=/root -- ${bao} server -config=/etc/vault-server.hcl`,
    );
    await this.#guest.until("the server listens", async () => {
      const { code } = await this.#guest.run([bao, "status"], { env: this.#environment(), check: false });
      return code === 0 || code === 2;
    });
  }

  async #unseal(): Promise<void> {
    await this.command(`operator unseal ${this.#key}`);
    await this.#guest.until("the server is unsealed", async () => {
      const { code } = await this.#guest.run([bao, "token", "lookup"], { env: this.#environment(), check: false });
      return code === 0;
    });
  }

  #environment(): Record<string, string> {
    return { HOME: "/root", BAO_ADDR: url, VAULT_ADDR: url, BAO_TOKEN: this.#token, VAULT_TOKEN: this.#token };
  }
}

const tokenPath = (name: string) => `/etc/fetcher/${name}/token`;

onEachGuest(
  "Vault",
  (guest) => {
    const server = new Server(guest);

    beforeAll(async () => {
      await server.install();
    });

    /** A pair whose secrets are at secret/NAME. */
    async function pairWith(
      pairOf: (options: PairOptions) => Promise<Pair>,
      name: string,
      more: PairOptions["config"] = {},
      program?: string,
    ): Promise<Pair> {
      await server.put(name, "one");
      await server.grant(name);
      return await pairOf({
        name,
        secrets: {},
        config: {
          backend: "vault",
          config: { secretsDir: undefined, url, path: name, tokenPath: tokenPath(name), pollingInterval: 1 },
          secrets: { token: {} },
          ...more,
        },
        ...(program === undefined ? {} : { program }),
      });
    }

    const alone = { alone: true };

    scenario(
      guest,
      "a new version restarts the target with it, and the sidecar stays",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "rotates");
        await pair.start();
        const before = await pair.pids();
        expect(await pair.untilStatus(/./)).toMatch(/^1 secret from vault, version 1, checked at /);
        await server.put("rotates", "two");
        await pair.untilSaid("file=two variable=two", { lines: 2 });
        expect((await pair.pids()).sidecar).toBe(before.sidecar);
        await pair.untilStatus(/^1 secret from vault, version 2, checked at [\d:]+$/);
      },
      alone,
    );

    scenario(
      guest,
      "a server that is down at boot: the start waits and says for what, and goes on 20 s later",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "late");
        await server.down();
        await guest.systemctl("start", "--no-block", pair.target);
        await pair.untilStatus(
          /^waiting for vault: http:\/\/127\.0\.0\.1:8200: connection refused \(attempt \d+, next in /,
        );
        // The outage itself is what is tested.
        await new Promise((resolve) => setTimeout(resolve, 20_000));
        expect(await pair.state(pair.sidecar)).toBe("activating");
        await server.up();
        await pair.untilSaid("file=one variable=one", { timeout: 60 });
        await pair.untilState(pair.target, "active");
      },
      alone,
    );

    scenario(
      guest,
      "a server that is killed under a running target: either restarts on what was published, and then only the change is seen",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "killed");
        await pair.start();
        const before = await pair.pids();
        await server.down();
        await pair.untilStatus(/connection refused, since /);
        expect((await pair.seen("token")).toString()).toBe("one");
        // The target restarts on what was published, and so does the sidecar.
        await pair.kill(pair.sidecar, "SIGKILL");
        await pair.untilRestarted(pair.sidecar, before.sidecar);
        await pair.restart();
        await pair.untilSaid("file=one variable=one", { lines: 2 });
        const lines = (await pair.said()).length;
        await server.up();
        await server.put("killed", "two");
        await pair.untilSaid("file=two variable=two", { lines: lines + 1, timeout: 60 });
        await pair.untilStatus(/^1 secret from vault, version 2, checked at [\d:]+$/, 60);
      },
      alone,
    );

    scenario(
      guest,
      "a token that is revoked touches nothing; another one in its file goes on",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "revoked");
        await pair.start();
        const before = await pair.pids();
        await server.command(`token revoke ${(await guest.read(tokenPath("revoked"))).trim()}`);
        await pair.untilStatus(/the token in \/etc\/fetcher\/revoked\/token is not valid \(any more\), since /);
        expect(await pair.pids()).toEqual(before);
        await server.put("revoked", "two");
        const token = await server.grant("revoked");
        await pair.untilSaid("file=two variable=two", { lines: 2 });
        const journal = await guest.text("journalctl --quiet --boot");
        expect(journal).toContain("is not valid (any more)");
        expect(journal).not.toContain(token);
      },
      alone,
    );

    scenario(
      guest,
      "a certificate and its key are replaced together, by one restart, while the old ones are valid",
      async (pairOf) => {
        await server.command("secrets enable pki");
        await server.command("write pki/root/generate/internal common_name=root ttl=24h key_type=ec");
        await server.command("write pki/roles/app allow_any_name=true key_type=ec generate_lease=true max_ttl=1h");
        const program = `echo "start $(cat /tmp/cert /tmp/key | sha256sum | cut -c1-8)"\nexec sleep infinity\n`;
        const place = { mount: "pki", path: "issue/app", data: { common_name: "app.test", ttl: "15s" } };
        const secrets = {
          cert: { source: { ...place, key: "certificate" }, env: null },
          key: { source: { ...place, key: "private_key" }, env: null },
        };
        const pair = await pairWith(pairOf, "leases", { secrets }, program);
        await pair.start();
        const [first] = await pair.said();
        const lines = await pair.untilSaid(/^start/, { lines: 2 });
        expect(lines[1]).not.toBe(first);
        await pair.untilStatus(/^2 secrets from vault/);
        expect(await pair.said(), "one restart for both").toHaveLength(2);
      },
      alone,
    );
  },
  {},
  ["vault-server"],
);
