/** Programs that put two secrets of one KV path into files, each as its own documentation says, polling every POLL seconds. */
import { spawnSync } from "node:child_process";
import { copyFileSync, chmodSync, existsSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { environmentOfExecutable } from "../test/program.ts";
import { programPath } from "../test/programs.ts";
import { project } from "./measure.ts";
import { type Program, programs } from "./programs.ts";

/** Seconds. */
export const POLL = 5;
/** Keys of the path `app`, and names of the files. */
export const KEYS = ["user", "password"] as const;

/** The runtime that the executable is made of, by itself. */
const bun = join(
  project,
  "node_modules/@oven",
  `bun-linux-${process.arch === "arm64" ? "aarch64" : process.arch}`,
  "bin/bun",
);

/** An executable and its arguments. */
export type Command = readonly [string, ...string[]];

/** Where one instance works. */
export interface Place {
  /** Its own. The files of KEYS appear in `out` below, which is there. */
  readonly directory: string;
  /** Of Vault. */
  readonly url: string;
  readonly tokenPath: string;
}

export interface Peer {
  readonly name: string;
  /** Whether a change in Vault reaches its files. */
  readonly follows: boolean;
  readonly env: Readonly<Record<string, string>>;
  /** Writes its configuration. @returns the executable and its arguments. */
  command(place: Place): readonly [string, ...string[]];
  /** The same for the files of a folder, with these names; undefined where it knows no such store. */
  readonly fromFolder?: (place: Pick<Place, "directory">, store: string, ids: readonly string[]) => Command;
}

/** @returns all that can run here, and why the others cannot. */
export function peersHere(): { readonly peers: readonly Peer[]; readonly missing: readonly string[] } {
  const vault = releasedVault();
  const tools = ["curl", "jq"].filter((name) => programPath(name) === undefined);
  const template = built("consul-template.sh");
  const missing = [
    ...(typeof template === "string" ? [] : [`consul-template: ${template.why}`]),
    ...(typeof vault === "string" ? [] : [`vault agent: ${vault.why}`]),
    ...tools.map((name) => `the shell loop: ${name} is not installed`),
  ];
  const peers = [
    ...programs.map(fetcher),
    ...(typeof template === "string" ? [consulTemplate(template)] : []),
    ...(typeof vault === "string" ? [vaultAgent(vault)] : []),
    ...(tools.length === 0 ? [shellLoop] : []),
    bareRuntime("bare Node", process.execPath),
    ...(existsSync(bun) ? [bareRuntime("bare Bun", bun)] : []),
  ];
  return { peers, missing };
}

/**
 * Gives a peer executables of its own: pages of a file that others map too (this Node, the server) would count for a part only.
 *
 * @param directory for the copies; a disk, as that of installed programs.
 */
export function ownExecutable(peer: Peer, index: number, directory: string): Peer {
  const copies = new Map<string, string>();
  const copy = (path: string) => {
    const to = join(directory, `${index}-${basename(path)}`);
    copyFileSync(path, to);
    chmodSync(to, 0o755);
    copies.set(path, to);
    return to;
  };
  const own = ([path, ...args]: Command): Command => [copies.get(path) ?? copy(path), ...args];
  const { fromFolder } = peer;
  return {
    ...peer,
    command: (place) => own(peer.command(place)),
    ...(fromFolder ? { fromFolder: (...args) => own(fromFolder(...args)) } : {}),
  };
}

function fetcher({ name, env, command }: Program): Peer {
  const configured = (directory: string, backend: string, settings: object, ids: readonly string[]) => {
    const config = join(directory, "config.json");
    const secrets = Object.fromEntries(ids.map((id) => [id, {}]));
    // The others have no such pause by default.
    const onChange = { settle: 0 };
    const output = { directory: join(directory, "out") };
    writeFileSync(config, JSON.stringify({ backend, config: settings, secrets, output, onChange }));
    return command(config);
  };
  return {
    name,
    follows: true,
    // A socket that nobody listens on: the notification is made and sent as under systemd.
    env: { ...env, NOTIFY_SOCKET: "@fetcher-bench-nobody-listens", INVOCATION_ID: "bench" },
    command: ({ directory, url, tokenPath }) => {
      const settings = { url, tokenPath, path: "app", reloadOnChange: true, pollingInterval: POLL };
      return configured(directory, "vault", settings, KEYS);
    },
    fromFolder: ({ directory }, store, ids) => configured(directory, "folder", { secretsDir: store }, ids),
  };
}

/** A poll comes after this part of the time that is set, give or take 5 %, and never later than it. */
const renewal = { lease_renewal_threshold: 0.999 };

const templates = (directory: string, path: string) =>
  KEYS.map((key) => ({
    contents: `{{ with secret "${path}" }}{{ .Data.data.${key} }}{{ end }}`,
    destination: join(directory, "out", key),
    perms: "0400",
  }));

/** @returns the path of a program that this script builds where it is not there yet; it takes minutes. */
function built(script: string, ...words: readonly string[]): string | { readonly why: string } {
  const { status, stdout, stderr } = spawnSync(join(project, "scripts", script), words, { encoding: "utf8" });
  const path = /(\/\S.*?)(?= is up to date| with go)/.exec(stdout)?.[1];
  return status === 0 && path !== undefined ? path : { why: stderr.trim() };
}

/** What is in the tests' cache is compiled for a short build. */
function releasedVault(): string | { readonly why: string } {
  const installed = programPath("vault");
  return installed ?? built("vault-server.sh", "--as-released");
}

function consulTemplate(path: string): Peer {
  return {
    name: `consul-template ${versionOf(path, "-version")}`,
    follows: true,
    env: {},
    command: ({ directory, url, tokenPath }) => {
      const config = join(directory, "config.json");
      const vault = {
        address: url,
        vault_agent_token_file: tokenPath,
        renew_token: false,
        default_lease_duration: `${POLL}s`,
        ...renewal,
      };
      writeFileSync(config, JSON.stringify({ vault, template: templates(directory, "secret/data/app") }));
      return [path, "-config", config];
    },
  };
}

function vaultAgent(path: string): Peer {
  return {
    name: `\`vault agent\` ${versionOf(path, "version")}`,
    follows: true,
    env: {},
    command: ({ directory, url, tokenPath }) => {
      const config = join(directory, "config.json");
      const settings = {
        vault: { address: url },
        auto_auth: { method: [{ type: "token_file", config: { token_file_path: tokenPath } }] },
        template_config: { static_secret_render_interval: `${POLL}s`, ...renewal },
        template: templates(directory, "secret/data/app"),
      };
      writeFileSync(config, JSON.stringify(settings));
      return [path, "agent", "-config", config];
    },
  };
}

/** What people write first. The token goes by a file: arguments of programs are for everybody to see. */
const shellLoop: Peer = {
  name: "shell loop, `curl` and `jq`",
  follows: true,
  env: {},
  command: ({ directory, url, tokenPath }) => {
    const script = `
      { printf 'X-Vault-Token: '; cat "$3"; } >header
      while :; do
        if answer=$(curl -sS --fail -H @header "$2/v1/secret/data/app"); then
          for key in ${KEYS.join(" ")}; do
            printf '%s' "$answer" | jq -rj ".data.data.$key" >"out/.$key" && mv "out/.$key" "out/$key"
          done
        fi
        sleep ${POLL}
      done`;
    writeFileSync(join(directory, "loop.sh"), `set -eu\ncd "$1"\n${script}\n`);
    return ["/bin/sh", join(directory, "loop.sh"), directory, url, tokenPath];
  },
  /** As RFC 59's proof of concept did it: a copy and a line of secrets.env for each secret. */
  fromFolder: ({ directory }, store, ids) => {
    const script =
      'for id in "$@"; do cp "$STORE/$id" "$OUT/$id"; chmod 0444 "$OUT/$id"; ' +
      'echo "$id=\\"$(cat "$STORE/$id")\\"" >> "$OUT/secrets.env"; done; exec sleep infinity';
    const places = `STORE='${store}' OUT='${join(directory, "out")}'`;
    writeFileSync(join(directory, "copy.sh"), `set -eu\n${places}\n${script}\n`);
    return ["/bin/sh", join(directory, "copy.sh"), ...ids];
  },
};

/** A runtime of fetcher that only exists: it asks no store. */
function bareRuntime(name: string, path: string): Peer {
  return {
    name,
    follows: false,
    // Names that the other does not know mean nothing to it.
    env: environmentOfExecutable,
    command: ({ directory }) => {
      const write = KEYS.map((key) => `fs.writeFileSync(${JSON.stringify(join(directory, "out", key))}, "1")`);
      const script = `const fs = require("node:fs");${write.join(";")};setInterval(() => {}, ${POLL * 1000})`;
      return [path, "-e", script];
    },
  };
}

function versionOf(path: string, argument: string): string {
  const { stdout, stderr } = spawnSync(path, [argument], { encoding: "utf8" });
  return /v(\d+\.\d+\.\d+)/.exec(stdout + stderr)?.[1] ?? "?";
}
