/** The state of a system, to find what was left behind. */
import type { Guest } from "../e2e/guest.ts";
import type { GuestVault } from "../e2e/vault-server.ts";
import { CANARY } from "./history.ts";
import type { Service } from "./service.ts";
import { LEASE } from "./stores.ts";

export interface Traces {
  readonly processes: readonly string[];
  readonly mounts: readonly string[];
  readonly files: readonly string[];
}

export async function looksLike(guest: Guest): Promise<Traces> {
  const lines = async (command: string) => (await guest.text(command)).split("\n").filter(Boolean).sort();
  return {
    processes: await lines("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null; echo; done"),
    mounts: await lines("cut -d' ' -f5 /proc/self/mountinfo"),
    // libfaketime has its own files there.
    files: await lines(
      "ls -A -d /run/*-secrets* /tmp/* /tmp/.[!.]* /var/tmp/* /dev/shm/* 2>/dev/null | grep -v faketime || :",
    ),
  };
}

/** @returns the number of checks. @throws with everything that was not there before. */
export async function expectNothingLeft(
  guest: Guest,
  before: Traces | undefined,
  services: readonly Service[],
  vault: GuestVault | undefined,
): Promise<number> {
  for (const { pair } of services)
    for (const unit of [pair.target, pair.sidecar]) {
      await pair.untilState(unit, "inactive");
      const group = `/sys/fs/cgroup/system.slice/${unit}`;
      if (await guest.exists(group)) throw new Error(`the control group of ${unit} is still there`);
    }
  await guest.until(
    "there is nothing that was not there before",
    async () => {
      const after = await looksLike(guest);
      const more = (key: keyof Traces) => after[key].filter((line) => before?.[key].includes(line) !== true);
      // Without other services' processes, and those of this look.
      const processes = more("processes").filter((line) =>
        /bin\/fetcher|with-secrets|sleep|systemctl|notify/.test(line),
      );
      return [...processes, ...more("mounts"), ...more("files")];
    },
    (left) => left.length === 0,
    { timeout: 60 },
  );
  // -s: skips unreadable files. The stores, in /etc/fetcher and in the server's own directory, hold the canary, of
  // course.
  const holding = await guest.text(`grep -rlsF ${CANARY} /run /tmp /var/tmp /var/log /dev/shm || :`);
  const strange = holding.split("\n").filter((path) => path !== "" && !path.startsWith("/run/keys-"));
  if (strange.length > 0) throw new Error(`secrets are left in ${strange.join(", ")}`);
  if (vault !== undefined) await expectNoLease(guest, vault);
  return services.length * 2 + 4;
}

/**
 * The description of a token: where it comes from, how long it still lives. undefined: there is none. A server that is
 * killed while it revokes one can leave its accessor in the list for good; even root may not look that one up (403).
 */
async function lookUp(vault: GuestVault, accessor: string): Promise<string | undefined> {
  try {
    return (await vault.command(`token lookup -accessor -format=json ${accessor}`)).replaceAll(/\s+/g, " ");
  } catch (error) {
    if (String(error).includes("Code: 403")) return undefined;
    throw error;
  }
}

/** Killed sidecars could not revoke anything: their leases and tokens run out by themselves. */
async function expectNoLease(guest: Guest, vault: GuestVault): Promise<void> {
  const list = async (path: string): Promise<readonly unknown[]> => {
    const text = await vault.command(`list -format=json ${path}`).catch(() => "{}");
    const keys: unknown = JSON.parse(text);
    return Array.isArray(keys) ? (keys as unknown[]) : [];
  };
  await guest.until(
    "no lease is left",
    async () => await list("sys/leases/lookup/pki/issue/soak"),
    (leases) => leases.length === 0,
    { timeout: LEASE * 2 + 60 },
  );
  await guest.until(
    "no token but the root's is left",
    async () => {
      const accessors = await list("auth/token/accessors");
      const tokens = await Promise.all(accessors.map((accessor) => lookUp(vault, String(accessor))));
      return tokens.filter((token) => token !== undefined && !token.includes('"auth/token/root"'));
    },
    (tokens) => tokens.length === 0,
    { timeout: LEASE * 2 + 60 },
  );
}
