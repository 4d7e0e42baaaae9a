/** moto, an emulator of AWS that speaks HTTP: from $PATH, or from a virtual environment in the tests' cache. */
import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../free-port.ts";
import { programPath } from "../programs.ts";

/** The path of its server; undefined: it is not installed. */
export function motoServer(): string | undefined {
  return programPath("moto_server");
}

export class Moto {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(url: string, child: ChildProcess) {
    this.url = url;
    this.#child = child;
  }

  static async start(): Promise<Moto> {
    const port = await freePort();
    const child = spawn(motoServer() ?? "moto_server", ["-H", "127.0.0.1", "-p", String(port)], {
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
