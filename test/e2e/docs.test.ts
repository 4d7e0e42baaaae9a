/** The instructions in docs/ for each store, followed as written, in a guest that is thrown away. */
import { dirname } from "node:path";
import { afterEach, expect, test } from "vitest";
import { blocksOf, blockWith, codeUnder, numbered } from "../markdown.ts";
import { programPath } from "../programs.ts";
import { needs, type Requirement } from "../requirements.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";

const etc = "/etc/systemd/system";
const sidecar = "hello-secrets.service";
const generator = "/etc/systemd/system-generators/fetcher";
const hello = `[Service]
ExecStart=/bin/sh -c 'echo "my password has $$\{#db_password} letters"; exec sleep infinity'
`;
/** What the services of the pages say. */
const letters = (value: string) => `my password has ${value.length} letters`;

onEachGuest("the documentation of the stores", (guest) => {
  afterEach(async () => {
    await guest.run(
      `systemctl stop hello ${sidecar}; systemctl reset-failed hello ${sidecar}
       rm -rf /etc/fetcher ${generator} ${etc}/hello.service ${etc}/hello.service.d ${etc}/${sidecar}.d ${etc}/fetcher@.service
       systemctl daemon-reload`,
      { check: false, timeout: 60 },
    );
  });

  test("docs/how-to/credentials.md: moves a secret from a plain file to one that only this host can decrypt, and changes it", async () => {
    const page = "docs/how-to/credentials.md";
    const [first = "", anew = ""] = blocksOf(page, "sh").map(({ code }) => code);
    const commands = numbered(first);
    expect(commands).toHaveLength(5);
    await guest.write("/root/db_password.txt", "first", 0o600);
    for (const command of commands) await type(guest, command);
    await untilSaid(guest, `hello, ${letters("first")}`);
    expect(await guest.exists("/root/db_password.txt")).toBe(false);
    await guest.write("/root/db_password.txt", "second-one", 0o600);
    await type(guest, anew);
    await untilSaid(guest, letters("second-one"));
    await guest.run(["rm", "-r", "/etc/credstore.encrypted"]);
  });

  test("docs/how-to/executable.md: installs the drop-in for all sidecars", async () => {
    const { code } = blockWith("docs/how-to/executable.md", "sh", "executable.conf");
    await type(guest, code.replace(/^sudo /, ""), {}, guest.project);
    const [source = "", installed = ""] = code.trim().split(" ").slice(-2);
    expect(await guest.read(installed)).toBe(await guest.read(`${guest.project}/${source}`));
    await guest.run(["rm", "-r", dirname(installed)]);
  });

  test("docs/how-to/pair-of-units.md: the example service starts with its secrets, and all goes when it stops", async () => {
    const commands = blocksOf("docs/how-to/pair-of-units.md", "sh").map(({ code }) => code);
    const [copied = "", secrets = "", start = "", ...others] = commands;
    expect(others).toEqual([]);
    await type(guest, copied, {}, `${guest.project}/examples/systemd`);
    await guest.write(
      "/etc/fetcher/hello.json",
      blockWith("docs/how-to/pair-of-units.md", "json", "hello.service").code,
    );
    for (const code of [secrets, start]) await type(guest, code);
    const pid = await guest.mainPid("hello");
    expect(await guest.text(["nsenter", `--target=${pid}`, "--mount", "cat", "/tmp/greeting"])).toBe("good morning");
    // systemd's "started" may come while the program of the service is still being executed.
    await guest.until("it has its variable", async () =>
      (await guest.text(`tr '\\0' '\\n' </proc/${pid}/environ`)).includes("db_password=the password"),
    );
    await guest.run("systemctl stop hello");
    await guest.until("nothing is published", async () => !(await guest.exists("/run/hello-secrets/pub")));
  }, 120_000);

  // The programs are the machine's, which the guest of a separate suite does not have.
  if (guest.name !== "host" && guest.name !== "here") return;

  const recipes = "docs/how-to/commands.md";
  const programs: Readonly<Record<string, readonly Requirement[]>> = {
    age: ["age"],
    sops: ["sops", "age"],
    gpg: ["gpg"],
    pass: ["pass", "gpg"],
    "The kernel's keyring": ["keyctl"],
  };

  test("docs/how-to/commands.md: this file tries every recipe", () => {
    const [use, ...others] = new Set(blocksOf(recipes, "sh").map(({ heading }) => heading));
    expect([use, others]).toEqual(["Use an example", Object.keys(programs)]);
  });

  for (const [title, required] of Object.entries(programs))
    needs(...required).test(
      `docs/how-to/commands.md: ${title}: the service gets the program's output, in the sidecar's sandbox`,
      async () => {
        const [commands = ""] = codeUnder(recipes, title, "sh");
        const [configuration = ""] = codeUnder(recipes, title, "json");
        const [dropIn] = codeUnder(recipes, title, "ini");
        const config = JSON.parse(configuration) as { config: { environment?: Record<string, string> } };
        // A copy: the sidecar does not see the homes, where the tests' cache is.
        await guest.run(`command -v sops >/dev/null || cp ${programPath("sops") ?? ""} /usr/local/bin/sops`, {
          check: false,
        });
        try {
          await type(guest, commands);
          // An agent that is left outside of the sandbox would do the work that is tried inside.
          await guest.run("gpgconf --kill gpg-agent", { env: config.config.environment ?? {}, check: false });
          await guest.write("/etc/fetcher/hello.json", configuration);
          await guest.write(`${etc}/hello.service`, hello);
          if (dropIn !== undefined) await guest.write(`${etc}/${sidecar}.d/command.conf`, dropIn);
          const since = await guest.journalCursor();
          for (const code of codeUnder(recipes, "Use an example", "sh")) await type(guest, code);
          await untilSaid(guest, letters("the password"), { after: since });
          expect((await guest.read("/run/hello-secrets/pub/db_password")).trimEnd()).toBe("the password");
          expect(await guest.journal(sidecar, { after: since })).not.toContain("the password");
        } finally {
          // The kernel's keyring is not the guest's own.
          await guest.run("keyctl unlink %user:db_password @u", { check: false });
        }
      },
      240_000,
    );

  needs("sops", "age").test(
    "docs/how-to/sops.md: a service gets a variable from an encrypted file, and its new value later",
    async () => {
      await guest.run(`command -v sops >/dev/null || cp ${programPath("sops") ?? ""} /usr/local/bin/sops`, {
        check: false,
      });
      const [unit = "", key = "", encrypted = "", service = "", next = "", ...others] = blocksOf(
        "docs/how-to/sops.md",
        "sh",
      ).map(({ code }) => code);
      expect(others).toEqual([]);
      try {
        for (const commands of [unit, key, encrypted, service]) await type(guest, commands);
        await untilSaid(guest, letters("first"), { by: "app" });
        expect(await guest.read("/etc/fetcher/app/secrets.json")).not.toContain("first");
        await type(guest, next);
        await untilSaid(guest, letters("second"), { by: "app" });
      } finally {
        await guest.run(`systemctl stop app; fetcher remove app --yes; rm ${etc}/app.service`, { check: false });
      }
    },
    240_000,
  );

  needs("aws-cli", "aws-emulator").test(
    "docs/how-to/aws.md: leads from an empty account to a service whose secrets rotate",
    async () => {
      const [start = "", ...commands] = numbered(blockWith("docs/how-to/aws.md", "sh", "# 1.").code);
      expect(commands).toHaveLength(6);
      const exported = /^export .*\n/m.exec(start)?.[0] ?? "";
      const directories = ["moto_server", "aws"].map((name) => dirname(programPath(name) ?? "/"));
      const env = { PATH: [...directories, "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"].join(":") };
      await type(guest, start, env);
      await guest.until(
        "the emulator answers",
        async () => (await type(guest, `${exported}aws secretsmanager list-secrets`, env)).includes("SecretList"),
        Boolean,
        { timeout: 60 },
      );
      for (const command of commands.slice(0, -1)) {
        const said = await type(guest, exported + command, env);
        if (command.includes("fetcher add")) expect(said).toContain("prod/hello");
        expect(said).not.toContain("first");
      }
      await untilSaid(guest, letters("first"));
      await type(guest, exported + (commands.at(-1) ?? ""), env);
      await untilSaid(guest, letters("second-one"));
    },
    300_000,
  );
});

/** Types it as root, by default in root's directory. @returns what it wrote */
async function type(
  guest: Guest,
  command: string,
  env: Readonly<Record<string, string>> = {},
  directory = "/root",
): Promise<string> {
  return await guest.text(`set -e; cd ${directory}\n${command}`, { env, timeout: 90 });
}

async function untilSaid(
  guest: Guest,
  text: string,
  { by = "hello", after }: { readonly by?: string; readonly after?: string } = {},
): Promise<void> {
  await guest.until(
    `${by} says ${text}`,
    async () => await guest.journal(by, after === undefined ? {} : { after }),
    (said) => said.includes(text),
    { timeout: 60 },
  );
}
