/** For many sidecars in one process: their messages have no reader. */
import type { Log } from "../src/runtime/log.ts";
import type { Notifier } from "../src/systemd/notify.ts";

const nothing = () => undefined;

export const silentLog: Log = {
  error: nothing,
  warn: nothing,
  notice: nothing,
  info: nothing,
  debug: nothing,
  trace: nothing,
};

export const silentNotifier: Notifier = {
  how: "none",
  ready: nothing,
  status: nothing,
  watchdog: nothing,
  stopping: nothing,
  flush: () => Promise.resolve(),
};
