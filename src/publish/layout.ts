/** Turns the values of a scope into the files of its output: one per secret, those of templates, and secrets.env. */
import { ENV_FILE } from "../config/config-schema.ts";
import type { Config, TemplateConfig } from "../config/config.ts";
import { filesOfKeys } from "./all-keys.ts";
import { encodeEnvFile, type EnvFile, type EnvRequest } from "./env-file.ts";
import type { PublishedFile } from "../output/safe-files.ts";
import { FilePermissions } from "./permissions.ts";
import type { Template } from "./one-template.ts";
import { loadTemplates, TemplateReader } from "./templates.ts";

export interface LaidOutSet {
  /** secrets.env, if there is one, comes last. */
  readonly files: readonly PublishedFile[];
  readonly env: EnvFile | undefined;
  /** id → why it is not in secrets.env, where that may surprise. */
  readonly warnings: ReadonlyMap<string, string>;
  /** Keys of a secret with `all` → why they cannot be published. */
  readonly refused: ReadonlyMap<string, string>;
}

export class SetLayout {
  readonly #config: Config;
  readonly #permissions: FilePermissions;
  readonly #reader = new TemplateReader();
  #templates: ReadonlyMap<string, Template>;

  private constructor(config: Config, permissions: FilePermissions, templates: ReadonlyMap<string, Template>) {
    this.#config = config;
    this.#permissions = permissions;
    this.#templates = templates;
  }

  /**
   * @param defaultMode for a file that asks for none.
   * @throws ConfigError where an owner or a group does not exist, or a template is wrong.
   */
  static async of(config: Config, defaultMode: number): Promise<SetLayout> {
    const permissions = await FilePermissions.of(config, defaultMode);
    const templates = await loadTemplates(config);
    checkTemplates(config, permissions, templates);
    return new SetLayout(config, permissions, templates);
  }

  /** File name → the account besides ours that may own it. */
  get owners(): ReadonlyMap<string, number> {
    return new Map(
      this.#config.secrets.flatMap((secret) => {
        const { uid } = this.#permissions.ofSecret(secret);
        return uid === undefined ? [] : [[secret.file, uid] as const];
      }),
    );
  }

  fileOf(id: string): string | undefined {
    return this.#config.secrets.find((secret) => secret.id === id)?.file;
  }

  /**
   * Reads the templates again. If this fails, those read before stay.
   *
   * @throws ConfigError; ValueError where they cannot take these values; FatalError 74 where one cannot be read for
   *   now.
   */
  async reload(values: ReadonlyMap<string, Buffer>, stop: AbortSignal): Promise<void> {
    const templates = await loadTemplates(this.#config, (path) => this.#reader.read(path, stop));
    checkTemplates(this.#config, this.#permissions, templates);
    for (const template of templates.values()) template.render(values);
    this.#templates = templates;
  }

  /**
   * @param values id → bytes; a secret without a value gets no file.
   * @throws EnvError where a variable with an explicit name cannot carry its value, ValueError where a template cannot
   *   carry it.
   */
  layOut(values: ReadonlyMap<string, Buffer>): LaidOutSet {
    const files: PublishedFile[] = [];
    for (const secret of this.#config.secrets) {
      const content = values.get(secret.id);
      if (content !== undefined) files.push({ name: secret.file, content, ...this.#permissions.ofSecret(secret) });
    }
    const { files: ofKeys, variables, refused } = filesOfKeys(this.#config, values, this.#permissions);
    files.push(...ofKeys, ...this.render(values));
    const envFile = this.#config.output === undefined ? ENV_FILE : this.#config.output.envFile;
    if (envFile === null) return { files, env: undefined, warnings: new Map(), refused };
    const requests: EnvRequest[] = this.#config.secrets.map((secret) => {
      const { id, all, env: name } = secret;
      const restricted = this.#permissions.isRestricted(secret);
      return { id, value: values.get(id), env: all ? null : name, restricted };
    });
    requests.push(...variables);
    const env = encodeEnvFile(requests);
    const restricted = new Set(requests.filter((request) => request.restricted).map(({ id }) => id));
    const warnings = new Map([...env.leftOut].filter(([id]) => !restricted.has(id)));
    files.push({ name: envFile, content: env.content, ...this.#permissions.usual });
    return { files, env, warnings, refused };
  }

  /** The files of templates alone. @throws ValueError */
  render(values: ReadonlyMap<string, Buffer>): readonly PublishedFile[] {
    const files: PublishedFile[] = [];
    for (const template of this.#config.templates) {
      const file = this.renderOne(template, values);
      if (file !== undefined) files.push(file);
    }
    return files;
  }

  /** @throws ValueError */
  renderOne(template: TemplateConfig, values: ReadonlyMap<string, Buffer>): PublishedFile | undefined {
    const loaded = this.#templates.get(template.file);
    if (loaded === undefined) return undefined;
    const permissions = this.#permissions.ofTemplate(template, loaded.ids);
    return { name: template.file, content: loaded.render(values), ...permissions };
  }
}

/** @throws ConfigError where it is unclear who may read a file. */
function checkTemplates(
  { templates }: Config,
  permissions: FilePermissions,
  loaded: ReadonlyMap<string, Template>,
): void {
  for (const template of templates) permissions.ofTemplate(template, loaded.get(template.file)?.ids ?? new Set());
}
