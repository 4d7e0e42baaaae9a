/**
 * Services under a real systemd with secrets in an emulator of AWS Secrets Manager, which is late, goes and comes back.
 */
import { beforeAll, expect } from "vitest";
import { motoServer } from "../aws/moto.ts";
import type { Guest } from "./guest.ts";
import { onEachGuest } from "./guests.ts";
import type { Pair, PairOptions } from "./pair.ts";
import { scenario } from "./scenario.ts";

const port = 5000;
const endpoint = `http://127.0.0.1:${port}`;
const region = "eu-central-1";
const canary = "canary-e2a97c50";
const environment = `Environment=AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=${canary}`;

/** moto as a unit of the guest, which holds everything in memory, and another unit for the port that it is reached by. */
class Emulator {
  readonly #guest: Guest;

  constructor(guest: Guest) {
    this.#guest = guest;
  }

  async install(): Promise<void> {
    const program = await this.#guest.text(`command -v moto_server || echo ${motoServer() ?? ""}`);
    await this.#run("aws-emulator", ["--setenv=HOME=/root"], [program, "-H", "127.0.0.1", "-p", String(port + 1)]);
    await this.up();
    await this.#guest.until("the emulator answers", async () => await this.call("ListSecrets", {}), Boolean, {
      timeout: 120,
    });
  }

  async up(): Promise<void> {
    const forward = `const { createServer, connect } = require("node:net");
      createServer((here) => {
        const there = connect(${port + 1}, "127.0.0.1");
        for (const end of [here, there]) end.on("error", () => (here.destroy(), there.destroy()));
        here.pipe(there).pipe(here);
      }).listen(${port}, "127.0.0.1")`;
    await this.#run("aws-port", [], ["/usr/local/bin/node", "-e", forward]);
  }

  /** Connections are refused, until `up`. */
  async down(): Promise<void> {
    await this.#guest.systemctl("stop", "aws-port");
    await this.#guest.until(
      "its unit is gone",
      async () => (await this.#guest.show("aws-port", "LoadState")).LoadState === "not-found",
    );
  }

  async #run(unit: string, options: readonly string[], command: readonly string[]): Promise<void> {
    await this.#guest.run(["systemd-run", "--quiet", "--collect", `--unit=${unit}`, ...options, "--", ...command]);
  }

  async create(Name: string, SecretString: string): Promise<void> {
    await this.call("CreateSecret", { Name, SecretString });
  }

  async put(SecretId: string, SecretString: string): Promise<void> {
    await this.call("PutSecretValue", { SecretId, SecretString });
  }

  /** One request of the service's API; the emulator asks for no signature. */
  async call(operation: string, body: object): Promise<string> {
    const script = `fetch("${endpoint}", { method: "POST", body: process.argv[2], headers: {
      "content-type": "application/x-amz-json-1.1", "x-amz-target": "secretsmanager." + process.argv[1],
      authorization: "AWS4-HMAC-SHA256 Credential=test/20260101/${region}/secretsmanager/aws4_request" } })
      .then(async (answer) => { console.log(await answer.text()); process.exitCode = answer.ok ? 0 : 1; })`;
    return await this.#guest.text(["/usr/local/bin/node", "-e", script, operation, JSON.stringify(body)]);
  }
}

