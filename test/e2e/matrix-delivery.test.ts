/** What each kind of target gets, and where the files lie. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { runsOnNode } from "../program.ts";
import { onEachGuest } from "./guests.ts";
import { scenario } from "./scenario.ts";

const awkward: Readonly<Record<string, Buffer>> = Object.fromEntries(
  Object.entries({
    quotes: `it's "quoted" 'twice' '"'"' \\`,
    newlines: "\nfirst\r\n\n  third\tline\n\n",
    dollar: "$HOME ${PATH} $(id) `id` $$ %n %i #no",
    backslashes: "\\ \\\\ \\n \\' \\\" \\",
    utf8: "pässwörd 密码 🔑 \u0001\u007f",
    equals: "a=b; c & d | e > f < g * ? [x] {y} ~ !",
    long: Array.from({ length: 4096 }, (_, index) => `${index}'"$\\ é\n`.padEnd(15, "x")).join(""),
  }).map(([id, value]) => [id, Buffer.from(value)]),
);
const binary = Buffer.from(Array.from({ length: 1024 }, (_, index) => index & 0xff));

onEachGuest("a delivered secret", (guest) => {
  scenario(
    guest,
    "arrives byte for byte, as file and as variable; a value that no variable can hold is a file, with a warning",
    async (pairOf) => {
      const program = "echo start\nexec sleep infinity\n";
      const pair = await pairOf({ name: "bytes", secrets: { ...awkward, binary }, program });
      await pair.start();
      expect(awkward["long"]?.length).toBeGreaterThanOrEqual(64 * 1024);
      const { target } = await pair.pids();
      const variables = new Map<string, Buffer>();
      for (const entry of splitAtNul(await guest.readBytes(`/proc/${target}/environ`))) {
        const equals = entry.indexOf("=");
        variables.set(entry.subarray(0, equals).toString(), entry.subarray(equals + 1));
      }
      for (const [id, value] of Object.entries(awkward)) {
        expect((await pair.seen(id)).equals(value), `file ${id}`).toBe(true);
        const expected = value.toString().replace(/\n+$/, "");
        expect(variables.get(id)?.equals(Buffer.from(expected)), `variable ${id}`).toBe(true);
      }
      expect((await pair.seen("binary")).equals(binary)).toBe(true);
      expect(variables.has("binary")).toBe(false);
      await guest.run(["journalctl", "--sync"]);
      const filter = [
        "--quiet",
        "--boot",
        "--output=cat",
        "--priority=warning",
        `--unit=${pair.sidecar}`,
        "_TRANSPORT=stdout",
      ];
      const warnings = (await guest.text(["journalctl", ...filter])).split("\n").filter((line) => line !== "");
      expect(warnings).toEqual([expect.stringMatching(/binary.*NUL/)]);
    },
  );

  scenario(guest, "lies in memory only, read-only, and out of reach by any other path", async (pairOf) => {
    const pair = await pairOf({
      name: "memory",
      secrets: { token: "one", tls: "key" },
      config: { secrets: { token: {}, tls: { file: "tls.key" } } },
      target: { service: ["User=nobody"] },
    });
    await pair.start();
    const { target } = await pair.pids();
    const files = ["token", "tls.key", "secrets.env"].map((name) => `/proc/${target}/root/tmp/${name}`);
    const types = await guest.text(["stat", "--dereference", "--file-system", "--format=%T", ...files]);
    expect(types.split("\n")).toEqual(["tmpfs", "tmpfs", "tmpfs"]);
    // In somebody else's container, /tmp may be anything.
    if (guest.system.throwAway) expect(await guest.text("stat --file-system --format=%T /tmp")).not.toBe("tmpfs");
    const byTarget = async (command: string, asItsUser = true) =>
      await guest.inUnit(pair.target, command, { asItsUser, check: false });
    expect((await byTarget("cat /tmp/token")).stdout).toBe("one");
    for (const [command, complaint] of [
      ["echo x > /tmp/token", /Read-only|Permission denied/],
      ["echo x > /tmp/.secrets/more", /Read-only|Permission denied/],
      ["rm /tmp/.secrets/token", /Read-only|Permission denied/],
      ["rm /tmp/token", /not permitted/],
      [`ls ${pair.runtime}`, /Permission denied/],
      [`cat ${pair.runtime}/pub/token`, /Permission denied/],
    ] as const) {
      const { code, stderr } = await byTarget(command);
      expect({ command, code: code === 0 ? 0 : 1, stderr }).toEqual({
        command,
        code: 1,
        stderr: expect.stringMatching(complaint) as string,
      });
    }
    const asRoot = await byTarget("echo x > /tmp/.secrets/token", false);
    expect(asRoot.stderr).toMatch(/Read-only/);
    // Anybody else on the machine.
    const other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls"] as const;
    expect((await guest.run([...other, pair.runtime], { check: false })).stderr).toMatch(/Permission denied/);
    const tmp = (await guest.text("ls -d /tmp/systemd-private-*memory*")).split("\n");
    for (const directory of tmp)
      expect((await guest.run([...other, directory], { check: false })).stderr).toMatch(/Permission denied/);
  });

  for (const [who, settings, user] of [
    ["dynamic", ["DynamicUser=yes"], /^6\d{4}$/],
    ["static", ["User=nobody", "Group=nogroup"], /^65534$/],
  ] as const)
    scenario(guest, `reaches a ${who} user, at the start and after each rotation`, async (pairOf) => {
      const pair = await pairOf({ name: `user-${who}`, target: { service: settings } });
      await pair.start();
      const { target } = await pair.pids();
      expect(await guest.text(`sed -n 's/^Uid:\\t\\([0-9]*\\).*/\\1/p' /proc/${target}/status`)).toMatch(user);
      await pair.untilSaid("file=one variable=one");
      await pair.put("token", "two");
      await pair.untilSaid("file=two variable=two");
    });

  scenario(guest, "belongs to its owner alone where the configuration says so", async (pairOf) => {
    const secrets = { token: { owner: "nobody", mode: "0400" }, key: { owner: "root", mode: "0400" } };
    const pair = await pairOf({
      name: "owned",
      secrets: { token: "one", key: "of root" },
      config: { secrets, output: { envFile: "secrets.env" } },
      target: { service: ["User=nobody"] },
      wrap: false,
    });
    await pair.start();
    await pair.untilSaid(/file=one variable=$/);
    const look = "stat -L -c '%U %a' /tmp/token /tmp/key; cat /tmp/token; cat /tmp/key";
    const { stdout, stderr } = await guest.inUnit(pair.target, look, { asItsUser: true, check: false });
    expect(stdout).toBe("nobody 400\nroot 400\none");
    expect(stderr).toContain("Permission denied");
    await pair.put("token", "two");
    await pair.untilSaid(/file=two/);
    expect((await guest.inUnit(pair.target, "stat -L -c '%U %a' /tmp/token")).stdout).toBe("nobody 400\n");
  });

  scenario(
    guest,
    "reaches a Type=notify target whose main process notifies systemd itself, and stays the main process",
    async (pairOf) => {
      const perl = `use Socket; $| = 1;
      socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die; (my $to = $ENV{NOTIFY_SOCKET}) =~ s/^@/\\0/;
      open(my $f, "<", "/tmp/token") or die; print "start pid=$$ file=", <$f>, " variable=$ENV{token}\\n";
      send($s, "READY=1\\nSTATUS=up", 0, sockaddr_un($to)) or die; sleep;`;
      const pair = await pairOf({
        name: "notifies",
        program: `exec perl -e '${perl}'\n`,
        target: { service: ["Type=notify", "NotifyAccess=main", "TimeoutStartSec=90"] },
      });
      await pair.start();
      const { MainPID, StatusText } = await guest.show(pair.target, "MainPID", "StatusText");
      expect(StatusText).toBe("up");
      expect(await pair.said()).toEqual([`start pid=${MainPID} file=one variable=one`]);
      expect(await guest.text(["cat", `/proc/${MainPID}/comm`])).toBe("perl");
      await pair.put("token", "two");
      await pair.untilSaid("file=two variable=two");
    },
  );

  scenario(guest, "and another unit's /tmp both reach a target that joins that unit's namespace", async (pairOf) => {
    const other = "joined-other.service";
    await guest.write(
      `/run/systemd/system/${other}`,
      "[Service]\nPrivateTmp=yes\nExecStart=sh -c 'echo from the other > /tmp/note; exec sleep infinity'\n",
    );
    const joins = [`JoinsNamespaceOf=${other}`];
    const pair = await pairOf({
      name: "joins",
      target: { unit: [...joins, `Requires=${other}`, `After=${other}`] },
      sidecar: { unit: [...joins, `After=${other}`] },
    });
    await pair.start();
    await guest.until("the note", async () => (await pair.seen("note")).toString() === "from the other\n");
    await pair.untilSaid("file=one variable=one");
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
    expect((await pair.seen("note")).toString()).toBe("from the other\n");
    await pair.stop();
    await guest.systemctl("stop", other);
    await guest.run(`rm /run/systemd/system/${other}`);
  });

  scenario(guest, "in /tmp itself, without links, arrives and rotates too", async (pairOf) => {
    const pair = await pairOf({ name: "intmp", config: { output: { directory: "/tmp", links: null } } });
    await pair.start();
    await pair.untilSaid("file=one variable=one");
    await pair.put("token", "two");
    await pair.untilSaid("file=two variable=two");
    const { target } = await pair.pids();
    expect(await guest.text(`stat -c '%F %a %U' /proc/${target}/root/tmp/token`)).toBe("regular file 1444 root");
  });

  scenario(guest, "is reported ready by the addon where it loads, otherwise by systemd-notify", async (pairOf) => {
    const pair = await pairOf({ name: "notify", sidecar: { flags: ["--log-format", "json"] } });
    await pair.start();
    const addon = `${guest.project}/node_modules/sd-notify`;
    const loads = await guest.run(["node", "-e", `require(${JSON.stringify(addon)})`], { check: false });
    const onNode = loads.code === 0 ? "sd-notify" : "systemd-notify";
    const how = runsOnNode ? onNode : "built-in";
    const ready = new RegExp(`"notify":"${how}","version":"[^"]+","message":"ready`);
    await guest.until(
      "the journal says how",
      async () => await guest.journal(pair.sidecar),
      (lines) => ready.test(lines),
    );
    // The guest that is this machine runs the Node that the addon was built for, if it was.
    if (guest.name === "host" && runsOnNode) {
      const built = existsSync(join(import.meta.dirname, "../../node_modules/sd-notify/build/Release/notify.node"));
      expect(how).toBe(built ? "sd-notify" : "systemd-notify");
    }
  });
});

function splitAtNul(bytes: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  for (let start = 0, end = 0; (end = bytes.indexOf(0, start)) >= 0; start = end + 1)
    parts.push(bytes.subarray(start, end));
  return parts;
}
