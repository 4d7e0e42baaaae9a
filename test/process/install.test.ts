/** The README's way from a checkout to the commands, without the addon: it needs a registry, and may be missing. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { blocksOf, project } from "../markdown.ts";
import { Place } from "./daemon.ts";

const readFileSync = (path: string) => fs.readFileSync(join(project, path), "utf8");

test("npm's package installs the commands, and they work", () => {
  const [block] = blocksOf("README.md", "sh").filter(({ heading }) => heading === "Install");
  const [, command = ""] = /^npm ci && (?!npm run package)(.*)$/m.exec(block?.code ?? "") ?? [];
  expect(readFileSync("docs/tutorial/plain-systemd.md")).toContain(`npm ci && ${command}\n`);
  const place = new Place();
  place.put({ db_password: "good" });
  const run = (program: string, ...args: readonly string[]) =>
    execFileSync(program, args, { cwd: project, encoding: "utf8", env: { ...process.env, HOME: place.root } });
  // A copy: it is built already, and other tests are using it.
  const checkout = place.path("checkout");
  const { files } = JSON.parse(readFileSync("package.json")) as { files: readonly string[] };
  for (const name of ["package.json", "README.md", "LICENSE", ...files.filter((one) => !one.startsWith("!"))])
    fs.cpSync(join(project, name), join(checkout, name), { recursive: true });
  // An older one is still there.
  fs.writeFileSync(join(checkout, "secrets-sidecar-0.0.1.tgz"), "");
  const [prefix, output] = [place.path("prefix"), place.path("published")];
  execFileSync("sh", ["-c", command], {
    cwd: checkout,
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      ...process.env,
      ...{
        HOME: place.root,
        npm_config_cache: place.path("cache"),
        npm_config_prefix: prefix,
        npm_config_omit: "optional",
      },
      ...{ npm_config_offline: "true", npm_config_ignore_scripts: "true", npm_config_loglevel: "error" },
    },
  });
  const fetched = ["--once", "--backend", "folder", "--set", `secretsDir=${place.store}`, "--output", output];
  expect(run(join(prefix, "bin/fetcher"), ...fetched, "db_password")).toContain("db_password");
  expect(fs.readFileSync(join(output, "db_password"), "utf8")).toBe("good");
  fs.accessSync(join(prefix, "bin/with-secrets"), fs.constants.X_OK);
  expect(fs.existsSync(join(prefix, "lib/node_modules/secrets-sidecar/dist/fetcher-secrets.sh"))).toBe(true);
  // It needs no Node, and has a hundred megabytes.
  expect(fs.existsSync(join(prefix, "lib/node_modules/secrets-sidecar/dist/fetcher"))).toBe(false);
  const schema = fs.readFileSync(join(prefix, "lib/node_modules/secrets-sidecar/dist/fetcher.schema.json"), "utf8");
  expect(run(join(prefix, "bin/fetcher"), "--print-schema")).toBe(schema);
  expect(JSON.parse(schema)).toHaveProperty("properties.secrets");

  // An author of a backend gets the contract's types and its errors from the installed package.
  fs.mkdirSync(place.path("author/node_modules"), { recursive: true });
  fs.symlinkSync(join(prefix, "lib/node_modules/secrets-sidecar"), place.path("author/node_modules/secrets-sidecar"));
  fs.writeFileSync(place.path("author/package.json"), '{ "type": "module" }');
  const check = (name: string, lines: readonly string[]) => {
    const file = place.path(`author/${name}`);
    fs.writeFileSync(file, lines.join("\n"));
    const options: ts.CompilerOptions = {
      ...{ strict: true, noEmit: true, module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2023 },
      ...{ types: ["node"], typeRoots: [join(project, "node_modules/@types")] },
    };
    const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([file], options));
    return diagnostics.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, " "));
  };
  const module = (interval: string) => [
    'import { BackendError, type BackendModule, ConfigError } from "secrets-sidecar/backend";',
    "const backend: BackendModule<undefined, string> = {",
    `  name: "mine", defaultPollingInterval: ${interval},`,
    '  parseSettings: () => { throw new ConfigError("url", "is not there"); },',
    "  parseSource: (id) => id, describe: (source) => source,",
    '  open: async () => ({ fetch: async () => { throw new BackendError("denied", "no"); } }),',
    "};",
    "export default backend;",
  ];
  expect(check("right.ts", module("60"))).toEqual([]);
  expect(check("wrong.ts", module('"60"'))).toEqual(["Type 'string' is not assignable to type 'number'."]);
  const named = 'import("secrets-sidecar/backend").then((m) => console.log(new m.BackendError("denied", "no").kind))';
  fs.writeFileSync(place.path("author/run.mjs"), named);
  expect(run(process.execPath, place.path("author/run.mjs"))).toBe("denied\n");
  // npm downloads packages that its own cache lacks.
}, 300_000);
