/** npm run bench: measures, and writes docs/explanation/figures.md (between its marks) and docs/explanation/figures.svg. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { chart } from "./figures-chart.ts";
import { type GuestTimes, measureInGuest, whyNoGuest } from "./guest-start.ts";
import { ms, project, ratio } from "./measure.ts";
import { type Memories, type Memory, measureMemory } from "./memory.ts";
import { type Idle, type Latency, measureIdle, measureLatency } from "./resident.ts";
import { markdownTable, writeTable } from "./page.ts";
import { measureStarts, type Start, type Starts } from "./start.ts";
import { COUNTS, openStores } from "./stores.ts";

const IDLE_SECONDS = 15;
const drawing = join(project, "docs/explanation/figures.svg");

export async function figures(rounds: number): Promise<void> {
  // Memory, as on a host: /run. Else the disk would be measured.
  const place = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "fetcher-bench-"));
  process.on("exit", () => {
    rmSync(place, { recursive: true, force: true });
  });
  const step = (what: string) => {
    console.log(`measuring ${what} ...`);
  };
  step("starts");
  const stores = await openStores(place);
  const missing = [...stores.missing];
  const starts = await measureStarts(stores, place, rounds).finally(() => stores.dispose());
  step("changes");
  const latency = await measureLatency(place, rounds);
  step("what an idle sidecar does");
  const idle = await measureIdle(place, IDLE_SECONDS);
  step("memory");
  const memories = await measureMemory(place);
  const noGuest = whyNoGuest();
  if (noGuest !== undefined) missing.push(`under systemd 257: ${noGuest}`);
  else step("services under systemd 257");
  const guest = noGuest === undefined ? await measureInGuest(rounds) : undefined;

  const rows = [
    ...startRows(starts),
    ...memoryRows(memories),
    ...otherRows(latency, idle),
    ...(guest ? guestRows(guest) : []),
  ];
  const text = [
    `Node ${process.version}, ${cpus().length} processors, medians of ${rounds} rounds.`,
    "",
    ...markdownTable(["", "1", "10", "100", "1,000", "baseline"], rows),
    ...(missing.length === 0 ? [] : ["", "Not measured here:", "", ...missing.map((what) => `- ${what}`)]),
  ].join("\n");
  const page = await writeTable("npm run bench", text);
  writeFileSync(drawing, chart(starts));
  console.log(`\n${text}\n\nwritten: ${page}, ${drawing}`);
}

function startRows({ rows, shell, node }: Starts): string[][] {
  const cell = (start: Start | undefined) =>
    start === undefined ? "left out" : `${ms(start.ready)}; ${ratio(start.processor, node.processor)}`;
  const baseline = `\`node -e 0\`: ${ms(node.ready)}; ${ms(node.processor)}`;
  return [
    ...Array.from(rows, ([row, starts]) => [`exec to READY, ${row}`, ...starts.map(cell), baseline]),
    ["a shell loop that copies as many files", ...shell.map(ms), ""],
  ];
}

function memoryRows({ onChange, withoutWatch, notResident, node }: Memories): string[][] {
  const kinds: [string, Memory][] = [
    ["resident, watching", onChange],
    ["resident, without a watch", withoutWatch],
    ["not resident", notResident],
  ];
  const mib = (value: number) => `${value.toFixed(0)} MiB`;
  const rowsOf = (what: "pss" | "uss") =>
    kinds.map(([kind, memory]) => [
      `${what.toUpperCase()} of sidecars, ${kind}`,
      ...memory[what].map(mib),
      "",
      `as many bare Nodes: ${node[what].map((value) => value.toFixed(0)).join(", ")} MiB`,
    ]);
  return [...rowsOf("pss"), ...rowsOf("uss")];
}

function otherRows({ published, noticed }: Latency, { seconds, sidecar, node }: Idle): string[][] {
  return [
    single("change to published, beyond `settle`", ms(published), `a bare \`fs.watch\` notices: ${ms(noticed)}`),
    single(`processor time in ${seconds} idle seconds`, ms(sidecar), `idle bare Node: ${ms(node)}`),
  ];
}

function guestRows({ alone, node, resident, notResident, restart, byHand }: GuestTimes): string[][] {
  const what = "start of a service under systemd 257";
  const baseline = `alone: ${ms(alone)}; after \`node -e 0\` as a unit: ${ms(node)}`;
  return [
    single(`${what}, with a sidecar`, `${ms(resident)}, ${ratio(resident, node)}`, baseline),
    single(`${what}, with one that is not resident`, `${ms(notResident)}, ${ratio(notResident, node)}`, baseline),
    single("change to restarted, beyond `settle`", ms(restart), `\`systemctl restart\` by hand: ${ms(byHand)}`),
  ];
}

function single(what: string, figure: string, baseline: string): string[] {
  return [what, figure, ...COUNTS.slice(1).map(() => ""), baseline];
}
