/** docs/folder.md: the commands for a directory of one's own, and every configuration. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { block, blocks, documentation, sections } from "../markdown.ts";
import { Place } from "./daemon.ts";

const text = documentation("docs/folder.md");

test("docs/folder.md: the commands make a secret that the configuration beside them finds", async () => {
  const place = new Place();
  const own = sections(text).get("A directory of your own") ?? "";
  const here = (code: string) => code.replaceAll("/etc/fetcher", place.path("etc"));
  const { status, stderr } = spawnSync("sh", ["-ec", here(block(own, "sh"))], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const config = place.writeConfig(here(block(own, "json")));
  expect((await place.run(["--once", "--output", place.output, "--config", config])).code).toBe(0);
  expect(place.read("db_password")).toBe("the password");
});

test("docs/folder.md: the program accepts every configuration", async () => {
  const configurations = blocks(text, "json");
  expect(configurations).toHaveLength(4);
  for (const configuration of configurations) {
    const place = new Place();
    const { code, stderr } = await place.run(["--check=config", "--config", place.writeConfig(configuration)]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  }
});
