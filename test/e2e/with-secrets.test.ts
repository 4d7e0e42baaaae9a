import { afterEach, beforeEach, expect, test } from "vitest";
import { isPrivateTmp } from "../../src/output/private-tmp.ts";
import { onEachGuest } from "./guests.ts";

const CANARY = "canary-5Tp9";

onEachGuest("with-secrets under systemd", (guest) => {
  const output = "/run/with-secrets-test.out";
  let started = 0;
  let unit: string;

  beforeEach(() => {
    // A name for each test: its journal has nothing of the others.
    started += 1;
    unit = `with-secrets-test-${started}.service`;
  });
  afterEach(async () => {
    await guest.run(["systemctl", "stop", unit], { check: false });
    const files = [output, `/run/systemd/system/${unit}`, "/tmp/secrets.env", "/run/with-secrets-test.env"];
    await guest.run(["rm", "-f", ...files]);
    await guest.systemctl("daemon-reload");
    await guest.run(["systemctl", "reset-failed", unit], { check: false });
  });

  /** Starts a oneshot in whose private /tmp root has put secrets.env; returns its exit code and what it wrote. */
  async function start(
    settings: readonly string[],
    prefix = "",
    prepare = "cp /run/with-secrets-test.env /tmp/secrets.env",
  ) {
    await guest.write("/run/with-secrets-test.env", `CANARY='${CANARY}'\n`);
    const lines = [
      "[Service]",
      "Type=oneshot",
      "RemainAfterExit=true",
      ...settings,
      `StandardOutput=truncate:${output}`,
      "StandardError=journal",
      // "!": as root, and unlike "+" inside the unit's namespaces.
      ...(prepare === "" ? [] : [`ExecStartPre=!/bin/sh -c '${prepare}'`]),
      `ExecStart=${prefix}${guest.project}/src/service-side/with-secrets.sh /bin/sh -c 'echo "$$CANARY $$$$"'`,
    ];
    await guest.write(`/run/systemd/system/${unit}`, lines.join("\n") + "\n");
    await guest.systemctl("daemon-reload");
    await guest.run(["systemctl", "start", unit], { check: false });
    const { ExecMainStatus, ExecMainPID } = await guest.show(unit, "ExecMainStatus", "ExecMainPID");
    return { status: Number(ExecMainStatus), pid: ExecMainPID, said: await guest.text(["cat", output]) };
  }

  test.each([
    ["a plain unit", ["PrivateTmp=true"]],
    ["a static user", ["PrivateTmp=true", "User=nobody", "NoNewPrivileges=true"]],
    ["a user namespace", ["PrivateTmp=true", "User=nobody", "PrivateUsers=true"]],
    [
      "a dynamic user that sees little of /proc",
      ["PrivateTmp=true", "DynamicUser=true", "ProtectProc=invisible", "ProcSubset=pid", "ProtectSystem=strict"],
    ],
  ])("%s gets its variables, and the command is the main process", async (_, settings) => {
    const { status, pid, said } = await start(settings);
    expect({ status, said }, await guest.journal(unit)).toEqual({
      status: 0,
      said: `${CANARY} ${pid}`,
    });
  });

  test("a + command refuses a file that somebody left in the host's /tmp: 78", async () => {
    await guest.write("/tmp/secrets.env", "CANARY='not from the sidecar'\n");
    const { status, said } = await start(["PrivateTmp=true"], "+");
    expect({ status, said }).toEqual({ status: 78, said: "" });
    expect(await guest.journal(unit)).toMatch(/with-secrets: \/tmp is not private.*'\+'/);
  });

  test("the journal names this unit's sidecar when the file is missing: 66", async () => {
    const { status, said } = await start(["PrivateTmp=true"], "", "");
    expect({ status, said }).toEqual({ status: 66, said: "" });
    const name = unit.replace(/\.service$/, "");
    expect(await guest.journal(unit)).toContain(
      `with-secrets: no /tmp/secrets.env: see systemctl status '${name}-secrets.service' or 'fetcher@${name}.service'`,
    );
  });

  test.each([
    [["PrivateTmp=true"], true],
    [["PrivateTmp=true", "User=nobody", "ProtectSystem=strict"], true],
    [["PrivateTmp=false"], false],
    [["TemporaryFileSystem=/tmp"], false],
  ])("with %j the program recognizes a private /tmp: %s", async (settings, expected) => {
    const { stdout } = await guest.runUnit(["cat", "/proc/self/mountinfo"], settings);
    expect(isPrivateTmp("/tmp", stdout)).toBe(expected);
    if (expected) expect(isPrivateTmp("/var/tmp", stdout)).toBe(true);
  });
});
