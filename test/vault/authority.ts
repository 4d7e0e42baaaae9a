/** Certificates for tests, made by the PKI engine of a real server. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { VaultServer } from "./server.ts";

export interface Issued {
  /** PEM */
  readonly certificate: string;
  readonly key: string;
}

export class Authority {
  /** PEM */
  readonly certificate: string;
  readonly #server: VaultServer;
  readonly #mount: string;

  private constructor(server: VaultServer, mount: string, certificate: string) {
    this.#server = server;
    this.#mount = mount;
    this.certificate = certificate;
  }

  static async create(server: VaultServer): Promise<Authority> {
    const mount = `authority-${randomBytes(4).toString("hex")}`;
    await server.write(`sys/mounts/${mount}`, { type: "pki" });
    const root = { common_name: `test authority ${mount}`, ttl: "24h", key_type: "ec" };
    const { body } = await server.write(`${mount}/root/generate/internal`, root);
    await allowAll(server, mount);
    return new Authority(server, mount, (body["data"] as { certificate: string }).certificate);
  }

  /** An authority whose certificate this one has signed. */
  async intermediate(): Promise<Authority> {
    const mount = `${this.#mount}-issuing`;
    await this.#server.write(`sys/mounts/${mount}`, { type: "pki" });
    const asked = { common_name: `issuing authority ${mount}`, key_type: "ec" };
    const { body } = await this.#server.write(`${mount}/intermediate/generate/internal`, asked);
    const { csr } = body["data"] as { csr: string };
    const signed = await this.#server.write(`${this.#mount}/root/sign-intermediate`, { csr, ttl: "20h" });
    const { certificate } = signed.body["data"] as { certificate: string };
    await this.#server.write(`${mount}/intermediate/set-signed`, { certificate });
    await allowAll(this.#server, mount);
    return new Authority(this.#server, mount, certificate);
  }

  /**
   * Issues a certificate for a server at 127.0.0.1 if `name` is "127.0.0.1", else for a host or a client of this name.
   */
  async issue(name: string, ttl = "1h"): Promise<Issued> {
    const names = name === "127.0.0.1" ? { common_name: "server.test", ip_sans: name } : { common_name: name };
    const { body } = await this.#server.write(`${this.#mount}/issue/any`, { ...names, ttl });
    const { certificate, private_key: key } = body["data"] as { certificate: string; private_key: string };
    return { certificate, key };
  }
  /**
   * Writes the files that a TLS listener at 127.0.0.1 needs.
   *
   * @returns its HCL, and the file that clients must trust.
   */
  async listener(directory: string): Promise<{ hcl: string; caFile: string }> {
    const { certificate, key } = await this.issue("127.0.0.1");
    const caFile = join(directory, "authority.pem");
    const [certFile, keyFile] = [join(directory, "server.pem"), join(directory, "server.key")];
    await writeFile(caFile, this.certificate);
    await writeFile(certFile, certificate);
    await writeFile(keyFile, key);
    return { hcl: `tls_cert_file = "${certFile}"\ntls_key_file = "${keyFile}"`, caFile };
  }
}

async function allowAll(server: VaultServer, mount: string): Promise<void> {
  await server.write(`${mount}/roles/any`, {
    allow_any_name: true,
    key_type: "ec",
    max_ttl: "12h",
    not_before_duration: "30s",
  });
}
