/** On a real machine the commands of status-and-journal.md and reload.md do what the pages say. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { blocksOf, blockWith } from "../markdown.ts";
import { onEachGuest } from "./guests.ts";

const page = "docs/how-to/status-and-journal.md";
const reloading = "docs/how-to/reload.md";
const generator = "/etc/systemd/system-generators/fetcher";
const etc = "/etc/systemd/system";

onEachGuest("the commands of the pages for operators", (guest) => {
  const status = async () => (await guest.text(blockWith(page, "sh", "StatusText").code)).trim();
  const state = async (unit: string) => (await guest.show(unit, "ActiveState")).ActiveState;

  const config = { config: { reloadOnChange: true }, secrets: { greeting: {}, db_password: {} } };

  const stopped = () =>
    guest.until(
      "both units are stopped",
      async () => [await state("hello.service"), await state("hello-secrets.service")],
      (states) => states.every((each) => each === "inactive"),
    );

  beforeAll(async () => {
    await guest.run(blockWith("docs/how-to/one-file.md", "sh", "system-generators").code);
    await guest.write(`${etc}/hello.service`, "[Service]\nExecStart=sleep infinity\n");
    await guest.write("/etc/fetcher/hello.json", JSON.stringify(config));
    await guest.systemctl("daemon-reload");
  });
  afterAll(async () => {
    await guest.run(
      `systemctl stop hello; rm -rf ${generator} /etc/fetcher ${etc}/hello.service ${etc}/hello-secrets.service.d
       systemctl daemon-reload`,
    );
  });

  test("a waiting start says so in STATUS, and systemctl stop cancels it", async () => {
    await guest.systemctl("start", "--no-block", "hello");
    await guest.until("it waits", status, (text) => text.startsWith("waiting for folder: no directory"));
    await guest.systemctl("stop", "hello", "hello-secrets");
    await stopped();
  });

  test("a sidecar whose service was stopped meanwhile stops once it is ready", async () => {
    await guest.systemctl("start", "--no-block", "hello");
    await guest.until("it waits", status, (text) => text.startsWith("waiting for folder: no directory"));
    await guest.systemctl("stop", "hello");
    expect(await state("hello-secrets.service")).toBe("activating");
    await guest.write("/etc/fetcher/aside/greeting", "good morning", 0o400);
    await guest.write("/etc/fetcher/aside/db_password", "one", 0o400);
    await guest.run("mv /etc/fetcher/aside /etc/fetcher/hello/secrets");
    await stopped();
    expect(await guest.journal("hello-secrets")).toContain("ready: 2 secrets from folder");
  });

  test("status, journal and reload work as the pages say", async () => {
    await guest.systemctl("start", "hello");
    expect(await status()).toMatch(
      /^2 secrets from folder, checked at \d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d); fetcher \d[^;]*$/,
    );
    const from = await guest.journalCursor();
    const [reload] = blocksOf(reloading, "sh").filter(({ code }) => code.trim() === "systemctl reload hello-secrets");
    await guest.run(reload?.code ?? "no such block");
    await guest.until(
      "it fetched again",
      async () => await guest.journal("hello-secrets", { after: from }),
      (text) => text.includes("fetched again: nothing has changed"),
    );
    const [all = "", warnings = ""] = blockWith(page, "sh", "-p warning").code.split("\n");
    expect(await guest.text(`${all} --no-pager`.replace(/#.*? --/, "--"))).toContain("ready: 2 secrets from folder");
    const warned = await guest.text(`${warnings} --no-pager`.replace(/#.*? --/, "--"));
    expect(warned).toContain("trying again");
    expect(warned).not.toContain("ready:");
    // People read the message alone; journald has taken the priority away.
    const own = (await guest.journal("hello-secrets", { output: "json" }))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, string>);
    expect(own).toContainEqual(
      expect.objectContaining({ PRIORITY: "6", MESSAGE: "ready: 2 secrets from folder", _TRANSPORT: "stdout" }),
    );
    expect(own).toContainEqual(
      expect.objectContaining({
        PRIORITY: "4",
        MESSAGE: expect.stringMatching(/trying again \(.*\) \[F-\w{5}\]$/) as string,
      }),
    );
  });

  test("what the pages have to type to look, to try and to change shows this sidecar, and no value", async () => {
    const type = async (code: string) => await guest.text(`set -e; cd /root\n${code}`);
    const [table = "", one = "", json = "", metrics = ""] = blockWith(page, "sh", "--metrics").code.split("\n");
    for (const command of [table, one]) expect(await type(command)).toMatch(/^hello +folder +2 +ok /m);
    expect(JSON.parse(await type(json))).toHaveLength(1);
    expect(await type(metrics)).toContain("fetcher_secrets{");
    const [trouble] = blocksOf("docs/how-to/troubleshooting.md", "sh");
    expect(await type(trouble?.code ?? "no such block")).toMatch(/^hello +folder[^]*trying again/m);

    const tries = blockWith(reloading, "sh", "--check=config").code;
    const said = await type(tries);
    expect(said).toMatch(/^greeting +there/m);
    expect(said).not.toContain("good morning");
    await guest.run("rm -r /run/fetcher-* /tmp/fetcher-*", { check: false });
    await guest.replace("/etc/fetcher/hello.json", JSON.stringify({ secrets: { greeting: {} } }));
    const from = await guest.journalCursor();
    await type(blockWith(reloading, "sh", "daemon-reload").code);
    expect(await guest.journal("hello-secrets", { after: from })).toContain("took over the changed configuration");
    expect(await guest.exists("/run/hello-secrets/pub/db_password")).toBe(false);

    const guide = "docs/how-to/plain-systemd.md";
    const moved = (code: string) => code.replaceAll("nginx", "hello");
    await guest.replace("/etc/fetcher/hello.json", JSON.stringify(config));
    expect(await type(moved(blockWith(guide, "sh", "fetcher units").code))).toMatch(/^db_password +there/m);
    expect(await guest.exists("/run/hello-secrets/pub/db_password")).toBe(true);
  });

  test("systemd retries an output that cannot be created, as the table of exit statuses says", async () => {
    await guest.systemctl("stop", "hello");
    // The sidecar follows, and takes its directory away.
    await stopped();
    await guest.run("mkdir -p /run/hello-secrets/pub/greeting");
    await guest.systemctl("start", "--no-block", "hello");
    await guest.until(
      "it was started more than once",
      async () => Number((await guest.show("hello-secrets.service", "NRestarts")).NRestarts),
      (restarts) => restarts > 0,
    );
    await guest.run("rm -rf /run/hello-secrets/pub/greeting");
    // An attempt that had begun before still fails, and on systemd 252 takes the service's start along.
    await guest.until(
      "the service is started",
      async () => (await guest.run("systemctl start hello", { check: false })).code,
      (code) => code === 0,
    );
    expect(await state("hello.service")).toBe("active");
  });

  test("the drop-in raises the log level", async () => {
    const dropIn = blockWith(page, "systemd", "FETCHER_LOG_LEVEL");
    await guest.write(`${etc}/hello-secrets.service.d/override.conf`, dropIn.code);
    await guest.systemctl("daemon-reload");
    await guest.systemctl("start", "hello");
    await guest.systemctl("restart", "hello-secrets");
    // The service is restarted with its sidecar, and after it: systemctl has not waited for that.
    const pid = async () => await guest.mainPid("hello");
    const before = await guest.until("the service runs again", pid);
    await guest.replace("/etc/fetcher/hello/secrets/greeting", "good evening", 0o400);
    await guest.until("the service was restarted", pid, (now) => now !== before);
    await guest.until(
      "the journal says so",
      async () => await guest.journal("hello-secrets"),
      (lines) => lines.includes("asking for the action"),
    );
  });

  test("the drop-in turns log lines into JSON objects", async () => {
    const dropIn = blockWith(page, "systemd", "FETCHER_LOG_FORMAT");
    await guest.write(`${etc}/hello-secrets.service.d/override.conf`, dropIn.code);
    await guest.systemctl("daemon-reload");
    const from = await guest.journalCursor();
    await guest.systemctl("start", "hello");
    await guest.systemctl("restart", "hello-secrets");
    const command = blockWith(page, "sh", "-o cat").code.replace(/#.*/, `--no-pager --since=${from}`);
    const objects = async () =>
      (await guest.text(`journalctl --sync; ${command}`))
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
    await guest.until("an object says that it is ready", objects, (all) =>
      all.some(({ level, message }) => level === "info" && message === "ready: 2 secrets from folder"),
    );
    await guest.run(`rm ${etc}/hello-secrets.service.d/override.conf && systemctl daemon-reload`);
  });

  test("a sidecar that no unit needs stops at once", async () => {
    await guest.systemctl("stop", "hello");
    await stopped();
    const from = await guest.journalCursor();
    await guest.systemctl("start", "hello-secrets");
    await guest.until(
      "it was ready",
      async () => await guest.journal("hello-secrets", { after: from }),
      (text) => text.includes("ready:"),
    );
    await stopped();
  });
});
