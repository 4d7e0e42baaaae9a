import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { countingBackend } from "./counting-backend.ts";
import { eventually, Place } from "./daemon.ts";

const CANARY = "canary-verify-99";

/** A script in the place, as a verify command. */
function script(place: Place, body: string, more: object = {}) {
  const path = place.path("verify.sh");
  fs.writeFileSync(path, body);
  return { verify: { command: ["sh", path], ...more } };
}

test("verify sees the whole new set as files and variables, while the old one is still published", async () => {
  const place = new Place();
  place.put({ a: "one", "b c": "same\n", hidden: "one" });
  const out = place.path("seen");
  const onChange = script(
    place,
    `cd "$SECRETS_DIRECTORY" && echo "$(cat a) $(cat 'b c') $(cat hidden) $a $b_c \${hidden-unset} $(cat '${place.output}/a')" >'${out}'`,
  );
  const daemon = await place.start(place.config({ a: {}, "b c": {}, hidden: { env: null } }, { onChange })).ready();
  expect(fs.existsSync(out)).toBe(false); // The first publish is not gated.
  place.put({ a: "two" });
  await daemon.says(/^published/);
  expect(fs.readFileSync(out, "utf8")).toBe("two same one two same unset one\n");
});

test("verify inherits nothing of the daemon's environment", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const out = place.path("environment");
  const onChange = script(place, `env >'${out}'`);
  const env = { HTTPS_PROXY: CANARY, NODE_DEBUG: "", CREDENTIALS_DIRECTORY: CANARY, MY_TOKEN: CANARY };
  const daemon = await place.start(place.config(["id"], { onChange }), { env }).ready();
  place.put({ id: "two" });
  await daemon.says(/^published/);
  expect(fs.readFileSync(out, "utf8")).toContain("id=two");
  expect(fs.readFileSync(out, "utf8")).not.toContain(CANARY);
});

test("does not publish a refused set, logs the reason once without verify's output, and publishes the next set", async () => {
  const place = new Place();
  place.put({ id: "good 1" });
  const onChange = script(
    place,
    `cat "$SECRETS_DIRECTORY/id" >&2; cat "$SECRETS_DIRECTORY/id"; case $id in good*) ;; *) exit 3; esac`,
  );
  const daemon = await place.start(place.config(["id"], { onChange })).ready();
  const before = place.published();
  place.put({ id: `bad ${CANARY}` });
  const refused = await daemon.says(/are not published/);
  expect(refused).toMatchObject({
    level: "error",
    message: "the new secrets are not published: the verify command exited with 3",
  });
  expect(place.published()).toEqual(before);
  expect(place.leftovers()).toEqual([]);
  place.put({ id: "good 2" });
  await eventually("the good set", () => place.read("id") === "good 2");
  expect(daemon.stderr).not.toContain(CANARY);
  expect(daemon.stderr).not.toContain("good 2");
});

test("asks verify about a refused set again only on SIGHUP", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const count = place.path("count");
  const allow = place.path("allow");
  // It looks before it counts: whoever sees the number may change what it would have seen.
  const onChange = script(place, `test -e '${allow}'; good=$?; echo x >>'${count}'; exit $good`);
  const { backend, fetches } = countingBackend(place);
  const config = place.config(["id"], { config: { secretsDir: undefined, pollingInterval: 0.05 }, onChange });
  const daemon = await place.start({ ...config, backend }).ready();
  place.put({ id: "two" });
  await daemon.says(/are not published/);
  const before = fetches();
  await eventually("more polls, which all find the refused set", () => fetches() > before + 5);
  const runs = () => fs.readFileSync(count, "utf8").length / 2;
  expect(runs()).toBe(1);
  daemon.signal("SIGHUP");
  await eventually("the second question", () => runs() === 2);
  fs.writeFileSync(allow, "");
  daemon.signal("SIGHUP");
  await daemon.says(/^published/);
  expect(runs()).toBe(3);
  expect(place.read("id")).toBe("two");
});

test("kills a hanging verify after its timeout, with its children, and keeps the old set", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const pids = place.path("pids");
  const onChange = script(place, `case $id in hang) sleep 1000 & echo $$ $! >'${pids}'; wait;; esac`, { timeout: 4 });
  const daemon = await place.start(place.config(["id"], { onChange })).ready();
  place.put({ id: "hang" });
  await daemon.says(/the verify command took longer than 4 s/);
  expect(place.read("id")).toBe("one");
  const started = fs.readFileSync(pids, "utf8").trim().split(" ");
  await eventually("the end of both processes", () => !started.some((pid) => isRunning(pid)));
  place.put({ id: "quick" });
  await eventually("the next set", () => place.read("id") === "quick");
});

test("publishes nothing when verify does not exist, and says so", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const onChange = { verify: { command: [place.path("absent")] } };
  const daemon = await place.start(place.config(["id"], { onChange })).ready();
  place.put({ id: "two" });
  await daemon.says(/cannot run the verify command: no such file or directory \(ENOENT\)/);
  expect(place.read("id")).toBe("one");
});

test("a stop during verify ends both at once, and leaves no staged secrets", async () => {
  const place = new Place();
  place.put({ id: "one" });
  const started = place.path("started");
  const onChange = script(place, `echo $$ >'${started}'; exec sleep 1000`, { timeout: 900 });
  const env = { INVOCATION_ID: "0".repeat(32) };
  const daemon = await place.start(place.config(["id"], { onChange }), { env }).ready();
  place.put({ id: "two" });
  await eventually("the command", () => fs.existsSync(started) && fs.readFileSync(started, "utf8") !== "");
  expect(await daemon.end()).toMatchObject({ code: 0 });
  await eventually("the end of the command", () => !isRunning(fs.readFileSync(started, "utf8").trim()));
  expect(place.leftovers()).toEqual([]);
  expect(fs.readdirSync(place.output).sort()).toEqual([".fetcher-lock", ".fetcher-state", "id", "secrets.env"]);
  expect(fs.readFileSync(join(place.output, "id"), "utf8")).toBe("one");
});

function isRunning(pid: string): boolean {
  try {
    return !/^State:\s*Z/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

test("does not publish a refused set after a kill: the earlier set stays", async () => {
  const place = new Place();
  place.put({ id: "good 1", "sometimes there": "good" });
  const onChange = script(place, 'case "$id$sometimes_there" in *bad*) exit 3; esac');
  const config = place.config(
    { id: {}, "sometimes there": { optional: true }, late: { optional: true } },
    { onChange },
  );
  await (await place.start(config).ready()).end("SIGKILL");
  const before = place.published();
  place.put({ id: `bad ${CANARY}`, late: "good" });
  const daemon = await place.start(config).ready();
  expect(await daemon.says(/are not published/)).toMatchObject({
    level: "error",
    message: expect.stringContaining("exited with 3") as string,
  });
  expect(place.published()).toEqual(before);
  // The refused set is not requested again; the next change is published, with all others since.
  place.put({ id: "good 2" });
  await daemon.says(/^published/);
  expect(place.published()).toMatchObject({ id: "good 2", late: "good" });
  expect(daemon.stderr).not.toContain(CANARY);
});
