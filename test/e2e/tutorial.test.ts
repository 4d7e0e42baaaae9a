/**
 * docs/tutorial/plain-systemd.md and docs/how-to/postgresql.md, typed as written, block after block, on a fresh
 * machine.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { blocksOf } from "../markdown.ts";
import { serverBinary } from "../vault/binary.ts";
import { needs } from "../requirements.ts";
import { Guest } from "./guest.ts";

const page = "docs/tutorial/plain-systemd.md";
/** The test's own steps: fetcher and PostgreSQL are there already, and it does not follow a journal for ever. */
const elsewhere = /^npm ci|--follow$/m;

// The guest has this machine's programs: PostgreSQL is one of them.
needs("own-guest", "guest-host", "postgresql", "vault-namespaces").describe("the tutorial", () => {
  const guest = new Guest({ tree: "host" });
  beforeAll(async () => {
    await guest.boot();
  });
  afterAll(async () => {
    await guest.stop();
  });

  const blocks = blocksOf(page);
  const under = (start: string) => blocks.filter(({ heading }) => heading.startsWith(`${start}.`));
  const env = { BAO_ADDR: "http://127.0.0.1:8200", BAO_TOKEN: "root" };
  const type = async (start: string) => {
    const said: string[] = [];
    for (const { language, code } of under(start))
      if (language === "sh" && !elsewhere.test(code)) {
        const here = code.replace(/^apt-get install .*\n/m, "");
        said.push(await guest.text(`set -e; cd /root\n${here}`, { env, timeout: 120 }));
      }
    return said.join("\n");
  };
  const shown = (start: string) =>
    under(start).flatMap(({ language, code }) => (language === "text" ? [code.trimEnd()] : []));
  const says = async (unit: string, text: string) =>
    await guest.until(
      `${unit} says ${text}`,
      async () => await guest.journal(unit),
      (journal) => journal.includes(text),
      { timeout: 60 },
    );
  const users = async () => new Set((await guest.journal("shop")).match(/v-token-shop-[\w-]+/g));

  test("part 1: a folder, and a rotation", async () => {
    for (const step of ["1", "2", "3"]) await type(step);
    for (const line of shown("3")) await says("shop", line);
    await type("4");
    const [service = "", sidecar = ""] = shown("4");
    await says("shop", service);
    for (const line of sidecar.split("\n")) await says("shop-secrets", line);
    await type("5");
    expect(await guest.exists("/etc/fetcher/shop.json")).toBe(false);
    expect(await guest.exists("/etc/fetcher/shop/secrets/password")).toBe(true);
  }, 240_000);

  test("part 2: each lease is another user, and no login fails", async () => {
    await guest.write("/usr/local/bin/bao", readFileSync(serverBinary("bao") ?? ""), 0o755);
    for (const step of ["6", "7", "8", "9", "10", "11"]) await type(step);
    await guest.until("a second user", users, ({ size }) => size > 1, { timeout: 200 });
    expect(await guest.journal("shop")).not.toMatch(/FATAL|failed/);
    expect(await type("12")).toContain("shop");
    expect(await guest.exists("/etc/fetcher/shop")).toBe(false);
  }, 480_000);

  test("docs/how-to/postgresql.md: the next user keeps working with the tables of the previous one, which is dropped", async () => {
    await guest.run(
      `systemd-run --unit=bao --setenv=HOME=/root bao server -dev -dev-root-token-id=root && until bao status >/dev/null; do sleep 1; done`,
      { env },
    );
    const command = `while psql -h 127.0.0.1 -d app -qc "CREATE TABLE IF NOT EXISTS visits AS SELECT session_user AS who; INSERT INTO visits SELECT session_user"; do sleep 1; done`;
    await guest.write("/etc/systemd/system/app.service", `[Service]\nExecStart=/bin/sh -c '${command}'\n`);
    for (const { code } of blocksOf("docs/how-to/postgresql.md", "sh"))
      // Nobody waits here for a day.
      await guest.text(
        `set -e; cd /root\n${code.replace("default_ttl=1h max_ttl=24h", "default_ttl=20s max_ttl=30s")}`,
        {
          env,
          timeout: 120,
        },
      );
    const asked = async (query: string) => await guest.text(`cd /; runuser -u postgres -- psql -d app -Atc "${query}"`);
    const visitors = async () =>
      (await asked("SELECT DISTINCT who FROM visits")).split("\n").filter((who) => who !== "");
    const [first = ""] = await guest.until("a first user", visitors, ({ length }) => length > 0, { timeout: 60 });
    expect(first).toMatch(/^v-token-app-/);
    await guest.until("a second user", visitors, ({ length }) => length > 1, { timeout: 120 });
    await guest.until(
      "the first user is dropped",
      async () => await asked(`SELECT count(*) FROM pg_roles WHERE rolname = '${first}'`),
      (count) => count === "0",
      { timeout: 120 },
    );
    expect(await guest.journal("app")).not.toMatch(/FATAL|ERROR|denied/);
    await guest.run("fetcher remove app --yes; systemctl stop app bao");
  }, 480_000);

  test("this file runs every step", () => {
    const steps = blocks.flatMap(({ heading }) => /^(\d+)\./.exec(heading)?.[1] ?? []);
    expect(new Set(steps)).toEqual(new Set(Array.from({ length: 12 }, (_, index) => String(index + 1))));
  });
});
