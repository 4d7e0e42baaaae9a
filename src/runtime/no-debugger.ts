/**
 * The first module that is loaded. At SIGUSR1 Node would open a debugger's port, where every local user could read the
 * secrets. Until this is loaded, Node cannot open that port: the first line of start.ts gives it an address that no
 * machine has.
 */
process.on("SIGUSR1", () => undefined);
