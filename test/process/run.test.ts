/** `fetcher run`: a command gets its secrets and its signals, its status comes back, and nothing of them stays. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { blocksOf, blockWith } from "../markdown.ts";
import { programCommand } from "../program.ts";
import { needs } from "../requirements.ts";
import { type Daemon, eventually, ordinary, Place, type StartOptions } from "./daemon.ts";

const CANARY = "canary-6f0d";

/** A place whose secret is `password`; the directory of a run is made in its XDG_RUNTIME_DIR. */
class RunPlace extends Place {
  constructor(owner = {}) {
    // In memory, where the machine has such a file system.
    super("/dev/shm", owner);
    this.put({ password: CANARY });
  }
  runs(script: string, options: StartOptions & { readonly flags?: readonly string[] } = {}): Daemon {
    const { flags = [], ...rest } = options;
    const own = ["--backend", "folder", "--set", `secretsDir=${this.store}`, "--log-format", "text", ...flags];
    return this.spawn(["run", ...own, "password", "--", "sh", "-c", script], rest);
  }
  /** What a run has left. */
  left(): string[] {
    return [this.path("runtime"), this.path("tmp")].flatMap((directory) => fs.readdirSync(directory));
  }
}

async function until(run: Daemon, place: RunPlace, name: string): Promise<string> {
  const file = place.path(name);
  await eventually(`${name}\n${run.stderr}`, () => fs.existsSync(file) || !run.running);
  return fs.readFileSync(file, "utf8");
}

test.each([
  ["the tests' own user", {}],
  ["an ordinary user", ordinary],
])("%s: gives the command variables and a private directory, and leaves nothing", async (_, owner) => {
  const place = new RunPlace(owner);
  const script = `
test "$password" = ${CANARY} && test "$(cat "$SECRETS_DIRECTORY/password")" = ${CANARY} || exit 1
test "$CREDENTIALS_DIRECTORY" = "$SECRETS_DIRECTORY" || exit 2
stat -c '%a %u' "$SECRETS_DIRECTORY"; stat -f -c %T "$SECRETS_DIRECTORY"; umask; echo "$KEPT$NODE_TLS_REJECT_UNAUTHORIZED"
echo to-stderr >&2; exit 7`;
  const env = { KEPT: "kept", NODE_TLS_REJECT_UNAUTHORIZED: "0" };
  const exit = await place.runs(`umask 022; ${script}`, { ...owner, env }).exit;
  const user = "uid" in owner ? (owner as { uid: number }).uid : process.geteuid?.();
  expect(exit).toMatchObject({ code: 7, stdout: `700 ${String(user)}\ntmpfs\n0022\nkept0\n`, stderr: "to-stderr\n" });
  expect(place.left()).toEqual([]);
});

needs("root").test("accepts a container's user without a name and $HOME", async () => {
  const owner = { uid: 54321, gid: 54321 };
  const place = new RunPlace(owner);
  const exit = await place.runs('echo "$password"', owner).exit;
  expect(exit).toMatchObject({ code: 0, stdout: `${CANARY}\n`, stderr: "" });
  expect(place.left()).toEqual([]);
});

test("passes the caller's umask and standard input to the command", async () => {
  const place = new RunPlace();
  const wrapper = ["sh", "-c", 'umask 027; echo typed | "$@"', "sh"];
  expect(await place.runs("umask; cat", { wrapper }).exit).toMatchObject({ code: 0, stdout: "0027\ntyped\n" });
});

