/** Ports for servers that listen a while after their port was chosen, or again after an outage. */
import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/**
 * @returns a port where nobody listens. It is below those that the kernel gives to whoever asks for any
 * (net.ipv4.ip_local_port_range): one of these would soon be another test's.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => {
      resolve(false);
    });
    server.listen(port, "127.0.0.1", () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}
