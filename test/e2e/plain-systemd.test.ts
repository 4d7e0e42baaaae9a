/**
 * docs/how-to/plain-systemd.md and the README's first file: typed as written, with the number of commands checked, in a
 * guest where nothing is set up.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { blocksOf, blockWith, codeUnder, numbered } from "../markdown.ts";
import { needs } from "../requirements.ts";
import { nginxTree } from "./boot.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import { GuestVault } from "./vault-server.ts";

const page = "docs/how-to/plain-systemd.md";
const etc = "/etc/systemd/system";

/** Types a command in a terminal, and `y` where it asks. @returns what is on the screen. */
async function type(guest: Guest, command: string): Promise<string> {
  await guest.write("/root/typed", `cd /root\n${command}`);
  const { stdout, code } = await guest.run(
    ["script", "--quiet", "--return", "--command", "sh -e /root/typed", "/dev/null"],
    {
      input: "y\n",
      check: false,
      timeout: 120,
    },
  );
  expect(code, stdout).toBe(0);
  return stdout;
}

/** A certificate and its key, of its own authority. */
function certificate(name: string): readonly [certificate: string, key: string] {
  const made = execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "2",
      "-subj",
      `/CN=${name}`,
      "-keyout",
      "-",
    ],
    { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
  );
  const [key = "", text = ""] = made.match(/-----BEGIN [^-]+-----[^]*?-----END [^-]+-----\n/g) ?? [];
  return [text, key];
}

