/** moto, an emulator of AWS that speaks HTTP: from $PATH, or Debian's python3-moto in the guests' tree. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { treePath } from "../e2e/boot.ts";

/** The command line before its options; undefined: there is none here. */
export function motoCommand(): readonly [string, ...string[]] | undefined {
  const directories = (process.env["PATH"] ?? "").split(delimiter);
  const found = directories.map((directory) => join(directory, "moto_server")).find((path) => existsSync(path));
  if (found !== undefined) return [found];
  const tree = treePath("trixie");
  if (process.getuid?.() !== 0 || !existsSync(join(tree, "usr/lib/python3/dist-packages/moto"))) return undefined;
  return ["chroot", tree, "python3", "-c", "from moto.server import main; main()"];
}

export class Moto {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(url: string, child: ChildProcess) {
    this.url = url;
    this.#child = child;
  }

  static async start(): Promise<Moto> {
    const [program, ...args] = motoCommand() ?? ["moto_server"];
    const port = await freePort();
    const child = spawn(program, [...args, "-H", "127.0.0.1", "-p", String(port)], {
      stdio: "ignore",
      env: { PATH: process.env["PATH"], PYTHONDONTWRITEBYTECODE: "1" },
    });
    const url = `http://127.0.0.1:${port}`;
    for (;;) {
      if (child.exitCode !== null) throw new Error(`moto ended with ${child.exitCode}`);
      if (
        await fetch(`${url}/moto-api/data.json`).then(
          ({ ok }) => ok,
          () => false,
        )
      )
        return new Moto(url, child);
      await delay(100);
    }
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === "object" && address !== null ? address.port : 0);
      });
    });
  });
}
