/** decode, join and all, from a store to what is published. */
import * as fs from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Place } from "./daemon.ts";

const VALUE = "canary-formats-7e";

test("publishes decoded base64 and joined blocks, and rotates them", async () => {
  const place = new Place();
  place.put({
    blob: Buffer.from(`${VALUE}\0`).toString("base64"),
    chain: JSON.stringify([`${VALUE} 1`, `${VALUE} 2\n`]),
  });
  const daemon = await place
    .start(place.config({ blob: { decode: "base64", env: null }, chain: { join: true, env: null } }))
    .ready();
  expect(place.read("blob")).toBe(`${VALUE}\0`);
  expect(place.read("chain")).toBe(`${VALUE} 1\n${VALUE} 2\n`);
  place.put({ blob: `${VALUE}!` });
  const line = await daemon.says(/is not base64/);
  expect(line.message).toContain(join(place.store, "blob"));
  expect(place.read("blob")).toBe(`${VALUE}\0`);
  const before = daemon.lines.length;
  place.put({ blob: Buffer.from("new").toString("base64") });
  await daemon.says(/^published/, before);
  expect(place.read("blob")).toBe("new");
  expect(daemon.stderr).not.toContain(VALUE);
});

test("publishes all keys of an object as files and variables, follows added and removed keys, and keeps the set when the object vanishes", async () => {
  const place = new Place();
  const whole = (keys: object) => {
    place.put({ app: JSON.stringify(keys) });
  };
  whole({ user: "me", "db.port": 0.1, empty: null, "a/b": VALUE, plain: VALUE });
  place.put({ app_plain: "mine" });
  const config = place.config({ app: { all: true, prefix: "app_" }, app_plain: {} });
  const daemon = await place.start(config).ready();
  expect(place.read("app_user")).toBe("me");
  expect(place.read("app_db.port")).toBe("0.1");
  expect(place.read("app_plain")).toBe("mine");
  expect(place.read("secrets.env")).toBe("app_plain='mine'\napp_user='me'\napp_db_port='0.1'\n");
  await daemon.says(/^key "app_a\/b" cannot be published: its name must not contain a slash$/);
  await daemon.says(/^key "app_plain" cannot be published: another file has that name$/);
  expect(place.read("app_empty")).toBeUndefined();

  let before = daemon.lines.length;
  whole({ user: "you", "later key": "x" });
  await daemon.says(/^published/, before);
  expect(place.read("app_user")).toBe("you");
  expect(place.read("app_later key")).toBe("x");
  expect(place.read("app_db.port")).toBeUndefined();

  before = daemon.lines.length;
  fs.rmSync(join(place.store, "app"));
  await daemon.says(/no file .*app/, before);
  expect(place.read("app_user")).toBe("you");
  await daemon.end("SIGKILL");

  await place.start(config).ready();
  expect(place.read("app_user")).toBe("you");
  expect(place.read("app_later key")).toBe("x");
  expect(daemon.stderr).not.toContain(VALUE);
});

test("refuses incompatible options with the option's path", async () => {
  const place = new Place();
  place.put({ a: "{}" });
  for (const [secret, message] of [
    [{ all: true, env: "A" }, "secrets.a.env: names one variable"],
    [{ all: true, join: true }, "secrets.a.all: does not go together with decode and join"],
    [{ join: true, decode: "base64" }, "secrets.a.join: does not go together with decode"],
    [{ prefix: "x" }, 'secrets.a.prefix: needs "all": true'],
    [{ all: true, prefix: "app/" }, "secrets.a.prefix: must not contain a slash"],
    [{ all: true, prefix: ".fetcher-" }, "secrets.a.prefix: must not begin with .fetcher-"],
    [{ all: true, prefix: "x".repeat(255) }, "secrets.a.prefix: must not be longer than 255 bytes"],
    [{ all: true, prefix: "a\n" }, "secrets.a.prefix: must not contain control characters"],
    [{ decode: "hex" }, 'secrets.a.decode: expected "base64"'],
  ] as const) {
    const exit = await place.run(["--config", place.writeConfig(place.config({ a: secret })), "--check=config"]);
    expect(exit.code).toBe(78);
    expect(exit.stderr.replaceAll('\\"', '"')).toContain(message);
  }
});
