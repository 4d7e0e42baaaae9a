import { spawnSync } from "node:child_process";
import { copyFileSync, chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { encodeEnvFile } from "../../../src/publish/env-file.ts";
import { needs } from "../../requirements.ts";
import { parseEnvironment } from "../../properties/secret-values.ts";

const script = join(import.meta.dirname, "../../../src/service-side/with-secrets.sh");
const CANARY = "canary-8Rk2";
const NOBODY = "65534";
const PATH = "/usr/bin:/bin";

/** What with-secrets finds: /tmp a private one, with the sidecar's directory mounted in it, read-only. */
const wired = `
  mount --bind "$stage/systemd-private-x/tmp" /tmp
  mkdir -p /tmp/.secrets
  mount --bind "$stage/pub" /tmp/.secrets
  mount -o remount,ro,bind /tmp/.secrets
`;
const linked = `${wired} ln -sf .secrets/secrets.env /tmp/secrets.env\n`;

for (const shell of [["dash"], ["bash"], ["bash", "--posix"]] as const) {
  needs("mount-namespace", shell[0]).describe(`with-secrets in ${shell.join(" ")}`, () => {
    let stage: string;
    beforeEach(() => {
      // Not in /tmp, which the tests cover with another.
      stage = mkdtempSync("/dev/shm/with-secrets-");
      chmodSync(stage, 0o755);
      for (const directory of ["systemd-private-x/tmp", "other/tmp", "pub"]) {
        mkdirSync(join(stage, directory), { recursive: true });
      }
      chmodSync(join(stage, "systemd-private-x/tmp"), 0o1777);
      copyFileSync(script, join(stage, "with-secrets"));
      publish([["CANARY", CANARY]]);
    });
    afterEach(() => {
      rmSync(stage, { recursive: true });
    });

    function publish(values: readonly (readonly [string, string])[]): void {
      const requests = values.map(([id, value]) => ({ id, value: Buffer.from(value), env: id, restricted: false }));
      writeFileSync(join(stage, "pub/secrets.env"), encodeEnvFile(requests).content);
    }

    interface Call {
      readonly user?: string;
      readonly env?: Record<string, string>;
      /** In the place of the script with the shell. */
      readonly program?: readonly string[];
      readonly input?: string;
    }

    /** Runs `with-secrets ...command` where `prepare` has made the /tmp. */
    function run(
      prepare: string,
      command: readonly string[],
      { user = "0", env, program = [...shell, `${stage}/with-secrets`], input = "" }: Call = {},
    ) {
      const start = `set -e; stage=$1; shift; ${prepare}\nexec "$@"`;
      const become = ["setpriv", `--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
      const clean = [
        "env",
        "-i",
        `PATH=${PATH}`,
        ...Object.entries(env ?? {}).map(([name, value]) => `${name}=${value}`),
      ];
      const wrapped = [...program, ...command];
      const { status, stdout, stderr, pid } = spawnSync(
        "unshare",
        ["--mount", "sh", "-c", start, "sh", stage, ...become, ...clean, ...wrapped],
        // A fifo that is read would hang.
        { input, timeout: 30_000, killSignal: "SIGKILL" },
      );
      return { status, stdout, stderr: stderr.toString(), pid };
    }

    /** One line, and nothing was sourced or started. */
    function expectRefusal(result: ReturnType<typeof run>, status: number, message: RegExp): void {
      expect(result).toMatchObject({ status, stderr: expect.stringMatching(message) as string });
      expect(result.stderr).toMatch(/^with-secrets: [^\n]+\n$/);
      expect(result.stderr).not.toContain(CANARY);
      expect(result.stdout.toString()).toBe("");
    }
    const show = ["sh", "-c", 'echo "$CANARY"'];

    test("gives another user's service its variables, byte by byte", () => {
      const value = "it's \"$HOME\" `id` \\' \n\n é😀 \r\t\x01\x7f #";
      publish([
        ["A", value],
        ["EMPTY", ""],
      ]);
      const { stdout, stderr, status } = run(linked, ["env", "-0"], { user: NOBODY });
      expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
      const environment = parseEnvironment(stdout);
      expect(environment.get("A")?.toString()).toBe(value);
      expect(environment.get("EMPTY")?.toString()).toBe("");
    });

    test("accepts files in the private /tmp itself", () => {
      const { stdout, stderr } = run(`${wired} cp "$stage/pub/secrets.env" /tmp/secrets.env`, show, { user: NOBODY });
      expect({ stdout: stdout.toString(), stderr }).toEqual({ stdout: `${CANARY}\n`, stderr: "" });
    });

    test("keeps the main PID: systemd's signals and the command's READY=1 arrive", () => {
      const { stdout, pid } = run(linked, ["sh", "-c", "echo $$"]);
      expect(Number(stdout.toString())).toBe(pid);
    });

    test("passes arguments and standard input unchanged", () => {
      const args = ["", " a  b ", "*", "$x", "-n", "'", "\n", "--"];
      expect(run(linked, ["printf", "%s\\0", ...args]).stdout.toString()).toBe(args.join("\0") + "\0");
      expect(run(linked, ["cat"], { input: "in\n" }).stdout.toString()).toBe("in\n");
    });

    test("gives the command the secrets and the unit's variables, no more", () => {
      const ours = ["file", "type", "entry", "top", "name", "group", "root", "mount", "rest", "id", "status", "hop"];
      const env = Object.fromEntries(ours.map((name) => [name, `unit's ${name}`]));
      const { stdout } = run(linked, ["env", "-0"], { env: { ...env, SECRETS_SIDECAR: "x.service" } });
      const seen = Object.fromEntries([...parseEnvironment(stdout)].map(([name, value]) => [name, value.toString()]));
      for (const shellsOwn of ["PWD", "OLDPWD", "SHLVL", "_"]) Reflect.deleteProperty(seen, shellsOwn);
      expect(seen).toEqual({ ...env, PATH, CANARY });
    });

    test("shows no value in a traced shell", () => {
      const traced = run(linked, ["true"], {
        program: [...shell, "-x", "-v", `${stage}/with-secrets`],
        env: { SHELLOPTS: "xtrace:verbose" },
      });
      expect(traced.status).toBe(0);
      expect(traced.stderr).not.toContain(CANARY);
    });

    test("exits 127 or 126, unlike a failed service, for a command that it cannot run", () => {
      for (const [command, status] of [
        ["no-such-command", 127],
        ["/etc/passwd", 126],
      ] as const) {
        const result = run(linked, [command]);
        expect(result.status).toBe(status);
        expect(result.stderr).toContain(command);
        expect(result.stderr).not.toContain(CANARY);
      }
    });

    test.each([[[]], [[""]], [["--help"]], [["-c", "true"]]])("refuses the call %j: 64", (command) => {
      expectRefusal(run(linked, command), 64, /usage: with-secrets COMMAND/);
    });

    test("names the sidecar to look at without the file: 66", () => {
      expectRefusal(run(wired, show), 66, /systemctl status '.+-secrets\.service' or 'fetcher@.+\.service'/);
      const env = { SECRETS_SIDECAR: "fetcher@grafana.service" };
      expectRefusal(run(wired, show, { env }), 66, /systemctl status 'fetcher@grafana\.service'$/m);
    });

    test("treats a dangling link, as with a missing mount, like a missing file", () => {
      expectRefusal(run(`${linked} umount /tmp/.secrets`, show), 66, /systemctl status/);
    });

    test("cannot read a file closed to the service's user: 77", () => {
      expectRefusal(run(`${linked} chmod 0400 "$stage/pub/secrets.env"`, show, { user: NOBODY }), 77, /cannot be read/);
    });

    test("reports coreutils missing from PATH", () => {
      const missing = 'PATH=/nonexistent; export PATH; . "$0"';
      const result = run(linked, ["-c", missing, `${stage}/with-secrets`, ...show], {
        program: shell,
        // bash -c with a socket as its input takes itself for the shell of an rshd, and reads ~/.bashrc.
        env: { HOME: "/nonexistent" },
      });
      expectRefusal(result, 78, /no ls in PATH/);
    });

    test.each([
      [
        "the host's /tmp, as a + command sees it",
        'mount --bind "$stage/other/tmp" /tmp; cp "$stage/pub/secrets.env" /tmp',
      ],
      ["another mount over the private /tmp", `${linked} mount --bind "$stage/pub" /tmp`],
    ])("does not source %s, not even from root: 78", (_, prepare) => {
      expectRefusal(run(prepare, show), 78, /\/tmp is not private.*PrivateTmp=true/);
    });

    const evil = `mkdir /tmp/evil; cp "$stage/pub/secrets.env" /tmp/evil/secrets.env; chown -R ${NOBODY} /tmp/evil`;
    test.each([
      [
        "a file of the service's own making",
        `${wired} cp "$stage/pub/secrets.env" /tmp/; chown ${NOBODY} /tmp/secrets.env`,
      ],
      ["a link of its making to root's file", `${linked} chown -h ${NOBODY} /tmp/secrets.env`],
      ["its file behind root's link", `${wired} ${evil}; ln -s evil/secrets.env /tmp/secrets.env`],
      [
        "root's file in its directory",
        `${wired} ${evil}; chown 0 /tmp/evil/secrets.env; ln -s evil/secrets.env /tmp/secrets.env`,
      ],
      [
        "its directory in the place of the missing mount",
        `${linked} umount /tmp/.secrets; rmdir /tmp/.secrets; ${evil}; mv /tmp/evil /tmp/.secrets`,
      ],
      [
        "its link in the place of the missing mount",
        `${linked} umount /tmp/.secrets; rmdir /tmp/.secrets; ln -s "$stage/pub" /tmp/.secrets; chown -h ${NOBODY} /tmp/.secrets`,
      ],
      [
        "its link higher up",
        `${wired} ${evil}; mkdir "$stage/pub/d"; cp "$stage/pub/secrets.env" "$stage/pub/d"
        ln -s "$stage/pub" /tmp/up; chown -h ${NOBODY} /tmp/up; ln -s up/d/secrets.env /tmp/secrets.env`,
      ],
      [
        "root's link to its directory",
        `${linked} umount /tmp/.secrets; rmdir /tmp/.secrets; ${evil}; chown 0 /tmp/evil/secrets.env; ln -s evil /tmp/.secrets`,
      ],
      ["a directory", `${wired} mkdir /tmp/secrets.env`],
      ["a fifo, which would hang the start", `${wired} mkfifo /tmp/secrets.env`],
    ])("refuses %s: 78", (_, prepare) => {
      expectRefusal(run(prepare, show), 78, /root|regular file/);
    });
  });
}
