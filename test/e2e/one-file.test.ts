/** The operator writes only /etc/fetcher/NAME.json: the generator makes the units. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onEachGuest } from "./guests.ts";
import { leftIn } from "./pair.ts";

onEachGuest("a service whose secrets are one file", (guest) => {
  const etc = "/etc/systemd/system";
  const generators = "/etc/systemd/system-generators";
  const names = ["web", "vars", "creds", "shared", "broken", "app@a", String.raw`foo\x2dbar`, "later", "left"];

  async function service(name: string, command: string, more: readonly string[] = []): Promise<void> {
    const lines = [
      "[Service]",
      "DynamicUser=yes",
      `ExecStart=/bin/sh -c '${command}; exec sleep infinity'`,
      ...more,
      "",
    ];
    await guest.write(`${etc}/${name}.service`, lines.join("\n"));
  }

  async function add(name: string, config: object, secrets: Readonly<Record<string, string>>): Promise<void> {
    await guest.write(`/etc/fetcher/${name}.json`, JSON.stringify(config));
    for (const [id, value] of Object.entries(secrets))
      await guest.write(`/etc/fetcher/${name}/secrets/${id}`, value, 0o400);
    await guest.systemctl("daemon-reload");
  }

  const rotate = async (name: string, id: string, value: string) => {
    await guest.replace(`/etc/fetcher/${name}/secrets/${id}`, value, 0o400);
  };

  const said = async (unit: string, text: string) =>
    await guest.until(
      `${unit} said: ${text}`,
      async () => await guest.journal(unit),
      (journal) => journal.includes(text),
    );

  beforeAll(async () => {
    await guest.run(`mkdir -p ${generators} && ln -s "$(command -v fetcher)" ${generators}/fetcher`);
  });
  afterAll(async () => {
    const units = names.map((name) => `'${name}.service'`).join(" ");
    await guest.run(
      `systemctl stop ${units}; rm -rf ${generators}/fetcher /etc/fetcher ${names.map((name) => `'${etc}/${name}.service'`).join(" ")}
       systemctl daemon-reload; systemctl reset-failed`,
    );
  });

  test("minimal: its files exist when it starts, and a new value reloads it", async () => {
    await service("web", "echo started with $$(wc -c < /run/web-secrets/pub/tls.crt) bytes", [
      "DynamicUser=no",
      `ExecReload=/bin/sh -c 'echo reloaded with $$(wc -c < /run/web-secrets/pub/tls.crt) bytes'`,
    ]);
    await add(
      "web",
      { secrets: { "tls.crt": {}, "tls.key": { mode: "0400" } }, onChange: { action: "reload" } },
      { "tls.crt": "one", "tls.key": "key" },
    );
    await guest.systemctl("start", "web");
    await said("web", "started with 3 bytes");
    expect(await guest.text(["stat", "-c", "%a %U", "/run/web-secrets/pub/tls.key"])).toBe("400 root");
    const pid = await guest.mainPid("web");
    await rotate("web", "tls.crt", "twelve bytes");
    await said("web", "reloaded with 12 bytes");
    expect(await guest.mainPid("web")).toBe(pid);
    expect((await guest.show("web", "EnvironmentFiles")).EnvironmentFiles).toBe("");
    await guest.systemctl("stop", "web");
    await guest.until("the sidecar stopped", async () => (await leftIn(guest, "/run/web-secrets")) === "");
  });

  test("env: it starts with its variables, and a new value restarts it", async () => {
    await service("vars", "echo my word has $${#db_password} bytes");
    const config = { delivery: "env", secrets: { db_password: {} }, config: { reloadOnChange: true } };
    await add("vars", config, { db_password: "three" });
    await guest.systemctl("start", "vars");
    await said("vars", "my word has 5 bytes");
    await rotate("vars", "db_password", "seventeen letters");
    await said("vars", "my word has 17 bytes");
    const files = (await guest.run("runuser -u daemon -- cat /run/vars-secrets/pub/secrets.env", { check: false }))
      .stderr;
    expect(files).toMatch(/Permission denied/);
  });

  test("credentials: its user reads the copies, and an optional missing secret is an empty file", async () => {
    await service("creds", "echo $$(wc -c < $$CREDENTIALS_DIRECTORY/a) and $$(wc -c < $$CREDENTIALS_DIRECTORY/b)");
    const config = {
      delivery: "credentials",
      secrets: { a: {}, b: { optional: true } },
      onChange: { action: "reload" },
    };
    await add("creds", config, { a: "four" });
    await guest.systemctl("start", "creds");
    await said("creds", "4 and 1");
    await rotate("creds", "a", "eightlet");
    await said("creds", "8 and 1");
  });

  test("private-tmp: it gets files as RFC 59 says, and variables on request", async () => {
    await service("shared", "echo $$(wc -c < /tmp/a) $${#OTHER}");
    const config = { delivery: "private-tmp", environment: { OTHER: "b" }, secrets: { a: {}, b: {} } };
    await add("shared", config, { a: "one", b: "four" });
    await guest.systemctl("start", "shared");
    await said("shared", "3 4");
    expect(await guest.read("/run/shared-secrets/pub/secrets.env")).not.toMatch(/^A=/m);
  });

  test("an instance and an escaped name each get their own secrets", async () => {
    for (const name of ["app@a", String.raw`foo\x2dbar`]) {
      await service(name, `echo begun with $$one`);
      await add(name, { delivery: "env", secrets: { one: {} }, config: { reloadOnChange: true } }, { one: "begin-1" });
      await guest.systemctl("start", `${name}.service`);
      await said(`${name}.service`, "begun with begin-1");
      await rotate(name, "one", "begin-2");
      await said(`${name}.service`, "begun with begin-2");
    }
  });

  describe("a wrong file", () => {
    test("keeps its service from starting, explains why in its sidecar's journal, and affects no other service", async () => {
      await service("broken", "echo must not start");
      await add("broken", { secrets: { a: { mod: "0400" } } }, { a: "one" });
      const start = await guest.run(["systemctl", "start", "broken"], { check: false });
      expect(start.code).not.toBe(0);
      await said("broken-secrets", "secrets.a.mod");
      expect(await guest.journal("broken")).not.toContain("must not start");
      await service("later", "echo hello from later");
      await add("later", { secrets: { a: {} } }, { a: "one" });
      await guest.systemctl("start", "later");
      await said("later", "hello from later");
    });

    test("needs only a daemon-reload once corrected", async () => {
      await service("broken", "echo mended");
      await add("broken", { secrets: { a: { mode: "0400" } } }, { a: "one" });
      await guest.systemctl("start", "broken");
      await said("broken", "mended");
    });
  });

  test("one screen's table shows all services and what is wrong with the broken one; the metrics agree", async () => {
    const others = Array.from({ length: 10 }, (_, index) => `ten${index}`);
    for (const name of others) {
      await service(name, "echo begun");
      const isBroken = name === "ten4";
      const secrets = isBroken ? { a: {}, "not there": {} } : { a: {} };
      await add(name, { delivery: "env", secrets, onChange: { action: "restart" } }, { a: "one" });
    }
    // What is missing there is not about to be written.
    await guest.run("touch -d '1 hour ago' /etc/fetcher/ten4/secrets");
    await guest.run(`systemctl start --no-block ${others.join(" ")}`);
    for (const name of others.filter((one) => one !== "ten4")) await said(name, "begun");
    await guest.until(
      "one has failed",
      async () => await guest.run(["fetcher", "status", "ten4"]),
      ({ stdout }) => stdout.includes("failed"),
    );
    const { stdout } = await guest.run(["fetcher", "status", ...others]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.length).toBeLessThanOrEqual(23);
    expect(lines.filter((line) => line.includes(" ok "))).toHaveLength(9);
    expect(lines.find((line) => line.startsWith("  "))).toMatch(/exit 66, a required secret does not exist.*not there/);
    // In a terminal of 80 by 24.
    const screen = `script -qec 'stty cols 80 rows 24; fetcher status ${others.join(" ")}' /dev/null`;
    const shown = (await guest.text(screen)).replaceAll(/\x1b\[[0-9;]*m|\r/g, "").split("\n");
    expect(shown.filter((line) => line.length > 80)).toEqual([]);
    // The prompt has its own line.
    expect(shown.length).toBeLessThanOrEqual(23);
    expect(shown.join(" ")).toMatch(/exit 66, a required secret does not exist/);
    const json = JSON.parse((await guest.run(["fetcher", "status", "--json", "ten1"])).stdout) as unknown;
    expect(json).toMatchObject([
      { state: "ok", facts: { unit: "ten1-secrets.service", secrets: 1, backend: "folder" } },
    ]);
    await rotate("ten1", "a", "two");
    await guest.until(
      "the rotation is in the metrics",
      async () => (await guest.run("fetcher status --metrics=/run/fetcher.prom; cat /run/fetcher.prom")).stdout,
      (text) => /^fetcher_actions_total\{name="ten1".*\} 1$/m.test(text),
    );
    expect((await guest.run(["fetcher", "status", "--metrics"])).stdout).toMatch(
      /^fetcher_sidecar_up\{name="ten4".*\} 0$/m,
    );
    const units = others.map((name) => `${name}.service`).join(" ");
    await guest.run(
      `systemctl stop ${units}; rm ${others.map((name) => `${etc}/${name}.service /etc/fetcher/${name}.json`).join(" ")}
       systemctl daemon-reload; systemctl reset-failed`,
    );
  });

  test("leaves a hand-wired file alone, and does not reuse a taken sidecar name", async () => {
    await guest.write(
      "/etc/fetcher/left.json",
      JSON.stringify({ output: { directory: "/run/left/pub" }, secrets: { a: {} } }),
    );
    await guest.systemctl("daemon-reload");
    expect((await guest.show("left-secrets.service", "LoadState")).LoadState).toBe("not-found");
    await guest.run("rm /etc/fetcher/left.json");
    await guest.write(`${etc}/left-secrets.service`, "[Service]\nType=oneshot\nExecStart=/bin/true\n");
    await service("left", "echo $$(cat /run/left-fetcher-secrets/pub/a)");
    await add("left", { secrets: { a: { mode: "0444" } } }, { a: "mine" });
    await guest.systemctl("start", "left");
    await said("left", "mine");
    expect((await guest.show("left", "Requires")).Requires).toContain("left-fetcher-secrets.service");
    await guest.run(`rm ${etc}/left-secrets.service`);
  });

  test("leaves a service without secrets at the next daemon-reload after its file is removed", async () => {
    await guest.run("rm /etc/fetcher/later.json");
    await guest.systemctl("daemon-reload");
    await guest.systemctl("restart", "later");
    expect((await guest.show("later", "Requires")).Requires).not.toContain("later-secrets");
    await guest.until(
      "the sidecar is gone",
      async () => (await guest.show("later-secrets", "LoadState")).LoadState === "not-found",
    );
  });
});
