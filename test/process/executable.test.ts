/**
 * The executable with its own runtime (npm run build:executable): nothing that this runtime reads by itself may change
 * what runs. Needs FETCHER_TEST_PROGRAM=dist/fetcher.
 */
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as net from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { needs } from "../requirements.ts";
import { environmentOfExecutable, programCommand } from "../program.ts";
import { StandIn } from "../vault/stand-in.ts";
import { type Daemon, eventually, Place } from "./daemon.ts";

const big = `// ${"padding ".repeat(8000)}\n`;

/** MiB that no file is behind. */
function anonymousMemory(pid: number): number {
  const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Anonymous: +(\d+) kB$/m.exec(rollup)?.[1]) / 1024;
}

/** Ports and sockets that the daemon listens at. */
function listening({ pid }: Daemon): string[] {
  const inodes = fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
    } catch {
      return [];
    }
  });
  const LISTEN = "0A";
  const tcp = ["tcp", "tcp6"].flatMap((table) => fs.readFileSync(`/proc/${pid}/net/${table}`, "utf8").split("\n"));
  return tcp.filter((line) => {
    const fields = line.trim().split(/\s+/);
    return fields[3] === LISTEN && inodes.includes(fields[9] ?? "");
  });
}

needs("executable").describe("the environment", () => {
  const preload = (place: Place) => {
    fs.writeFileSync(place.path("preload.js"), 'console.error("PRELOADED");');
    return place.path("preload.js");
  };
  test.each<[string, (place: Place) => string]>([
    ["BUN_BE_BUN", () => "1"],
    ["BUN_OPTIONS", (place) => `--preload ${preload(place)}`],
    ["BUN_OPTIONS", () => "--inspect"],
    ["BUN_OPTIONS", () => "--print=1"],
    ["BUN_INSPECT", () => "127.0.0.1:0"],
    ["BUN_INSPECT", () => "ws+unix:///tmp/inspect"],
    ["BUN_INSPECT_PRELOAD", preload],
    ["BUN_INSPECT_CONNECT_TO", () => "ws://127.0.0.1:9"],
    ["BUN_INTERNAL_WEBVIEW_HOST", () => "3"],
    ["BUN_CONFIG_VERBOSE_FETCH", () => "curl"],
    ["BUN_BYTECODE_ORDER_OUT", (place) => place.path("written")],
    ["BUN_BYTECODE_DIGEST_OUT", (place) => place.path("written")],
    ["BUN_WATCHER_TRACE", (place) => place.path("written")],
    ["BUN_FEATURE_FLAG_NO_ORPHANS", () => "1"],
    ["BUN_RUNTIME_TRANSPILER_CACHE_PATH", (place) => place.path("written")],
    ["NODE_OPTIONS", (place) => `--require ${preload(place)} --inspect`],
    ["NODE_COMPILE_CACHE", (place) => place.path("written")],
    ["NODE_V8_COVERAGE", (place) => place.path("written")],
    ["NODE_REDIRECT_WARNINGS", (place) => place.path("written")],
    ["NODE_DEBUG", () => "http,net,fs,tls"],
    ["DEBUG", () => "*"],
  ])("%s changes nothing", async (name, text) => {
    const place = new Place();
    place.put({ id: "value" });
    const env = { [name]: text(place), HOME: place.root };
    const daemon = await place.start(place.config(["id"]), { env }).ready();
    expect(place.read("id")).toBe("value");
    expect(listening(daemon)).toEqual([]);
    const { code, stdout } = await daemon.end();
    expect({ code, stdout, lines: daemon.lines.map(({ message }) => message) }).toEqual({
      code: 0,
      stdout: "",
      lines: ["ready: 1 secret from folder", "stopped"],
    });
    expect(fs.existsSync(place.path("written"))).toBe(false);
  });

  test.each(["=UN_BE_BUN", "UN_BE_BUN", ""])("ignores a variable of the name %j too", (name) => {
    const [program] = programCommand();
    const { stdout } = spawnSync(program, ["--version"], { encoding: "utf8", env: { [name]: "1" } });
    expect(stdout).toMatch(/^fetcher \d/);
  });
});

