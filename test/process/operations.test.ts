/**
 * The pages for operators quote STATUS= and the journal. For each of their headings the test brings the daemon into the
 * trouble described there, and the daemon must say what the page says.
 */
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { judge } from "../../src/cli/sidecars.ts";
import { statusTable } from "../../src/cli/status-table.ts";
import type { Facts } from "../../src/engine/facts.ts";
import { INBOX } from "../../src/systemd/action-desk.ts";
import { blocksOf, project } from "../markdown.ts";
import { needs, type Requirement } from "../requirements.ts";
import {
  type Daemon,
  eventually,
  forHelper,
  type LogLine,
  logLines,
  ordinary,
  Place,
  type StartOptions,
  withoutLibraries,
} from "./daemon.ts";
import { fakeSystemctl } from "./fake-systemctl.ts";

const pages = ["status-and-journal", "reload", "troubleshooting"].map((name) => `docs/how-to/${name}.md`);
const quotes = pages.flatMap((page) => blocksOf(page, "text"));
const UNIT = "hello.service";

/** A place with the store of the page, and all that its daemons say there. */
class Machine {
  readonly place: Place;
  readonly #owner: typeof ordinary;
  readonly #daemons: Daemon[] = [];
  readonly #statuses: string;
  readonly systemctl: ReturnType<typeof fakeSystemctl>;
  /** What else was said. */
  readonly others: string[] = [];