describe("the exit status", () => {
  const word = (place: RunPlace, ...command: readonly string[]) =>
    place.spawn([
      ...["run", "--backend", "folder", "--set", `secretsDir=${place.store}`, "--log-format", "text", "password", "--"],
      ...command,
    ]).exit;

  test("is the command's, or 128 plus the number of the signal that ended it", async () => {
    const place = new RunPlace();
    expect((await word(place, "true")).code).toBe(0);
    expect((await word(place, "sh", "-c", "kill -KILL $$")).code).toBe(137);
    expect(place.left()).toEqual([]);
  });

  test("is 127 or 126 when the command cannot be executed, as in a shell", async () => {
    const place = new RunPlace();
    const text = place.path("text");
    fs.writeFileSync(text, "no program", { mode: 0o644 });
    expect(await word(place, "no-such-\ncommand")).toMatchObject({
      code: 127,
      stderr: "error: run: no-such-\\ncommand: command not found\n",
    });
    expect(await word(place, text)).toMatchObject({
      code: 126,
      stderr: `error: run: ${text}: permission denied (EACCES)\n`,
    });
    const script = place.path("script");
    fs.writeFileSync(script, "#!/no/such/interpreter\n", { mode: 0o755 });
    expect(await word(place, script)).toMatchObject({
      code: 126,
      stderr: `error: run: ${script}: the interpreter in its first line is not there\n`,
    });
    expect(place.left()).toEqual([]);
  });

  test.each([
    [
      "a missing secret",
      66,
      'folder: secret "password": no file STORE/password',
      (place: RunPlace) => {
        fs.rmSync(join(place.store, "password"));
        place.age();
      },
      [],
    ],
    [
      "a store in an outage",
      69,
      "no directory STORE",
      (place: RunPlace) => {
        fs.renameSync(place.store, place.path("away"));
      },
      ["--config", "short"],
    ],
    ["a wrong option", 78, "configuration: config.nope: unknown option", () => undefined, ["--set", "nope=1"]],
  ] as const)(
    "%s: reports it in one line with its own status, and does not start the command",
    async (_, code, message, break_, flags) => {
      const place = new RunPlace();
      break_(place);
      const short = place.writeConfig({ startTimeout: 2 });
      const exit = await place.runs(`touch ${place.path("begun")}`, {
        flags: flags.map((flag) => (flag === "short" ? short : flag)),
      }).exit;
      expect(exit.code).toBe(code);
      expect(exit.stderr).toContain(message.replace("STORE", place.store));
      expect(
        exit.stderr
          .trimEnd()
          .split("\n")
          .filter((line) => line.startsWith("error: ")),
      ).toHaveLength(1);
      expect(fs.existsSync(place.path("begun"))).toBe(false);
      expect(place.left()).toEqual([]);
    },
  );
});

describe("signals", () => {
  const names = ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH", "ALRM", "CONT"] as const;

  test.each(names)("SIG%s reaches the command, which decides", async (name) => {
    const place = new RunPlace();
    const got = place.path("got");
    const run = place.runs(
      `trap 'echo ${name} > ${got}; exit 3' ${name}; touch ${place.path("up")}; while :; do sleep 0.05; done`,
    );
    await until(run, place, "up");
    run.signal(`SIG${name}`);
    expect(await run.exit).toMatchObject({ code: 3, signal: null });
    expect(fs.readFileSync(got, "utf8")).toBe(`${name}\n`);
    expect(place.left()).toEqual([]);
  });

  test.each(["TERM", "INT", "HUP"] as const)(
    "SIG%s ends a command without a handler, and nothing is left",
    async (name) => {
      const place = new RunPlace();
      const run = place.runs(`touch ${place.path("up")}; exec sleep 1000`);
      await until(run, place, "up");
      run.signal(`SIG${name}`);
      expect(await run.exit).toMatchObject({ code: 128 + constants.signals[`SIG${name}`], stderr: "" });
      expect(place.left()).toEqual([]);
    },
  );

  test("as soon as the directory is there, and nothing of it stays", async () => {
    const place = new RunPlace();
    for (let start = 0; start < 60; start += 1) {
      const run = place.runs("exec sleep 60");
      while (place.left().length === 0 && run.running) await new Promise(setImmediate);
      expect((await run.end()).code).toBe(128 + constants.signals.SIGTERM);
      expect(place.left()).toEqual([]);
    }
  });

  test("a signal before the command begins ends the wait for the store", async () => {
    const place = new RunPlace();
    fs.renameSync(place.store, place.path("away"));
    const run = place.runs(`touch ${place.path("begun")}`);
    await eventually("it waits", () => run.stderr.includes("trying again"));
    run.signal("SIGTERM");
    expect((await run.exit).code).toBe(143);
    expect(fs.existsSync(place.path("begun"))).toBe(false);
    expect(place.left()).toEqual([]);
  });

  needs("root").test("fetcher as PID 1 of a container forwards signals and the status", async () => {
    const place = new RunPlace();
    const wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--forward-signals"];
    const script = `trap 'exit 5' TERM; echo $PPID > ${place.path("parent")}; mv ${place.path("parent")} ${place.path("up")}; while :; do sleep 0.05; done`;
    // util-linux hands on none before 2.41: the process in the namespace gets it.
    const run = place.runs(script, { wrapper: wrapper.slice(0, 5) });
    expect(await until(run, place, "up")).toBe("1\n");
    const inside = fs.readFileSync(`/proc/${run.pid}/task/${run.pid}/children`, "utf8").trim();
    process.kill(Number(inside), "SIGTERM");
    expect((await run.exit).code).toBe(5);
    expect(place.left()).toEqual([]);
  });
});

