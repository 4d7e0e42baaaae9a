/** Rendered files rotate, are adopted and are checked like secrets. */
import * as fs from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Canaries } from "./canaries.ts";
import { eventually, Place } from "./daemon.ts";
import { fakeSystemctl } from "./fake-systemctl.ts";

/** A place with a template that makes app.ini. */
function withTemplate(text: string, more: object = {}) {
  const place = new Place();
  const template = place.path("app.mustache");
  fs.writeFileSync(template, text);
  return { place, template, templates: { "app.ini": { template: "app.mustache", ...more } } };
}

describe("a rendered file", () => {
  test("is in the set that verify sees and in the links, and follows a rotation before the action", async () => {
    const { place, templates } = withTemplate("p={{a}} q={{b}}\n");
    place.put({ a: "1", b: "2" });
    const systemctl = fakeSystemctl(place, join(place.output, "app.ini"));
    const copy = ["sh", "-c", `cp "$SECRETS_DIRECTORY/app.ini" '${place.path("verified")}'`];
    const config = place.config(["a", "b"], {
      templates,
      service: "target.service",
      output: { links: place.path("links") },
      onChange: { minInterval: 0, verify: { command: copy } },
    });
    const daemon = await place.start(config, systemctl).ready();
    expect(place.read("app.ini")).toBe("p=1 q=2\n");
    expect(fs.readlinkSync(place.path("links", "app.ini"))).toMatch(/out\/app\.ini$/);
    place.put({ a: "3" });
    await daemon.says(/restart done/);
    expect(systemctl.calls()).toEqual([expect.stringMatching(/-> p=3 q=2$/)]);
    expect(fs.readFileSync(place.path("verified"), "utf8")).toBe("p=3 q=2\n");
    await daemon.end();
    expect(fs.existsSync(join(place.output, "app.ini"))).toBe(false);
    // It made that directory itself.
    expect(fs.existsSync(place.path("links"))).toBe(false);
  });

  test("is removed when the configuration no longer has it", async () => {
    const { place, templates } = withTemplate("{{a}}");
    place.put({ a: "1" });
    const output = { links: place.path("links") };
    await (await place.start(place.config(["a"], { templates, output })).ready()).end("SIGKILL");
    expect(place.read("app.ini")).toBe("1");
    await place.start(place.config(["a"], { output })).ready();
    expect(place.read("app.ini")).toBeUndefined();
    expect(fs.readdirSync(place.path("links")).sort()).toEqual(["a", "secrets.env"]);
  });

  test("survives a crash during an outage; one whose template changed meanwhile gets its action", async () => {
    const { place, template, templates } = withTemplate("p={{a}}\n");
    place.put({ a: "1" });
    const systemctl = fakeSystemctl(place, join(place.output, "app.ini"));
    const config = place.config(["a"], { templates, service: "target.service", onChange: { minInterval: 0 } });
    await (await place.start(config, systemctl).ready()).end("SIGKILL");
    fs.rmSync(join(place.store, "a"));
    fs.writeFileSync(template, "new={{a}}\n");
    const daemon = await place.start(config, systemctl).ready();
    expect(place.read("app.ini")).toBe("new=1\n");
    await daemon.says(/restart done/);
  });

  test("follows its template on SIGHUP, with the action; a wrong template changes nothing, and the log says so", async () => {
    const { place, template, templates } = withTemplate("p={{a}}\n");
    place.put({ a: "1" });
    const systemctl = fakeSystemctl(place, join(place.output, "app.ini"));
    const config = place.config(["a"], { templates, service: "target.service", onChange: { minInterval: 0 } });
    const daemon = await place.start(config, systemctl).ready();
    fs.writeFileSync(template, "{{oops}}\n");
    daemon.signal("SIGHUP");
    const refused = await daemon.says(/there is no secret "oops"/);
    expect(refused).toMatchObject({ level: "error", message: expect.stringContaining("line 1") as string });
    await daemon.says(/nothing new is published: .*the templates read before stay in use/);
    expect(place.read("app.ini")).toBe("p=1\n");
    place.put({ a: "2" });
    await daemon.says(/restart done/);
    expect(place.read("app.ini")).toBe("p=2\n");
    fs.writeFileSync(template, "new={{a}}\n");
    const from = daemon.lines.length;
    daemon.signal("SIGHUP");
    await daemon.says(/^published changed templates/, from);
    await daemon.says(/restart done/, from);
    expect(systemctl.calls().at(-1)).toMatch(/-> new=2$/);
  });

  test("keeps its value when a secret is not text: that secret waits, the others rotate", async () => {
    const { place, templates } = withTemplate("{{a}}\n");
    place.put({ a: "1", b: "1" });
    const daemon = await place.start(place.config(["a", "b"], { templates })).ready();
    place.put({ a: Buffer.from([0xff]) });
    await daemon.says(/the new secrets are not published: secret "a": it is not UTF-8 text, which template .* line 1/);
    place.put({ b: "2" });
    await eventually("the other one", () => place.read("b") === "2");
    expect([place.read("a"), place.read("app.ini")]).toEqual(["1", "1\n"]);
    place.put({ a: "3" });
    await eventually("a text again", () => place.read("app.ini") === "3\n");
  });

  needs("root").test("belongs to its secret's owner, and no other user can read it", async () => {
    const { place, templates } = withTemplate("{{a}}{{b}}");
    place.put({ a: "1", b: "2" });
    await place.start(place.config({ a: { owner: 4321 }, b: { mode: "0444" } }, { templates })).ready();
    const { uid, mode } = fs.statSync(join(place.output, "app.ini"));
    expect([uid, (mode & 0o777).toString(8)]).toEqual([4321, "400"]);
  });
});

