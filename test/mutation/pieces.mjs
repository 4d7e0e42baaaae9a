// What is mutated, and what is known of it.
import { existsSync, readFileSync } from "node:fs";
import ts from "typescript";

/**
 * The files whose faults cost an operator a service or a secret, each with the tests that ought to see them: few enough that a
 * file takes minutes. What only another file's tests would see is taken for a survivor. Of two, the second tries what survives
 * the first: it takes longer.
 */
export const tested = {
  "src/systemd/one-target.ts": "test/unit/systemd/{one-target,broken-target,told-target}.test.ts",
  "src/systemd/start-limit.ts": "test/unit/systemd/{start-limit,one-target,broken-target,told-target}.test.ts",
  "src/systemd/all-targets.ts": "test/unit/systemd/all-targets.test.ts",
  "src/systemd/systemctl.ts": "test/unit/systemd/systemctl.test.ts",
  "src/systemd/credential-copies.ts": "test/unit/systemd/credential-copies.test.ts",
  "src/publish/env-file.ts": ["test/unit/publish/env-file.test.ts", "test/{unit/publish,properties}/env-file.test.ts"],
  "src/publish/publisher.ts": "test/unit/{publish/publisher,output/published-directory}.test.ts",
  "src/publish/layout.ts": "test/unit/publish/{layout,permissions}.test.ts",
  "src/publish/overlap.ts": "test/unit/publish/overlap.test.ts",
  "src/publish/permissions.ts": "test/unit/publish/{permissions,layout}.test.ts",
  ...engine("held-values", "held-values", "held-values,held-problems,rotation,sidecar,sidecar-leases"),
  ...engine("problems", "problems,held-problems"),
  ...engine("owed", "owed"),
  ...engine("ask-times", "ask-times,owed"),
  ...engine("cycle", "cycle"),
  ...engine("rotation", "rotation-publisher"),
  ...engine("store", "store,open-store"),
  ...engine("verify", "verify", "verify,rotation"),
  ...engine("status", "status", "status,sidecar"),
  ...engine("fetch", "fetch,settle"),
  ...engine("watch", "watch", "watch,sidecar"),
  ...engine("lookouts", "lookouts"),
  "backends/vault/evidence.ts": "test/unit/backends/vault-evidence.test.ts",
  ...engine("first-load", "first-load"),
  ...engine("first-publish", "first-publish,sidecar-not-resident"),
  ...engine("settle", "settle"),
  ...engine("emptied", "*"),
  ...engine("broken-service", "broken-services,broken-service"),
  ...engine("sidecar", "sidecar,sidecar-facts,sidecar-look", "sidecar*,broken-service,takeover,rotation,retries"),
};

function engine(name, ...tests) {
  return { [`src/engine/${name}.ts`]: tests.map((names) => `test/unit/engine/{${names},}.test.ts`) };
}

export const scratch = "coverage/mutation";

/** Lines of a piece: some minutes of work. All of its tests run once for each. */
const LONG_ENOUGH = 100;

/** Consecutive lines that are whole statements or whole members of a class: no mutant is in two pieces. */
export function piecesOf(file) {
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true);
  const nodes = source.statements.flatMap((node) => (ts.isClassDeclaration(node) ? [...node.members] : [node]));
  const line = (position) => source.getLineAndCharacterOfPosition(position).line + 1;
  const pieces = [];
  for (const node of nodes) {
    const [from, to] = [line(node.getStart()), line(node.getEnd())];
    const last = pieces.at(-1);
    if (last === undefined || last.to - last.from >= LONG_ENOUGH) pieces.push({ from, to });
    else last.to = to;
  }
  const results = (index) => `${scratch}/${file.replaceAll("/", "-")}.${index}.json`;
  return pieces.map((piece, index) => ({ file, ...piece, results: results(index) }));
}

/** @returns undefined where it has not been run as it is now, nor its tests. */
export function mutantsOf({ file, from, to, results }) {
  if (!existsSync(results)) return undefined;
  const report = JSON.parse(readFileSync(results, "utf8"));
  const { source, mutants } = report.files[file] ?? {};
  if (source !== readFileSync(file, "utf8")) return undefined;
  const isCurrent = ([name, { source: then }]) => existsSync(name) && then === readFileSync(name, "utf8");
  if (!Object.entries(report.testFiles ?? {}).every(isCurrent)) return undefined;
  return mutants.filter(({ location: { start, end } }) => start.line >= from && end.line <= to);
}

export function survives({ status }) {
  return status === "Survived" || status === "NoCoverage";
}
