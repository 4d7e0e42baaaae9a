/** From the values of a scope to the files of its output: one per secret, and secrets.env. */
import { accountId } from "./accounts.ts";
import type { Config, SecretConfig } from "./config.ts";
import { encodeEnvFile, type EnvFile } from "./env-file.ts";
import type { OutputFile } from "./output.ts";
import { joinPath } from "./settings.ts";

interface Owner {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

export interface SecretSet {
  /** secrets.env, where there is one, is the last. */
  readonly files: readonly OutputFile[];
  readonly env: EnvFile | undefined;
  /** id → why it is not in secrets.env, where nobody would expect that. */
  readonly warnings: ReadonlyMap<string, string>;
}

export class SecretLayout {
  readonly #secrets: readonly SecretConfig[];
  readonly #envFile: string | null;
  readonly #owners: ReadonlyMap<string, Owner>;

  private constructor(secrets: readonly SecretConfig[], envFile: string | null, owners: ReadonlyMap<string, Owner>) {
    this.#secrets = secrets;
    this.#envFile = envFile;
    this.#owners = owners;
  }

  /** @throws ConfigError where an owner or a group does not exist. */
  static async of(config: Config): Promise<SecretLayout> {
    const owners = new Map<string, Owner>();
    // Mostly many secrets have one owner, and asking getent(1) takes a process.
    const known = new Map<string, number>();
    const ask = async (database: "passwd" | "group", name: string | undefined, path: string) => {
      if (name === undefined) return undefined;
      const id = known.get(`${database}:${name}`) ?? (await accountId(database, name, path));
      known.set(`${database}:${name}`, id);
      return id;
    };
    for (const { id, owner, group } of config.secrets) {
      const path = joinPath("secrets", id);
      const uid = await ask("passwd", owner, `${path}.owner`);
      owners.set(id, { uid, gid: await ask("group", group, `${path}.group`) });
    }
    return new SecretLayout(
      config.secrets,
      config.output === undefined ? "secrets.env" : config.output.envFile,
      owners,
    );
  }

  /** File name → the one besides us who may own it. */
  get owners(): ReadonlyMap<string, number> {
    return new Map(
      this.#secrets.flatMap(({ id, file }) => {
        const uid = this.#owners.get(id)?.uid;
        return uid === undefined ? [] : [[file, uid] as const];
      }),
    );
  }

  fileOf(id: string): string | undefined {
    return this.#secrets.find((secret) => secret.id === id)?.file;
  }

  /**
   * @param values id → bytes; a secret without a value gets no file.
   * @param defaultMode of a file that asks for none.
   * @throws EnvError where a variable was asked for by name and its value cannot be carried.
   */
  build(values: ReadonlyMap<string, Buffer>, defaultMode: number): SecretSet {
    const present = this.#secrets.flatMap((secret) => {
      const value = values.get(secret.id);
      return value === undefined ? [] : [{ ...secret, value, ...this.#owners.get(secret.id) }];
    });
    const files = present.map(({ file, value, mode, uid, gid }): OutputFile => {
      const own = uid !== undefined || gid !== undefined;
      return { name: file, content: value, mode: mode ?? (own ? 0o400 : defaultMode), uid, gid };
    });
    if (this.#envFile === null) return { files, env: undefined, warnings: new Map() };
    const requests = present.map(({ id, value, env: name, mode, uid, gid }) => ({
      id,
      value,
      env: name,
      restricted:
        uid !== undefined || gid !== undefined || (mode !== undefined && (mode & defaultMode) !== defaultMode),
    }));
    const env = encodeEnvFile(requests);
    const restricted = new Set(requests.filter((request) => request.restricted).map(({ id }) => id));
    const warnings = new Map([...env.leftOut].filter(([id]) => !restricted.has(id)));
    const envFile = { name: this.#envFile, content: env.content, mode: defaultMode, uid: undefined, gid: undefined };
    return { files: [...files, envFile], env, warnings };
  }
}