  constructor(owner: typeof ordinary = {}) {
    this.#owner = owner;
    this.place = new Place(undefined, owner);
    this.systemctl = fakeSystemctl(this.place, "/dev/null");
    this.#statuses = this.place.path("statuses");
    fs.writeFileSync(this.#statuses, "", { mode: 0o666 });
    fs.chmodSync(this.#statuses, 0o666);
    // A fake systemd-notify(1), beside the fake systemctl(1): it notes what systemd would show.
    fs.writeFileSync(
      this.place.path("fake-bin", "systemd-notify"),
      `#!/bin/sh\nfor word; do case $word in --status=*) printf '%s\\n' "\${word#--status=}" >>'${this.#statuses}' ;; esac; done\n`,
      { mode: 0o755 },
    );
    this.place.put({ greeting: "good morning", db_password: "one" });
  }

  config(more: Parameters<Place["config"]>[1] = {}) {
    return this.place.config(["greeting", "db_password"], { service: UNIT, ...more });
  }

  start(config: unknown = this.config(), options: StartOptions = {}): Daemon {
    const env = { ...this.systemctl.env, NOTIFY_SOCKET: forHelper, ...options.env };
    const daemon = this.place.start(config, { ...options, ...this.#owner, env });
    this.#daemons.push(daemon);
    return daemon;
  }

  /** Waits for a STATUS=. */
  async shows(status: RegExp): Promise<void> {
    const all = () => fs.readFileSync(this.#statuses, "utf8").split("\n");
    await eventually(`STATUS=${status.source}`, () => all().some((line) => status.test(line)));
  }

  storeAway(): () => void {
    const away = this.place.path("away");
    fs.renameSync(this.place.store, away);
    return () => {
      fs.renameSync(away, this.place.store);
    };
  }

  /** In the words of the page. */
  said(): ReadonlySet<string> {
    const { place } = this;
    const lines = [
      ...fs.readFileSync(this.#statuses, "utf8").split("\n"),
      ...this.#daemons.flatMap(({ lines: logged }) => logged.map(asInTheJournal)),
      ...this.others,
    ];
    return new Set(
      // The page has the version only once.
      lines
        .flatMap((line) => [line, line.replace(/; fetcher [^;]*$/, "")])
        .map((line) =>
          canonical(
            line
              .replaceAll(place.path("config.json"), "/etc/fetcher/hello.json")
              .replaceAll(place.store, "/etc/fetcher/hello/secrets")
              .replaceAll(place.output, OUTPUT),
          ),
        ),
    );
  }
}

const OUTPUT = "/run/hello-secrets/pub";

/** What differs from time to time. */
function canonical(line: string): string {
  return line
    .replaceAll(/\b\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)/g, "12:03:11+01:00")
    .replaceAll(/attempt \d+, next in [\d.]+ s/g, "attempt 7, next in 8 s")
    .replaceAll(/in \d+ s \((paced|splay)\)/g, "in 8 s ($1)")
    .replaceAll(/known here are .*/g, "known here are ...")
    .replaceAll(/startTimeout, [\d.]+ s/g, "startTimeout, 60 s")
    .replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1:8200")
    .replace(/; fetcher \d[^;]*$/, "; fetcher 0.2.0");
}

interface Scenario {
  readonly owner?: typeof ordinary;
  readonly needs?: readonly Requirement[];
  readonly run: (machine: Machine) => Promise<void>;
}

/** By heading. */
const scenarios: Readonly<Record<string, Scenario>> = {
  "All is well": {
    async run(machine) {
      await machine.start().ready();
      await machine.shows(/^2 secrets from folder, checked/);
    },
  },
  "A start, a rotation and a stop": {
    async run(machine) {
      const daemon = await machine.start().ready();
      machine.place.put({ greeting: "good evening" });
      await daemon.says(/restart done/);
      await daemon.end();
    },
  },
  "Another configuration": {
    async run(machine) {
      const config = machine.config();
      const daemon = await machine.start(config).ready();
      machine.place.writeConfig({ ...config, secrets: { greeting: {} } });
      machine.place.put({ greeting: "good evening" });
      await daemon.says(/restart done/);
      await machine.shows(/^2 secrets from folder, checked at [^;]*; [^;]*takes it over(?:; fetcher [^;]*)?$/);
      const reload = async (next: object) => {
        machine.place.writeConfig(next);
        const lines = daemon.lines.length;
        daemon.signal("SIGHUP");
        await daemon.says(/^fetched again|^published|took over|not taken over/, lines);
      };
      await reload({ ...config, secrets: { greeting: {} } });
      await reload({ ...config, onchange: {} });
      await daemon.says(/onchange: unknown option/);
      await reload({ ...config, resident: false, config: { secretsDir: machine.place.store } });
      await daemon.says(/resident: cannot change while/);
      await daemon.end();
    },
  },
  "It waits for the store": {
    async run(machine) {
      machine.storeAway();
      const daemon = machine.start({ ...machine.config(), startTimeout: 4 });
      await machine.shows(/^waiting for folder/);
      expect((await daemon.exit).code).toBe(69);
      const vault = { url: "http://127.0.0.1:9", tokenPath: machine.place.path("token"), path: "hello" };
      fs.writeFileSync(vault.tokenPath, "t");
      machine.start({ ...machine.config(), backend: "vault", config: vault });
      await machine.shows(/^waiting for vault/);
    },
  },
  "A required secret does not exist": {
    async run(machine) {
      fs.rmSync(join(machine.place.store, "db_password"));
      machine.place.age();
      expect((await machine.start().exit).code).toBe(66);
    },
  },
  "The store refuses": {
    owner: ordinary,
    async run(machine) {
      fs.chmodSync(join(machine.place.store, "db_password"), 0);
      if (ordinary.uid !== undefined) fs.chownSync(join(machine.place.store, "db_password"), 0, 0);
      expect((await machine.start().exit).code).toBe(77);
    },
  },
  "The configuration is wrong": {
    async run(machine) {
      const wrong = { db_password: { mode: "rw" } };
      expect((await machine.start({ ...machine.config(), secrets: wrong }).exit).code).toBe(78);
      expect((await machine.start({ ...machine.config(), onchange: {} }).exit).code).toBe(78);
      expect((await machine.start({ ...machine.config(), output: { directory: "/tmp" } }).exit).code).toBe(78);
      expect((await machine.start("{ # one").exit).code).toBe(78);
      expect((await machine.start(`{ "secrets": {},${"\n".repeat(8)}  "secrets": {} }`).exit).code).toBe(78);
      for (const status of [
        /^configuration: secrets\.db_password\.mode/,
        /^configuration: onchange/,
        /is not JSON/,
        /twice/,
      ])
        await machine.shows(status);
      fs.rmSync(machine.place.path("config.json"));
      const absent = machine.place.spawn(["--config", machine.place.path("config.json")]);
      expect((await absent.exit).code).toBe(78);
      machine.others.push(...absent.lines.map(({ message }) => message));
    },
  },
  "The store went away": {
    async run(machine) {
      const daemon = await machine.start().ready();
      const back = machine.storeAway();
      await daemon.says(/the published values stay in use/);
      await machine.shows(/since/);
      const before = daemon.lines.length;
      daemon.signal("SIGHUP");
      await daemon.says(/nothing new is published/, before);
      back();
      await daemon.says(/answers again/);
    },
  },
  "A secret vanished from the store": {
    async run(machine) {
      const daemon = await machine.start().ready();
      fs.rmSync(join(machine.place.store, "db_password"));
      await daemon.says(/the published values stay in use/);
      await machine.shows(/no file/);
    },
  },
  "A secret became empty": {
    async run(machine) {
      const daemon = await machine.start().ready();
      fs.writeFileSync(join(machine.place.store, "db_password"), "");
      await daemon.says(/the published values stay in use/);
      await machine.shows(/is empty, since/);
      await daemon.end();
      fs.rmSync(machine.place.output, { recursive: true, force: true });
      await machine.start().ready();
    },
  },
  "It started while the store was away": {
    async run(machine) {
      await (await machine.start().ready()).end("SIGKILL");
      machine.storeAway();
      await machine.start().ready();
      // The last try before the adoption may have been cut short.
      await machine.shows(/not checked yet; .*no directory/);
    },
  },
  "The output is where the secrets come from": {
    async run(machine) {
      const { place } = machine;
      const before = fs.readdirSync(place.store);
      expect((await machine.start({ ...machine.config(), output: { directory: place.store } }).exit).code).toBe(78);
      await machine.shows(/^configuration: output\.directory: is where the secrets come from/);
      expect(fs.readdirSync(place.store)).toEqual(before);
    },
  },
  "Changes are seen late": {
    async run(machine) {
      const backend = machine.place.path("my-store.mjs");
      fs.writeFileSync(
        backend,
        `export default {
          name: "my-store", defaultPollingInterval: 600,
          parseSettings: () => ({}), parseSource: () => ({}), describe: () => "my-store",
          open: async () => ({
            fetch: async (requests) => new Map(requests.map(({ id }) => [id, { status: "value", value: Buffer.from(id), version: "1" }])),
            watch: async () => { throw Object.assign(new Error("the connection broke"), { name: "BackendError", kind: "unavailable" }); },
          }),
        };`,
      );
      const daemon = machine.start({ ...machine.config(), backend, config: { reloadOnChange: true } });
      await daemon.says(/cannot watch/);
    },
  },
  "The new secrets are not good": {
    async run(machine) {
      const verify = { command: ["sh", "-c", 'test "$db_password" = one'] };
      const daemon = await machine.start(machine.config({ onChange: { verify } })).ready();
      machine.place.put({ db_password: "two" });
      await daemon.says(/are not published/);
      await machine.shows(/are not published/);
    },
  },
  "The service has failed": {
    async run(machine) {
      machine.systemctl.setState({ ActiveState: "failed" }, "after");
      const daemon = await machine.start().ready();
      machine.place.put({ greeting: "two" });
      await daemon.says(/failed after/);
      await machine.shows(/failed after/);
      machine.place.put({ greeting: "three" });
      await daemon.says(/has failed and stays so/);
      await machine.shows(/has failed and stays so/);
      machine.systemctl.setState({ LoadState: "not-found", ActiveState: "inactive" });
      machine.place.put({ greeting: "four" });
      await daemon.says(/does not exist/);
      await daemon.end();
      for (const isNewerThere of [true, false]) {
        machine.systemctl.setState({});
        const broken = await machine.start().ready();
        // In a moment, after the action.
        const died = Number(process.hrtime.bigint() / 1000n) + 20e6;
        machine.systemctl.setState({ ActiveState: "failed", InactiveEnterTimestampMonotonic: died }, "after");
        machine.place.put({ greeting: `five ${isNewerThere}` });
        await broken.says(/failed after/);
        broken.signal("SIGTERM");
        await broken.says(/waiting up to/);
        if (isNewerThere) machine.place.put({ greeting: "six" });
        await broken.says(isNewerThere ? /started again/ : /stays failed/);
        await broken.exit;
      }
    },
  },
  "The action is late": {
    async run(machine) {
      const daemon = await machine.start(machine.config({ onChange: { minInterval: 60 } })).ready();
      machine.place.put({ greeting: "two" });
      await daemon.says(/restart done/);
      machine.place.put({ greeting: "three" });
      await machine.shows(/paced/);
      await daemon.end();
      // So long that this STATUS is shown: another takes its place where a process for it has not begun.
      const splayed = await machine.start(machine.config({ onChange: { splay: 5000 } })).ready();
      machine.place.put({ greeting: "four" });
      await machine.shows(/splay/);
      await splayed.end();
      machine.systemctl.setState({ ActiveState: "activating", SubState: "start" });
      const waiting = await machine.start().ready();
      machine.place.put({ greeting: "four and a half" });
      await machine.shows(/waits: it is activating/);
      machine.systemctl.mute();
      await waiting.says(/did not work/);
      await machine.shows(/did not work yet/);
      machine.systemctl.unmute();
      machine.systemctl.setState({ Type: "oneshot" });
      await waiting.says(/oneshot/);
      await waiting.end();
      // Nothing is started by what it asks for.
      const requests = machine.place.path("hello-secrets-act");
      fs.mkdirSync(join(requests, INBOX), { recursive: true });
      await machine.start(machine.config(), { args: ["--actions", requests] }).ready();
      machine.place.put({ greeting: "five" });
      await machine.shows(/has not begun/);
      const config = machine.place.path("config.json");
      fs.rmSync(config);
      await machine.place.run(["act", "--config", config, "--actions", requests]);
      await machine.shows(/no action is done/);
    },
  },
  "The disk is full": {
    needs: ["mount-namespace"],
    async run(machine) {
      const { place } = machine;
      fs.mkdirSync(place.output);
      execFileSync("mount", ["-t", "tmpfs", "-o", "mode=0700,size=1m", "tmpfs", place.output]);
      onTestFinished(() => {
        execFileSync("umount", ["--lazy", place.output]);
      });
      const daemon = await machine.start().ready();
      fs.writeFileSync(join(place.output, ".filler"), Buffer.alloc(900 * 1024));
      place.put({ db_password: "x".repeat(120_000) });
      await daemon.says(/no space left/);
      await machine.shows(/no space left/);
    },
  },
  "The output is in use": {
    // The executable has the lock's call in itself: the last of these lines is not said.
    needs: ["node"],
    async run(machine) {
      const daemon = await machine.start().ready();
      const exit = await machine.start().exit;
      // The page has a unit's; this one is in none.
      machine.others.push(
        logLines(exit.stderr)
          .map(({ message }) => message)
          .join()
          .replace(/in use by .*:/, "in use by hello-secrets.service (process 4711):"),
      );
      await daemon.end();
      const nowhere = machine.place.path("nowhere");
      fs.mkdirSync(nowhere);
      await machine
        .start(machine.config(), { env: { PATH: nowhere, ...withoutLibraries(machine.place) } })
        .says(/cannot lock the output against a second fetcher: /);
    },
  },
  "Something is in the way": {
    async run(machine) {
      const path = join(machine.place.output, "db_password");
      fs.mkdirSync(path, { recursive: true });
      expect((await machine.start().exit).code).toBe(73);
      fs.rmdirSync(path);
      fs.writeFileSync(path, "somebody's");
      expect((await machine.start().exit).code).toBe(73);
    },
  },
  "A variable is missing": {
    async run(machine) {
      machine.place.put({ db_password: "a\0b" });
      await machine.start().ready();
      const script = join(project, "src/service-side/with-secrets.sh");
      machine.others.push(...spawnSync("sh", [script, "true"], { encoding: "utf8" }).stderr.split("\n"));
    },
  },
  "All sidecars of a host": {
    run(machine) {
      machine.others.push(...overview().split("\n"));
      return Promise.resolve();
    },
  },
  "Look a message up": {
    async run(machine) {
      const daemon = await machine.start().ready();
      machine.storeAway();
      const { message, code } = await daemon.says(/the published values stay in use/);
      // As the journal has it: log.test.ts.
      machine.others.push(`${message} [${String(code)}]`);
      expect(fs.readFileSync(join(project, "docs/reference/messages.md"), "utf8")).toContain(`| ${String(code)} |`);
    },
  },
  "Force a rotation": {
    async run(machine) {
      const daemon = await machine.start().ready();
      daemon.signal("SIGHUP");
      await daemon.says(/fetched again/);
    },
  },
};

for (const [heading, { owner, needs: required = [], run }] of Object.entries(scenarios))
  needs(...required).test(heading, async () => {
    const quoted = messagesUnder(heading);
    expect(quoted).not.toEqual([]);
    const machine = new Machine(owner);
    await run(machine);
    const isSaid = () => quoted.every((message) => machine.said().has(canonical(message)));
    // What it has said last may be on its way. What never comes is named below.
    await eventually("all of it", isSaid, 15).catch(() => undefined);
    const said = machine.said();
    for (const message of quoted)
      expect(said, `the page quotes under ${heading}: ${message}\nIt said:\n${[...said].join("\n")}`).toContain(
        canonical(message),
      );
  });

/** Ids are after what is said in general; other lines of the page leave them out. */
function asInTheJournal({ message, secrets }: LogLine): string {
  const ids = message.startsWith("published ") && Array.isArray(secrets) ? ` (${secrets.join(", ")})` : "";
  return message + ids;
}

/** What `fetcher status` makes of two sidecars; that it finds them is tried in guests. */
function overview(): string {
  const now = new Date();
  const at = (seconds: number) => new Date(now.getTime() + seconds * 1000).toISOString();
  const facts = (backend: string, secrets: number): Facts => ({
    ...{
      program: "0.2.0",
      unit: null,
      services: [],
      backend,
      state: "ready",
      secrets,
      wanted: secrets,
      startedAt: at(-99),
    },
    ...{ checkedAt: at(-12), nextLookAt: at(31), leaseEndsAt: null, failingSince: null, problem: null },
    ...{ rotations: 0, publishedAt: at(-99), actions: 0, actionsFailed: 0 },
  });
  const one = (name: string, its: Facts, unit: Parameters<typeof judge>[1]) => {
    const [state, problem] = judge(its, unit);
    return { name, unit: `${name}-secrets.service`, services: [`${name}.service`], state, problem, facts: its };
  };
  const failed = {
    ...{ ActiveState: "failed", Result: "exit-code", ExecMainStatus: "77" },
    StatusText: "vault: permission denied (403)",
  };
  const all = [one("hello", facts("folder", 2), { ActiveState: "active" }), one("orders", facts("vault", 3), failed)];
  return statusTable(all, { now, version: "0.2.0", color: false, columns: undefined });
}

test("a test triggers each quoted message", () => {
  const headings = new Set(quotes.map(({ heading }) => heading));
  expect([...headings].filter((heading) => !Object.hasOwn(scenarios, heading))).toEqual([]);
});

function messagesUnder(heading: string): string[] {
  return quotes.filter((block) => block.heading === heading).flatMap(({ code }) => code.trimEnd().split("\n"));
}