onEachGuest("plain systemd, as the documentation describes it", (guest) => {
  const service = async (name: string, ...lines: readonly string[]) => {
    await guest.write(`${etc}/${name}.service`, ["[Service]", ...lines, ""].join("\n"));
    await guest.systemctl("daemon-reload");
  };
  const said = async (unit: string, text: string) =>
    await guest.until(
      `${unit} said: ${text}`,
      async () => await guest.journal(unit),
      (journal) => journal.includes(text),
    );
  const says = (variables: string) => `ExecStart=/bin/sh -c 'echo begun with ${variables}; exec sleep infinity'`;

  beforeAll(async () => {
    // From zero.
    expect(await guest.text("ls -d /etc/fetcher /etc/systemd/system-generators/* 2>/dev/null", { check: false })).toBe(
      "",
    );
  });
  afterEach(async () => {
    await guest.run(
      `for file in /etc/fetcher/*.json; do [ -e "$file" ] || break; name=$(basename "$file" .json); systemctl stop "$name"; fetcher remove "$name" --yes; rm -f ${etc}/"$name".service; done
       rm -rf /etc/fetcher ${etc}/../system-generators; systemctl daemon-reload; systemctl reset-failed`,
      { check: false, timeout: 120 },
    );
  });

  needs("nginx", "openssl").describe("nginx with TLS", () => {
    beforeAll(async () => {
      const tree = execFileSync("tar", ["-C", nginxTree, "-c", "."], { maxBuffer: 64 * 1024 * 1024 });
      await guest.run("tar -C / -x --keep-directory-symlink --no-overwrite-dir", { input: tree });
      await guest.systemctl("daemon-reload");
    });
    afterAll(() => guest.run("rm -rf /etc/nginx"));

    const put = async (name: string) => {
      for (const [index, text] of certificate(name).entries())
        await guest.write(index === 0 ? "/root/tls.crt" : "/root/tls.key", text, 0o600);
    };
    const isServed = async (name: string) => {
      const script = `require("node:tls").connect({ port: 443, rejectUnauthorized: false }, function () { console.log(this.getPeerCertificate().subject.CN); this.end(); })`;
      await guest.until(
        `nginx has the certificate of ${name}`,
        async () => (await guest.text(["node", "-e", script])) === name,
      );
    };

    test("takes three commands and one edited line, and a new certificate is one reload without a new process", async () => {
      const commands = numbered(blockWith(page, "sh", "fetcher add nginx").code);
      expect(commands).toHaveLength(3);
      const [line = "", ...others] = codeUnder(page, "nginx with TLS, and a reload for each new certificate", "text");
      expect(others).toEqual([]);
      expect(line.trim().split("\n")).toHaveLength(1);
      await put("first");
      await guest.write("/etc/nginx/conf.d/tls.conf", line);
      const screen: string[] = [];
      for (const command of commands) screen.push(await type(guest, command));
      expect(screen.join("")).not.toContain("PRIVATE KEY");
      await isServed("first");
      expect(await guest.text("stat -c '%a %U' /run/nginx-secrets/pub/tls.key")).toBe("400 root");
      const pid = await guest.mainPid("nginx");
      await put("second");
      await type(guest, commands[0] ?? "");
      await isServed("second");
      expect(await guest.mainPid("nginx")).toBe(pid);
      await type(guest, "fetcher remove nginx");
      expect(await guest.mainPid("nginx")).toBe(pid);
      await isServed("second");
    }, 300_000);

    test("docs/how-to/tls.md: reloads once for a new pair, and nginx never gets another certificate's key", async () => {
      const tls = "docs/how-to/tls.md";
      const [pair = "", first = "", line = "", verified = "", look = "", next = "", hook = "", ...others] = blocksOf(
        tls,
        "sh",
      ).map(({ code }) => code);
      const [refusal = ""] = blocksOf(tls, "text").map(({ code }) => code.trimEnd());
      expect(others).toEqual([]);
      for (const commands of [pair, first, line, verified]) await type(guest, commands);
      await isServed("localhost");
      expect(await type(guest, look)).toMatch(/^subject=CN *= *localhost\r?$/m);
      const pid = await guest.mainPid("nginx");
      await put("second");
      await type(guest, next);
      await isServed("second");
      await guest.write("/root/tls.key", certificate("another")[1], 0o600);
      await type(guest, next);
      await said("nginx-secrets", refusal);
      await isServed("second");
      // certbot's part, with its variable.
      const [text, key] = certificate("third");
      await guest.write("/root/live/fullchain.pem", text);
      await guest.write("/root/live/privkey.pem", key, 0o600);
      await guest.write("/root/deploy", hook, 0o755);
      await guest.run(["/root/deploy"], { env: { RENEWED_LINEAGE: "/root/live" } });
      await isServed("third");
      expect(await guest.mainPid("nginx")).toBe(pid);
    }, 300_000);
  });

  needs("vault-server").test(
    "a service gets variables from Vault with three commands",
    async () => {
      const commands = numbered(blockWith(page, "sh", "--backend vault").code);
      expect(commands.length).toBeLessThanOrEqual(3);
      const server = new GuestVault(guest);
      await server.install();
      await server.command("kv put secret/app db_password=canary-4f81");
      await guest.write(
        "/root/token",
        await server.command("token create -orphan -period=1h -policy=app -field=token"),
        0o600,
      );
      await service("app", "DynamicUser=yes", says("$$db_password"));
      const screen: string[] = [];
      for (const command of commands) screen.push(await type(guest, command));
      expect(screen.join("")).not.toMatch(/canary-4f81/);
      await said("app", "begun with canary-4f81");
      await server.down();
    },
    300_000,
  );

  describe("a service with an EnvironmentFile=", () => {
    test("moves to fetcher with two commands, and reads the same variables", async () => {
      const commands = numbered(blockWith(page, "sh", "--import").code);
      expect(commands.length).toBeLessThanOrEqual(2);
      await guest.write("/etc/app.env", 'TOKEN="canary-77 \\"x\\""\nTZ=UTC # no comment\nEMPTY=\n', 0o600);
      await service(
        "app",
        "DynamicUser=yes",
        "EnvironmentFile=/etc/app.env",
        says("$${TOKEN}, $${TZ}, $${EMPTY-unset}."),
      );
      const screen: string[] = [];
      for (const command of commands) screen.push(await type(guest, command));
      expect(screen.join("")).not.toContain("canary-77");
      await said("app", 'begun with canary-77 "x", UTC # no comment, .');
      expect((await guest.show("app", "EnvironmentFiles")).EnvironmentFiles).toBe(
        "/run/app-secrets/pub/secrets.env (ignore_errors=no)",
      );
      expect(await guest.journal()).not.toMatch(/fetcher.*canary-77/);
      // Back again.
      await type(guest, "fetcher remove app");
      expect((await guest.show("app", "EnvironmentFiles")).EnvironmentFiles).toBe("/etc/app.env (ignore_errors=no)");
      expect(await guest.exists(`${etc}/app.service.d`)).toBe(false);
    }, 240_000);
  });

  test("the README's first example is a file with env, and its commands write it", async () => {
    const commands = blockWith("README.md", "sh", "fetcher add").code.trimEnd().split("\n");
    expect(commands).toHaveLength(3);
    await guest.write("/root/db_password", "first-canary", 0o600);
    await service("hello", "DynamicUser=yes", says("$$db_password"));
    for (const command of commands) await type(guest, command);
    await said("hello", "begun with first-canary");
    const file = { delivery: "env", secrets: { db_password: {} }, onChange: { action: "restart" } };
    expect(JSON.parse(await guest.read("/etc/fetcher/hello.json"))).toEqual(file);
    const [shown] = blocksOf("README.md");
    expect(JSON.parse(shown?.code ?? "")).toEqual(file);
    await guest.replace("/etc/fetcher/hello/secrets/db_password", "second-canary", 0o400);
    await said("hello", "begun with second-canary");
  }, 240_000);

  test("docs/how-to/alerts.md: the timer's unit writes the metrics of each sidecar", async () => {
    const [install = "", look = ""] = blocksOf("docs/how-to/alerts.md", "sh").map(({ code }) => code);
    await guest.write("/etc/fetcher/app/secrets/a", "one", 0o400);
    await service("app", says("nothing"));
    await type(guest, "fetcher add app --now a");
    await type(guest, install.replace("$(npm root -g)/secrets-sidecar", guest.project));
    expect(await type(guest, look)).toMatch(/^fetcher_sidecar_up\{name="app",.*\} 1\r?$/m);
    expect((await guest.show("fetcher-metrics.timer", "ActiveState")).ActiveState).toBe("active");
    await guest.run(
      `systemctl disable --now fetcher-metrics.timer; rm -r ${etc}/fetcher-metrics.* /var/lib/prometheus`,
    );
  }, 240_000);

  test("upgrade: the sidecar continues with the new program, and neither systemd nor the service notices", async () => {
    await guest.write("/etc/fetcher/nginx/secrets/a", "one", 0o400);
    await service("nginx", says("nothing"));
    await type(guest, "fetcher add nginx a && systemctl restart nginx");
    const pids = async () => [await guest.mainPid("nginx"), await guest.mainPid("nginx-secrets")];
    const before = await pids();
    await type(guest, blockWith(page, "sh", "systemctl kill").code);
    const [, major = 0, minor = 0] = /v(\d+)\.(\d+)/.exec(await guest.text(["node", "--version"]))?.map(Number) ?? [];
    const isOld = major < 22 || (major === 22 && minor < 15);
    const said = isOld ? /cannot change to the installed program in this process/ : /\bready:.*\bready:/s;
    await guest.until(
      "the journal reports the upgrade",
      async () => await guest.journal("nginx-secrets"),
      (journal) => said.test(journal),
    );
    expect(await pids()).toEqual(before);
    expect(await guest.journal("nginx-secrets")).toContain("continuing with the installed program");
    await guest.run(`systemctl stop nginx; rm ${etc}/nginx.service`);
  }, 240_000);

  test("uninstall: leaves nothing of fetcher but the secrets", async () => {
    await guest.write("/etc/fetcher/app/secrets/a", "one", 0o400);
    await service("app", says("nothing"));
    await type(guest, "fetcher add app --now a");
    expect(await guest.text(["fetcher", "status"])).toMatch(/^app +folder +1 +ok/m);
    await type(guest, "fetcher remove app");
    const [link = "", ...rest] = blockWith(page, "sh", "npm uninstall").code.split("\n");
    await type(guest, `${link}\n${rest.filter((line) => !line.startsWith("npm ")).join("\n")}`);
    expect(
      await guest.text(
        "find /etc /run -xdev \\( -name '*fetcher*' ! -name 'fetcher-guest*' -o -name '*app-secrets*' \\)",
        { check: false },
      ),
    ).toBe("/etc/fetcher");
    expect(await guest.text("find /etc/fetcher -type f")).toBe("/etc/fetcher/app/secrets/a");
    expect(readFileSync(join(import.meta.dirname, "../..", page), "utf8")).toContain("What is left is yours");
    await guest.run(`systemctl stop app; rm ${etc}/app.service`);
  }, 240_000);
});
