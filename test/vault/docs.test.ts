/**
 * The commands of docs/how-to/vault.md, as written there. It leaves out only systemd's, and starts the daemon itself,
 * with the configuration that `fetcher add` is asked for.
 */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { parseAdd } from "../../src/cli/add-options.ts";
import { proposed } from "../../src/setup/proposal.ts";
import { freePort } from "../free-port.ts";
import { blocksOf, blockWith, numbered, project } from "../markdown.ts";
import { eventually, Place } from "../process/daemon.ts";
import { serverBinary } from "./binary.ts";
import { onEachServer } from "./servers.ts";

const page = "docs/how-to/vault.md";
const commands = numbered(blockWith(page, "sh", "bao server").code);

onEachServer("the commands of the documentation", ["bash"], (product) => {
  test("the commands lead to secrets that rotate", async () => {
    expect(commands).toHaveLength(9);
    const place = new Place();
    const port = await freePort();
    const bin = place.path("bin");
    mkdirSync(bin);
    symlinkSync(serverBinary(product) ?? "", join(bin, "bao"));
    const program = join(project, "dist/fetcher.js");
    writeFileSync(join(bin, "fetcher"), `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`);
    chmodSync(join(bin, "fetcher"), 0o755);
    const here = (command: string) =>
      command.replaceAll("127.0.0.1:8200", `127.0.0.1:${port}`).replaceAll("/etc/fetcher", place.path("etc"));
    const [server = "", ...others] = commands.map(here);
    const address = `127.0.0.1:${port}`;
    const env = {
      PATH: `${bin}:${process.env["PATH"] ?? ""}`,
      HOME: place.root,
      BAO_DEV_LISTEN_ADDRESS: address,
      VAULT_DEV_LISTEN_ADDRESS: address,
      VAULT_ADDR: `http://${address}`,
      VAULT_TOKEN: "root",
    };

    const child = spawn("bash", ["-c", `exec ${server.replace(/ >\/dev\/null &\s*$/, "")}`], { env, stdio: "ignore" });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    onTestFinished(async () => {
      child.kill("SIGKILL");
      await ended;
    });
    await eventually("the server answers", () => spawnSync("bash", ["-c", "bao status"], { env }).status === 0);

    const exported = others[0] ?? "";
    const run = (command: string) => {
      const { status, stdout, stderr } = spawnSync("bash", ["-ec", exported + command], { env, encoding: "utf8" });
      expect({ command, status, stderr }).toEqual({ command, status: 0, stderr: "" });
      return stdout;
    };
    for (const command of others.slice(1, 4)) run(command);
    const words = (others[5] ?? "").replaceAll("\\\n", " ").trim().split(/\s+/).slice(2);
    const wish = parseAdd(words);
    if (wish === "help") throw new Error("the page asks for help");
    const written = proposed({}, { ...wish, imported: new Map() }) as { readonly config: object };
    // Without an output these would be of the unit: the directory, and that the sidecar watches if it is to act.
    const file = place.writeConfig({
      ...written,
      delivery: undefined,
      config: { ...written.config, reloadOnChange: true },
      output: { directory: place.output },
    });
    const check = run(`fetcher --check --config ${file}`);
    expect(check).toContain("greeting");
    expect(check).not.toContain("first");

    const daemon = await place.spawn(["--config", file]).ready();
    expect(place.published()).toMatchObject({ greeting: "hello", db_password: "first" });
    run(others[7] ?? "");
    // It is renamed last.
    await eventually("the new value", () => place.read("secrets.env")?.includes("db_password='second-one'") === true);
    expect(place.read("db_password")).toBe("second-one");
    expect((await daemon.end()).code).toBe(0);

    // The next sections: the policy, and a login whose token only the program has.
    const next = blocksOf(page, "sh").slice(1);
    expect(next.map(({ heading }) => heading)).toEqual(["What the policy allows", "A login without a token in a file"]);
    for (const { code } of next) run(here(code));
    const login = blockWith(page, "json", "approle").code;
    const { config } = JSON.parse(here(`{${login}}`)) as { readonly config: object };
    const other = place.writeConfig(
      { backend: "vault", config, secrets: { greeting: {}, db_password: {} } },
      "other.json",
    );
    const seen = run(`fetcher --check --config ${other}`);
    expect(seen).toContain("db_password");
    expect(seen).not.toContain("second-one");
  });
});