onEachGuest(
  "AWS Secrets Manager",
  (guest) => {
    const emulator = new Emulator(guest);

    beforeAll(async () => {
      await emulator.install();
    });

    /** A pair whose secret is the key `token` of the secret NAME. */
    async function pairWith(
      pairOf: (options: PairOptions) => Promise<Pair>,
      name: string,
      service: readonly string[] = [environment],
    ): Promise<Pair> {
      await emulator.create(name, '{"token":"one"}');
      return await pairOf({
        name,
        secrets: {},
        config: {
          backend: "aws",
          config: { secretsDir: undefined, region, endpoint, secretId: name, pollingInterval: 1 },
          secrets: { token: {} },
        },
        sidecar: { service },
      });
    }

    const alone = { alone: true };

    scenario(
      guest,
      "restarts the target with the new value after PutSecretValue, and the sidecar keeps running",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "rotates");
        await pair.start();
        const before = await pair.pids();
        await pair.untilStatus(/^1 secret from aws, version [\w-]+, checked at /);
        await emulator.put("rotates", '{"token":"two"}');
        await pair.untilSaid("file=two variable=two", { lines: 2 });
        expect((await pair.pids()).sidecar).toBe(before.sidecar);
        expect(await pair.said(), "one restart").toHaveLength(2);
        expect(await guest.text("journalctl --quiet --boot")).not.toContain(canary);
      },
      alone,
    );

    scenario(
      guest,
      "is down at boot: the start waits, says for what, and continues when it is up",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "late");
        await emulator.down();
        await guest.systemctl("start", "--no-block", pair.target);
        await pair.untilStatus(
          /^waiting for aws: http:\/\/127\.0\.0\.1:\d+: connection refused: 127\.0\.0\.1:\d+ \(attempt ([3-9]|\d\d+), next in /,
        );
        expect(await pair.state(pair.sidecar)).toBe("activating");
        await emulator.up();
        await pair.untilSaid("file=one variable=one", { timeout: 60 });
        await pair.untilState(pair.target, "active");
      },
      alone,
    );

    scenario(
      guest,
      "is away for a while: no target restarts, nor for a new version with the old bytes; the next change restarts it",
      async (pairOf) => {
        const pair = await pairWith(pairOf, "away");
        await pair.start();
        const before = await pair.pids();
        await emulator.down();
        await pair.untilStatus(/http:\/\/127\.0\.0\.1:\d+: connection refused: 127\.0\.0\.1:\d+, since /);
        expect((await pair.seen("token")).toString()).toBe("one");
        await emulator.up();
        await pair.untilStatus(/^1 secret from aws, version [\w-]+, checked at [\d:]+(?:Z|[+-][\d:]+)$/, 60);
        const { StatusText } = await guest.show(pair.sidecar, "StatusText");
        await emulator.put("away", '{"token":"one"}');
        await pair.untilStatus(new RegExp(`^(?!${StatusText.slice(0, 40)})1 secret from aws, version `));
        expect(await pair.pids()).toEqual(before);
        await emulator.put("away", '{"token":"two"}');
        await pair.untilSaid("file=two variable=two", { lines: 2, timeout: 60 });
      },
      alone,
    );

    scenario(
      guest,
      "waits for credentials that appear after the start, and starts the target when their file is there",
      async (pairOf) => {
        const file = "/etc/fetcher/nobody/credentials";
        const pair = await pairWith(pairOf, "nobody", [`Environment=AWS_SHARED_CREDENTIALS_FILE=${file}`]);
        await guest.systemctl("start", "--no-block", pair.target);
        await pair.untilStatus(/^waiting for aws: http:\/\/127\.0\.0\.1:\d+: there are no credentials \(yet\)/, 60);
        expect(await pair.state(pair.sidecar)).toBe("activating");
        await guest.write(file, `[default]\naws_access_key_id=test\naws_secret_access_key=${canary}\n`, 0o400);
        await pair.untilSaid("file=one variable=one", { timeout: 60 });
        await guest.run(["rm", file]);
      },
      alone,
    );

    scenario(
      guest,
      "has the secret in another region only: one line says where it looked, and the start fails after a minute",
      async (pairOf) => {
        await emulator.create("elsewhere", '{"token":"one"}');
        const pair = await pairOf({
          name: "elsewhere",
          secrets: {},
          config: {
            backend: "aws",
            config: { secretsDir: undefined, region: "us-west-2", endpoint, secretId: "elsewhere" },
            secrets: { token: {} },
          },
          sidecar: { service: [environment] },
        });
        const { code } = await guest.run(["systemctl", "start", pair.target], { check: false, timeout: 180 });
        expect(code).not.toBe(0);
        expect(await guest.show(pair.sidecar, "ExecMainStatus")).toEqual({ ExecMainStatus: "66" });
        expect(await guest.show(pair.sidecar, "StatusText")).toEqual({
          StatusText: 'aws: secret "token": no secret elsewhere in us-west-2',
        });
      },
      alone,
    );
  },
  {},
  // A tree that scripts/guest-tree.sh built brings its own.
  (tree) => (tree === "host" || tree === "here" ? ["aws-emulator"] : []),
);
