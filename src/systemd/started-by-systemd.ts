/** Whether systemd started this process, and so removes what it published; a shell in a unit has the unit's environment, too. */

/**
 * @param environment $INVOCATION_ID says that a unit is above us. $SYSTEMD_EXEC_PID (systemd 248+) is the unit's first process
 *   (systemd.exec(5)), which whatever it starts inherits.
 */
export function isStartedBySystemd(environment: NodeJS.ProcessEnv, pid = process.pid, parent = process.ppid): boolean {
  if (environment["INVOCATION_ID"] === undefined) return false;
  const first = environment["SYSTEMD_EXEC_PID"];
  // With PrivatePIDs= (systemd 257+) ours is another number than systemd's: the first of all.
  if (first === undefined || Number(first) === pid || pid === 1) return true;
  // A script of the unit that does not exec: systemd waits for our READY=1, which a shell on a terminal does not have.
  return Number(first) === parent && (environment["NOTIFY_SOCKET"] ?? "") !== "";
}

/**
 * What a unit has for its own processes is none of ours where somebody starts us in a shell of that unit: a terminal's, a build's,
 * another sidecar's. Its directory would get our secrets, and our READY=1 and STOPPING=1 would be about that unit.
 *
 * @param isByHand somebody sits at a terminal; a unit's script, deep as it may be, waits for our READY=1.
 */
export function forgetOtherUnit(environment: NodeJS.ProcessEnv, isByHand: boolean, pid = process.pid): void {
  if (environment["INVOCATION_ID"] === undefined || isStartedBySystemd(environment, pid)) return;
  delete environment["RUNTIME_DIRECTORY"];
  delete environment["WATCHDOG_USEC"];
  if (isByHand) delete environment["NOTIFY_SOCKET"];
}
