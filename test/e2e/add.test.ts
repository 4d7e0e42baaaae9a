/** `fetcher add` and `fetcher remove`: one command gives a service its secrets, and one takes them back. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onEachGuest } from "./guests.ts";
import { leftIn } from "./pair.ts";

onEachGuest("fetcher add and fetcher remove", (guest) => {
  const etc = "/etc/systemd/system";

  /** Everything that they may touch, with its content. */
  const places = async () =>
    await guest.text(
      `find /etc/fetcher ${etc} /run/systemd/system /run/systemd/generator -xdev \\( -type f -o -type l -o -type d \\) \\
         ! -name 'fetcher-check-*' -printf '%p %m %u %l\\n' | sort
       find /etc/fetcher ${etc} /run/systemd/generator -type f -exec sha256sum {} + | sort`,
      { check: false },
    );

  const service = async (name: string, command: string, ...more: readonly string[]) => {
    const lines = ["[Service]", ...more, `ExecStart=/bin/sh -c '${command}; exec sleep infinity'`, ""];
    await guest.write(`${etc}/${name}.service`, lines.join("\n"));
    await guest.systemctl("daemon-reload");
  };
  const fetcher = async (...words: readonly string[]) => {
    const { code, stdout, stderr } = await guest.run(["fetcher", ...words], { check: false, timeout: 120 });
    return { code, said: `${stdout}${stderr}`, stdout, stderr };
  };
  const said = async (unit: string, text: string) =>
    await guest.until(
      `${unit} said: ${text}`,
      async () => await guest.journal(unit),
      (journal) => journal.includes(text),
    );
  const state = async (unit: string) => (await guest.show(unit, "ActiveState")).ActiveState;

  beforeAll(async () => {
    await service("web", "echo begun with $$(cat /run/web-secrets/pub/tls.crt)", "ExecReload=/bin/echo reloaded");
    await service("vars", "echo begun with $$one and $$two");
    await service("many@", "true");
    await service("wrong", "true");
    await guest.run(
      `ln -s web.service ${etc}/nick.service; ln -s /dev/null ${etc}/hidden.service; systemctl daemon-reload`,
    );
  });
  afterAll(async () => {
    await guest.run(
      `systemctl stop web vars env; rm -rf /etc/fetcher ${etc}/web.service* ${etc}/vars.service* ${etc}/env.service*
       rm -f ${["nick", "hidden", "wrong", "many@", "rooted"].map((name) => `${etc}/${name}.service`).join(" ")} ${etc}/../system-generators/fetcher
       systemctl daemon-reload`,
      { check: false },
    );
  });

  describe("refuses an impossible request in one line, and changes nothing", () => {
    test.each([
      [["web"], 64, "expected the ID of at least one secret"],
      [["no/name", "a"], 64, "is not the name of a service"],
      [["wbe", "a"], 66, 'systemd has no unit wbe.service; did you mean "web"?'],
      [["web.socket", "a"], 64, '"web.socket" is not a service: name the service that it starts'],
      [["many", "a"], 66, "many@.service is a template: name an instance, many@..."],
      [["nick", "a"], 64, "nick.service is another name of web.service: run fetcher add web"],
      [["hidden", "a"], 78, "hidden.service is masked"],
      [["wrong", "--yes", "a"], 78, "cannot read /etc/fetcher/wrong.json: it is"],
      [["web", "--backend", "valut", "a"], 78, 'did you mean "vault"?'],
      [["web", "--set", "secretDir=/x", "a"], 78, 'did you mean "secretsDir"?'],
      [["web", "--yes", "not_there"], 66, 'secret "not_there"'],
      [
        [
          "web",
          "--yes",
          "--backend",
          "vault",
          "--set",
          "url=http://127.0.0.1:9",
          "--set",
          "path=a",
          "--set",
          "tokenPath=/etc/no",
          "a",
        ],
        69,
        "",
      ],
      [["web", "--import", "/etc/no.env"], 78, "web.service has no EnvironmentFile=/etc/no.env: it has none"],
      [["web", "a=secret-canary"], 64, "expected ID or ID=MODE"],
      [["web", "--env", "--files", "a"], 64, "give only one of"],
      [["web", "a"], 64, "no terminal to ask in"],
    ] as const)("fetcher add %j: %i", async (words, code, text) => {
      await guest.run("mkdir -p -m 0700 /etc/fetcher/web/secrets /etc/fetcher/wrong.json");
      const before = await places();
      const result = await fetcher("add", ...words);
      expect(result.said.replaceAll('\\"', '"')).toContain(text);
      expect(result.said).not.toContain("secret-canary");
      expect(result.code).toBe(code);
      expect(await places()).toBe(before);
      expect(await guest.text("ls -d /run/fetcher-* /run/systemd/system/fetcher-* 2>/dev/null", { check: false })).toBe(
        "",
      );
    });

    afterAll(async () => {
      await guest.run("rmdir /etc/fetcher/wrong.json");
    });

    test.each(["INT", "HUP", "QUIT"])(
      "changes nothing when SIG%s ends it while the store does not answer",
      async (signal) => {
        await guest.run("mkdir -p /etc/fetcher/hang; rm -f /run/add.pid");
        const before = await places();
        const command = ["add", "web", "--yes", "--backend", "command", "--set", 'command=["sleep","60"]', "a"];
        const running = guest.run(["sh", "-c", 'fetcher "$@" & echo $! > /run/add.pid; wait $!', "sh", ...command], {
          check: false,
          timeout: 60,
        });
        await guest.until(
          "the check runs",
          async () => (await guest.text("systemctl list-units --plain --no-legend 'fetcher-check-*'")) !== "",
        );
        await guest.run(`kill -${signal} $(cat /run/add.pid)`);
        expect((await running).stderr).toContain("stopped");
        expect(await places()).toBe(before);
        await guest.run("rm -r /etc/fetcher/hang");
      },
    );
  });

  test("warns that a service with its own root directory does not see the files", async () => {
    await service("rooted", "true", "RootDirectory=/srv");
    const note = "rooted.service has a root of its own, which hides /run/rooted-secrets/pub";
    expect((await fetcher("add", "rooted", "--dry-run", "a")).stdout).toContain(note);
    expect((await fetcher("add", "rooted", "--dry-run", "--env", "a")).stdout).not.toContain("root of its own");
    expect((await fetcher("add", "web", "--dry-run", "a")).stdout).not.toContain("root of its own");
  });

  describe("fetcher add and remove, killed or run twice at the same time", () => {
    const hanging = ["--yes", "--backend", "command", "--set", 'command=["sleep","60"]', "a"];
    const inBackground = (...words: readonly string[]) =>
      guest.run(["sh", "-c", 'fetcher "$@" & echo $! > /run/add.pid; wait $!', "sh", ...words], {
        check: false,
        timeout: 180,
      });
    const checks = async () => await guest.text("systemctl list-units --all --plain --no-legend 'fetcher-check-*'");
    const left = async () =>
      await guest.text(
        "find /etc/fetcher /etc/systemd /run/systemd/system /run/fetcher* \\( -name '.fetcher-*' -o -name 'fetcher-check-*' -o -name '*slow-secrets*' \\)",
        { check: false },
      );
    const killed = async (running: Promise<unknown>) => {
      await guest.run("kill -KILL $(cat /run/add.pid)");
      await running;
    };

    beforeAll(async () => {
      await service("slow", "echo begun");
      await guest.write("/etc/fetcher/slow/secrets/one", "1", 0o400);
      await guest.write("/etc/fetcher/slow/secrets/two", "2", 0o400);
    });
    afterAll(async () => {
      await guest.run(`systemctl stop slow; rm -rf /etc/fetcher ${etc}/slow.service* ${etc}/slow-secrets.service*`, {
        check: false,
      });
      await guest.systemctl("daemon-reload");
    });

    test("writes both secrets when two run at the same time", async () => {
      await guest.run("fetcher add slow --yes --no-check one & fetcher add slow --yes --no-check two & wait");
      const file = JSON.parse(await guest.read("/etc/fetcher/slow.json")) as { secrets: object };
      expect(Object.keys(file.secrets).sort()).toEqual(["one", "two"]);
    });

    test("finishes an interrupted removal on the next run, and hides no unit", async () => {
      await guest.write(`${etc}/slow-secrets.service.d/slow.conf`, "[Service]\nExecStop=-/bin/sleep 60\n");
      await guest.systemctl("daemon-reload");
      await guest.systemctl("restart", "slow");
      const pid = await guest.mainPid("slow");
      const running = inBackground("remove", "slow", "--yes");
      await guest.until(
        "the sidecar stops",
        async () => await state("slow-secrets"),
        (now) => now === "deactivating",
      );
      await killed(running);
      expect(await left()).toContain("/run/systemd/system/slow-secrets.service");
      await guest.run(`rm -r ${etc}/slow-secrets.service.d`);
      await guest.run("systemctl kill --kill-whom=control slow-secrets");
      const again = await fetcher("remove", "slow", "--yes");
      expect(again.stderr).toContain("/etc/fetcher/slow.json is back");
      expect(again.code).toBe(0);
      expect(await left()).toBe("");
      expect(await guest.exists("/etc/fetcher/slow.json")).toBe(false);
      expect(await guest.mainPid("slow")).toBe(pid);
    });

    test("removes the remains of a killed check on the next run", async () => {
      const running = inBackground("add", "slow", ...hanging);
      await guest.until("the check runs", async () => (await checks()) !== "");
      await killed(running);
      expect(await left()).toContain("/run/systemd/system/fetcher-check-");
      await guest.run("rm /etc/fetcher/slow.json");
      expect(await fetcher("add", "slow", "--yes", "one")).toMatchObject({ code: 0 });
      expect(await left()).toBe("");
      expect(await checks()).toBe("");
      await fetcher("remove", "slow", "--yes");
    });

    test("leaves nothing after an interrupted check", async () => {
      await fetcher("add", "slow", "--no-check", ...hanging);
      const running = inBackground("check", "slow");
      await guest.until("the check runs", async () => (await checks()) !== "");
      await guest.run("kill -INT $(cat /run/add.pid)");
      expect((await running).stderr).toContain("check: stopped");
      expect(await left()).toBe("");
      await fetcher("remove", "slow", "--yes");
    });
  });

  test("shows what it would do without doing it, for another user too", async () => {
    const before = await places();
    const { stdout, code } = await fetcher("add", "web", "--dry-run", "--reload", "tls.crt", "tls.key=0400");
    expect(code).toBe(0);
    for (const line of [
      "+++ /etc/fetcher/web.json",
      '+    "tls.key": { "mode": "0400" }',
      "+++ /run/systemd/generator/web-secrets.service",
      "+++ /run/systemd/generator/web.service.d/50-web-secrets.conf",
    ])
      expect(stdout).toContain(line);
    const user = await guest.run("setpriv --reuid=65534 --regid=65534 --clear-groups fetcher add web --dry-run a");
    expect(user.stdout).toContain("+++ /etc/fetcher/web.json");
    const denied = await guest.run("setpriv --reuid=65534 --regid=65534 --clear-groups fetcher add web --yes a", {
      check: false,
    });
    expect(denied.code).toBe(77);
    expect(await places()).toBe(before);
  });

  test("adds secrets without touching a running service, and adds another secret later", async () => {
    await guest.systemctl("start", "web");
    const pid = await guest.mainPid("web");
    await guest.write("/etc/fetcher/web/secrets/tls.crt", "first", 0o400);
    const added = await fetcher("add", "web", "--yes", "--reload", "tls.crt");
    expect(added).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("systemctl restart web.service") as string,
    });
    expect(await guest.mainPid("web")).toBe(pid);
    expect(await state("web-secrets")).toBe("inactive");
    await guest.systemctl("restart", "web.service");
    await said("web", "begun with first");
    await guest.write("/etc/fetcher/web/secrets/more", "other", 0o400);
    const more = await fetcher("add", "web", "--yes", "more=0440");
    expect(more.stdout).toContain('+    "more": { "mode": "0440" }');
    expect(more.stdout).not.toContain("+[Unit]");
    expect(more.stdout).toContain("systemctl reload web-secrets.service");
    const again = await guest.mainPid("web");
    await guest.systemctl("reload", "web-secrets.service");
    expect(await guest.read("/run/web-secrets/pub/more")).toBe("other");
    expect(await guest.mainPid("web")).toBe(again);
    expect((await fetcher("add", "web", "--yes", "more=0440")).stdout).toContain("nothing to change");
    for (const name of ["web", "web.service", "web.json", "/etc/fetcher/web.json"])
      for (const command of [["status"], ["units"], ["check"], ["remove", "--dry-run"]])
        expect(await fetcher(...command, name), `${command.join(" ")} ${name}`).toMatchObject({ code: 0 });
    for (const command of ["status", "units", "remove"])
      expect((await fetcher(command, "wbe")).stderr).toContain('; did you mean "web"?');
  });

  test("removes everything but a store to keep, and the service keeps running", async () => {
    const pid = await guest.mainPid("web");
    const shown = await fetcher("remove", "web", "--dry-run");
    expect(shown.stdout).toContain("files in /run/web-secrets/pub, at once: tls.crt, more");
    // All of what a person wrote; of the units that systemd makes from it the names.
    const mine = await guest.read("/etc/fetcher/web.json");
    expect(shown.stdout).toContain(mine.trimEnd().replaceAll(/^/gm, "-"));
    expect(shown.stdout).toContain(
      "the units that systemd makes from it go, too (fetcher units web shows them):\n  web-secrets.service\n",
    );
    expect(shown.stdout).not.toContain("ExecStart=");
    expect(shown.stdout.split("\n").length).toBeLessThan(24);
    expect(await state("web-secrets")).toBe("active");
    const asked = await guest.run(["script", "-qec", "fetcher remove web", "/dev/null"], { input: "n\n" });
    expect(asked.stdout).toContain("nothing was changed");
    expect(await state("web-secrets")).toBe("active");
    const removed = await fetcher("remove", "web", "--yes");
    expect(removed).toMatchObject({ code: 0 });
    expect(await guest.mainPid("web")).toBe(pid);
    expect(await guest.show("web-secrets.service", "LoadState", "ActiveState")).toEqual({
      LoadState: "not-found",
      ActiveState: "inactive",
    });
    expect(await leftIn(guest, "/run/web-secrets")).toBe("");
    expect(
      await guest.text("find /run/systemd /run/fetcher* /tmp /var/tmp -name '*web-secrets*'", { check: false }),
    ).toBe("");
    expect(await guest.text("find /etc/fetcher")).toBe(
      "/etc/fetcher\n/etc/fetcher/web\n/etc/fetcher/web/secrets\n/etc/fetcher/web/secrets/more\n/etc/fetcher/web/secrets/tls.crt",
    );
    expect(await fetcher("remove", "web", "--yes")).toMatchObject({ code: 66 });
    await guest.systemctl("restart", "web");
    await fetcher("add", "web", "--yes", "tls.crt");
    await fetcher("remove", "web", "--yes", "--delete-secrets");
    expect(await guest.exists("/etc/fetcher")).toBe(false);
  });

  const longest = "n".repeat(255 - ".service.d".length);
  // What escapes mean differs with systemd's version; the rest is ours.
  const others = [
    String.raw`app@\x2fsrv\x2da`,
    "app@x@y",
    "colon:s",
    "-dash",
    "app-secrets",
    "dots.in.it",
    "app.service",
  ];
  test.each(["app@a", String.raw`foo\x2dbar`, longest, ...(guest.name === "host" ? [] : others)])(
    "%s: adds and removes secrets for an unusual service name",
    async (name) => {
      await service(name, "echo begun with $$one");
      await guest.write(`/etc/fetcher/${name}/secrets/one`, "its secret", 0o400);
      const words = ["--yes", "--now", "--env", "--", `${name}.service`, "one"];
      const added = await fetcher("add", ...words);
      expect(added.code, added.stderr).toBe(0);
      await said(`${name}.service`, "begun with its secret");
      expect(await fetcher("check", "--", `${name}.service`)).toMatchObject({ code: 0 });
      expect((await fetcher("status", "--", `${name}.service`)).stdout).toMatch(/ ok /);
      const unit = ["--yes", "--delete-secrets", "--", `${name}.service`];
      expect(await fetcher("remove", ...unit)).toMatchObject({ code: 0 });
      expect(await state(`${name}.service`)).toBe("active");
      expect(
        await guest.text("ls -A /etc/fetcher /run/systemd/generator; ls -d /run/*-secrets", { check: false }),
      ).not.toMatch(/app|foo|colon|dash|dots|nnn/);
      await guest.run(["systemctl", "stop", "--", `${name}.service`]);
      await guest.run(["rm", `${etc}/${name}.service`]);
    },
  );

  test("adds and removes an on-change sidecar, and its service keeps running", async () => {
    await service("quiet", "echo begun with $$one");
    await guest.write("/etc/fetcher/quiet/secrets/one", "its secret", 0o400);
    await guest.write("/etc/fetcher/quiet/secrets/two", "another", 0o400);
    await guest.write("/etc/fetcher/quiet.json", '{ "resident": "on-change", "secrets": { "two": {} } }', 0o600);
    const added = await fetcher("add", "quiet", "--yes", "--now", "--env", "one");
    expect(added.code, added.stderr).toBe(0);
    await said("quiet", "begun with its secret");
    expect(await state("quiet-secrets-refresh.path")).toBe("active");
    const pid = await guest.mainPid("quiet");
    const removed = await fetcher("remove", "quiet", "--yes", "--delete-secrets");
    expect(removed.code, removed.stderr).toBe(0);
    expect(await guest.mainPid("quiet")).toBe(pid);
    const units = "systemctl list-units --all --plain --no-legend 'quiet-secrets*'";
    await guest.until(
      "nothing of it is left",
      async () =>
        await guest.text(`${units}; ls -d /run/quiet-* /etc/fetcher/quiet* /run/systemd/*/quiet-*`, { check: false }),
      (left) => left === "",
    );
    await guest.run(["systemctl", "stop", "quiet"]);
    await guest.run(["rm", `${etc}/quiet.service`]);
  });

  test("wires a hand-written file that needs no change", async () => {
    await service("hand", "echo begun with $$one");
    await guest.write("/etc/fetcher/hand/secrets/one", "its secret", 0o400);
    // As it would write it itself, with its link in place.
    await fetcher("add", "hand", "--yes", "--env", "one");
    const text = await guest.read("/etc/fetcher/hand.json");
    await fetcher("remove", "hand", "--yes");
    const link = `${etc}/../system-generators/fetcher`;
    await guest.run(`mkdir -p $(dirname ${link}); ln -sfn $(readlink -f /usr/local/bin/fetcher) ${link}`);
    await guest.write("/etc/fetcher/hand.json", text, 0o600);
    const added = await fetcher("add", "hand", "--yes", "--now", "--env", "one");
    expect(added.said).toContain("says so already");
    expect(added.said).toContain("systemctl daemon-reload: done");
    expect(added.code).toBe(0);
    await said("hand", "begun with its secret");
    expect((await fetcher("add", "hand", "--yes", "--env", "one")).said).not.toContain("daemon-reload");
    await fetcher("remove", "hand", "--yes", "--delete-secrets");
    await guest.run(["systemctl", "stop", "hand"]);
    await guest.run(["rm", `${etc}/hand.service`]);
  });

  test("warns about files that the service's user cannot read", async () => {
    await guest.write("/etc/fetcher/vars/secrets/one", "1", 0o400);
    await service("vars", "echo begun with $$one and $$two", "DynamicUser=yes");
    expect((await fetcher("add", "vars", "--dry-run", "one", "open=0444")).stdout).toContain(
      "vars.service runs as vars, which cannot read one, readable by root only",
    );
    expect((await fetcher("add", "vars", "--dry-run", "--env", "one")).stdout).not.toContain("cannot read");
  });

  test("replaces an earlier installation's dangling link, and reports a link that hides the generator", async () => {
    const link = "/etc/systemd/system-generators/fetcher";
    await guest.run(`mkdir -p $(dirname ${link}); ln -sfn /opt/gone/fetcher ${link}`);
    expect(await fetcher("add", "vars", "--yes", "--env", "one")).toMatchObject({ code: 0 });
    expect(await guest.text(["readlink", "-e", link])).toMatch(/fetcher(\.js)?$/);
    await fetcher("remove", "vars", "--yes");
    await guest.run(`ln -sfn /dev/null ${link}`);
    const before = await places();
    expect(await fetcher("add", "vars", "--yes", "--env", "one")).toMatchObject({
      code: 78,
      stderr: expect.stringContaining("masks") as string,
    });
    expect(await places()).toBe(before);
    await guest.run(`rm ${link}`);
  });

  test("replaces the file of a service that waits for its secrets, and removes a wrong file", async () => {
    await fetcher("add", "vars", "--yes", "--env", "--no-check", "one", "two");
    expect(await fetcher("add", "vars", "--yes", "--restart")).toMatchObject({
      code: 66,
      stdout: expect.stringContaining("two") as string,
    });
    // What is missing there is not about to be written.
    await guest.run("touch -d '1 hour ago' /etc/fetcher/vars/secrets");
    await guest.run("systemctl start vars", { check: false });
    expect(await state("vars-secrets")).toBe("failed");
    await guest.write("/etc/fetcher/vars/secrets/two", "2", 0o400);
    const more = await fetcher("add", "vars", "--yes", "--now", "--restart");
    expect(more).toMatchObject({ code: 0 });
    await said("vars", "begun with 1 and 2");
    // Nothing changes in the file, but fetcher still does what the flags ask for.
    const last = await guest.mainPid("vars");
    expect((await fetcher("add", "vars", "--yes", "--now", "one")).stdout).toContain("restart");
    expect(await guest.mainPid("vars")).not.toBe(last);
    await guest.write("/etc/fetcher/vars.json", '{ "secrets": ');
    expect(await fetcher("add", "vars", "--yes", "three")).toMatchObject({
      code: 78,
      stderr: expect.stringContaining("is not JSON") as string,
    });
    const pid = await guest.mainPid("vars");
    expect(await fetcher("remove", "vars", "--yes")).toMatchObject({ code: 0 });
    expect(await guest.mainPid("vars")).toBe(pid);
    expect((await guest.show("vars-secrets", "LoadState")).LoadState).toBe("not-found");
    expect(await guest.exists("/etc/fetcher/vars.json")).toBe(false);
  });

  test("does not remove secrets that another unit still needs, and changes nothing", async () => {
    await fetcher("add", "vars", "--yes", "--now", "--env", "one");
    await guest.write(
      `${etc}/other.service`,
      "[Unit]\nRequires=vars-secrets.service\n[Service]\nExecStart=sleep infinity\n",
    );
    await guest.run("systemctl daemon-reload; systemctl start other");
    const [before, pid] = [await places(), await guest.mainPid("vars-secrets")];
    const refused = await fetcher("remove", "vars", "--yes");
    expect(refused.stderr).toContain("other.service would stop with vars-secrets.service");
    expect(refused.stderr).toContain("nothing was changed");
    expect(refused.code).toBe(78);
    expect(await places()).toBe(before);
    expect([await guest.mainPid("vars-secrets"), await state("other"), await state("vars")]).toEqual([
      pid,
      "active",
      "active",
    ]);
    await guest.run(`systemctl stop other; rm ${etc}/other.service; systemctl daemon-reload`);
    expect(await fetcher("remove", "vars", "--yes", "--delete-secrets")).toMatchObject({ code: 0 });
  });
});
