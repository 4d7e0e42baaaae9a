// What .ci/run asks of vitest's reports.
//   to-repeat REPORT      the files to run once more; fails where something failed that is not worth another look
//   sum DIRECTORY NAME…   says what failed, and counts; of NAME.json, and of NAME.again.json where that is
import { existsSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";

/** Each run of these tries something else: that another try passes says nothing. */
const RANDOM = /^test\/(properties|fuzz|faults|soak)\//;

const MOST_REPEATED = 8;

const read = (file) => JSON.parse(readFileSync(file, "utf8")).testResults;
const nameOf = ({ name }) => relative(".", name);
const failedOf = ({ assertionResults }) => assertionResults.filter(({ status }) => status === "failed");
const hasFailed = (file) => file.status === "failed" || failedOf(file).length > 0;

const print = (line) => process.stdout.write(`${line}\n`);

const [, , command, ...words] = process.argv;
if (command === "to-repeat") {
  const failed = read(words[0]).filter(hasFailed).map(nameOf);
  const repeated = failed.filter((name) => !RANDOM.test(name));
  // So many at once have one reason, and another look at each would take long.
  if (repeated.length > MOST_REPEATED) repeated.length = 0;
  print(repeated.join(" "));
  // A run that fails though no test did has another reason.
  process.exitCode = failed.length > 0 && repeated.length === failed.length ? 0 : 1;
} else {
  const [directory, ...names] = words;
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const name of names) {
    const first = read(join(directory, `${name}.json`));
    const file = join(directory, `${name}.again.json`);
    const again = new Map(existsSync(file) ? read(file).map((result) => [nameOf(result), result]) : []);
    for (const result of first.filter((one) => hasFailed(one) && again.has(nameOf(one))))
      say("FAILED AT FIRST", result);
    for (const one of first) count(again.get(nameOf(one)) ?? one);
  }
  process.stdout.write(process.env.WITHOUT ?? "");
  print(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  if (counts.failed > 0) process.exitCode = 1;

  function say(word, result) {
    if (result.message) print(`${word} ${nameOf(result)}: ${result.message}`);
    for (const { fullName, failureMessages } of failedOf(result))
      print(`${word} ${nameOf(result)}: ${fullName}\n  ${failureMessages.join("\n  ")}`);
  }

  function count(result) {
    if (hasFailed(result)) say("FAILED", result);
    // One that fails before its first test counts as a test.
    if (hasFailed(result) && failedOf(result).length === 0) counts.failed += 1;
    for (const { status } of result.assertionResults)
      counts[status === "passed" || status === "failed" ? status : "skipped"] += 1;
  }
}
