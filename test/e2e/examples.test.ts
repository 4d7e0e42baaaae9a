/** examples/systemd as an operator would copy it. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { onEachGuest } from "./guests.ts";

onEachGuest("the example units", (guest) => {
  const etc = "/etc/systemd/system";

  beforeAll(async () => {
    await guest.run(
      `cd ${guest.project}/examples/systemd && mkdir -p /etc/fetcher ${etc} &&
       cp -r fetcher@.service hello.service hello.service.d ${etc}/ && cp hello.json /etc/fetcher/`,
    );
    await guest.run(["install", "-d", "-m", "0700", "/etc/fetcher/hello"]);
    await guest.write("/etc/fetcher/hello/secrets/greeting", "good morning", 0o400);
    await guest.write("/etc/fetcher/hello/secrets/db_password", "it's a secret", 0o400);
    await guest.systemctl("daemon-reload");
  });
  afterAll(async () => {
    await guest.run(
      `systemctl stop hello; rm -rf /etc/fetcher ${etc}/hello.service ${etc}/hello.service.d ${etc}/fetcher@*
       systemctl daemon-reload`,
    );
  });

  test("pass systemd's own check", async () => {
    const { stdout, stderr } = await guest.run(["systemd-analyze", "verify", "hello.service", "fetcher@hello.service"]);
    const complaints = `${stdout}${stderr}`.split("\n").filter((line) => /hello|fetcher/.test(line));
    const version = Number(/\d+/.exec(await guest.text(["systemctl", "--version"]))?.[0]);
    // RestartMode= is of 254, PrivateUsers=identity of 257; older versions say that they ignore them.
    const ignored = ["Unknown key 'RestartMode'", "Failed to parse boolean value, ignoring: identity"];
    const expected = version >= 257 ? [] : version >= 254 ? ignored.slice(1) : ignored;
    expect(complaints).toEqual(expected.map((text) => expect.stringContaining(text) as string));
  });

  test("give the service its file and its variable when it starts", async () => {
    const start = await guest.journalCursor();
    await guest.systemctl("start", "hello");
    await guest.until(
      "it said hello",
      async () => await guest.journal("hello", { after: start }),
      (text) => text.includes("hello, my greeting has 12 bytes, and 13 are in the variable"),
    );
    expect((await guest.inUnit("hello", "cat /tmp/greeting", { asItsUser: true })).stdout).toBe("good morning");
  });

  test("restart the service, which then has the new value", async () => {
    const before = await guest.mainPid("hello");
    await guest.replace("/etc/fetcher/hello/secrets/greeting", "good evening, all", 0o400);
    await guest.until(
      "the service was restarted",
      async () => await guest.mainPid("hello"),
      (pid) => pid !== before,
    );
    expect((await guest.inUnit("hello", "cat /tmp/greeting")).stdout).toBe("good evening, all");
  });

  test("bind the sidecar to restarts of the service only with fetch-on-restart.conf", async () => {
    expect(await guest.show("fetcher@hello.service", "PartOf")).toEqual({ PartOf: "" });
    await guest.run(
      `mkdir -p ${etc}/fetcher@hello.service.d &&
       cp ${guest.project}/examples/systemd/fetch-on-restart.conf ${etc}/fetcher@hello.service.d/`,
    );
    await guest.systemctl("daemon-reload");
    expect(await guest.show("fetcher@hello.service", "PartOf")).toEqual({ PartOf: "hello.service" });
  });

  test("leave no secret when the service has stopped", async () => {
    // Where the tests run on the same machine, vitest keeps their source in /tmp/*/ssr.
    const grep = "grep -rlE --exclude-dir=ssr 'good (morning|evening)|a secret' /run /tmp /var/tmp /dev/shm";
    expect(await guest.text(grep)).toContain("/run/hello-secrets/pub/greeting");
    await guest.systemctl("stop", "hello");
    await guest.until(
      "the sidecar stopped too",
      async () => (await guest.show("fetcher@hello.service", "ActiveState")).ActiveState,
      (state) => state === "inactive",
    );
    const left = await guest.run(grep, { check: false });
    expect(left).toMatchObject({ stdout: "", code: 1 });
  });

  /** Starts the service, which fails. @returns the end of its sidecar, and what the journal says about it. */
  async function failedStart() {
    const from = await guest.journalCursor();
    const { code } = await guest.run(["systemctl", "start", "hello"], { check: false, timeout: 120 });
    const { NRestarts, ...end } = await guest.show("fetcher@hello", "ActiveState", "ExecMainStatus", "NRestarts");
    return { code, restarts: NRestarts, end, said: await guest.journal("fetcher@hello", { after: from }) };
  }

  test("fail the start at once without a configuration, and name the file", async () => {
    await guest.run("mv /etc/fetcher/hello.json /etc/fetcher/away.json");
    expect(await failedStart()).toEqual({
      code: 1,
      restarts: "0",
      end: { ActiveState: "failed", ExecMainStatus: "78" },
      said: expect.stringContaining("cannot read /etc/fetcher/hello.json: no such file") as string,
    });
    await guest.run("mv /etc/fetcher/away.json /etc/fetcher/hello.json");
  });

  test("fail the start at once without the program, and find it in /usr/bin, where npm may put it", async () => {
    await guest.run("mkdir /run/programs && mv /usr/local/bin/fetcher /usr/local/bin/with-secrets /run/programs/");
    expect(await failedStart()).toMatchObject({
      code: 1,
      restarts: "0",
      end: { ActiveState: "failed", ExecMainStatus: "203" },
    });
    await guest.run("mv /run/programs/* /usr/bin/");
    await guest.systemctl("start", "hello");
    expect((await guest.inUnit("hello", "cat /tmp/greeting")).stdout).toBe("good evening, all");
    await guest.run(
      "systemctl stop hello && mv /usr/bin/fetcher /usr/bin/with-secrets /usr/local/bin/ && rmdir /run/programs",
    );
  });
});
