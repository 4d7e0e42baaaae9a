/**
 * `fetcher add --import`: a service whose variables came from a file gets the same ones from its sidecar, whatever the
 * file contains.
 */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { variablesIn } from "../../src/setup/environment-file.ts";
import { onEachGuest } from "./guests.ts";

onEachGuest("a file of variables", (guest) => {
  const etc = "/etc/systemd/system";
  const before254 = async () => Number(/\d+/.exec(await guest.text(["systemctl", "--version"]))?.[0]) < 254;
  /** Of a process, without those of systemd's own. */
  const parse = (environ: string) =>
    Object.fromEntries(
      environ
        .split("\0")
        .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const)
        .filter(([name]) => isOurs(name)),
    );
  const isOurs = (name: string) => /^[A-D_1]+$/.test(name);
  const environmentOf = async (unit: string) => {
    const process = `/proc/${await guest.mainPid(unit)}`;
    // A Type=simple service counts as started while its process is still a copy of systemd's.
    await guest.until(
      "the program of the unit runs",
      async () => await guest.text(`readlink ${process}/exe`),
      (program) => !program.includes("/systemd/"),
    );
    return parse((await guest.readBytes(`${process}/environ`)).toString());
  };

  afterAll(() =>
    guest.run(`systemctl stop app; rm -rf /etc/fetcher ${etc}/app.service* /etc/*.env; systemctl daemon-reload`, {
      check: false,
    }),
  );

  test("is read exactly as systemd reads it: 300 files of quotes, escapes, comments and line ends", async () => {
    const piece = fc.constantFrom(
      "\nA=",
      "\nB =",
      "\nA='",
      '\nD="',
      "C_1=",
      " D=",
      "\n",
      "\n",
      "\n",
      "'",
      '"',
      "\\",
      "\\\n",
      " ",
      "\t",
      "#",
      ";",
      "$",
      "`",
      "é",
      "\r",
      "=",
      "x",
      "yz",
      "export ",
    );
    const files = fc.sample(
      fc.array(piece, { minLength: 4, maxLength: 40 }).map((pieces) => pieces.join("")),
      { numRuns: 300, seed: 17 },
    );
    const joins = await before254();
    await guest.run("mkdir -p /run/import-test");
    for (const [index, text] of files.entries()) await guest.write(`/run/import-test/${index}.env`, text);
    await guest.run(
      `cd /run/import-test && ls *.env | xargs -P 4 -I % systemd-run --quiet --wait --collect -p EnvironmentFile=/run/import-test/% -p StandardOutput=file:/run/import-test/%.out env -0`,
      { timeout: 240 },
    );
    let compared = 0;
    for (const [index, text] of files.entries()) {
      const seen = parse((await guest.readBytes(`/run/import-test/${index}.env.out`)).toString());
      const ours = Object.fromEntries(
        [...variablesIn(Buffer.from(text), joins).values]
          .filter(([name]) => isOurs(name))
          .map(([name, value]) => [name, value.toString()]),
      );
      expect(ours, JSON.stringify(text)).toEqual(seen);
      compared += Object.keys(seen).length;
    }
    expect(compared).toBeGreaterThan(300);
  }, 300_000);

  test("is imported: other lines keep their place, and no output, argument or journal shows its values", async () => {
    await guest.write("/etc/first.env", "A=first\nB=first\n");
    await guest.write(
      "/etc/app.env",
      '# of the application\nB=\'canary-1a2b "quoted"\'\nC="two\\\nlines $x"\nD=it\'s\nexport A=ignored\n',
      0o600,
    );
    await guest.write("/etc/last.env", "D=last\n");
    await guest.write(
      `${etc}/app.service`,
      "[Service]\nEnvironmentFile=/etc/first.env\nEnvironmentFile=-/etc/app.env\nExecStart=sleep infinity\n",
    );
    await guest.write(
      `${etc}/app.service.d/override.conf`,
      "[Service]\nEnvironmentFile=-/etc/last.env\nEnvironmentFile=-/etc/none.env\n",
    );
    await guest.systemctl("daemon-reload");
    await guest.systemctl("start", "app");
    const before = await environmentOf("app");
    expect(before).toEqual({ A: "first", B: 'canary-1a2b "quoted"', C: "twolines $x", D: "last" });
    const pid = await guest.mainPid("app");

    const from = await guest.journalCursor();
    const added = await guest.run(["fetcher", "add", "app", "--yes", "--import", "/etc/app.env"]);
    const printed = `${added.stdout}${added.stderr}${await guest.journal(undefined, { after: from, output: "export" })}`;
    expect(printed).not.toContain("canary-1a2b");
    expect(printed).toContain("systemd ignores line 6");
    expect(added.stdout).toContain("rm /etc/app.env");
    expect(await guest.mainPid("app")).toBe(pid);
    expect(await guest.text("cd /etc/fetcher/app/secrets && stat -c '%n %a %U %G' . *")).toBe(
      ". 700 root root\nB 400 root root\nC 400 root root\nD 400 root root",
    );
    await guest.run("mv /etc/app.env /etc/away.env");
    await guest.systemctl("restart", "app");
    expect(await environmentOf("app")).toEqual(before);
    expect((await guest.show("app", "EnvironmentFiles")).EnvironmentFiles).toContain(
      "/etc/none.env (ignore_errors=yes)",
    );

    const again = await guest.run(["fetcher", "add", "app", "--yes", "--import", "/etc/app.env"], { check: false });
    expect(again.code).toBe(78);
    const removed = await guest.run(["fetcher", "remove", "app", "--yes"]);
    expect(removed.stdout).toContain("EnvironmentFile=/etc/app.env applies again, but the file does not exist");
    expect(await guest.text(`ls -A ${etc}/app.service.d`)).toBe("override.conf");
    await guest.run("mv /etc/away.env /etc/app.env");
    await guest.systemctl("restart", "app");
    expect(await environmentOf("app")).toEqual(before);
  }, 240_000);

  test("is removed on request, unless another service reads it", async () => {
    await guest.write(`${etc}/other.service`, "[Service]\nEnvironmentFile=/etc/app.env\nExecStart=sleep infinity\n");
    await guest.run("systemctl daemon-reload; systemctl start other");
    const command = [
      "fetcher",
      "add",
      "app",
      "--yes",
      "--now",
      "--import",
      "/etc/app.env",
      "--remove-original",
    ] as const;
    const refused = await guest.run(command, { check: false });
    expect(refused.stderr).toContain("other.service also reads /etc/app.env");
    expect(await guest.exists("/etc/fetcher/app.json")).toBe(false);
    await guest.run(`systemctl stop other; rm ${etc}/other.service; systemctl daemon-reload`);
    await guest.run(command, { timeout: 60 });
    expect(await guest.exists("/etc/app.env")).toBe(false);
    expect((await environmentOf("app"))["B"]).toBe('canary-1a2b "quoted"');
    await guest.run(["fetcher", "remove", "app", "--yes", "--delete-secrets"]);
  }, 240_000);

  test.each([
    ["has a NUL byte", "A=b\0c\n"],
    ["sets no variable", "nothing\n"],
    ["RANDOM belongs to the shell", "A=b\nRANDOM=canary-9\n"],
    ["the value of A is not UTF-8", Buffer.from([0x41, 0x3d, 0xff, 0x0a])],
    ["A already exists with another value", "A=canary-9\n"],
  ])("stays, with everything else, when it cannot be imported: %s", async (why, content) => {
    await guest.write("/etc/app.env", content);
    await guest.write("/etc/fetcher/app/secrets/A", "other", 0o400);
    await guest.systemctl("daemon-reload");
    const { code, stdout, stderr } = await guest.run(["fetcher", "add", "app", "--yes", "--import", "/etc/app.env"], {
      check: false,
    });
    expect(stderr).toContain(why);
    expect(`${stdout}${stderr}`).not.toContain("canary-9");
    expect(code).toBe(why.includes("another value") ? 73 : 78);
    expect(await guest.text("find /etc/fetcher -type f")).toBe("/etc/fetcher/app/secrets/A");
    expect(await guest.exists(`${etc}/app.service.d/zz-fetcher-import.conf`)).toBe(false);
  });

  beforeAll(async () => {
    await guest.run("mkdir -p /etc/systemd/system");
  });
});
