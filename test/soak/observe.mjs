// Runs in the guest: what can be seen of the pairs, as one line of JSON. Arguments: NAME:SIDECAR:OFFSET:UNIT,UNIT…, where OFFSET is
// how much of the target's log is known already, and the units are the sidecar's others.
import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";

const pairs = process.argv.slice(2).map((argument) => {
  const [name, sidecar, offset, others] = argument.split(":");
  return {
    name,
    target: `${name}.service`,
    sidecar,
    offset: Number(offset),
    others: others.split(",").filter(Boolean),
  };
});
const properties = "Id,ActiveState,SubState,Result,MainPID,NRestarts,StatusText";
const units = pairs.flatMap(({ target, sidecar, others }) => [target, sidecar, ...others]);
const shown = new Map(
  execFileSync("systemctl", ["show", `--property=${properties}`, "--", ...units], { encoding: "utf8", timeout: 20_000 })
    .split("\n\n")
    .map((block) => Object.fromEntries(block.trim().split("\n").map(field)))
    .map((unit) => [unit.Id, unit]),
);

const seen = pairs.map(({ name, target, sidecar, offset, others }) => {
  const [of, beside] = [shown.get(target), shown.get(sidecar)];
  return {
    name,
    // First: what is published then is at least as new.
    log: from(`/var/lib/pairs/${name}.log`, offset),
    target: of,
    sidecar: beside,
    others: Object.fromEntries(others.map((unit) => [unit, shown.get(unit)])),
    published: text(`/run/${name}-secrets/pub/token`),
    seen: of?.MainPID > 0 ? text(`/proc/${of.MainPID}/root/tmp/token`) : undefined,
    memory: beside?.MainPID > 0 && beside.ActiveState === "active" ? memory(beside.MainPID) : undefined,
  };
});
console.log(JSON.stringify(seen));

function field(line) {
  const equals = line.indexOf("=");
  return [line.slice(0, equals), line.slice(equals + 1)];
}

function text(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

function from(path, offset) {
  const file = openSync(path, "r");
  try {
    const rest = Buffer.alloc(Math.max(fstatSync(file).size - offset, 0));
    readSync(file, rest, 0, rest.length, offset);
    return rest.toString("utf8");
  } finally {
    closeSync(file);
  }
}

/** KiB. */
function memory(pid) {
  const rollup = text(`/proc/${pid}/smaps_rollup`);
  if (rollup === undefined || rollup === "") return undefined;
  const sum = (pattern) => [...rollup.matchAll(pattern)].reduce((total, [, size]) => total + Number(size), 0);
  return {
    uss: sum(/^Private_(?:Clean|Dirty): +(\d+)/gm),
    own: sum(/^(?:Anonymous|Swap): +(\d+)/gm),
  };
}
