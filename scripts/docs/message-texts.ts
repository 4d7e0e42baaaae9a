/**
 * What single messages mean, where their kind alone does not say it. The test requires one for each error and warning
 * of the log.
 */

interface Meaning {
  readonly cause: string;
  readonly cure: string;
}

const nothing = "nothing";
const journal = "`systemctl status` and the journal of the service say why";

export const particular: Readonly<Record<string, Meaning>> = {
  // The most frequent messages about stores.
  "the server is sealed": {
    cause: "Vault or OpenBao has started, or somebody has sealed it",
    cure: "unseal it; fetcher asks again by itself",
  },
  "the server is a standby that answers no requests": {
    cause: "the address belongs to one server of a cluster that is not the leader",
    cure: "nothing during a fail-over; otherwise use an address of the cluster, such as its load balancer",
  },
  "permission denied": {
    cause: "the token's policy does not have the path (Vault, OpenBao)",
    cure: "give its policy `read` on the path in the line; for KV version 2 the path includes `data/`",
  },
  "connection refused": {
    cause: "nothing listens at the address that the line names",
    cure: "start the store, or correct the address; fetcher asks again by itself",
  },
  "the host's name is not known": {
    cause: "DNS has no such name (now)",
    cure: "correct the address, or look at the resolver of the host",
  },
  "the server's certificate is self-signed: name it in tls.caFile": {
    cause: "no authority that this host knows has signed it",
    cure: "put the certificate, or its authority's, into a file and name it in `tls.caFile`",
  },
  "the clock is not right (yet)": {
    cause: "AWS refuses requests whose time is off by more than a few minutes",
    cure: "nothing during a boot; otherwise check the host's clock and its NTP",
  },
  "there are no credentials (yet)": {
    cause: "none in the unit's variables, files or the instance's metadata",
    cure: "give the instance a role, or name a file of credentials",
  },
  "no file … (yet)…": {
    cause: "the folder has no file of that name, or the unit's sandbox hides it",
    cure: "write it; the end of the line names a sandbox setting",
  },
  // Errors and warnings of the log.
  "… failed after the … (see systemctl status …)": {
    cause: "the service did not survive its action",
    cure: `${journal}; the new secrets are in place`,
  },
  "… cannot be started again: …": {
    cause: "newer secrets came for a service that an action broke, and systemd refuses to start it",
    cure: `${journal}; then \`systemctl start\` it`,
  },
  "the system refuses ……: …": {
    cause: "a command cannot read or write a file, and the cause is unknown (74)",
    cure: "look at that path, with the user that ran the command",
  },
  "status: …; sidecars that do not run may be missing here": {
    cause: "this user may not read the directory of the configurations",
    cure: "run it as root",
  },
  "…; the sidecar tries again": {
    cause: "the system refuses a call (no descriptors left, no memory), and the details are unknown",
    cure: "raise the limit that the line names (`LimitNOFILE=`), or free what it lacks; fetcher tries again by itself",
  },
  "…; the sidecar continues": {
    cause: "the system refuses a call of a library (no descriptors left, no memory)",
    cure: "raise the limit that the line names (`LimitNOFILE=`), or free what it lacks",
  },
  "a bug in fetcher: …": { cause: "a bug (70)", cure: "report it, with the lines of the journal" },
  "… is empty; published as it is": {
    cause: "a secret is empty at the start, and no earlier value exists",
    cure: 'write it again, or say `"empty": true`',
  },
  "cannot change to the installed program in this process: restart the unit, which restarts its service too": {
    cause: "SIGUSR2 on Node before 22.15, or while the program is missing from its path",
    cure: "install it, or restart the service when it suits",
  },
  "… lines are lost: no reader took them": {
    cause: "the journal did not take lines for a while",
    cure: "look at journald",
  },
  "the new secrets are not published: …": {
    cause:
      "`verify` refuses the new set, a value does not fit, or the output cannot be written; the end of the line says which",
    cure: "correct that in the store or on the disk; the old set stays in use, and fetcher tries again",
  },
  "removed or altered files are not restored: …": {
    cause: "something changed a published file, and fetcher cannot write it again",
    cure: "remove the obstacle in the line; fetcher tries again every minute",
  },
  "…; the templates read before stay in use": {
    cause: "a template has a mistake, or cannot be read",
    cure: "correct it, then `systemctl reload` the sidecar",
  },
  "… failed after the last action; waiting up to … s for newer secrets": {
    cause: "an action broke the service, and systemd stops its sidecar",
    cure: `${journal}; put good secrets into the store`,
  },
  "… exited with ……": {
    cause: "the program of the `command` backend failed; its last words follow",
    cure: "run it in the unit's sandbox with `fetcher check NAME`",
  },
  "… stays failed: no newer secrets came": {
    cause: "an action broke the service, and no newer values came within 20 s",
    cure: `${journal}; put good secrets into the store, and start it`,
  },
  "…: tls.insecureDoNotVerifyServer is set: any server that answers there gets the token": {
    cause: "the certificate is not checked",
    cure: "remove the option, and set `tls.caFile`",
  },
  "…: token and secrets go over the network in the clear: use https": {
    cause: "`url` begins with http:// and is not this host",
    cure: "use https",
  },
  "cannot ask": {
    cause: "the unit that acts for the sidecar does not accept its request",
    cure: "`systemctl status` of that unit",
  },
  "cannot watch …: …; polling finds changes there": {
    cause: "inotify refuses: most likely its limits are used up",
    cure: "raise the limit that the line names",
  },
  "key … cannot be published…: …": {
    cause: "a key of an `all` secret cannot be a file",
    cure: "rename it in the store, or list it separately",
  },
  "cannot lock the output against a second fetcher: …": {
    cause: "flock(1) is not installed, or cannot lock there",
    cure: "install util-linux",
  },
  "secret … is in its file only, not in secrets.env…: …": {
    cause: "a variable cannot hold these bytes, or this secret is stricter than the variables",
    cure: "use the file, or set `env`",
  },
  "restored published files that somebody removed or altered": {
    cause: "another program changed what fetcher published",
    cure: "find out which",
  },
  "the token in … ends in … s and cannot be renewed: put a new one there": {
    cause: "the token has reached its longest life",
    cure: "write a new token to that file, or use another login",
  },
  // News that people ask about.
  "…: answers again": { cause: "an outage is over", cure: nothing },
  "the set published before stays in use": {
    cause: "the store was away at the start: adoption",
    cure: "bring the store back",
  },
  "fetched again: nothing has changed, but the service may still run with older secrets": {
    cause: "a reload found no new values, and an earlier action was left out",
    cure: nothing,
  },
  "the server does not know a lease of … any more: replacing it": { cause: "somebody revoked a lease", cure: nothing },
  "an old lease of … cannot be revoked (…): it runs out by itself": {
    cause: "the policy does not allow `sys/leases/revoke`",
    cure: "allow it, if leases should end at once",
  },
  // Stores.
  "no directory … (yet)…": {
    cause: "the folder is not there, or the unit's sandbox hides it",
    cure: "create or mount it; the end of the line names a sandbox setting",
  },
  "there is no region…: set config.region": { cause: "AWS needs a region", cure: "set `config.region`" },
  "the wrapped secret id in … was opened before, or is too old: if nobody here opened it, it may have been stolen": {
    cause: "a wrapped secret id opens once",
    cure: "write a fresh one; if nobody here opened it, revoke it",
  },
  "… changes while fetcher reads it": { cause: "a writer is not done", cure: "write beside the file, and rename" },
  "output: refusing to write to the shared …; set PrivateTmp=true in the unit": {
    cause: "every user shares this /tmp",
    cure: "set `PrivateTmp=yes` in the unit, or name another directory",
  },
  "output: … is in use by …: stop that first": {
    cause: "another fetcher has this output",
    cure: "`systemctl stop` the other, or name another directory",
  },
  "output: … is in use by …: its files stay": {
    cause: "somebody removed `.fetcher-lock`, and another fetcher took this output",
    cure: "nothing: the files are the other's now",
  },
};
