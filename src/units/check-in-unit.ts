/**
 * What a sidecar's unit lets it see and reach: a command of fetcher's runs in a transient unit with the same settings. Nothing of
 * the unit itself is touched.
 */
import { spawn } from "node:child_process";
import { ExitCode, FatalError } from "../contract/errors.ts";
import { runCommand } from "../contract/helper-command.ts";
import { sidecarOf } from "../config/one-file.ts";

/** What is about the life of the daemon, or would share a directory with it. */
const NOT_OF_A_CHECK =
  /^(Type|Exec\w+|Restart\w*|RestartPreventExitStatus|RestartForceExitStatus|SuccessExitStatus|RemainAfterExit|RuntimeDirectory\w*|Timeout\w+|WatchdogSec|NotifyAccess|Standard\w+|PIDFile|GuessMainPID|FileDescriptorStore\w*|OOMPolicy|StartLimit\w+|Slice|Delegate|BusName|Sockets|PermissionsStartOnly|KillMode|SendSIGHUP|KillSignal)$/;

type Setting = readonly [name: string, value: string];

/**
 * @param name of a service, or of a sidecar's unit.
 * @returns the exit status of `fetcher --check` there, which prints to our own terminal.
 * @throws FatalError where there is no such unit, or no systemd.
 */
export async function checkInUnit(name: string, say: (text: string) => void): Promise<number> {
  const { unit, text } = await unitOf(name);
  const settings = settingsIn(text, unit);
  const command = commandIn(settings);
  if (command === undefined)
    throw new FatalError(ExitCode.config, `check: ${unit} has no ExecStart= that runs fetcher with --config`);
  const directories = settings.filter(([key]) => key === "RuntimeDirectory").map(([, value]) => `/run/${value}`);
  const properties = settings
    .filter(([key]) => !NOT_OF_A_CHECK.test(key))
    // Without a daemon it may not be there, and a check writes nothing.
    .filter(([key, value]) => key !== "BindPaths" || !directories.includes(value))
    .flatMap(([key, value]) => ["--property", `${key}=${value}`]);
  const argv = [
    "--pipe",
    "--wait",
    "--collect",
    "--quiet",
    "--service-type=exec",
    ...properties,
    "--",
    ...command,
    "--check",
  ];
  const code = await run("systemd-run", argv);
  if (code >= 200 && code < 250)
    say(`check: the sandbox of ${unit} cannot be made (status ${code}): see journalctl -b -n 20\n`);
  return code;
}

async function unitOf(name: string): Promise<{ readonly unit: string; readonly text: string }> {
  const given = name.replace(/\.service$/, "");
  const usual = sidecarOf(given);
  const candidates = [usual, `${given.replaceAll("@", "-")}-fetcher-secrets`, `fetcher@${given}`, given];
  for (const unit of candidates.map((each) => `${each}.service`)) {
    const shown = await runCommand(["systemctl", "cat", "--no-pager", "--", unit], { timeout: 30 });
    if (shown.end === "not-started") throw new FatalError(ExitCode.unavailable, "check: systemctl cannot be run");
    if (shown.end === "exit" && shown.code === 0 && shown.stdout.includes("fetcher"))
      return { unit, text: shown.stdout };
  }
  const tried = candidates.slice(0, -1).join(", ");
  throw new FatalError(ExitCode.config, `check: no unit of a sidecar for ${JSON.stringify(name)}: looked for ${tried}`);
}

/** The lines of [Service] of a unit and its drop-ins, in order: an empty value takes back what came before. */
export function settingsIn(text: string, unit: string): readonly Setting[] {
  let isService = false;
  const settings: Setting[] = [];
  for (const line of text.replaceAll(/\\\n/g, " ").split("\n")) {
    const [, section] = /^\[(.*)\]\s*$/.exec(line) ?? [];
    if (section !== undefined) isService = section === "Service";
    // The next file begins with its path as a comment.
    const [, key, value] = isService ? (/^\s*([A-Za-z]+)\s*=\s*(.*?)\s*$/.exec(line) ?? []) : [];
    if (key !== undefined && value !== undefined) settings.push([key, expanded(value, unit)]);
  }
  return settings;
}

/** The specifiers of systemd.unit(5) that say nothing but names and places. Others stay as they are. */
function expanded(value: string, unit: string): string {
  const name = unit.replace(/\.service$/, "");
  const at = name.indexOf("@");
  const [prefix, instance] = at < 0 ? [name, ""] : [name.slice(0, at), name.slice(at + 1)];
  const meanings: Readonly<Record<string, string>> = {
    "%": "%",
    n: unit,
    N: name,
    p: prefix,
    P: unescaped(prefix),
    i: instance,
    I: unescaped(instance),
    j: prefix.slice(prefix.lastIndexOf("-") + 1),
    f: `/${unescaped(instance === "" ? prefix : instance)}`,
    t: "/run",
    E: "/etc",
    S: "/var/lib",
    C: "/var/cache",
    L: "/var/log",
    T: "/tmp",
    V: "/var/tmp",
  };
  return value.replaceAll(/%([%A-Za-z])/g, (found, letter: string) => meanings[letter] ?? found);
}

/** systemd-escape(1), undone. */
function unescaped(text: string): string {
  return text
    .replaceAll("-", "/")
    .replaceAll(/(?:\\x[0-9a-f]{2})+/g, (bytes) => Buffer.from(bytes.replaceAll("\\x", ""), "hex").toString("utf8"));
}

/** @returns argv of the last ExecStart= that counts. */
function commandIn(settings: readonly Setting[]): readonly string[] | undefined {
  const line = settings.filter(([key, value]) => key === "ExecStart" && value !== "").at(-1)?.[1];
  const words = wordsIn(line?.replace(/^[-@:+!|]+/, "") ?? "");
  return words.includes("--config") || words.some((word) => word.startsWith("--config=")) ? words : undefined;
}

/** systemd.syntax(7): quotes around a word, and C's escapes; `$$` is a dollar. */
function wordsIn(line: string): readonly string[] {
  const words = line.match(/(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+/g) ?? [];
  return words.map((word) =>
    word
      .replaceAll(
        /"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'/g,
        (_, double?: string, single?: string) => double ?? single ?? "",
      )
      .replaceAll(/\\(.)/g, "$1")
      .replaceAll("$$", "$"),
  );
}

async function run(program: string, argv: readonly string[]): Promise<number> {
  const child = spawn(program, argv, { stdio: "inherit" });
  return await new Promise((resolve, reject) => {
    child.once("error", () => {
      reject(new FatalError(ExitCode.unavailable, `check: ${program} cannot be run`));
    });
    child.once("exit", (code) => {
      resolve(code ?? ExitCode.unavailable);
    });
  });
}
