/**
 * Finds what our own unit hides from us: to a program it looks as if a store were away, or a file missing. Only the
 * setup of the unit shows the difference. It gives no hints outside a unit.
 */
import { readFileSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { errnoCode, printable } from "./errors.ts";

/**
 * The options of a tmpfs that TemporaryFileSystem= or ProtectHome=tmpfs made, as the kernel lists them (systemd 252 to
 * 257: nr_inodes=400k and nr_inodes=1k). No tmpfs that is meant to hold files has them: /run has 800k, a /tmp another
 * mode.
 */
const OF_SYSTEMD = /^(?=.*\bmode=0?755\b).*\bnr_inodes=(?:409600|400k|1024|1k)\b/;

/** @returns the end of a sentence about a missing or refused path; "" if the unit does not hide it. */
export function hiddenHint(path: string): string {
  if (!isInUnit()) return "";
  try {
    return hintIn(readFileSync("/proc/self/mountinfo", "utf8"), realPathOf(path));
  } catch {
    return "";
  }
}

/** @param mountinfo proc_pid_mountinfo(5). @param path without symbolic links. */
export function hintIn(mountinfo: string, path: string): string {
  const mount = mountinfo
    .split("\n")
    .flatMap((line) => mountOf(line) ?? [])
    .filter(({ point }) => point === "/" || path === point || path.startsWith(`${point}/`))
    // The last of several mounts at one place is on top.
    .reduce<Mount | undefined>(
      (top, other) => (other.point.length >= (top?.point.length ?? 0) ? other : top),
      undefined,
    );
  if (mount === undefined) return "";
  const { point, root, type, options } = mount;
  const say = (setting: string, remedy: string) =>
    `; hidden by this unit's sandbox (${printable(setting)}): ${printable(remedy)}`;
  const home = ["/home", "/root", "/run/user"].find((each) => each === point);
  // Below /run/systemd, in a container below /run/host.
  if (/\/inaccessible\/(?:reg|dir|chr|blk|fifo|sock)$/.test(root))
    return home === undefined
      ? say(`InaccessiblePaths=${point}`, `add an empty InaccessiblePaths= to the unit, and then those that may stay`)
      : say("ProtectHome=yes", "add ProtectHome=read-only to the unit");
  if (/\/systemd-private-[0-9a-f]{32}-/.test(root)) return say("PrivateTmp=yes", `keep it elsewhere than in ${point}`);
  if (type !== "tmpfs" || !OF_SYSTEMD.test(options)) return "";
  const above = dirname(path);
  // For a path right below, the directory above would bring the whole place back.
  const shown = above === point ? path : above;
  return say(
    home === undefined ? `TemporaryFileSystem=${point}` : "ProtectHome=tmpfs",
    `add BindReadOnlyPaths=${shown} to the unit`,
  );
}

/**
 * Whether a message with a hint is about something that a new sandbox may show: systemd makes the unit's optional binds
 * (`-`) once, from what is there at its start. What InaccessiblePaths= closes stays closed.
 */
export function mayShowLater(message: string): boolean {
  return /; hidden by this unit's sandbox \((?:TemporaryFileSystem=|ProtectHome=tmpfs)/.test(message);
}

/** Whether a directory is gone. A mount still shows one that somebody removed outside this unit; it has no name then. */
export function isRemoved(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined || stat.nlink === 0;
}

interface Mount {
  readonly root: string;
  readonly point: string;
  readonly type: string;
  /** Options of the file system as a whole. */
  readonly options: string;
}

function mountOf(line: string): Mount | undefined {
  const [before = "", after = ""] = line.split(" - ");
  const [, , , root, point] = before.split(" ").map(unescaped);
  const [type = "", , options = ""] = after.split(" ");
  return root === undefined || point === undefined ? undefined : { root, point, type, options };
}

function unescaped(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** Resolves links as far as the path exists. */
function realPathOf(path: string): string {
  for (let at = path, rest = ""; ; at = dirname(at)) {
    try {
      return `${realpathSync.native(at).replace(/^\/$/, "")}${rest}` || "/";
    } catch {
      if (at === "/" || at === ".") return path;
      rest = `/${at.slice(at.lastIndexOf("/") + 1)}${rest}`;
    }
  }
}

/** @returns the end of a sentence about a store that cannot be reached; "" where the unit may use the network. */
export async function networkHint(): Promise<string> {
  if (!isInUnit()) return "";
  const setting = await networkBarrier();
  if (setting === undefined) return "";
  return `; this unit has no network (${setting}): give it PrivateNetwork=no, RestrictAddressFamilies=AF_INET AF_INET6 and an empty IPAddressDeny=, as examples/systemd/network.conf does`;
}

async function networkBarrier(): Promise<string | undefined> {
  const code = await sendToOurselves();
  if (code === "EAFNOSUPPORT") return "RestrictAddressFamilies=";
  if (isElsewhere() && hasOnlyLoopback()) return "PrivateNetwork=yes";
  return code === "EPERM" ? "IPAddressDeny=" : undefined;
}

/** Whether the network is not the service manager's, whose socket would be in the list. */
function isElsewhere(): boolean {
  const { NOTIFY_SOCKET = "" } = process.env;
  const socket = NOTIFY_SOCKET.startsWith("/") ? NOTIFY_SOCKET : "/run/systemd/notify";
  try {
    return !readFileSync("/proc/self/net/unix", "utf8").includes(` ${socket}\n`);
  } catch {
    return false;
  }
}

/** proc_pid_net(5). os.networkInterfaces() needs AF_NETLINK, which the unit forbids. */
function hasOnlyLoopback(): boolean {
  const lines = readFileSync("/proc/self/net/dev", "utf8").trim().split("\n").slice(2);
  return lines.every((line) => /^\s*lo:/.test(line));
}

/**
 * Sends a datagram to ourselves, which leaves no trace: it fails at once where the unit forbids it, while a connection
 * would have to time out.
 */
async function sendToOurselves(): Promise<string | undefined> {
  const { createSocket } = await import("node:dgram");
  return await new Promise((resolve) => {
    const socket = createSocket("udp4");
    const done = (error?: Error | null) => {
      resolve(errnoCode(error));
      socket.removeAllListeners("error").on("error", () => undefined);
      socket.close();
    };
    socket.once("error", done);
    socket.bind(0, "127.0.0.1", () => {
      socket.send(Buffer.of(0), socket.address().port, "127.0.0.1", done);
    });
  });
}

function isInUnit(): boolean {
  return process.env["INVOCATION_ID"] !== undefined;
}