describe("in a terminal", () => {
  test("--once shows and publishes it, --check tests it, and neither shows a value", async () => {
    const canaries = new Canaries();
    const { place, template, templates } = withTemplate("p={{a}}\n");
    const value = canaries.value("a");
    place.put({ a: value });
    const args = ["--config", place.writeConfig(place.config(["a"], { templates }))];
    const once = await place.run([...args, "--once", "--output", place.output]);
    expect(once).toMatchObject({ code: 0, stderr: "" });
    const rows = (text: string) => text.split("\n").map((line) => line.split(/ {2,}/));
    const size = String(Buffer.byteLength(value) + 3);
    expect(rows(once.stdout)[2]).toEqual(["-", "app.ini", "-", size, "-", `template ${template}`]);
    expect(place.read("app.ini")).toBe(`p=${value}\n`);
    const check = await place.run([...args, "--check"]);
    expect(check).toMatchObject({ code: 0, stderr: "" });
    expect(rows(check.stdout)[2]).toEqual(["app.ini", "can be rendered", size, "-", `template ${template}`]);
    place.put({ a: `${value}\0` });
    const bad = await place.run([...args, "--check"]);
    expect(bad.code).toBe(78);
    expect(rows(bad.stdout)[2]?.slice(0, 2)).toEqual(["app.ini", "cannot be rendered"]);
    expect(bad.stderr).toMatch(/^secret "a": it has NUL bytes, which template .* needs at line 1\n$/);
    const refused = await place.run([...args, "--once"]);
    expect(refused.code).toBe(78);
    fs.rmSync(join(place.store, "a"));
    const missing = await place.run([...args, "--check"]);
    expect(missing.code).toBe(66);
    expect(rows(missing.stdout)[2]?.slice(0, 2)).toEqual(["app.ini", "waits for secrets"]);
    for (const { stdout, stderr } of [once, check, bad, refused, missing]) canaries.watch("output", stdout + stderr);
    canaries.expectNoLeak();
  });

  test.each([
    ["an undeclared name", "x\n{{dp_password}}", /app\.mustache line 2: there is no secret .*dp_password/],
    ["a section without an end", "{{#a}}", /app\.mustache line 1: the section .*a.* is not closed/],
    ["a missing file", undefined, /app\.mustache cannot be read: no such file or directory \(ENOENT\)/],
  ])("--check=config, and the daemon, refuse %s", async (_, text, message) => {
    const { place, template, templates } = withTemplate(text ?? "");
    if (text === undefined) fs.rmSync(template);
    const args = ["--config", place.writeConfig(place.config(["a"], { templates }))];
    for (const mode of [["--check=config"], []]) {
      const exit = await place.run([...args, ...mode]);
      expect(exit.code).toBe(78);
      expect(exit.stderr).toMatch(message);
      expect(exit.stderr.trim().split("\n")).toHaveLength(1);
    }
  });
});

test("the page on templates works as written", async () => {
  const page = fs.readFileSync(join(import.meta.dirname, "../../docs/how-to/templates.md"), "utf8");
  const block = (language: string) => new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, "s").exec(page)?.[1] ?? "";
  const place = new Place();
  // The places that it names are root's: these are in theirs.
  const moved = (text: string) =>
    text
      .replaceAll("/etc/fetcher/app/secrets", place.store)
      .replaceAll("/etc/fetcher/app/", `${place.root}/`)
      .replaceAll("/etc/fetcher/", `${place.root}/`)
      .replaceAll("/run/app-secrets/pub", place.output);
  place.writeConfig(moved(block("json")), "app.json");
  fs.writeFileSync(place.path("app.ini.mustache"), block("mustache"));
  place.put({ "db.password": "one\n" });
  const commands = moved(block("sh")).trim().split("\n");
  expect(commands).toHaveLength(2);
  for (const command of commands) {
    const [name, ...args] = command.split(" ");
    expect(name).toBe("fetcher");
    const exit = await place.run([...args, "--output", place.output]);
    expect(exit).toMatchObject({ code: 0, stderr: "" });
    expect(exit.stdout).toContain("app.ini");
  }
  expect(place.read("app.ini")).toBe("[database]\nuser = app\npassword = one\n\n[mail]\nenabled = no\n");
  place.put({ "smtp password": "two" });
  expect((await place.run([...(commands[1] ?? "").split(" ").slice(1), "--output", place.output])).code).toBe(0);
  expect(place.read("app.ini")).toBe("[database]\nuser = app\npassword = one\n\n[mail]\npassword = two\n");
});
