/**
 * Whose units they are: the system's, or one user's, who has a service manager of her own (`systemctl --user`). Each
 * manager has its own directories, and does not know the other's units.
 */
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";

export interface Scope {
  readonly isUser: boolean;
  /** Where NAME.json is. */
  readonly configDirectory: string;
  /** Where systemd makes the directories of RuntimeDirectory=. */
  readonly runtimeRoot: string;
  /** A directory that exists wherever systemd runs. Only its owner can open it, and so lock it. */
  readonly lockable: string;
  /** Directories of units that are not generated: the first wins. */
  readonly unitDirectories: readonly string[];
  /** Where units and drop-ins go that outlive a boot, and where those go that do not. Both win over generated ones. */
  readonly lastingUnits: string;
  readonly runtimeUnits: string;
  /** Directories of its generators: the first wins. Only root can write there. */
  readonly generatorDirectories: readonly string[];
  /** argv that asks its manager, and the environment that this needs. */
  readonly systemctl: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
}

const INSTALLED = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];

export const systemScope: Scope = {
  isUser: false,
  configDirectory: "/etc/fetcher",
  runtimeRoot: "/run",
  // systemd makes it for InaccessiblePaths=, with mode 0000 (systemd.exec(5)).
  lockable: "/run/systemd/inaccessible/dir",
  unitDirectories: [...INSTALLED, "/lib"].map((root) => join(root, "systemd/system")),
  lastingUnits: "/etc/systemd/system",
  runtimeUnits: "/run/systemd/system",
  generatorDirectories: generatorsIn("system-generators"),
  systemctl: ["systemctl"],
  environment: {},
};

/** The scope of this process's user. A relative path counts as unset (XDG Base Directory Specification). */
export function userScope(environment: NodeJS.ProcessEnv = process.env): Scope {
  const xdg = (name: string, usual: () => string) => {
    const path = environment[name];
    return path !== undefined && isAbsolute(path) ? path : usual();
  };
  const home = xdg("HOME", homeOfAccount);
  const config = xdg("XDG_CONFIG_HOME", () => join(home, ".config"));
  const data = xdg("XDG_DATA_HOME", () => join(home, ".local/share"));
  const runtimeRoot = xdg("XDG_RUNTIME_DIR", () => `/run/user/${String(process.geteuid?.() ?? 0)}`);
  return {
    isUser: true,
    configDirectory: join(config, "fetcher"),
    runtimeRoot,
    lockable: runtimeRoot,
    unitDirectories: [config, runtimeRoot, data, ...INSTALLED].map((root) => join(root, "systemd/user")),
    lastingUnits: join(config, "systemd/user"),
    runtimeUnits: join(runtimeRoot, "systemd/user"),
    generatorDirectories: generatorsIn("user-generators"),
    systemctl: ["systemctl", "--user"],
    environment: { XDG_RUNTIME_DIR: runtimeRoot },
  };
}

/** systemd.generator(7). */
function generatorsIn(directory: string): readonly string[] {
  return ["/run", "/etc", "/usr/local/lib", "/usr/lib", "/lib"].map((root) => join(root, "systemd", directory));
}

/** A container's user may be a mere number, without an account: then there is no home directory. */
function homeOfAccount(): string {
  try {
    return process.getBuiltinModule("node:os").homedir();
  } catch {
    return "/";
  }
}

let own: Scope | undefined;

/** The scope of the manager that this process runs below. */
export function ownScope(): Scope {
  own ??= isBelowUserManager(readControlGroups(), process.env) ? userScope() : systemScope;
  return own;
}

/**
 * The control group decides: the kernel keeps it, while `sudo` in a user's terminal hands variables on. If a container
 * or ProtectControlGroups=private (systemd 257+) hides the path, $MANAGERPID decides: only users' managers set it (252
 * to 257).
 *
 * @param controlGroups the text of /proc/self/cgroup. Exported for its test.
 */
export function isBelowUserManager(
  controlGroups: string,
  environment: NodeJS.ProcessEnv,
  uid = process.geteuid?.(),
): boolean {
  const paths = controlGroups.split("\n").flatMap((line) => /^\d+:(?:name=systemd)?:(.+)$/.exec(line)?.[1] ?? []);
  const users = paths.flatMap((path) => /\/user@(\d+)\.service(?:\/|$)/.exec(path)?.[1] ?? []);
  if (users.length > 0) return users.some((user) => Number(user) === uid);
  return paths.every((path) => path === "/") && environment["MANAGERPID"] !== undefined;
}

function readControlGroups(): string {
  try {
    return readFileSync("/proc/self/cgroup", "utf8");
  } catch {
    return "";
  }
}
