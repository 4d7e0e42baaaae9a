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