needs("executable").describe("the switches of the engine", () => {
  const run = (env: Readonly<Record<string, string>>) => {
    const [program] = programCommand();
    const { status, stdout } = spawnSync(program, ["--version"], { encoding: "utf8", env });
    return { status, stdout };
  };

  test("that the units set are known to it", () => {
    expect(Object.keys(environmentOfExecutable).filter((name) => name.startsWith("BUN_JSC_")).length).toBe(4);
    const { status, stdout } = run(environmentOfExecutable);
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^fetcher \d/)]);
  });

  test("end the program where it does not know one, as the document says", () => {
    const { status, stdout } = run({ ...environmentOfExecutable, BUN_JSC_noSuchSwitch: "1" });
    expect(status).not.toBe(0);
    expect(stdout).not.toMatch(/^fetcher/);
  });
});

needs("executable").test("ignores files of the working directory and of the home directory", async () => {
  const place = new Place();
  place.put({ id: "value" });
  for (const directory of [place.path("cwd"), place.root]) {
    fs.writeFileSync(`${directory}/preload.js`, 'console.error("PRELOADED");');
    for (const name of ["bunfig.toml", ".bunfig.toml"])
      fs.writeFileSync(`${directory}/${name}`, 'preload = ["./preload.js"]\nlogLevel = "debug"\n');
    for (const name of [".env", ".env.local", ".env.production", ".env.development"])
      fs.writeFileSync(`${directory}/${name}`, "NOTIFY_SOCKET=/nowhere\nINVOCATION_ID=1\nPATH=/nowhere\n");
    fs.writeFileSync(`${directory}/package.json`, "{ not JSON");
    fs.writeFileSync(`${directory}/tsconfig.json`, '{ "compilerOptions": { "paths": { "*": ["./preload.js"] } } }');
    fs.mkdirSync(`${directory}/node_modules/sd-notify`, { recursive: true });
    fs.writeFileSync(`${directory}/node_modules/sd-notify/index.js`, 'console.error("PRELOADED");');
  }
  const env = { HOME: place.root, XDG_CONFIG_HOME: place.root };
  const daemon = await place.start(place.config(["id"]), { env }).ready();
  const { code, stderr } = await daemon.end();
  expect(code).toBe(0);
  expect(daemon.lines.map(({ message }) => message)).toEqual(["ready: 1 secret from folder", "stopped"]);
  expect(stderr).toContain('"notify":"none"');
  // $INVOCATION_ID would have kept them.
  expect(place.published()).toEqual({});
});

needs("executable").test(
  "without its working directory the runtime says so itself, as the document has it",
  async () => {
    const wrapper = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh"];
    const { code, stdout, stderr } = await new Place().run(["--version"], { wrapper });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("The current working directory was deleted, ");
  },
);

