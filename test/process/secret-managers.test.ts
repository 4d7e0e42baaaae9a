/** The directories that sops-nix and agenix make at an activation, step by step as they do it, with the real daemon. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { codeUnder } from "../markdown.ts";
import { needs } from "../requirements.ts";
import { type Daemon, eventually, Place } from "./daemon.ts";

/** No poll in a test's time: every change seen is seen by inotify. */
const NEVER = 2_000_000;
const KEYS = 996;
const OWNER = 65_534;
/** So many that reading them takes longer than a swap. */
const ids = ["tls.crt", "tls.key", "db_password", "nested", ...Array.from({ length: 200 }, (_, n) => `more${n}`)];
/** A secret may have directories in its name. */
const fileOf = (id: string) => (id === "nested" ? "app/nested" : id);

/** /run/NAME, a link to the newest generation below /run/NAME.d, which is its own ramfs. */
class Secrets {
  readonly link: string;
  readonly mountPoint: string;

  constructor(place: Place, name: string) {
    this.link = place.path(name);
    this.mountPoint = `${this.link}.d`;
    onTestFinished(() => {
      run("umount", this.mountPoint);
    });
  }

  /** A new directory of the next number. */
  generation(): string {
    if (!fs.existsSync(this.mountPoint)) {
      fs.mkdirSync(this.mountPoint, { mode: 0o751 });
      run("mount", "-t", "ramfs", "none", this.mountPoint, "-o", "nodev,nosuid,mode=0751");
    }
    const directory = join(this.mountPoint, String(this.newest + 1));
    fs.mkdirSync(directory);
    fs.chmodSync(directory, 0o751);
    return directory;
  }

  get newest(): number {
    try {
      return Number(basename(fs.readlinkSync(this.link)));
    } catch {
      return 0;
    }
  }
}

type Activate = (secrets: Secrets, value: (id: string) => string) => void;

/** sops-install-secrets: all is final before the link is renamed over, and older generations go afterwards. */
const sopsNix: Activate = (secrets, value) => {
  const directory = secrets.generation();
  fs.chownSync(directory, 0, KEYS);
  for (const id of ids) {
    const path = join(directory, fileOf(id));
    fs.mkdirSync(join(path, ".."), { recursive: true, mode: 0o751 });
    fs.writeFileSync(path, value(id), { mode: 0o400 });
    fs.chownSync(path, id === "tls.key" ? OWNER : 0, KEYS);
  }
  const own = fs.mkdtempSync(join(secrets.link, "..", `.${basename(secrets.link)}`));
  fs.symlinkSync(directory, join(own, "tmp.symlink"));
  fs.renameSync(join(own, "tmp.symlink"), secrets.link);
  fs.rmSync(own, { recursive: true });
  for (const name of fs.readdirSync(secrets.mountPoint))
    if (Number(name) < secrets.newest) fs.rmSync(join(secrets.mountPoint, name), { recursive: true });
};

/** agenix: files are renamed into the generation, ln(1) swaps the link, the one before goes, and owners come last. */
const agenix: Activate = (secrets, value) => {
  const before = secrets.newest;
  const directory = secrets.generation();
  for (const id of ids) {
    const path = join(directory, fileOf(id));
    fs.mkdirSync(join(path, ".."), { recursive: true });
    fs.writeFileSync(`${path}.tmp`, value(id), { mode: 0o400 });
    fs.chmodSync(`${path}.tmp`, 0o440);
    fs.renameSync(`${path}.tmp`, path);
  }
  run("ln", "-sfn", directory, secrets.link);
  if (before > 0) fs.rmSync(join(secrets.mountPoint, String(before)), { recursive: true });
  fs.chownSync(secrets.mountPoint, 0, KEYS);
  fs.chownSync(directory, 0, KEYS);
  for (const id of ids) fs.chownSync(join(directory, fileOf(id)), id === "tls.key" ? OWNER : 0, 0);
};

