/** One wiring on every distribution: from the same settings the generator and the NixOS module make the same units. */
import { expect, test } from "vitest";
import { unitsOfFile } from "../../src/units/one-file-units.ts";
import { textOf } from "../../src/units/unit-file.ts";
import { temporary } from "../contract/temporary.ts";
import { needs } from "../requirements.ts";
import { Evaluation, lines } from "./evaluation.ts";
import { writeFileSync } from "node:fs";
import { extname, join } from "node:path";

/** What /etc/fetcher/NAME.json and the NixOS option secretsStore.services.NAME say alike. */
interface Settings {
  readonly secrets: Readonly<Record<string, object>>;
  readonly backend?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly [option: string]: unknown;
}

const folder = { secretsDir: "/etc/secrets" };
const cases: Readonly<Record<string, Settings>> = {
  "credentials of a folder, one of them optional": {
    delivery: "credentials",
    secrets: { a: {}, "b c": { optional: true }, "50%": { file: "half" } },
    config: folder,
  },
  "private-tmp with variables, and a signal": {
    delivery: "private-tmp",
    environment: true,
    secrets: { a: { env: "A" } },
    config: { ...folder, reloadOnChange: true },
    onChange: { action: "signal", signal: "HUP" },
  },
  "an owner, and variables by name": {
    delivery: "private-tmp",
    environment: { WORD: "a" },
    secrets: { a: { mode: "0400", owner: "nobody" }, b: {} },
    config: { secretsDir: "/var/lib/app/secrets" },
  },
  "no resident process": { delivery: "credentials", secrets: { a: {} }, config: folder, resident: false },
  "no resident process, and a folder that is watched": {
    delivery: "private-tmp",
    secrets: { a: {}, b: { source: { file: "below/b" }, owner: "nobody" } },
    config: { ...folder, reloadOnChange: true, pollingInterval: 20 },
    resident: "on-change",
  },
  "no resident process, and a Vault that is asked again": {
    delivery: "credentials",
    secrets: { a: {} },
    backend: "vault",
    config: { url: "https://vault.test:8200", path: "app", tokenPath: "/var/lib/agent/token", reloadOnChange: true },
    resident: "on-change",
  },
  "a folder that is swapped in /run": {
    delivery: "credentials",
    secrets: { a: {} },
    config: { secretsDir: "/run/secrets" },
  },
  "a Vault with a token and its own certificates": {
    delivery: "private-tmp",
    secrets: { a: {} },
    backend: "vault",
    config: {
      url: "https://vault.test:8200",
      path: "app",
      tokenPath: "/var/lib/agent/token",
      tls: { caFile: "/etc/ssl/ca.pem", certFile: "/etc/ssl/c.pem", keyFile: "/etc/ssl/private/k.pem" },
      reloadOnChange: true,
    },
  },
  "a Vault's agent at a socket, with a login": {
    delivery: "credentials",
    secrets: { a: {} },
    backend: "vault",
    config: { url: "unix:/run/vault/agent.sock", path: "app", auth: { method: "kubernetes", role: "r" } },
  },
  AWS: { delivery: "credentials", secrets: { a: {} }, backend: "aws", config: { region: "eu-west-1" } },
  "keys of NixOps": {
    delivery: "private-tmp",
    secrets: { a: {}, b: { source: { key: "other" } } },
    backend: "nixops",
  },
  "a command": { delivery: "credentials", secrets: { a: {} }, backend: "command", config: { command: ["age", "-d"] } },
};

const sections: Readonly<Record<string, "Path" | "Timer">> = { ".path": "Path", ".timer": "Timer" };

needs("nix").describe("the generator and the NixOS module make the same units from the same settings:", () => {
  const evaluation = new Evaluation();

  async function generated(name: string, settings: Settings): Promise<Readonly<Record<string, string>>> {
    const { path: directory, dispose } = await temporary();
    writeFileSync(join(directory, `${name}.json`), JSON.stringify({ backend: "folder", ...settings }));
    const place = { directory, program: ["/usr/local/bin/fetcher"], isExecutable: false, isTaken: () => false };
    const units = unitsOfFile(name, place) ?? [];
    await dispose();
    return Object.fromEntries(units.map((unit) => [unit.path.replace(/\.d\/.*/, ""), textOf(unit)]));
  }

  function rendered(name: string, settings: Settings): Readonly<Record<string, string>> {
    const { backend = "folder", config = {}, ...service } = settings;
    const json = JSON.stringify({ ...service, secretsConfig: { backend, config } });
    const units = evaluation.units(`{
      secretsStore.enable = true;
      secretsStore.services.${JSON.stringify(name)} =
        builtins.fromJSON ${JSON.stringify(json).replaceAll("${", "\\${")};
      systemd.services.${JSON.stringify(name)} = { };
    }`);
    return Object.fromEntries(Object.entries(units).map(([unit, { text }]) => [unit, text]));
  }

  /** One value a line; what a path of NixOS, its switch or /etc/fetcher alone needs is left out. */
  function normal(text: string, section: "Unit" | "Path" | "Timer" | "Service"): string[] {
    return (
      lines(text, section)
        .flatMap((line) => {
          const [, key, values] =
            /^((?:Bind|Inaccessible|Temporary|Environment$|Before|After|Wants)\w*)=(.*)$/.exec(line) ?? [];
          return values === undefined ? [line] : values.split(" ").map((value) => `${key ?? ""}=${value}`);
        })
        .flatMap((line) => {
          const [, key = "", value = ""] = /^(\w+)=(.*)$/s.exec(line) ?? [];
          if (key === "Environment")
            return value
              .split(/ (?=\w+=)/)
              .map((one) => `Environment=${one.replaceAll('"', "")}`)
              .filter((one) => !one.startsWith("Environment=PATH="));
          return [line];
        })
        .map((line) => line.replace(/=true$/, "=yes").replace(/=false$/, "=no"))
        .map((line) => line.replace(/^(ExecReload|ExecStopPost)=(-?)\/usr\/bin\//, "$1=$2"))
        .filter((line) => !/^(?:X-|ExecStart=|Documentation=|SourcePath=|ConfigurationDirectory)/.test(line))
        // The configuration has its own place here and there.
        .map((line) => line.replace(/^(ExecReload=.* --config )\S+/, "$1FILE"))
        .filter((line) => !/^(?:TemporaryFileSystem|BindReadOnlyPaths)=(?:-?\/etc\/fetcher.*)?$/.test(line))
        .filter((line) => line !== "IPAddressDeny=")
        .sort()
    );
  }

  test.each(Object.entries(cases))("%s", async (_, settings) => {
    for (const name of ["hello", "app@one", String.raw`foo\x2dbar:1`]) {
      const [ours, theirs] = [await generated(name, settings), rendered(name, settings)];
      expect(Object.keys(ours).sort()).toEqual(Object.keys(theirs).sort());
      for (const [unit, text] of Object.entries(ours))
        for (const section of ["Unit", sections[extname(unit)] ?? "Service"] as const)
          expect(normal(text, section), `${unit} [${section}]`).toEqual(normal(theirs[unit] ?? "", section));
    }
  });

  test("the compared unit of a sidecar is whole: it has more than 45 settings", async () => {
    const text = (await generated("hello", { secrets: { a: {} }, delivery: "private-tmp" }))["hello-secrets.service"];
    expect(normal(text ?? "", "Service").length).toBeGreaterThan(45);
  });
});