describe("a third party's module", () => {
  const source = (types: boolean) => `import { greeting } from "a-package";
import * as fs from "node:fs";
import * as net from "node:net";
${types ? "interface Request { readonly id: string }" : ""}
export default {
  name: "mine",
  defaultPollingInterval: 600,
  parseSettings: () => ({}),
  parseSource: (id${types ? ": string" : ""}) => ({ id }),
  describe: () => "here",
  open: async () => ({
    async fetch(requests${types ? ": readonly Request[]" : ""}) {
      const value = Buffer.from(greeting + typeof fs.readFileSync);
      return new Map(requests.map(({ id }) => [id, { status: "value", value, version: "1" }]));
    },
    async close() {},
  }),
};
`;
  const kinds = [["backend.mjs", false] as const, ["backend.js", false] as const];
  const typed = [["backend.ts", true] as const, ["backend.mts", true] as const];

  for (const [kind, types] of [...kinds, ...typed])
    (types ? needs("executable") : { test }).test(
      `loads ${kind}, with a package, and leaves no trace of it on disk`,
      async () => {
        const place = new Place();
        const home = place.path("home");
        fs.mkdirSync(place.path("node_modules/a-package"), { recursive: true });
        fs.mkdirSync(home);
        fs.writeFileSync(place.path("package.json"), '{ "type": "module" }');
        fs.writeFileSync(place.path("node_modules/a-package/package.json"), '{ "main": "main.js" }');
        fs.writeFileSync(place.path("node_modules/a-package/main.js"), `${big}exports.greeting = "hello ";`);
        fs.writeFileSync(place.path(kind), big + source(types), { mode: 0o644 });
        const config = { ...place.config(["id"]), backend: place.path(kind), config: {} };
        const env = { HOME: home, XDG_CACHE_HOME: home, BUN_INSTALL: home };
        await place.start(config, { env }).ready();
        expect(place.read("id")).toBe("hello function");
        expect(fs.readdirSync(home)).toEqual([]);
        expect(fs.readdirSync(place.path("tmp"))).toEqual([]);
      },
    );
});

