/**
 * The sidecar and `fetcher check` say what a unit's own sandbox keeps from the sidecar; `fetcher check` changes
 * nothing.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runsOnNode } from "../program.ts";
import { onEachGuest } from "./guests.ts";

const examples = join(import.meta.dirname, "../../examples/systemd");
const etc = "/etc/systemd/system";

onEachGuest("the sandbox of a sidecar's unit", (guest) => {
  beforeAll(async () => {
    await guest.write(`${etc}/fetcher@.service`, readFileSync(join(examples, "fetcher@.service")));
    if (!runsOnNode)
      await guest.write(`${etc}/fetcher@.service.d/executable.conf`, readFileSync(join(examples, "executable.conf")));
    await guest.systemctl("daemon-reload");
  });
  afterAll(() =>
    guest.run(`rm -rf ${etc}/fetcher@.service* ${etc}/fetcher@boxed.service.d /etc/fetcher; systemctl daemon-reload`),
  );

  async function configure(config: object, dropIn = ""): Promise<void> {
    const whole = { secrets: { token: {} }, output: { directory: "/run/boxed-secrets/pub" }, ...config };
    await guest.write("/etc/fetcher/boxed.json", JSON.stringify(whole));
    await guest.run(`mkdir -p /etc/fetcher/boxed; rm -rf ${etc}/fetcher@boxed.service.d`);
    if (dropIn !== "") await guest.write(`${etc}/fetcher@boxed.service.d/test.conf`, dropIn);
    await guest.systemctl("daemon-reload");
  }
  const check = async () => await guest.text("fetcher check boxed 2>&1; echo status $?");
  const outside = async () => await guest.text("fetcher --check --config /etc/fetcher/boxed.json 2>&1; echo status $?");

  test.each([
    ["/var/lib/boxed/in", "TemporaryFileSystem=/var", "BindReadOnlyPaths=/var/lib/boxed"],
    ["/etc/ssl/private/boxed", "InaccessiblePaths=/etc/ssl/private", "an empty InaccessiblePaths="],
    ["/root/boxed", "ProtectHome=yes", "ProtectHome=read-only"],
    ["/etc/fetcher/secrets", "TemporaryFileSystem=/etc/fetcher", "BindReadOnlyPaths=/etc/fetcher/secrets"],
  ])("hides %s: the check names the setting (%s) and the remedy (%s)", async (folder, setting, remedy) => {
    await guest.write(`${folder}/token`, "one", 0o400);
    await configure({ backend: "folder", config: { secretsDir: folder } });
    expect(await outside()).toContain("status 0");
    const said = await check();
    expect(said).toContain(`hidden by this unit's sandbox (${setting})`);
    expect(said).toContain(remedy);
    expect(said).not.toContain("status 0");
    await guest.run(`rm -rf ${folder}`);
  });

  test("shows the secret: the check passes without a daemon, and touches none", async () => {
    await guest.write("/etc/fetcher/boxed/secrets/token", "one", 0o400);
    await configure({ backend: "folder", config: { secretsDir: "/etc/fetcher/boxed/secrets" } });
    const said = await check();
    expect(said).toContain("there");
    expect(said).toContain("status 0");
    expect(await guest.text("systemctl show -p ActiveState --value fetcher@boxed.service; ls /run")).not.toContain(
      "boxed-secrets",
    );
  });

  // IPAddressDeny= is a program for the kernel, which a guest may not load.
  test.each([
    ["RestrictAddressFamilies=", ""],
    ["PrivateNetwork=yes", "[Service]\nRestrictAddressFamilies=AF_INET AF_INET6\nIPAddressDeny=\n"],
  ])("has no network: the check names the cause (%s), for vault and aws", async (setting, dropIn) => {
    await guest.write("/etc/fetcher/boxed/token", "t", 0o400);
    const vault = { url: "http://127.0.0.1:9", tokenPath: "/etc/fetcher/boxed/token", path: "a", connectTimeout: 1 };
    await configure({ backend: "vault", config: vault }, dropIn);
    expect(await check()).toContain(`this unit has no network (${setting})`);
    const keys = "Environment=AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b\n";
    const aws = { region: "eu-central-1", endpoint: "http://127.0.0.1:9", timeout: 2 };
    await configure({ backend: "aws", config: aws }, `${dropIn || "[Service]\n"}${keys}`);
    expect(await check()).toContain(`this unit has no network (${setting})`);
  });

  test("allows the network: the check does not mention it", async () => {
    const network = readFileSync(join(examples, "network.conf"), "utf8");
    const vault = { url: "http://127.0.0.1:9", tokenPath: "/etc/fetcher/boxed/token", path: "a" };
    await configure({ backend: "vault", config: vault }, network);
    const said = await check();
    expect(said).toContain("http://127.0.0.1:9: connection refused");
    expect(said).not.toContain("no network");
  });
});
