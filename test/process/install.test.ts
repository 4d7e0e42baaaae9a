/** The README's way from a checkout to the commands, without the addon: it needs a registry, and may be missing. */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { blocksOf, project } from "../markdown.ts";
import { Place } from "./daemon.ts";

test("npm's package installs the commands, and they work", () => {
  const [block] = blocksOf("README.md", "sh").filter(({ heading }) => heading === "Install");
  expect(block?.code).toContain("\nnpm ci && npm pack && npm install -g ./secrets-sidecar-*.tgz\n");
  const place = new Place();
  place.put({ db_password: "good" });
  const run = (program: string, ...args: readonly string[]) =>
    execFileSync(program, args, { cwd: project, encoding: "utf8", env: { ...process.env, HOME: place.root } });
  // Built already, and other tests are using it.
  run("npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", place.root);
  const [tarball = ""] = fs.readdirSync(place.root).filter((name) => /^secrets-sidecar-.*\.tgz$/.test(name));
  const [prefix, output] = [place.path("prefix"), place.path("published")];
  const flags = ["--silent", "--offline", "--omit=optional", "--cache", place.path("cache"), "--prefix", prefix];
  run("npm", "install", "-g", ...flags, place.path(tarball));
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
