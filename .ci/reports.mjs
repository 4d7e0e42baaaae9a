// What .ci/run asks of the reports of test/report.ts.
//   to-repeat REPORT      the files to run once more; fails where something failed that is not worth another look
//   sum DIRECTORY NAME…   says what failed, and counts; of NAME.json, and of NAME.again.json where that is
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Each run of these tries something else: that another try passes says nothing. */
const RANDOM = /^test\/(properties|fuzz|faults|soak)\//;

const MOST_REPEATED = 8;

const read = (file) => JSON.parse(readFileSync(file, "utf8"));
const hasFailed = ({ failures }) => failures.length > 0;
const print = (line) => process.stdout.write(`${line}\n`);

const [, , command, ...words] = process.argv;
if (command === "to-repeat") {
  // The sum tells of that.
  if (!existsSync(words[0])) process.exit(1);
  const { files, unhandled } = read(words[0]);
  const failed = files.filter(hasFailed).map(({ name }) => name);
  const repeated = failed.filter((name) => !RANDOM.test(name));
  // So many at once have one reason, and another look at each would take long.
  if (repeated.length > MOST_REPEATED) repeated.length = 0;
  print(repeated.join(" "));
  // A run that fails though no test did has another reason.
  process.exitCode = failed.length > 0 && repeated.length === failed.length && unhandled.length === 0 ? 0 : 1;
} else {
  const [directory, ...names] = words;
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const name of names) {
    if (!existsSync(join(directory, `${name}.json`))) {
      print(`FAILED the phase "${name}": it was ended before it could report`);
      counts.failed += 1;
      continue;
    }
    const first = read(join(directory, `${name}.json`));
    const file = join(directory, `${name}.again.json`);
    const second = existsSync(file) ? read(file) : { files: [], unhandled: [] };
    const again = new Map(second.files.map((result) => [result.name, result]));
    for (const result of first.files.filter((one) => hasFailed(one) && again.has(one.name)))
      say("FAILED AT FIRST", result);
    for (const one of first.files) count(again.get(one.name) ?? one);
    for (const message of [...first.unhandled, ...second.unhandled]) {
      print(`FAILED outside of all tests: ${message}`);
      counts.failed += 1;
    }
  }
  process.stdout.write(process.env.WITHOUT ?? "");
  print(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  if (counts.failed > 0) process.exitCode = 1;

  function say(word, { name, failures }) {
    for (const { title, messages } of failures) print(`${word} ${name}: ${title}\n  ${messages.join("\n  ")}`);
  }

  function count(result) {
    say("FAILED", result);
    counts.passed += result.passed;
    counts.skipped += result.skipped;
    // A hook that fails counts as a test.
    counts.failed += result.failures.length;
  }
}
