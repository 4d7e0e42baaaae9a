/** What a sidecar's unit must leave open because of where its secrets come from. */
import { isRecord } from "../contract/records.ts";

type Settings = Readonly<Record<string, unknown>>;

export interface Needs {
  readonly network: boolean;
  /** A command or a third-party module may read anything: its keys, an agent's socket. */
  readonly everything: boolean;
  /** Home directories may hold something that it reads: ~/.aws. */
  readonly home: boolean;
  /** Absolute paths that may be replaced at any time: the sidecar must see the directory above each. */
  readonly replaced: readonly string[];
  /** Directories that are never replaced. */
  readonly stays: readonly string[];
  /** A folder may lie on its own mount. */
  readonly mounts: readonly string[];
  /** Directories where inotify shows that the store may have changed. */
  readonly watched: readonly string[];
  /** Seconds between two looks where the configuration does not say; null: the values cannot change. */
  readonly interval: number | null;
}

const nothing: Needs = {
  ...{ network: false, everything: false, home: false, replaced: [], stays: [], mounts: [], watched: [] },
  interval: 60,
};
const open: Needs = { ...nothing, network: true, everything: true, home: true, replaced: ["/etc/ssh"] };

export function needsOf(backend: string, settings: Settings): Needs {
  switch (backend) {
    case "folder": {
      const folder = paths(settings, ["secretsDir"]);
      return { ...nothing, replaced: folder, mounts: folder, watched: folder };
    }
    case "vault":
      return { ...nothing, network: true, replaced: ofVault(settings) };
    case "aws":
      return { ...nothing, network: true, home: true, interval: 300 };
    case "nixops": {
      const keys = paths({ keysDir: "/run/keys", ...settings }, ["keysDir"]);
      return { ...nothing, stays: keys, watched: keys };
    }
    case "credentials":
    case "static":
      return { ...nothing, interval: null };
    default:
      return open;
  }
}

function ofVault(settings: Settings): string[] {
  const section = (name: string) => (isRecord(settings[name]) ? settings[name] : {});
  const auth = section("auth");
  const token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
  const socket = /^unix:(?:\/\/)?(\/.*)/.exec(typeof settings["url"] === "string" ? settings["url"] : "")?.[1];
  return [
    ...(socket === undefined ? [] : [socket]),
    ...paths(settings, ["tokenPath"]),
    ...paths(auth["method"] === "kubernetes" ? { jwtPath: token, ...auth } : auth, [
      "tokenPath",
      "roleIdPath",
      "secretIdPath",
      "jwtPath",
    ]),
    ...paths(section("tls"), ["caFile", "caDirectory", "certFile", "keyFile"]),
  ];
}

/** Skips relative paths: the backend reports those. */
function paths(settings: Settings, names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const value = settings[name];
    return typeof value === "string" && value.startsWith("/") ? [value.replace(/(?<=.)\/+$/, "")] : [];
  });
}
