import type { Guest } from "./guest.ts";

/** The parts of a pair of units, whoever writes the unit files. */
export interface Wiring {
  /** The name of the target, without `.service`. */
  readonly name: string;
  /** The sidecar's configuration. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly target: UnitLines & {
    /** ExecStart= as it would be without secrets. */
    readonly command: string;
    /** Whether the command gets the variables too, by `with-secrets`. */
    readonly wrap: boolean;
  };
  /** Lines that override the sidecar's unit of the source of units; `flags` are further arguments of `fetcher`. */
  readonly sidecar: SidecarLines;
}

export interface UnitLines {
  readonly unit: readonly string[];
  readonly service: readonly string[];
}

export interface SidecarLines extends UnitLines {
  readonly flags: readonly string[];
}

/**
 * Installs the unit files and the configuration, before systemd reads them.
 *
 * @returns the name of the sidecar's unit.
 */
export type UnitSource = (guest: Guest, wiring: Wiring) => Promise<string>;

/** What a scenario asks for; all share the defaults. */
export interface PairOptions {
  readonly name: string;
  /** id → value, in the pair's own folder; undefined: there is no folder yet. */
  readonly secrets?: Readonly<Record<string, string | Uint8Array>> | undefined;
  /** Merged into the configuration, one level deep. */
  readonly config?: Readonly<Record<string, Readonly<Record<string, unknown>> | string | boolean | readonly string[]>>;
  /** The target: a program for `sh`, which begins as it likes. The default reports what it reads and then sleeps. */
  readonly program?: string;
  readonly target?: Partial<UnitLines>;
  readonly sidecar?: Partial<SidecarLines>;
  readonly wrap?: boolean;
}

/** Reports which process it is and what it reads, and stays: the main process is then `sleep`. */
export const saysStart = 'echo "start pid=$$ file=$(cat /tmp/token) variable=$token"';
const program = `${saysStart}\nexec sleep infinity\n`;

/**
 * What a sidecar reports about a start that is not its own. Which of the two depends on when it looks: between two
 * runs, or after.
 */
export const itsStartReadsThem =
  /started since, with the new secrets|is not running; the new secrets are there for its next start/;

/** The directory of a pair's own files, NAME.* */
export const home = "/var/lib/pairs";

export class Pair {
  readonly guest: Guest;
  readonly name: string;
  /** Names of the units. */
  readonly target: string;
  readonly sidecar: string;
  /** The unit whose process asks the store: the sidecar's, or the one of its looks for an on-change sidecar. */
  readonly asking: string;
  /** The folder with the secrets. */
  readonly store: string;
  /** The sidecar's runtime directory. */
  readonly runtime: string;

  private constructor(guest: Guest, name: string, sidecar: string, isOnChange: boolean) {
    this.guest = guest;
    this.name = name;
    this.target = `${name}.service`;
    this.sidecar = sidecar;
    this.asking = isOnChange ? `${name}-secrets-refresh.service` : sidecar;
    this.store = storeOf(name);
    this.runtime = `/run/${name}-secrets`;
  }

  static async install(guest: Guest, options: PairOptions, source: UnitSource): Promise<Pair> {
    const { name } = options;
    const { secrets = "secrets" in options ? undefined : { token: "one" } } = options;
    await guest.run(["install", "-d", "-m", "0700", `/etc/fetcher/${name}`]);
    await guest.write(`${home}/${name}.sh`, options.program ?? program);
    await guest.write(`${home}/${name}.log`, "", 0o622);
    const config = configOf(options);
    const sidecar = await source(guest, {
      name,
      config,
      target: {
        unit: options.target?.unit ?? [],
        service: [
          `StandardOutput=append:${home}/${name}.log`,
          "StandardError=journal",
          ...(options.target?.service ?? []),
        ],
        command: `/bin/sh ${home}/${name}.sh`,
        wrap: options.wrap ?? true,
      },
      sidecar: { unit: [], service: [], flags: [], ...options.sidecar },
    });
    const pair = new Pair(guest, name, sidecar, config["resident"] === "on-change");
    await guest.systemctl("daemon-reload");
    for (const [id, value] of Object.entries(secrets ?? {})) await pair.put(id, value);
    return pair;
  }

  /** No process of the sidecar stays. */
  get isOnChange(): boolean {
    return this.asking !== this.sidecar;
  }

  /** Renames a new value over the old one, as most stores do. */
  async put(id: string, value: string | Uint8Array): Promise<void> {
    await this.guest.replace(`${this.store}/${id}`, value, 0o400);
  }

  /** Renames several new values over the old ones within one command, however slow this machine is otherwise. */
  async putTogether(values: Readonly<Record<string, string>>): Promise<void> {
    const renames: string[] = [];
    for (const [id, value] of Object.entries(values)) {
      await this.guest.write(`${this.store}/.${id}.new`, value, 0o400);
      renames.push(`mv -T ${this.store}/.${id}.new ${this.store}/${id}`);
    }
    await this.guest.run(renames.join(" && "));
  }

  /** Starts the target, and returns when the target has reported. */
  async start(): Promise<void> {
    await this.#startBy("start");
  }

