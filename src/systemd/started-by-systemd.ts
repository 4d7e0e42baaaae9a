/** Whether systemd started this process, and so removes what it published; a shell in a unit has the unit's environment, too. */

/**
 * @param environment $INVOCATION_ID says that we run in a unit. $SYSTEMD_EXEC_PID (systemd 248+) is the pid of the
 *   unit's first process (systemd.exec(5)); everything that it starts inherits the variable.
 */
export function isStartedBySystemd(environment: NodeJS.ProcessEnv, pid = process.pid, parent = process.ppid): boolean {
  if (environment["INVOCATION_ID"] === undefined) return false;
  const first = environment["SYSTEMD_EXEC_PID"];
  // With PrivatePIDs= (systemd 257+) our pid is 1 here, and another number for systemd.
  if (first === undefined || Number(first) === pid || pid === 1) return true;
  // A script of the unit that does not exec: systemd waits for our READY=1. A shell on a terminal has no such socket.
  return Number(first) === parent && (environment["NOTIFY_SOCKET"] ?? "") !== "";
}

/**
 * Forgets what a unit gives its own processes if a person starts us in a shell of that unit: a terminal's, a
 * build's, another sidecar's. Its directory would get our secrets, and our READY=1 and STOPPING=1 would be about that
 * unit.
 *
 * @param isByHand a person sits at a terminal; a script of the unit, however deep, waits for our READY=1.
 */
export function forgetOtherUnit(environment: NodeJS.ProcessEnv, isByHand: boolean, pid = process.pid): void {
  if (environment["INVOCATION_ID"] === undefined || isStartedBySystemd(environment, pid)) return;
  delete environment["RUNTIME_DIRECTORY"];
  delete environment["WATCHDOG_USEC"];
  if (isByHand) delete environment["NOTIFY_SOCKET"];
}
