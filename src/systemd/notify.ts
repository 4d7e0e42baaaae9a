/**
 * Tells systemd READY=1, STATUS= and WATCHDOG=1 (sd_notify(3)).
 *
 * Where no addon does it in this process, systemd-notify(1) sends each message; the unit then needs NotifyAccess=all.
 */
import { helperEnvironment } from "../contract/helper-command.ts";
import { LONGEST_MESSAGE, shortened } from "../contract/errors.ts";
import { openSendState, type SendState } from "../runtime/platform.ts";

export interface Notifier {
  /** How messages go out, for the log. */
  readonly how: "none" | "sd-notify" | "built-in" | "systemd-notify";
  ready(status: string): void;
  status(text: string): void;
  watchdog(): void;
  stopping(): void;
  /** Resolves when every message has been handed over. */
  flush(): Promise<void>;
}

const silent: Notifier = {
  how: "none",
  ready: () => undefined,
  status: () => undefined,
  watchdog: () => undefined,
  stopping: () => undefined,
  flush: () => Promise.resolve(),
};

export function openNotifier(environment: NodeJS.ProcessEnv): Notifier {
  const socket = environment["NOTIFY_SOCKET"];
  if (socket === undefined || socket === "") return silent;
  const addon = openSendState(socket);
  return addon === undefined ? bySystemdNotify(socket) : inThisProcess(addon.how, addon.send);
}

function inThisProcess(how: Notifier["how"], send: SendState): Notifier {
  return {
    how,
    ready(status) {
      send(`STATUS=${oneLine(status)}`);
      send("READY=1");
    },
    status: (text) => {
      send(`STATUS=${oneLine(text)}`);
    },
    watchdog: () => {
      send("WATCHDOG=1");
    },
    stopping: () => {
      send("STOPPING=1");
    },
    flush: () => Promise.resolve(),
  };
}

/** Exported for its test: where an addon loads, nothing calls it. */
export function bySystemdNotify(socket: string): Notifier {
  let last = Promise.resolve();
  /** The status that waits for its turn. A newer one replaces it, because each message costs a process. */
  let waiting: { text: string } | undefined;
  const send = (...args: readonly string[]) => {
    last = last.then(() => run(socket, args));
  };
  return {
    how: "systemd-notify",
    ready(status) {
      // A later status must come after this message.
      waiting = undefined;
      send("--ready", `--status=${oneLine(status)}`);
    },
    status(text) {
      if (waiting !== undefined) {
        waiting.text = text;
        return;
      }
      const mine = { text };
      waiting = mine;
      last = last.then(() => {
        if (waiting === mine) waiting = undefined;
        return run(socket, [`--status=${oneLine(mine.text)}`]);
      });
    },
    watchdog: () => {
      send("WATCHDOG=1");
    },
    stopping: () => {
      send("STOPPING=1");
    },
    flush: () => last,
  };
}

/** A message that cannot be sent is lost: it has no other receiver. */
function run(socket: string, args: readonly string[]): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      done();
    };
    try {
      process
        .getBuiltinModule("node:child_process")
        .spawn("systemd-notify", [`--pid=${process.pid}`, ...args], {
          env: { ...helperEnvironment(), NOTIFY_SOCKET: socket },
          stdio: "ignore",
          timeout: 10_000,
        })
        .once("error", end)
        .once("close", end);
    } catch {
      // spawn() throws on some failures: a loop of links in PATH, no memory.
      end();
    }
  });
}

/** A newline would begin another field of the protocol. */
function oneLine(text: string): string {
  return shortened(text.replaceAll(/[\r\n]+/g, " "), LONGEST_MESSAGE);
}

/**
 * Half of WatchdogSec= where systemd watches this process, in milliseconds (sd_watchdog_enabled(3)).
 */
export function watchdogPeriod(environment: NodeJS.ProcessEnv): number | undefined {
  const microseconds = Number(environment["WATCHDOG_USEC"]);
  const pid = environment["WATCHDOG_PID"];
  if (!Number.isFinite(microseconds) || microseconds <= 0) return undefined;
  if (pid !== undefined && Number(pid) !== process.pid) return undefined;
  return Math.max(microseconds / 2000, 50);
}