describe("--watch", () => {
  const flags = (place: RunPlace, onChange: object) => [
    "--watch",
    "--config",
    place.writeConfig({ onChange: { settle: 0.1, minInterval: 0, ...onChange } }),
  ];
  /** Reports its values at each start and at each signal. */
  const script = (place: RunPlace) => `
say() { echo "$1 $password $(cat $SECRETS_DIRECTORY/password) $$" >> ${place.path("log")}; }
trap 'say reloaded' HUP; trap 'say usr1' USR1; trap 'say realtime' 37; trap 'say stopped; exit 0' TERM
say started; while :; do sleep 0.05; done`;
  const lines = (place: RunPlace) =>
    fs.existsSync(place.path("log"))
      ? fs
          .readFileSync(place.path("log"), "utf8")
          .trimEnd()
          .split("\n")
          .map((line) => line.split(" "))
      : [];
  const untilLines = async (place: RunPlace, run: Daemon, count: number) => {
    await eventually(`${count} lines\n${run.stderr}`, () => lines(place).length >= count || !run.running);
    return lines(place);
  };

  test("stops the command by SIGTERM at a rotation, and starts it with the new values", async () => {
    const place = new RunPlace();
    const run = place.runs(script(place), { flags: flags(place, {}) });
    const [first] = await untilLines(place, run, 1);
    place.put({ password: "two" });
    const [, stopped, second] = await untilLines(place, run, 3);
    expect(first?.slice(0, 3)).toEqual(["started", CANARY, CANARY]);
    expect(stopped).toEqual(["stopped", CANARY, "two", first?.[3]]);
    expect(second?.slice(0, 3)).toEqual(["started", "two", "two"]);
    expect(second?.[3]).not.toBe(first?.[3]);
    await eventually("the command hears of it", () => run.stderr.includes("sh: restart for the new secrets"));
    run.signal("SIGTERM");
    expect((await run.exit).code).toBe(0);
    expect(place.left()).toEqual([]);
  });

  test.each([
    [{ action: "reload" }, "reloaded"],
    [{ action: "signal", signal: "SIGUSR1" }, "usr1"],
    // As systemctl takes it, too.
    [{ action: "signal", signal: "HUP" }, "reloaded"],
    [{ action: "signal", signal: "10" }, "usr1"],
    [{ action: "signal", signal: "SIGRTMIN+3" }, "realtime"],
  ])("%j: tells the same process about new files", async (onChange, word) => {
    const place = new RunPlace();
    const run = place.runs(script(place), { flags: flags(place, onChange) });
    const [first] = await untilLines(place, run, 1);
    place.put({ password: "two" });
    const [, second] = await untilLines(place, run, 2);
    expect(second).toEqual([word, CANARY, "two", first?.[3]]);
    run.signal("SIGINT");
    expect((await run.exit).code).toBe(130);
    expect(place.left()).toEqual([]);
  });

  test("ends with the command's status when the command ends by itself", async () => {
    const place = new RunPlace();
    const run = place.runs(
      `touch ${place.path("up")}; while [ ! -e ${place.path("end")} ]; do sleep 0.05; done; exit 9`,
      {
        flags: flags(place, {}),
      },
    );
    await until(run, place, "up");
    fs.writeFileSync(place.path("end"), "");
    expect((await run.exit).code).toBe(9);
    expect(place.left()).toEqual([]);
  });

  test("ends when asked to during a restart of the command", async () => {
    const place = new RunPlace();
    const slow = `trap 'touch ${place.path("stopping")}; while [ ! -e ${place.path("go")} ]; do sleep 0.05; done; exit 4' TERM
echo >> ${place.path("starts")}; while :; do sleep 0.05; done`;
    const run = place.runs(slow, { flags: flags(place, {}) });
    await until(run, place, "starts");
    place.put({ password: "two" });
    await until(run, place, "stopping");
    run.signal("SIGTERM");
    fs.writeFileSync(place.path("go"), "");
    expect((await run.exit).code).toBe(4);
    expect(fs.readFileSync(place.path("starts"), "utf8")).toBe("\n");
    expect(place.left()).toEqual([]);
  });
});

