/** Services of a user below her own service manager, which has no root and knows nothing of the system's units. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Evaluation, nixPath, type RenderedUnits } from "../nix/evaluation.ts";
import { standInNixpkgs } from "../nix/nixpkgs.ts";
import { blocksOf } from "../markdown.ts";
import { needs } from "../requirements.ts";
import { onEachGuest } from "./guests.ts";

const evaluation = new Evaluation();

onEachGuest("a user's service", (guest) => {
  const [user, uid] = ["fetcher-ann", 4711];
  const home = `/home/${user}`;
  const run = `/run/user/${uid}`;
  const units = `${home}/.config/systemd/user`;
  const generators = "/etc/systemd/user-generators";
  const manager = `/etc/systemd/system/user@${uid}.service.d`;

  const as = (...command: string[]): [string, ...string[]] => [
    "setpriv",
    ...[`--reuid=${uid}`, `--regid=${uid}`, "--init-groups", "env", "-i", `HOME=${home}`],
    ...["PATH=/usr/local/bin:/usr/bin:/bin", `XDG_RUNTIME_DIR=${run}`, ...command],
  ];
  const systemctl = (...words: string[]) => guest.run(as("systemctl", "--user", ...words), { timeout: 60 });
  const tried = async (...command: string[]) => {
    const { stdout, stderr, code } = await guest.run(as(...command), { check: false, timeout: 60 });
    return { said: `${stdout}${stderr}`, code };
  };

  /** As the user would: a file of hers is not root's. */
  const put = async (path: string, content: string) => {
    const script = 'mkdir -p "$(dirname "$1")" && cat >"$1.new" && mv "$1.new" "$1"';
    await guest.run(as("sh", "-c", script, "sh", path), { input: content });
  };

  async function service(name: string, command: string, more: readonly string[] = []): Promise<void> {
    const log = `StandardOutput=append:${home}/${name}.log`;
    const lines = ["[Service]", log, `ExecStart=/bin/sh -c '${command}; exec sleep infinity'`, ...more, ""];
    await put(`${units}/${name}.service`, lines.join("\n"));
  }
  async function add(name: string, config: object, command: string, more: readonly string[] = []): Promise<void> {
    await service(name, command, more);
    await put(`${home}/.config/fetcher/${name}/secrets/a`, "one");
    await put(`${home}/.config/fetcher/${name}.json`, JSON.stringify(config));
    await systemctl("daemon-reload");
  }
  const rotate = (name: string, value: string) => put(`${home}/.config/fetcher/${name}/secrets/a`, value);

  /** A service's log; for a sidecar, the user's whole journal, because an ended one has lost its unit there. */
  async function journal(unit: string): Promise<string> {
    if (!unit.endsWith("-secrets")) return await guest.text(`cat ${home}/${unit}.log 2>/dev/null || true`);
    await guest.run(["journalctl", "--sync"]);
    return await guest.text(["journalctl", "--quiet", "--boot", "--output=cat", `_UID=${uid}`]);
  }
  const said = (unit: string, text: string) =>
    guest.until(
      `${unit} said: ${text}`,
      () => journal(unit),
      (lines) => lines.includes(text),
    );

  beforeAll(async () => {
    await guest.run(`useradd --create-home --uid ${uid} ${user}`);
    await guest.run(`mkdir -p ${generators} && ln -s "$(command -v fetcher)" ${generators}/fetcher`);
    // What pam_systemd says where it is installed.
    await guest.write(`${manager}/test.conf`, `[Service]\nEnvironment=XDG_RUNTIME_DIR=${run}\n`);
    await guest.systemctl("daemon-reload");
    await guest.systemctl("start", `user@${uid}.service`);
  });
  afterAll(async () => {
    await guest.systemctl("stop", `user@${uid}.service`);
    await guest.run(`userdel --remove ${user} 2>&1; rm -rf ${generators}/fetcher ${manager}; systemctl daemon-reload`);
  });

  test("docs/how-to/user-units.md: as typed, gets its password and the next one, and keeps running when they are taken back", async () => {
    const [link = "", unit = "", add = "", rotate = "", commands = "", ...others] = blocksOf(
      "docs/how-to/user-units.md",
      "sh",
    ).map(({ code }) => code);
    expect(others).toEqual([]);
    // The user types, and says yes where it asks. @returns what is on the screen, without colours
    const type = async (code: string) => {
      await put(`${home}/typed`, code);
      const terminal = as("script", "--quiet", "--return", "--command", `sh -e ${home}/typed`, "/dev/null");
      const { stdout, code: status } = await guest.run(terminal, { input: "y\n", check: false, timeout: 120 });
      expect(status, stdout).toBe(0);
      return stdout.replaceAll(/\u001b\[\d*m/g, "");
    };
    const words = async (text: string) =>
      await guest.until(
        `hello said: ${text}`,
        async () => await guest.text(["journalctl", "--quiet", "--output=cat", `_UID=${uid}`]),
        (lines) => lines.split("\n").includes(text),
        { timeout: 60 },
      );
    await guest.run(`rm ${generators}/fetcher`);
    await guest.run(link);
    await type(unit);
    expect(await type(add)).not.toContain("the password");
    await words("my password has 12 letters");
    await type(rotate);
    await words("my password has 16 letters");
    const [status = "", generated = "", check = "", remove = "", ...rest] = commands.trimEnd().split("\n");
    expect(rest).toEqual([]);
    expect(await type(status)).toMatch(/^hello +folder +1 +ok /m);
    expect(await type(generated)).toContain("hello-secrets.service");
    expect(await type(check)).toMatch(/^db_password +there/m);
    await type(remove);
    expect(await guest.exists(`${home}/.config/fetcher/hello.json`)).toBe(false);
    expect((await tried("systemctl", "--user", "is-active", "hello")).said.trim()).toBe("active");
    await systemctl("stop", "hello");
    await guest.run(as("rm", "-r", `${home}/typed`, `${home}/.config/fetcher/hello`, `${units}/hello.service`));
    await systemctl("daemon-reload");
  });

  test("gets its variables; the user's manager restarts it for a new value; its stop leaves nothing", async () => {
    await guest.write("/run/systemd/system/vars.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    await guest.systemctl("start", "vars.service");
    const systems = await guest.mainPid("vars.service");
    const config = { delivery: "env", secrets: { a: {} }, onChange: { action: "restart" } };
    await add("vars", config, "echo my word has $${#a} bytes");
    await systemctl("start", "vars");
    await said("vars", "my word has 3 bytes");
    await rotate("vars", "seven letters");
    await said("vars", "my word has 13 bytes");
    await said("vars-secrets", "vars.service: restart done");
    // One of the same name is the system's, and no business of the user's.
    expect(await guest.mainPid("vars.service")).toBe(systems);
    await guest.run("systemctl stop vars.service; rm /run/systemd/system/vars.service; systemctl daemon-reload");
    await systemctl("stop", "vars");
    await guest.until("the sidecar stopped", async () => !(await guest.exists(`${run}/vars-secrets`)));
  });

  test("reloads where it rereads its files, and only the user can read them", async () => {
    const config = { secrets: { a: {} }, onChange: { action: "reload" } };
    const show = `wc -c <${run}/files-secrets/pub/a`;
    await add("files", config, `echo begun with $$(${show})`, [
      `ExecReload=/bin/sh -c 'echo reloaded with $$(${show})'`,
    ]);
    await systemctl("start", "files");
    await said("files", "begun with 3");
    expect(await guest.text(["stat", "-c", "%u %g", `${run}/files-secrets/pub/a`])).toBe(`${uid} ${uid}`);
    expect((await guest.run(`runuser -u daemon -- ls ${run}/files-secrets`, { check: false })).code).not.toBe(0);
    await rotate("files", "four");
    await said("files", "reloaded with 4");
  });

  test("gets copies as credentials: a rotation restarts it, whatever the action is", async () => {
    const config = { delivery: "credentials", secrets: { a: {} }, onChange: { action: "reload" } };
    await add("creds", config, "echo $$(wc -c <$$CREDENTIALS_DIRECTORY/a) bytes", ["ExecReload=/bin/echo not enough"]);
    await systemctl("start", "creds");
    await said("creds", "3 bytes");
    await rotate("creds", "eightlet");
    await said("creds", "8 bytes");
    expect(await journal("creds")).not.toContain("not enough");
  });

  test.each([
    [
      "tmp",
      { delivery: "private-tmp", secrets: { a: {} } },
      "delivery: private-tmp works only for units of the system",
    ],
    ["owned", { secrets: { a: { owner: "root" } } }, "secrets.a.owner: only root can give a file to"],
    ["grouped", { secrets: { a: { group: "daemon" } } }, "secrets.a.group: only root can give a file to"],
  ])("does not start when its file asks for something only root can do: %s", async (name, config, words) => {
    await add(name, config, "echo must not start");
    const start = await tried("systemctl", "--user", "start", name);
    expect(start.code).not.toBe(0);
    await said(`${name}-secrets`, words);
    expect(await journal(name)).not.toContain("must not start");
  });

  test("starts when its files may go to the user and her groups", async () => {
    await add("hers", { secrets: { a: { owner: user, group: user, mode: "0440" } } }, "echo begun");
    await systemctl("start", "hers");
    await said("hers", "begun");
  });

  test("appears in the user's table, not in the system's, and its sidecar can be checked and reloaded", async () => {
    const config = { delivery: "env", secrets: { a: {} }, onChange: { action: "restart" } };
    await add("shown", config, "echo begun with $$a");
    await systemctl("start", "shown");
    expect((await tried("fetcher", "status", "--user", "shown")).said).toMatch(/^shown +folder +1 +ok /m);
    expect((await tried("fetcher", "status", "shown")).code).toBe(66);
    const check = await tried("fetcher", "check", "--user", "shown");
    expect(check.said).toMatch(/^a +there/m);
    expect(check.code).toBe(0);
    await put(`${home}/.config/fetcher/shown.json`, JSON.stringify({ ...config, secrets: { a: {}, b: {} } }));
    await put(`${home}/.config/fetcher/shown/secrets/b`, "new");
    await systemctl("reload", "shown-secrets");
    expect(await guest.read(`${run}/shown-secrets/pub/b`)).toBe("new");
    expect(await guest.text(`ls ${run} ${run}/systemd/user 2>&1`)).not.toContain("fetcher-check");
  });

  needs("nix").test(
    "gets its secrets from the units of home-manager's module, and restarts for a new value",
    async () => {
      const rendered =
        evaluation.value(`(import ${nixPath(standInNixpkgs, "home-manager.nix")} { inherit lib pkgs; modules = [
      (nix + "/home-manager.nix")
      ({ config, lib, ... }: {
        secretsStore.enable = true;
        secretsStore.folder.secretsDir = "${home}/at-home";
        secretsStore.services.athome = {
          secrets.a = { };
          environment.WORD = "a";
          secretsConfig = { backend = "folder"; config.reloadOnChange = true; };
        };
        # In this guest it stands for the package's wrapper.
        systemd.user.services.athome-secrets.Service.Environment = lib.mkAfter [ "PATH=/usr/local/bin:/usr/bin:/bin" ];
        systemd.user.services.athome.Service = {
          StandardOutput = "append:${home}/athome.log";
          ExecStart = "/bin/sh -c 'echo word has $\${#WORD} bytes, file $$(wc -c <\${config.secretsStore.services.athome.secrets.a.path}); exec sleep infinity'";
        };
      })
    ]; }).units`) as RenderedUnits;
      await put(`${home}/at-home/a`, "one");
      for (const [name, { text, links }] of Object.entries(rendered)) {
        for (const [path, content] of evaluation.closure(text)) await guest.write(path, content);
        await put(`${units}/${name}`, text);
        for (const link of links) {
          const script = 'mkdir -p "${1%/*}" && ln -s "../$2" "$1"';
          await guest.run(as("sh", "-c", script, "sh", `${units}/${link}`, name));
        }
      }
      await systemctl("daemon-reload");
      await systemctl("start", "athome");
      await said("athome", "word has 3 bytes, file 3");
      await put(`${home}/at-home/a`, "seven letters");
      await said("athome", "word has 13 bytes, file 13");
      expect((await tried("fetcher", "status", "--user", "athome")).said).toMatch(/^athome +folder +1 +ok /m);
      await systemctl("reload", "athome-secrets");
      await systemctl("stop", "athome");
      await guest.until("the sidecar stopped", async () => !(await guest.exists(`${run}/athome-secrets`)));
    },
  );

  test("keeps running when its sidecar is killed, and the next one adopts the published set during an outage", async () => {
    const config = { delivery: "env", secrets: { a: {} }, onChange: { action: "restart" } };
    await add("kept", config, "echo begun with $$a");
    await systemctl("start", "kept");
    await guest.run(as("mv", `${home}/.config/fetcher/kept/secrets`, `${home}/.config/fetcher/kept/away`));
    await systemctl("kill", "--signal=SIGKILL", "kept-secrets");
    await said("kept-secrets", "the set published before stays in use");
    await guest.until(
      "the service runs",
      async () => (await tried("systemctl", "--user", "is-active", "kept")).said.trim(),
      (state) => state === "active",
    );
  });

  describe("fetcher add --user, fetcher remove --user", () => {
    /** All that the user has of it. */
    const places = async () => {
      const script = `cd ${home}/.config && find fetcher systemd ${run}/systemd/generator ${run}/systemd/user -type f -exec sha256sum {} + | sort; ls ${run}`;
      return await guest.text(script, { check: false });
    };
    const active = async (unit: string) => (await tried("systemctl", "--user", "is-active", unit)).said.trim();
    const pidOf = async (unit: string) =>
      (await tried("systemctl", "--user", "show", "--property=MainPID", "--value", unit)).said.trim();

    test("give a service its secrets and take them away, while running services continue", async () => {
      await service("mine", "echo begun with $$word");
      await systemctl("daemon-reload");
      const before = await places();
      expect((await tried("fetcher", "add", "mine", "--yes", "--env", "word")).said).toContain("--user for a service");
      expect(await tried("fetcher", "add", "--user", "mnie", "--yes", "word")).toMatchObject({
        code: 66,
        said: expect.stringContaining('did you mean "mine"?') as string,
      });
      const sudo = [
        "env",
        `HOME=${home}`,
        `XDG_RUNTIME_DIR=${run}`,
        "fetcher",
        "add",
        "--user",
        "mine",
        "--yes",
        "word",
      ];
      expect(await guest.run(["sh", "-c", '"$@"', "sh", ...sudo], { check: false })).toMatchObject({
        code: 77,
        stderr: expect.stringContaining("belongs to another user: run it as that user") as string,
      });
      expect((await tried("fetcher", "add", "--user", "mine", "--dry-run", "word")).said).toContain(
        `+++ ${run}/systemd/generator/mine-secrets.service`,
      );
      // The folder does not exist yet: nothing has changed.
      const failed = await tried("fetcher", "add", "--user", "mine", "--yes", "--env", "word");
      expect(failed.said).toContain("fetcher/mine/secrets");
      expect([failed.code, await places()]).toEqual([69, before]);
      await put(`${home}/.config/fetcher/mine/secrets/word`, "first");
      const added = await tried("fetcher", "add", "--user", "mine", "--yes", "--now", "--env", "--restart", "word");
      expect(added.said).toContain("systemctl --user restart mine.service: done");
      expect(added.code).toBe(0);
      await said("mine", "begun with first");
      await put(`${home}/.config/fetcher/mine/secrets/word`, "second");
      await said("mine", "begun with second");

      const pid = await pidOf("mine");
      const shown = await tried("fetcher", "remove", "--user", "mine", "--dry-run");
      expect(shown.said).toContain("variables word, from its next start on");
      const removed = await tried("fetcher", "remove", "--user", "mine", "--yes", "--delete-secrets");
      expect(removed.code).toBe(0);
      expect([await active("mine"), await pidOf("mine")]).toEqual(["active", pid]);
      expect(await places()).toBe(before);
      expect(await guest.text(`find /etc/fetcher /etc/systemd -user ${uid} 2>/dev/null`, { check: false })).toBe("");
    });

    test("import a file of variables, and restore it", async () => {
      await put(`${home}/app.env`, "word='from a file'\n");
      await service("imports", "echo begun with $$word", [`EnvironmentFile=${home}/app.env`]);
      await systemctl("daemon-reload");
      const words = ["add", "--user", "imports", "--yes", "--now", "--import", `${home}/app.env`, "--remove-original"];
      expect(await tried("fetcher", ...words)).toMatchObject({ code: 0 });
      await said("imports", "begun with from a file");
      expect(await guest.exists(`${home}/app.env`)).toBe(false);
      const secret = `${home}/.config/fetcher/imports/secrets/word`;
      expect(await guest.text(["stat", "-c", "%a %u", secret])).toBe(`400 ${uid}`);
      const dropIns = `${units}/imports.service.d`;
      expect(await guest.exists(`${dropIns}/zz-fetcher-import.conf`)).toBe(true);
      const removed = await tried("fetcher", "remove", "--user", "imports", "--yes");
      expect(removed.said).toContain(`EnvironmentFile=${home}/app.env applies again, but the file does not exist`);
      expect([removed.code, await guest.exists(dropIns), await guest.exists(secret)]).toEqual([0, false, true]);
    });

    test("tell root what to do where systemd does not run the users' generator, and refuse private-tmp", async () => {
      const before = await places();
      const refused = await tried("fetcher", "add", "--user", "mine", "--private-tmp", "word");
      expect(refused.said).toContain("delivery: private-tmp works only for units of the system");
      await guest.run(`mv ${generators}/fetcher ${generators}.away`);
      const unknown = await tried("fetcher", "add", "--user", "mine", "--yes", "--no-check", "word");
      await guest.run(`mv ${generators}.away ${generators}/fetcher`);
      expect(unknown.said).toContain(`as root, once: mkdir -p ${generators} && ln -s `);
      expect([refused.code, unknown.code, await places()]).toEqual([78, 78, before]);
    });
  });
});