  async restart(): Promise<void> {
    await this.#startBy("restart");
  }

  async #startBy(verb: "start" | "restart"): Promise<void> {
    const lines = (await this.said()).length + 1;
    await this.guest.systemctl(verb, this.target);
    await this.untilSaid("start", { lines });
  }

  /** Stops the target, and returns when the sidecar has stopped too. */
  async stop(): Promise<void> {
    await this.guest.systemctl("stop", this.target);
    await this.untilState(this.sidecar, "inactive");
  }

  /** Takes the store away, as an outage would; with `undefined` as `secrets` there is no store to take. */
  async loseStore(): Promise<void> {
    await this.guest.run(["mv", "-T", this.store, `${this.store}.away`]);
  }

  async returnStore(): Promise<void> {
    await this.guest.run(["mv", "-T", `${this.store}.away`, this.store]);
  }

  /** Nobody is about to write what is missing from the store: its last name came long ago. */
  async restStore(): Promise<void> {
    await this.guest.run(["touch", "-d", "1 hour ago", this.store]);
  }

  /** Signals the main process of one of the units. Where no process of the sidecar stays, it starts one for it. */
  async kill(unit: string, signal: string): Promise<void> {
    const isLook = this.isOnChange && unit === this.sidecar;
    if (isLook) await this.guest.systemctl("start", this.asking);
    const words = ["systemctl", "kill", "--kill-whom=main", `--signal=${signal}`, "--", isLook ? this.asking : unit];
    await this.guest.run(words as [string, ...string[]]);
  }

  /** Makes the sidecar ask the store now. */
  async askStore(): Promise<void> {
    // A look in progress may already have passed the test's latest change.
    if (this.isOnChange) await this.untilAsked();
    await this.guest.systemctl(this.isOnChange ? "start" : "reload", this.asking);
  }

  /** Lines that the target has reported, oldest first. */
  async said(): Promise<readonly string[]> {
    return (await this.guest.text(["cat", `${home}/${this.name}.log`])).split("\n").filter(Boolean);
  }

  /** Waits until there are at least so many lines and the last one matches. @returns all lines. */
  async untilSaid(pattern: string | RegExp, { lines = 1, timeout = 60 } = {}): Promise<readonly string[]> {
    return await this.guest.until(
      `the target says ${lines} lines, the last one like ${String(pattern)}`,
      async () => await this.said(),
      (said) => said.length >= lines && (said.at(-1) ?? "").search(pattern) >= 0,
      { timeout },
    );
  }

  async state(unit: string): Promise<string> {
    return (await this.guest.show(unit, "ActiveState")).ActiveState;
  }

  async untilState(unit: string, wanted: string, seconds = 60): Promise<void> {
    await this.guest.until(
      `${unit} is ${wanted}`,
      async () => await this.state(unit),
      (state) => state === wanted,
      { timeout: seconds },
    );
  }

  /** Where no process of the sidecar stays: the process of its start. */
  async pids(): Promise<{ readonly target: number; readonly sidecar: number }> {
    const { guest, target, sidecar, isOnChange } = this;
    return {
      target: await guest.mainPid(target),
      sidecar: isOnChange
        ? Number((await guest.show(sidecar, "ExecMainPID")).ExecMainPID)
        : await guest.mainPid(sidecar),
    };
  }

  /** Waits for another main process of an active unit than the one before. @returns its id. */
  async untilRestarted(unit: string, before: number, seconds = 60): Promise<number> {
    if (this.isOnChange && unit === this.sidecar) {
      await this.untilAsked();
      return before;
    }
    const { MainPID } = await this.guest.until(
      `${unit} runs again, not as process ${before}`,
      async () => await this.guest.show(unit, "MainPID", "ActiveState"),
      (seen) => seen.ActiveState === "active" && seen.MainPID !== "0" && seen.MainPID !== String(before),
      { timeout: seconds },
    );
    return Number(MainPID);
  }

  /** Where no process of the sidecar stays: waits until no look is in progress or due, and the last one ended well. */
  async untilAsked(): Promise<void> {
    const { guest, name, asking } = this;
    await guest.until(
      `the looks of ${name} are over`,
      async () => [
        await guest.text(`ls -A /run/${name}-secrets-refresh/inbox`),
        await guest.show(asking, "ActiveState", "Result"),
      ],
      ([notes, unit]) =>
        notes === "" && typeof unit === "object" && unit.ActiveState === "inactive" && unit.Result === "success",
    );
  }

  /** Waits until the sidecar's STATUS= matches. */
  async untilStatus(pattern: RegExp, seconds = 60): Promise<string> {
    return await this.guest.until(
      `the STATUS of ${this.sidecar} matches ${String(pattern)}`,
      async () => await this.#status(),
      (text) => pattern.test(text),
      { timeout: seconds },
    );
  }

  async #status(): Promise<string> {
    const { guest, sidecar, asking, isOnChange } = this;
    const { StatusText, ActiveState } = await guest.show(sidecar, "StatusText", "ActiveState");
    // Each STATUS ends with the version, which no scenario is about.
    const withoutVersion = (text: string) => text.replace(/; fetcher [^;]*$/, "");
    if (!isOnChange || ActiveState === "activating") return withoutVersion(StatusText);
    // A look that is over does not know which actions are due.
    const said = withoutVersion((await guest.show(asking, "StatusText")).StatusText);
    const all: unknown = JSON.parse(await guest.text(["fetcher", "status", "--json"], { check: false }));
    const own = (all as readonly { unit: string; problem: string | null }[]).find(({ unit }) => unit === sidecar);
    return [said.split("; ")[0], own?.problem].filter((part) => part !== null && part !== undefined).join("; ");
  }

  /** The bytes that the running target reads at /tmp/ID. */
  async seen(id: string): Promise<Buffer> {
    const pid = await this.guest.mainPid(this.target);
    return await this.guest.readBytes(`/proc/${pid}/root/tmp/${id}`);
  }

  async untilSeen(id: string, value: string): Promise<void> {
    await this.guest.until(
      `the target sees ${value} at /tmp/${id}`,
      async () => (await this.seen(id)).toString(),
      (text) => text === value,
    );
  }

  /**
   * Files in memory or in a temporary directory that hold these bytes, in any directory, or that exist for this
   * pair.
   */
  async traces(secret: string): Promise<readonly string[]> {
    const { guest, name, runtime } = this;
    const unit = (directory: string) =>
      `${directory}/systemd-private-*[-@]${name}.service-* ${directory}/systemd-private-*-${name}-secrets.service-*`;
    const text = await guest.text(
      `grep -rlF ${secret} /run /tmp /var/tmp /dev/shm
       ls -d /run/credentials/${name}.service ${unit("/tmp")} ${unit("/var/tmp")} 2>/dev/null`,
      { check: false },
    );
    return [text, await leftIn(guest, runtime)].join("\n").split("\n").filter(Boolean);
  }

  async untilNothingIsLeft(secret: string): Promise<void> {
    await this.guest.until(
      `nothing is left of ${this.name}`,
      async () => await this.traces(secret),
      (found) => found.length === 0,
    );
  }

  /** The log of the sidecar, and of the unit that acts for it. */
  async journal(): Promise<string> {
    const units = new Set([this.sidecar, this.asking, `${this.name}-secrets-act.service`]);
    const said: string[] = [];
    for (const unit of units) said.push(await this.guest.journal(unit));
    return said.join("\n");
  }

  /** Stops what still runs, and removes the files. */
  async remove(): Promise<void> {
    const { guest, name, target, sidecar, runtime } = this;
    await guest.run(["systemctl", "stop", "--", target, sidecar], { check: false, timeout: 120 });
    await guest.run(["systemctl", "reset-failed", "--", target, sidecar], { check: false });
    const etc = "/etc/systemd/system";
    const files = [`${etc}/${target}`, `${etc}/${target}.d`, `${etc}/${sidecar}.d`, `/etc/fetcher/${name}.json`];
    // The units that `fetcher units` printed.
    files.push(`${etc}/${name}-secrets.service`, `${etc}/${name}-secrets-*`);
    await guest.run(["umount", runtime], { check: false });
    await guest.run(`rm -rf ${[...files, `/etc/fetcher/${name}`, `${home}/${name}.*`].join(" ")}`);
  }
}

