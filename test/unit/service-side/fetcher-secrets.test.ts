import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { needs } from "../../requirements.ts";
import { freshDirectory } from "../engine/running-sidecar.ts";

const script = join(import.meta.dirname, "../../../src/service-side/fetcher-secrets.sh");
const programs = ["awk", "cat", "cp", "ls", "mktemp", "mv", "rm", "tail", "tr", "wc"];
const CANARY = "canary-4Wq8";

const nasty: Readonly<Record<string, string>> = {
  plain: "hunter2",
  "a.b-c": "dots and dashes",
  quotes: `it's "quoted" \`cmd\` $(cmd) $HOME \${x}`,
  backslashes: String.raw`\ \\ \n \1 & \& / | # % @plain@`,
  lines: "first\n\n  third\t\\\nlast",
  trailing: "kept\n\n\n",
  utf8: "ü 🔑 \u0085 \ufeff",
  control: "\u0001\u001b[31m\r\u007f",
  empty: "",
  newline: "\n",
  long: `${"0123456789abcde\n".repeat(4095)}0123456789abcdef`,
  "one line": `${"x".repeat(65_535)}'`,
  latin1: "",
};
const values = new Map(Object.entries(nasty).map(([id, value]) => [id, Buffer.from(value)]));
values.set("latin1", Buffer.from([0xe9, 0xff, 0xc3, 0x28]));

/** As `$(cat file)` has it. */
const expected = (id: string) =>
  Buffer.from((values.get(id) ?? Buffer.alloc(0)).toString("latin1").replace(/\n+$/, ""), "latin1");

