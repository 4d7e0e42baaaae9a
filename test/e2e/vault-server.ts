/** A real Vault or OpenBao in a guest, which tests can take away and bring back. */
import { readFileSync } from "node:fs";
import { serverBinary, serversHere } from "../vault/binary.ts";
import type { Guest } from "./guest.ts";

export const url = "http://127.0.0.1:8200";
/** Where tests reach the server while it is down for the services. */
const elsewhere = "http://127.0.0.1:8300";
const bao = "/opt/vault-server/bao";

/** The server in the guest, as its own unit, on file storage where the product still has it. */
export class GuestVault {
  readonly #guest: Guest;
  #url = url;
  #token = "";
  #key = "";

  constructor(guest: Guest) {
    this.#guest = guest;
  }

  async install(): Promise<void> {
    await this.#guest.write(bao, readFileSync(serverBinary() ?? ""), 0o755);
    await this.#guest.run("mkdir -p /var/lib/vault-server");
    await this.#run(url);
    const made = JSON.parse(await this.command("operator init -format=json -key-shares=1 -key-threshold=1")) as {
      root_token: string;
      unseal_keys_b64: [string];
    };
    [this.#token, this.#key] = [made.root_token, made.unseal_keys_b64[0]];
    await this.unseal();
    await this.command("secrets enable -version=2 -path=secret kv");
    await this.#guest.run([bao, "policy", "write", "app", "-"], {
      env: this.#environment(),
      input: 'path "secret/*" { capabilities = ["read"] } path "pki/*" { capabilities = ["update"] }',
    });
  }

  /** Starts the server, which is then sealed. */
  async up(): Promise<void> {
    await this.#run(url);
  }

  async unseal(): Promise<void> {
    await this.command(`operator unseal ${this.#key}`);
    await this.#guest.until("the server is unsealed", async () => {
      const { code } = await this.#guest.run([bao, "token", "lookup"], { env: this.#environment(), check: false });
      return code === 0;
    });
  }

  /** Does something with the server while its URL leads nowhere. */
  async whileDown(work: () => Promise<void>): Promise<void> {
    await this.#run(elsewhere);
    await this.unseal();
    await work();
    await this.down();
  }

  /** Kills the server, which stays away until `up`. */
  async down(): Promise<void> {
    await this.#guest.run("systemctl kill --signal=SIGKILL vault-server", { check: false });
    // Waits for the end of the unit, too: while it is loaded, no other unit of its name can start.
    await this.#guest.until(
      "the server is gone",
      async () => (await this.#guest.show("vault-server", "LoadState")).LoadState === "not-found",
    );
  }

  /** SIGSTOP: the kernel still takes connections, but the server does not answer. */
  async signal(signal: string): Promise<void> {
    await this.#guest.run(["systemctl", "kill", `--signal=${signal}`, "vault-server"]);
  }

  async seal(): Promise<void> {
    await this.command("operator seal");
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

  async #run(at: string): Promise<void> {
    this.#url = at;
    await this.#guest.write(
      "/etc/vault-server.hcl",
      `disable_mlock = true
       api_addr = "${at}"
       cluster_addr = "https://127.0.0.1:8201"
       storage "${storage()}" { path = "/var/lib/vault-server" }
       listener "tcp" { address = "${new URL(at).host}", tls_disable = true }`,
    );
    await this.#guest.run(
      `systemd-run --quiet --collect --unit=vault-server --setenv=HOME=/root -- ${bao} server -config=/etc/vault-server.hcl`,
    );
    await this.#guest.until("the server listens", async () => {
      const { code } = await this.#guest.run([bao, "status"], { env: this.#environment(), check: false });
      return code === 0 || code === 2;
    });
  }

  #environment(): Record<string, string> {
    const [address, token] = [this.#url, this.#token];
    return { HOME: "/root", BAO_ADDR: address, VAULT_ADDR: address, BAO_TOKEN: token, VAULT_TOKEN: token };
  }
}

/** Files need no leader, which raft elects for seconds after each start; OpenBao 2.7 has only raft. */
const storage = () => (serversHere()[0] === "vault" ? "file" : "raft");

/** The path of a pair's token, for its sidecar. */
export const tokenPath = (name: string) => `/etc/fetcher/${name}/token`;
