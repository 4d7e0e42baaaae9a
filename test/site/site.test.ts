/** The documents as a site: every page shows, every link leads somewhere, and no text is too pale to read. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect } from "vitest";
import { project } from "../markdown.ts";
import { needs } from "../requirements.ts";

const site = (script: string, ...flags: readonly string[]) =>
  spawnSync(process.execPath, [join(project, "site", script), ...flags], { cwd: project, encoding: "utf8" });

needs("site", "chromium").test("Chromium shows every page, in both colour schemes, on a desktop and on a phone", () => {
  const built = site("build.mjs");
  expect(built.stdout + built.stderr, "the build").toMatch(/build complete/);
  const { stdout, stderr, status } = site("check.mjs", "--brief");
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  expect(stdout).toMatch(/^[2-9]\d pages, 0 problems$/m);
});
