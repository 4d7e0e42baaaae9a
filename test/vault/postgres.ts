/** The test's own real PostgreSQL, in memory as far as the machine allows. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chownSync,
  mkdtempSync,
  readdirSync,
  existsSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "../contract/until.ts";
import { freePort } from "../free-port.ts";
import { VaultServer } from "./server.ts";
import type { Product } from "./binary.ts";

/** The directory of the server's programs in Debian's package; undefined: not installed. */
export function postgresPrograms(): string | undefined {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root) : [];
  return versions.map((version) => join(root, version, "bin")).find((path) => existsSync(join(path, "initdb")));
}

export class Postgres {
  readonly port: number;
  readonly password = randomBytes(12).toString("hex");
  readonly #directory: string;
  #child: ChildProcess | undefined;

  private constructor(port: number, directory: string) {
    this.port = port;
    this.#directory = directory;
  }

  static async start(): Promise<Postgres> {
    const programs = postgresPrograms();
    if (programs === undefined) throw new Error("no PostgreSQL: the test should have been skipped");
    const directory = mkdtempSync(
      join(existsSync("/dev/shm") ? "/dev/shm" : realpathSync(tmpdir()), "fetcher-postgres-"),
    );
    const postgres = new Postgres(await freePort(), directory);
    // PostgreSQL refuses to run as root.
    const as = process.getuid?.() === 0 ? accountOf("postgres") : undefined;
    if (as !== undefined) chownSync(directory, as.uid, as.gid);
    const passwordFile = join(directory, "password");
    writeFileSync(passwordFile, postgres.password);
    const data = join(directory, "data");
    const initdb = ["-D", data, "-U", "admin", "-A", "scram-sha-256", "--no-sync", `--pwfile=${passwordFile}`];
    const made = spawnSync(join(programs, "initdb"), initdb, { ...as, cwd: directory, encoding: "utf8" });
    if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
    const serve = ["-D", data, "-k", directory, "-h", "127.0.0.1", "-p", String(postgres.port), "-F"];
    postgres.#child = spawn(join(programs, "postgres"), serve, { ...as, cwd: directory, stdio: "ignore" });
    await until(() => postgres.letsIn("admin", postgres.password));
    return postgres;
  }

  /** Whether this user can log in. */
  letsIn(user: string, password: string): boolean {
    return this.#psql(user, password, "select 1") === 0;
  }

  /** Runs SQL as its administrator. */
  run(sql: string): void {
    if (this.#psql("admin", this.password, sql) !== 0) throw new Error(`psql: ${sql}`);
  }

  #psql(user: string, password: string, sql: string): number | null {
    const address = ["-h", "127.0.0.1", "-p", String(this.port), "-d", "postgres"];
    const { status } = spawnSync("psql", [...address, "-U", user, "-w", "-c", sql], {
      env: { PATH: process.env["PATH"] ?? "", PGPASSWORD: password },
    });
    return status;
  }

  async dispose(): Promise<void> {
    const child = this.#child;
    if (child !== undefined) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      // Fast shutdown.
      child.kill("SIGINT");
      await ended;
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** A server whose mount `database/` makes users of its own PostgreSQL. */
export async function databaseServer(product: Product) {
  const [server, postgres] = await Promise.all([VaultServer.dev(product), Postgres.start()]);
  await server.write("sys/mounts/database", { type: "database" });
  await server.write("database/config/db", {
    plugin_name: "postgresql-database-plugin",
    allowed_roles: "*",
    connection_url: `postgresql://{{username}}:{{password}}@127.0.0.1:${postgres.port}/postgres?sslmode=disable`,
    username: "admin",
    password: postgres.password,
  });
  return { server, postgres };
}

/** @returns the name of a new role, whose users live for this time (`1h`). */
export async function databaseRole(server: VaultServer, ttl: string, maxTtl: string): Promise<string> {
  const role = `role-${randomBytes(4).toString("hex")}`;
  await server.write(`database/roles/${role}`, {
    db_name: "db",
    creation_statements: [`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`],
    default_ttl: ttl,
    max_ttl: maxTtl,
  });
  return role;
}

function accountOf(name: string): { uid: number; gid: number } {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  return { uid: Number(uid), gid: Number(gid) };
}
