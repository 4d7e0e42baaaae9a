import * as fs from "node:fs";
import type { Place } from "./daemon.ts";

/**
 * A fake systemctl(1), first in $PATH: one unit that is active, as `systemctl show` of systemd 252 prints it. It notes
 * each call, and what the target would read if it were restarted at that moment.
 *
 * @param watched a file that the target reads at its start.
 */
export function fakeSystemctl(place: Place, watched: string) {
  const bin = place.path("fake-bin");
  const calls = place.path("systemctl-calls");
  const mute = place.path("systemctl-mute");
  const shown = place.path("systemctl-show");
  fs.mkdirSync(bin);
  fs.writeFileSync(calls, "");
  fs.writeFileSync(
    `${bin}/systemctl`,
    `#!/bin/sh
# A fake. Without an answer (as long as there is ${mute}) it fails as if systemd did not answer.
if [ -e '${mute}' ]; then exit 1; fi
case $1 in
show) cat '${shown}' ;;
*)
  echo "$* -> $(cat '${watched}')" >>'${calls}'
  if [ -e '${shown}.after' ]; then mv '${shown}.after' '${shown}'; fi
  ;;
esac
`,
    { mode: 0o755 },
  );
  /** @param moment `after`: once the next action is done. */
  const setState = (properties: Readonly<Record<string, string | number>>, moment: "now" | "after" = "now") => {
    const all = {
      LoadState: "loaded",
      ActiveState: "active",
      SubState: "running",
      Type: "simple",
      RemainAfterExit: "no",
      CanReload: "no",
      InactiveExitTimestampMonotonic: 1,
      ExecMainStartTimestampMonotonic: 1,
      StartLimitIntervalUSec: "0",
      StartLimitBurst: 5,
      ...properties,
    };
    const temporary = `${shown}.new`;
    fs.writeFileSync(
      temporary,
      Object.entries(all)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(""),
    );
    fs.renameSync(temporary, moment === "now" ? shown : `${shown}.after`);
  };
  setState({});
  return {
    env: { PATH: `${bin}:${process.env["PATH"] ?? ""}` },
    setState,
    /** `try-restart … -> what the target would read`, in order. */
    calls: () =>
      fs
        .readFileSync(calls, "utf8")
        .split("\n")
        .filter((line) => line !== ""),
    mute: () => {
      fs.writeFileSync(mute, "");
    },
    unmute: () => {
      fs.rmSync(mute);
    },
  };
}