for (const shell of [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "ash"]] as const)
  needs(shell[0]).describe(`fetcher-secrets.sh in ${shell.join(" ")}`, () => {
    let place: string;
    beforeEach(() => {
      place = freshDirectory();
      fs.mkdirSync(join(place, "secrets"));
      for (const [id, value] of values) fs.writeFileSync(join(place, "secrets", id), value);
      fs.mkdirSync(join(place, "bin"));
    });

    /** Runs a script that has sourced the functions. With busybox the programs are its own. */
    function run(body: string, env: Readonly<Record<string, string>> = {}) {
      let path = process.env["PATH"] ?? "";
      if (shell[0] === "busybox") {
        const applets = join(place, "applets");
        fs.mkdirSync(applets, { recursive: true });
        const busybox = spawnSync("sh", ["-c", "command -v busybox"], { encoding: "utf8" }).stdout.trim();
        for (const name of [...programs, "stat"]) fs.rmSync(join(applets, name), { force: true });
        for (const name of [...programs, "stat"]) fs.symlinkSync(busybox, join(applets, name));
        path = `${applets}:${path}`;
      }
      const [program, ...args] = shell;
      const { status, stdout, stderr } = spawnSync(program, [...args, "-c", `. '${script}'\n${body}`], {
        cwd: place,
        // bash takes a socket, which Node's pipes are, for a remote shell's, and reads ~/.bashrc.
        stdio: ["ignore", "pipe", "pipe"],
        env: { PATH: path, SECRETS_DIRECTORY: join(place, "secrets"), ...env },
      });
      return { status, stdout, stderr: stderr.toString() };
    }
    const write = (text: string | Buffer) => {
      fs.writeFileSync(join(place, "app.conf"), text);
    };
    const read = () => fs.readFileSync(join(place, "app.conf"));

    test.each([...values.keys()])("load_secret sets the variable to the value of %j, and does not export it", (id) => {
      const { status, stdout, stderr } = run(
        `set -eu; load_secret '${id}' value; printf %s "$value"; env | grep -c '^value=' >&2 || :`,
      );
      expect({ status, stderr }).toEqual({ status: 0, stderr: "0\n" });
      expect(stdout.equals(expected(id))).toBe(true);
    });

    test.each([...values.keys()])("replace_secrets inserts the value of %j, byte for byte", (id) => {
      write(`<@${id}@> & \\ @plain@;@${id}@\n\nend`);
      const ids = /^[\w.-]+$/.test(id) ? "" : `'${id}' plain`;
      const { status, stdout, stderr } = run(`set -eu; replace_secrets app.conf ${ids}`);
      expect({ status, stdout: stdout.toString(), stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
      const value = expected(id);
      const parts = ["<", value, "> & \\ hunter2;", value, "\n\nend"];
      expect(read().equals(Buffer.concat(parts.map((part) => Buffer.from(part))))).toBe(true);
      expect(fs.readdirSync(place).filter((name) => name.startsWith(".fetcher"))).toEqual([]);
    });

    test.each(["", "\n", "@plain@", "@plain@\n", "\n\n@plain@\n\n", "a@b.c, d@e.f\r\n@", "\u00e9@plain@\u00e9"])(
      "leaves other text as it is: %j",
      (text) => {
        write(text);
        expect(run("replace_secrets app.conf")).toMatchObject({ status: 0, stderr: "" });
        expect(read().toString()).toBe(text.replaceAll("@plain@", "hunter2"));
      },
    );

    test("with ids, leaves other placeholders, and does not replace inside a value", () => {
      write("@plain@ @other@ @backslashes@");
      expect(run("replace_secrets app.conf backslashes")).toMatchObject({ status: 0, stderr: "" });
      expect(read().toString()).toBe(`@plain@ @other@ ${nasty["backslashes"] ?? ""}`);
    });

    test("keeps mode and owner, and an open file stays the old one, whole", () => {
      write("@plain@");
      fs.chmodSync(join(place, "app.conf"), 0o640);
      const owner = process.getuid?.() === 0 ? { uid: 4321, gid: 4322 } : {};
      if (owner.uid !== undefined) fs.chownSync(join(place, "app.conf"), owner.uid, owner.gid);
      const open = fs.openSync(join(place, "app.conf"), "r");
      expect(run("umask 0; replace_secrets app.conf")).toMatchObject({ status: 0, stderr: "" });
      expect(fs.readFileSync(open, "utf8")).toBe("@plain@");
      fs.closeSync(open);
      const { mode, uid, gid } = fs.statSync(join(place, "app.conf"));
      expect({ mode: mode & 0o7777, uid, gid }).toMatchObject({ mode: 0o640, ...owner });
      expect(read().toString()).toBe("hunter2");
    });

    describe("fails with one line, and changes nothing:", () => {
      test.each<[string, string, number, RegExp]>([
        ["a missing secret", "load_secret nope value", 66, /^load_secret: no secret 'nope' in .*\/secrets\n$/],
        ["a path as an id", "load_secret ../x value", 64, /^load_secret: '\.\.\/x' is not a secret id\n$/],
        ["an invalid variable", "load_secret plain 'x;id'", 64, /^load_secret: usage: /],
        ["no variable", "load_secret plain", 64, /^load_secret: usage: /],
        ["NUL bytes", "load_secret nul value", 78, /^load_secret: secret 'nul' has NUL bytes\n$/],
        ["an unknown placeholder", "replace_secrets app.conf", 66, /^replace_secrets: no secret 'typo' in .*\n$/],
        [
          "an id without a placeholder",
          "replace_secrets app.conf utf8",
          78,
          /^replace_secrets: no @utf8@ in .*app\.conf\n$/,
        ],
        ["a missing file", "replace_secrets none", 66, /^replace_secrets: .*none is not a regular file\n$/],
        ["a link", "replace_secrets link", 66, /^replace_secrets: .*link is not a regular file\n$/],
        ["no file", "replace_secrets", 64, /^replace_secrets: usage: /],
      ])("%s", (_, command, status, message) => {
        write("@plain@ @typo@");
        fs.symlinkSync("app.conf", join(place, "link"));
        fs.writeFileSync(join(place, "secrets/nul"), `${CANARY}\0`);
        const result = run(`set -e; ${command}; echo went on`);
        expect({ ...result, stdout: result.stdout.toString() }).toEqual({
          status,
          stdout: "",
          stderr: expect.stringMatching(message) as string,
        });
        expect(result.stderr).not.toContain(CANARY);
        expect(read().toString()).toBe("@plain@ @typo@");
        expect(fs.readdirSync(place).filter((name) => name.startsWith(".fetcher"))).toEqual([]);
      });
    });

    // busybox runs its own programs, whatever PATH says.
    if (shell[0] !== "busybox") watchPrograms();

    function watchPrograms(): void {
      test("names a missing program", () => {
        write("@plain@");
        const result = run("PATH=$PWD/bin; replace_secrets app.conf");
        expect(result).toMatchObject({ status: 78 });
        expect(result.stderr).toMatch(/^replace_secrets: no awk in PATH=.*\n$/);
        expect(read().toString()).toBe("@plain@");
      });

      test("puts no value into a program's command line or environment, nor into a trace", () => {
        fs.writeFileSync(join(place, "secrets/plain"), CANARY);
        write("p=@plain@\n");
        const log = join(place, "log");
        for (const name of programs) {
          const real = spawnSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim();
          // A value would also be seen in /proc: that of this script is what the real program gets.
          const text = `#!/bin/sh\n/bin/cat /proc/$$/cmdline /proc/$$/environ >>'${log}'\nexec ${real} "$@"\n`;
          fs.writeFileSync(join(place, "bin", name), text, { mode: 0o755 });
        }
        const { status, stderr } = run(
          `PATH='${place}/bin':$PATH; set -ax; load_secret plain value; unset value; replace_secrets app.conf; [ "$-" ]`,
        );
        expect(status).toBe(0);
        expect(read().toString()).toBe(`p=${CANARY}\n`);
        const seen = fs.readFileSync(log, "latin1");
        for (const name of programs) expect(seen).toContain(`/bin/${name}\0`);
        expect(seen).not.toContain(CANARY);
        expect(stderr).toContain("load_secret plain value");
        expect(stderr).not.toContain(CANARY);
      });
    }

    test("finds credentials in systemd's directory, and prefers $SECRETS_DIRECTORY", () => {
      fs.mkdirSync(join(place, "credentials"));
      fs.writeFileSync(join(place, "credentials/plain"), "from systemd");
      const env = { CREDENTIALS_DIRECTORY: join(place, "credentials") };
      const load = 'load_secret plain value && printf %s "$value"';
      expect(run(load, { ...env, SECRETS_DIRECTORY: "" }).stdout.toString()).toBe("from systemd");
      expect(run(load, env).stdout.toString()).toBe("hunter2");
    });

    test("ignores a stranger's file in a /tmp that is not private", () => {
      const file = fs.mkdtempSync("/tmp/fetcher-planted-");
      fs.rmdirSync(file);
      fs.writeFileSync(file, CANARY);
      const id = file.slice("/tmp/".length);
      const result = run(`load_secret ${id} value`, { SECRETS_DIRECTORY: "" });
      fs.rmSync(file);
      expect(result).toMatchObject({
        status: 78,
        stderr: `load_secret: ${file} is not root's own file in a private /tmp\n`,
      });
    });
  });
