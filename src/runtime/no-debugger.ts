/**
 * The first thing that is loaded. At SIGUSR1 Node would open a debugger's port, where every local user could read the secrets.
 * Until this is loaded the port is one that cannot be opened: the first line of start.ts gives an address of no machine's.
 */
process.on("SIGUSR1", () => undefined);