needs("python").describe("a message to systemd", () => {
  /** A fake of systemd's end of $NOTIFY_SOCKET: prints each message, and the process that the kernel says has sent it. */
  const server = `
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1].replace("@", "\\0"))
print("bound", flush=True)
while True:
    data, control, _, _ = s.recvmsg(4096, 4096)
    pid = struct.unpack("iII", control[0][2])[0]
    print(pid, data.decode().strip().replace("\\n", "|"), flush=True)
`;
  const listen = async (address: string) => {
    const child = spawn("python3", ["-c", server, address], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
    await eventually("the socket", () => said.startsWith("bound"));
    return () => said.split("\n").slice(1, -1);
  };

  for (const [kind, address, more] of [
    ["a path", (place: Place) => place.path("notify"), {}],
    ["an abstract name", (place: Place) => `@${place.root}/notify`, {}],
    ["a path, with the compiler off", (place: Place) => place.path("notify"), { BUN_JSC_useJIT: "0" }],
  ] as const)
    needs("executable").test(`comes from the process itself, by ${kind}, and leaves no file`, async () => {
      const place = new Place();
      place.put({ id: "value" });
      const said = await listen(address(place));
      const env = { NOTIFY_SOCKET: address(place), ...more };
      const daemon = await place.start(place.config(["id"]), { env }).ready();
      expect(daemon.lines[0]).toMatchObject({ notify: "built-in" });
      await daemon.end();
      await eventually("the last message", () => said().some((line) => line.endsWith("STOPPING=1")));
      expect(said().map((line) => line.replace(/STATUS=.*/, "STATUS"))).toEqual(
        ["STATUS", "READY=1", "STOPPING=1"].map((message) => `${daemon.pid} ${message}`),
      );
      expect(fs.readdirSync(place.path("tmp"))).toEqual([]);
    });

  needs("executable", "root", "mount-namespace").test(
    "comes from systemd-notify where all writable file systems are mounted noexec",
    async () => {
      const place = new Place();
      place.put({ id: "value" });
      const config = place.writeConfig(place.config(["id"]));
      const mounts = ["/tmp", "/dev/shm", "/var/tmp"].map(
        (path) => `mount --bind ${path} ${path} && mount -o remount,bind,noexec ${path}`,
      );
      const script = `${mounts.join(" && ")} && exec "$@"`;
      const env = {
        PATH: process.env["PATH"],
        NOTIFY_SOCKET: "/nowhere",
        TMPDIR: "/tmp",
        FETCHER_LOG_FORMAT: "json",
      };
      const command = ["--mount", "sh", "-c", script, "sh", ...programCommand(), "--config", config];
      const child = spawn("unshare", command, { env, stdio: ["ignore", "ignore", "pipe"] });
      onTestFinished(() => void child.kill("SIGKILL"));
      let log = "";
      child.stderr.setEncoding("utf8").on("data", (text: string) => (log += text));
      await eventually(`ready\n${log}`, () => log.includes("ready:"));
      expect(log).toContain('"notify":"systemd-notify"');
    },
  );
});

needs("executable").test(
  "as its units run it, an idle sidecar uses little memory, and does not scan it at every poll",
  async () => {
    const standIn = await StandIn.start();
    standIn.data = { id: "value" };
    const place = new Place();
    fs.writeFileSync(place.path("token"), "token", { mode: 0o600 });
    const config = {
      url: standIn.url,
      tokenPath: place.path("token"),
      path: "app",
      pollingInterval: 1,
      secretsDir: undefined,
    };
    // The engine says when it begins to collect.
    const env = { ...environmentOfExecutable, MALLOC_ARENA_MAX: "1", BUN_JSC_logGC: "1" };
    const daemon = place.start(place.config(["id"], { backend: "vault", config }), { env });
    const polls = () => standIn.asked.filter(({ path }) => path.endsWith("/data/app")).length;
    const collections = () => daemon.stderr.match(/START M/g)?.length ?? 0;
    await eventually("the first polls", () => polls() >= 3);
    const before = collections();
    expect(before).toBeGreaterThan(0);
    await eventually("six more", () => polls() >= 9);
    // The runtime's own timer makes it one a second.
    expect(collections() - before).toBeLessThan(3);
    // MiB. It is 7.7; with what only a start needs 9.0, and with all zones of the world 10.7.
    expect(anonymousMemory(daemon.pid)).toBeLessThan(8.4);
  },
);

needs("executable").test("ends a connection in order, which Bun's sockets do not", async () => {
  const ends: string[] = [];
  const body = JSON.stringify({ data: { data: { id: "value" }, metadata: { version: 1 } } });
  const server = net.createServer((socket) => {
    socket.on("data", () => {
      socket.write(
        `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    });
    socket.on("end", () => ends.push("end"));
    socket.on("error", ({ message }) => ends.push(message));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(() => {
    server.close();
  });
  const { port } = server.address() as net.AddressInfo;
  const place = new Place();
  fs.writeFileSync(place.path("token"), "token", { mode: 0o600 });
  const config = {
    ...{ url: `http://127.0.0.1:${port}`, tokenPath: place.path("token"), path: "app", mount: "secret", kvVersion: 2 },
    secretsDir: undefined,
  };
  const daemon = await place.start(place.config(["id"], { backend: "vault", config })).ready();
  await eventually("the ends", () => ends.length >= 2);
  await daemon.end();
  expect(new Set(ends)).toEqual(new Set(["end"]));
});

test("uses CLOCK_MONOTONIC, whatever clock the runtime uses, because it compares with systemd's times", async () => {
  const place = new Place();
  place.put({ id: "first" });
  const bin = place.path("fake-bin");
  fs.mkdirSync(bin);
  // A fake systemctl(1) that cannot answer: the action stays due, and the moment of the publish is noted for a next start.
  fs.writeFileSync(`${bin}/systemctl`, "#!/bin/sh\nexit 1\n", { mode: 0o755 });
  const env = { PATH: `${bin}:${process.env["PATH"] ?? ""}` };
  const daemon = await place.start({ ...place.config(["id"]), service: "x.service" }, { env }).ready();
  // Node's own in this process is that clock.
  const now = () => Number(process.hrtime.bigint() / 1000n);
  const before = now();
  place.put({ id: "second" });
  const state = () =>
    JSON.parse(fs.readFileSync(`${place.output}/.fetcher-state`, "utf8")) as {
      pending: { publishedAt: number } | null;
    };
  await eventually("the mark", () => typeof state().pending?.publishedAt === "number");
  const publishedAt = state().pending?.publishedAt ?? 0;
  expect(publishedAt).toBeGreaterThan(before);
  expect(publishedAt).toBeLessThan(now());
  expect(daemon.running).toBe(true);
});