/**
 * Paths that are left of a sidecar's runtime directory. They exclude the directory itself where systemd may forget it:
 * 254+ does so with the directory of a unit to which nothing refers; the unit itself has emptied it.
 */
export async function leftIn(guest: Guest, runtime: string): Promise<string> {
  const least = (await versionOf(guest)) >= 254 ? 1 : 0;
  return await guest.text(`find ${runtime} -mindepth ${least} 2>/dev/null`, { check: false });
}

async function versionOf(guest: Guest): Promise<number> {
  return Number(/\d+/.exec(await guest.text(["systemctl", "--version"]))?.[0]);
}

/** systemd 254+ (RestartMode=direct) brings a sidecar back unnoticed by the target; older ones restart both. */
export async function comesBackAlone(guest: Guest): Promise<boolean> {
  return (await versionOf(guest)) >= 254;
}

function storeOf(name: string): string {
  return `/etc/fetcher/${name}/secrets`;
}

function configOf({ name, config = {}, secrets }: PairOptions): Record<string, unknown> {
  const defaults: Record<string, Readonly<Record<string, unknown>> | string> = {
    service: `${name}.service`,
    backend: "folder",
    config: { secretsDir: storeOf(name), reloadOnChange: true },
    secrets: Object.fromEntries(Object.keys(secrets ?? { token: "" }).map((id) => [id, {}])),
    output: { directory: `/run/${name}-secrets/pub`, links: "/tmp" },
    // Only the tests of pacing wait as long as a person would.
    onChange: { settle: 0.1, minInterval: 0 },
  };
  const merged: Record<string, unknown> = { ...defaults };
  for (const [key, value] of Object.entries(config)) {
    const before = defaults[key];
    const both = typeof before === "object" && typeof value === "object" && !Array.isArray(value);
    merged[key] = both ? { ...before, ...(value as Readonly<Record<string, unknown>>) } : value;
  }
  return merged;
}