needs("root", "mount-namespace").test("uses the disk and warns where no memory file system is writable", async () => {
  const place = new RunPlace();
  const disk = place.path("disk");
  fs.mkdirSync(disk);
  const hide = `mount -o remount,bind,ro ${place.path("runtime")} 2>/dev/null; for d in /dev/shm /run; do mount -t proc none $d; done; exec "$@"`;
  const here = new Place();
  const config = here.writeConfig({
    backend: "static",
    config: { values: { password: CANARY }, allowInsecure: true },
    secrets: { password: {} },
  });
  const wrapper = ["unshare", "--mount", "sh", "-c", hide, "sh"];
  const env = { XDG_RUNTIME_DIR: undefined, TMPDIR: here.path("tmp") };
  const exit = await here.spawn(
    [
      "run",
      "--log-format",
      "text",
      "--config",
      config,
      "--",
      "sh",
      "-c",
      'echo "$SECRETS_DIRECTORY"; test "$password"',
    ],
    { env, wrapper },
  ).exit;
  expect(exit.code).toBe(0);
  expect(exit.stdout).toContain(`${here.path("tmp")}/fetcher-run-`);
  expect(exit.stderr).toMatch(
    /^warning: run: no writable file system in memory \(\$XDG_RUNTIME_DIR, \/dev\/shm\): the secrets are on disk, in /,
  );
  expect(fs.readdirSync(here.path("tmp"))).toEqual([]);
});

