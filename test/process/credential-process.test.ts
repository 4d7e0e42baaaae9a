/**
 * The `credential_process` of an AWS profile, which hangs and ignores SIGTERM. If these fail, an administrator who has
 * stopped fetcher finds such processes still running, or each poll starts one more.
 */
import * as fs from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { StandIn } from "../aws/stand-in.ts";
import { eventually, Place } from "./daemon.ts";
import { awsAt, value } from "./network.ts";

/** A profile whose process is this script. Its environment has no other credentials. */
function profile(place: Place, script: string) {
  fs.writeFileSync(place.path("process"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  fs.writeFileSync(place.path("aws"), `[default]\ncredential_process = ${place.path("process")}\n`);
  return { AWS_CONFIG_FILE: place.path("aws"), AWS_EC2_METADATA_DISABLED: "true", HOME: place.root };
}

/** @returns its environment, and the processes that it has started so far: each has a child. */
function hanging(place: Place) {
  const file = place.path("started");
  const note = `echo $$ >>${file}`;
  const env = profile(place, `trap '' TERM INT\n${note}\nsh -c '${note}; exec sleep 1000'\nexit 1`);
  const started = () => (fs.existsSync(file) ? fs.readFileSync(file, "latin1").trim().split("\n").map(Number) : []);
  onTestFinished(() => {
    for (const pid of started().filter(isRunning)) process.kill(pid, "SIGKILL");
  });
  return { env, started };
}

function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(fs.readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

const aws = (place: Place) => awsAt(place, "http://127.0.0.1:1");
const vault = (place: Place) => ({
  ...place.config(["id"], {
    config: { secretsDir: undefined, url: "http://127.0.0.1:1", path: "app", auth: { method: "aws", role: "app" } },
  }),
  backend: "vault",
});

test.each([
  ["a sidecar of aws", aws, []],
  ["a sidecar of vault", vault, []],
  ["--once", aws, ["--once"]],
  ["--check", aws, ["--check"]],
])("ends it with the program: %s", async (_, configOf, args) => {
  const place = new Place();
  const { env, started } = hanging(place);
  const daemon = place.start(configOf(place), { env, args });
  await eventually("it runs", () => started().length === 2);
  await daemon.end();
  await eventually("that it has ended", () => !started().some(isRunning), 10);
});

test("ends one that takes too long, before the next is started", async () => {
  const place = new Place();
  const { env, started } = hanging(place);
  const daemon = place.start(awsAt(place, "http://127.0.0.1:1", { timeout: 1 }), { env });
  await eventually("a third", () => started().length >= 6);
  await eventually("the end of the first two", () => !started().slice(0, 4).some(isRunning), 10);
  await daemon.end();
});

test("gets credentials from one that works", async () => {
  const answer = { ARN: "arn:aws:secretsmanager:eu-central-1:1:secret:id", Name: "id", VersionId: "v1" };
  const standIn = await StandIn.start(() => ({ body: { ...answer, SecretString: value } }));
  onTestFinished(standIn.close);
  const place = new Place();
  const keys = { Version: 1, AccessKeyId: "AKIAPROCESS", SecretAccessKey: "canary-process-key" };
  const env = profile(place, `printf '%s' '${JSON.stringify(keys)}'`);
  const daemon = await place.start(awsAt(place, standIn.url), { env }).ready();
  expect(place.read("id")).toBe(value);
  expect(standIn.calls[0]?.accessKey).toBe("AKIAPROCESS");
  expect((await daemon.end()).stderr).not.toContain("canary");
});
