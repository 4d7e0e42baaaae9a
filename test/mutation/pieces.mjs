// What is mutated, and what is known of it.
import { existsSync, readFileSync } from "node:fs";
import ts from "typescript";

/** The parts whose faults cost an operator a service or a secret, each with the tests that ought to see them. */
export const parts = [
  {
    tests: "test/unit/systemd/**/*.test.ts",
    files: [
      "src/systemd/target-action.ts",
      "src/systemd/start-limit.ts",
      "src/systemd/target-actions.ts",
      "src/systemd/systemctl.ts",
      "src/systemd/credential-copies.ts",
    ],
  },
  {
    tests: "test/{unit/publish,properties}/env-file.test.ts",
    files: ["src/publish/env-file.ts"],
  },
  {
    tests: "test/unit/engine/**/*.test.ts",
    files: [
      "src/engine/held-values.ts",
      "src/engine/problems.ts",
      "src/engine/owed.ts",
      "src/engine/asks.ts",
      "src/engine/cycle.ts",
      "src/engine/rotation.ts",
      "src/engine/store.ts",
      "src/engine/verify.ts",
      "src/engine/status.ts",
      "src/engine/fetch.ts",
      "src/engine/watch.ts",
      "src/engine/first-load.ts",
      "src/engine/first-publish.ts",
      "src/engine/sidecar.ts",
    ],
  },
  {
    tests: "test/unit/{engine/sidecar-layout,publish/**,output/**}.test.ts",
    files: [
      "src/publish/publisher.ts",
      "src/publish/secret-set.ts",
      "src/publish/overlap.ts",
      "src/publish/permissions.ts",
    ],
  },
];

export const scratch = "coverage/mutation";

/** Lines of a piece: some minutes of work. */
const LONG_ENOUGH = 40;

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
