/** docs/how-to/folder.md: its commands for a directory of your own, and each of its configurations. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { blocksOf, codeUnder } from "../markdown.ts";
import { Place } from "./daemon.ts";

const page = "docs/how-to/folder.md";

test("docs/how-to/folder.md: the commands create a secret that the configuration beside them finds", async () => {
  const place = new Place();
  const own = "A directory of your own";
  const [commands = ""] = codeUnder(page, own, "sh");
  const [configuration = ""] = codeUnder(page, own, "json");
  const here = (code: string) => code.replaceAll("/etc/fetcher", place.path("etc"));
  const { status, stderr } = spawnSync("sh", ["-ec", here(commands)], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const config = place.writeConfig(here(configuration));
  expect((await place.run(["--once", "--output", place.output, "--config", config])).code).toBe(0);
  expect(place.read("db_password")).toBe("the password");
});

test("docs/how-to/folder.md: the program accepts every configuration", async () => {
  const configurations = blocksOf(page, "json");
  expect(configurations).toHaveLength(4);
  for (const { code: configuration } of configurations) {
    const place = new Place();
    const { code, stderr } = await place.run(["--check=config", "--config", place.writeConfig(configuration)]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  }
});