const managers: readonly (readonly [name: string, directory: string, activate: Activate])[] = [
  ["sops-nix", "secrets", sopsNix],
  ["agenix", "agenix", agenix],
];

for (const [name, directory, activate] of managers) {
  const generation = (n: number) => (id: string) => `${id} of ${n}`;

  needs("mount-namespace").test(`${name}: sees each activation without a poll, and mixes none`, async () => {
    const place = new Place();
    const secrets = new Secrets(place, directory);
    activate(secrets, generation(1));
    const daemon = await start(place, secrets);
    const { look, seen } = watchEnv(place);
    for (let n = 2; n <= 6; n += 1) {
      activate(secrets, generation(n));
      await eventually(`generation ${n}`, () => holds(place, generation(n)));
      look();
      expect(secrets.newest).toBe(n);
      expect(fs.readdirSync(secrets.mountPoint)).toEqual([String(n)]);
    }
    for (let n = 7; n <= 50; n += 1) {
      activate(secrets, generation(n));
      await new Promise((resolve) => setTimeout(resolve, n % 10));
    }
    await eventually("the last generation", () => holds(place, generation(50)));
    const envs = seen();
    expect(envs.length).toBeGreaterThan(5);
    for (const env of envs) expect(new Set(env.match(/of \d+/g)).size, env).toBe(1);
    expect(daemon.lines.filter(({ level }) => level === "error")).toEqual([]);
  });

  needs("mount-namespace").test(`${name}: does not count an activation with equal values as a rotation`, async () => {
    const place = new Place();
    const secrets = new Secrets(place, directory);
    activate(secrets, generation(1));
    const daemon = await start(place, secrets);
    for (let round = 0; round < 3; round += 1) activate(secrets, generation(1));
    activate(secrets, (id) => (id === "nested" ? "changed" : generation(1)(id)));
    const { secrets: published } = await daemon.says(/^published /);
    expect(published).toEqual(["nested"]);
    expect(daemon.lines.filter(({ message }) => message.startsWith("published "))).toHaveLength(1);
  });

  needs("mount-namespace").test(`${name}: waits for a first activation after the sidecar's start`, async () => {
    const place = new Place();
    const secrets = new Secrets(place, directory);
    const daemon = place.start(config(place, secrets));
    await daemon.says(/no directory .* \(yet\)/);
    activate(secrets, generation(1));
    await daemon.ready();
    expect(holds(place, generation(1))).toBe(true);
    activate(secrets, generation(2));
    await eventually("the next one", () => holds(place, generation(2)));
  });

  /** What the documentation has, on directories of the test's own. */
  const config = (place: Place, secrets: Secrets) => {
    const [text = ""] = codeUnder("docs/how-to/folder.md", name, "json");
    const parsed = JSON.parse(text.replace(`/run/${directory}`, secrets.link)) as { config: object };
    return {
      ...parsed,
      config: { ...parsed.config, pollingInterval: NEVER },
      secrets: Object.fromEntries(ids.map((id) => [id, { source: { file: fileOf(id) } }])),
      output: { directory: place.output },
      onChange: { settle: 0, minInterval: 0 },
    };
  };

  const start = async (place: Place, secrets: Secrets): Promise<Daemon> => place.start(config(place, secrets)).ready();
}

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr}`);
}

function holds(place: Place, value: (id: string) => string): boolean {
  const env = place.read("secrets.env") ?? "";
  return ids.every((id) => place.read(id) === value(id) && env.includes(`'${value(id)}'`));
}

/** Reads secrets.env again and again, as a target that starts would. `seen` ends it and has the texts */
function watchEnv(place: Place): { readonly look: () => void; readonly seen: () => string[] } {
  const texts = new Set<string>();
  const look = () => {
    texts.add(place.read("secrets.env") ?? "");
  };
  const timer = setInterval(look, 1);
  const seen = () => {
    clearInterval(timer);
    look();
    return [...texts];
  };
  return { look, seen };
}
