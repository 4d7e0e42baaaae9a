/** Who may read which published file. */
import { accountId, canGiveTo } from "./accounts.ts";
import type { Config, SecretConfig, TemplateConfig } from "../config/config.ts";
import { ConfigError } from "../contract/errors.ts";
import { joinPath } from "../contract/settings.ts";

export interface Permissions {
  readonly mode: number;
  /** undefined: the file stays with this process. */
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

type Owner = Omit<Permissions, "mode">;

/** For a file with its own owner: only that owner reads it. */
const OWNED = 0o400;
const OTHERS_READ = 0o004;

export class FilePermissions {
  readonly #defaultMode: number;
  readonly #owners: ReadonlyMap<SecretConfig | TemplateConfig, Owner>;
  readonly #secrets: ReadonlyMap<string, SecretConfig>;

  private constructor(
    defaultMode: number,
    owners: ReadonlyMap<SecretConfig | TemplateConfig, Owner>,
    secrets: readonly SecretConfig[],
  ) {
    this.#defaultMode = defaultMode;
    this.#owners = owners;
    this.#secrets = new Map(secrets.map((secret) => [secret.id, secret]));
  }

  /**
   * @param defaultMode for a file that asks for none.
   * @throws ConfigError where an owner or a group does not exist, or is one to whom we cannot give a file.
   */
  static async of({ secrets, templates }: Config, defaultMode: number): Promise<FilePermissions> {
    const owners = new Map<SecretConfig | TemplateConfig, Owner>();
    // Many files often share an owner, and each question to getent(1) costs a process.
    const known = new Map<string, number>();
    const ask = async (database: "passwd" | "group", name: string | undefined, path: string) => {
      if (name === undefined) return undefined;
      const id = known.get(`${database}:${name}`) ?? (await accountId(database, name, path));
      if (process.geteuid?.() !== 0 && !canGiveTo(database, id))
        throw new ConfigError(
          path,
          `only root can give a file to ${JSON.stringify(name)}: leave it out where a user runs this`,
        );
      known.set(`${database}:${name}`, id);
      return id;
    };
    const paths = [
      ...secrets.map((secret) => [secret, joinPath("secrets", secret.id)] as const),
      ...templates.map((template) => [template, joinPath("templates", template.file)] as const),
    ];
    for (const [file, path] of paths) {
      if (file.owner === undefined && file.group === undefined) continue;
      const uid = await ask("passwd", file.owner, `${path}.owner`);
      owners.set(file, { uid, gid: await ask("group", file.group, `${path}.group`) });
    }
    return new FilePermissions(defaultMode, owners, secrets);
  }

  /** For files that ask for nothing. */
  get usual(): Permissions {
    return { mode: this.#defaultMode, uid: undefined, gid: undefined };
  }

  ofSecret(secret: SecretConfig): Permissions {
    const owner = this.#ownerOf(secret);
    return { mode: secret.mode ?? (isSomeone(owner) ? OWNED : this.#defaultMode), ...owner };
  }

  /** Whether fewer, or others, may read it than a file that asks for nothing. */
  isRestricted(secret: SecretConfig): boolean {
    const { mode } = this.ofSecret(secret);
    return isSomeone(this.#ownerOf(secret)) || (mode & this.#defaultMode) !== this.#defaultMode;
  }

  /**
   * A template takes from its secrets what it does not set: only those who can read each of them can read the file.
   *
   * @param ids of the secrets in it.
   * @throws ConfigError where they have different owners, and the template has none.
   */
  ofTemplate(template: TemplateConfig, ids: ReadonlySet<string>): Permissions {
    const secrets = [...ids].flatMap((id) => this.#secrets.get(id) ?? []);
    const own = this.#ownerOf(template);
    const owner = isSomeone(own) ? own : this.#commonOwner(template, secrets);
    const most = isSomeone(owner) ? OWNED : this.#defaultMode;
    const least = secrets.reduce((mode, secret) => mode & this.ofSecret(secret).mode, most);
    return { mode: template.mode ?? least, ...owner };
  }

  /** The owner of those secrets that not everybody who gets as far as the file can read. */
  #commonOwner(template: TemplateConfig, secrets: readonly SecretConfig[]): Owner {
    const [first, ...others] = secrets.filter((secret) => (this.ofSecret(secret).mode & OTHERS_READ) === 0);
    if (first === undefined) return { uid: undefined, gid: undefined };
    const owner = this.#ownerOf(first);
    const other = others.find((secret) => {
      const { uid, gid } = this.#ownerOf(secret);
      return uid !== owner.uid || gid !== owner.gid;
    });
    if (other === undefined) return owner;
    throw new ConfigError(
      `${joinPath("templates", template.file)}.owner`,
      `is required: ${joinPath("secrets", first.id)} and ${joinPath("secrets", other.id)}, which are in it, have different owners`,
    );
  }

  #ownerOf(file: SecretConfig | TemplateConfig): Owner {
    return this.#owners.get(file) ?? { uid: undefined, gid: undefined };
  }
}

function isSomeone({ uid, gid }: Owner): boolean {
  return uid !== undefined || gid !== undefined;
}