/** What Docker makes of the recipe, without Docker: the words are run as PID 1, with no file system but /dev/shm to write to. */
needs("root", "mount-namespace").test("the recipe's image gets its secrets and stops properly", async () => {
  const inMemory = () => fs.readdirSync("/dev/shm").filter((name) => name.startsWith("fetcher-run-"));
  const before = new Set(inMemory());
  const page = "docs/how-to/containers.md";
  const lines = blockWith(page, "dockerfile", "ENTRYPOINT").code.split("\n");
  const words = (name: string) =>
    JSON.parse(lines.find((line) => line.startsWith(`${name} `))?.slice(name.length) ?? "") as string[];
  const place = new Place();
  place.put({ db_password: CANARY });
  const config = place.writeConfig({
    backend: "folder",
    config: { secretsDir: place.store },
    secrets: { db_password: {} },
  });
  const [, ...entry] = words("ENTRYPOINT").map((word) => (word.startsWith("/etc/app/") ? config : word));
  const hide = `mount -o remount,bind,ro / 2>/dev/null; for d in /run /tmp; do mount -o remount,ro $d 2>/dev/null; done; exec "$@"`;
  const wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", hide, "sh"];
  const run = place.spawn([...entry, ...words("CMD")], { wrapper, env: { XDG_RUNTIME_DIR: undefined } });
  const children = (pid: number | string) =>
    fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  let sleeping: string | undefined;
  await eventually(`it sleeps\n${run.stderr}`, () => {
    try {
      sleeping = children(run.pid)
        .flatMap((init) => children(init))
        .find((pid) => fs.readFileSync(`/proc/${pid}/comm`, "utf8") === "sleep\n");
    } catch {
      // Of the processes before it, one has just ended.
    }
    return sleeping !== undefined || !run.running;
  });
  expect(fs.readFileSync(`/proc/${String(sleeping)}/environ`, "utf8")).toContain(`db_password=${CANARY}`);
  // docker stop
  process.kill(Number(children(run.pid)[0]), "SIGTERM");
  expect((await run.exit).code).toBe(143);
  expect(inMemory().filter((name) => !before.has(name))).toEqual([]);
});

test("docs/how-to/containers.md: each way to run a command gives it the password and its words", () => {
  const ways = blocksOf("docs/how-to/containers.md", "sh").filter(({ code }) => code.startsWith("fetcher run "));
  expect(ways).toHaveLength(3);
  const place = new Place();
  fs.mkdirSync(place.path("my-secrets"));
  fs.writeFileSync(place.path("my-secrets/db_password"), CANARY);
  const config = { backend: "folder", config: { secretsDir: place.path("my-secrets") }, secrets: { db_password: {} } };
  fs.writeFileSync(place.path("fetcher.json"), JSON.stringify(config));
  fs.writeFileSync(place.path("server"), '#!/bin/sh\necho "$db_password $*"\n', { mode: 0o755 });
  const [program, ...words] = programCommand().map((word) => `'${word}'`);
  for (const { code } of ways) {
    const here = code.replace(/^fetcher/, [program, ...words].join(" "));
    const env = { ...process.env, TMPDIR: place.path("tmp") };
    const { status, stdout } = spawnSync("sh", ["-ec", here], { cwd: place.root, env, encoding: "utf8" });
    expect({ code, status, stdout }).toEqual({ code, status: 0, stdout: `${CANARY} --port 8080\n` });
  }
});

needs("python").test("the recipe's compose file is valid", () => {
  const { code } = blockWith("docs/how-to/containers.md", "yaml", "services:");
  const script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))";
  const { stdout, status } = spawnSync("python3", ["-c", script], { input: code, encoding: "utf8" });
  expect(status).toBe(0);
  const { services, secrets } = JSON.parse(stdout) as { services: { app: { secrets: string[] } }; secrets: object };
  expect(services.app.secrets).toEqual(Object.keys(secrets));
});

needs("script").test("passes a key of the terminal to the command once", async () => {
  const place = new RunPlace();
  const [program, ...words] = programCommand();
  const script = `trap 'echo >> ${place.path("got")}; exit 3' INT; touch ${place.path("up")}; while :; do sleep 0.05; done`;
  fs.writeFileSync(place.path("script"), script);
  const command = [program, ...words, "run", "--backend", "folder", "--set", `secretsDir=${place.store}`, "password"];
  const line = [...command, "--", "sh", place.path("script")].map((word) => `'${word}'`).join(" ");
  // The shell gives its place away: not every one would outlive the key itself.
  const terminal = spawn("script", ["-qec", `exec ${line}`, "/dev/null"], { stdio: ["pipe", "ignore", "ignore"] });
  await eventually("up", () => fs.existsSync(place.path("up")));
  terminal.stdin.write("\u0003");
  expect(await once(terminal, "exit")).toEqual([3, null]);
  expect(fs.readFileSync(place.path("got"), "utf8")).toBe("\n");
});
