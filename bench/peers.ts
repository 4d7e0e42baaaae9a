/** npm run bench -- peers: fetcher beside other programs that do the same, in one table of docs/explanation/figures.md. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { serverBinary } from "../test/vault/binary.ts";
import { VaultServer } from "../test/vault/server.ts";
import { ms, ratio } from "./measure.ts";
import { whyNoGuest } from "./guest-start.ts";
import { markdownTable, writeTable } from "./page.ts";
import { ownExecutable, peersHere, POLL } from "./peer.ts";
import {
  type Bench,
  type Figures,
  FIRST,
  measurePeerStarts,
  measureServices,
  SERVICES,
  type ServicesFigures,
  type Spread,
  type StartFigures,
  writeValue,
} from "./peer-measures.ts";
import { FOLDERS, type FolderFigures, measureFolders } from "./peer-folder.ts";
import { measureServiceStarts, type ServiceStart } from "./peer-service.ts";
import { IDLE, measureResident, type ResidentFigures } from "./peer-resident.ts";

const COMMAND = "npm run bench -- peers";
const [START_ROUNDS, SERVICES_ROUNDS, CHANGES, GUEST_ROUNDS] = [15, 3, 10, 9];

export async function peers(): Promise<void> {
  if (serverBinary() === undefined) throw new Error("no vault and no bao is here; scripts/vault-server.sh builds one");
  // Files in memory, as on a host: /run. The programs on a disk.
  const place = temporary(existsSync("/dev/shm") ? "/dev/shm" : tmpdir());
  const executables = temporary(tmpdir());
  const { peers: found, missing: others } = peersHere();
  const missing = [...others];
  const server = await VaultServer.dev();
  try {
    const tokenPath = join(place, "token");
    writeFileSync(tokenPath, await server.token('path "secret/*" { capabilities = ["read"] }'));
    const all = found.map((peer, index) => ownExecutable(peer, index, executables));
    const bench: Bench = { server, tokenPath, place, peers: all };
    await writeValue(bench, FIRST);
    console.log("measuring starts ...");
    const starts = await measurePeerStarts(bench, START_ROUNDS);
    const folders = await measureFolders(bench, START_ROUNDS);
    console.log("measuring starts of a service ...");
    const noGuest = whyNoGuest();
    const guest = noGuest === undefined ? await measureServiceStarts(GUEST_ROUNDS) : [];
    if (noGuest !== undefined) missing.push(`starts under systemd 257: ${noGuest}`);
    console.log(`measuring ${SERVICES.join(", ")} services ...`);
    const services = await measureServices(bench, SERVICES_ROUNDS);
    console.log(`measuring memory, ${IDLE} idle seconds, changes ...`);
    const residents = await measureResident(bench, CHANGES);
    const text = [
      `Node ${process.version}, ${cpus().length} processors, medians of ${START_ROUNDS} rounds (many services: ${SERVICES_ROUNDS}), ${CHANGES} changes.`,
      "",
      ...markdownTable(
        ["", ...all.map(({ name }) => name)],
        [...startRows(starts), ...folderRows(folders), ...residentRows(residents), ...serviceRows(services)],
      ),
      ...(guest.length === 0 ? [] : ["", ...serviceTable(guest)]),
      ...(missing.length === 0 ? [] : ["", "Not measured here:", "", ...missing.map((what) => `- ${what}`)]),
    ].join("\n");
    console.log(`\n${text}\n\nwritten: ${await writeTable(COMMAND, text)}`);
  } finally {
    await server.dispose();
  }
}

function temporary(parent: string): string {
  const directory = mkdtempSync(join(parent, "fetcher-peers-"));
  process.on("exit", () => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

function startRows(starts: Figures<StartFigures>): string[][] {
  const cell = ({ median, lowest }: Spread) => `${ms(median)} (${ms(lowest)})`;
  return [
    ["exec until both files are there (lowest)", ...starts.map(({ ready }) => cell(ready))],
    ["processor time until then (lowest)", ...starts.map(({ processor }) => cell(processor))],
  ];
}

function folderRows(folders: Figures<readonly (FolderFigures | undefined)[]>): string[][] {
  const cells = (index: number, what: keyof FolderFigures) =>
    folders.map((column) => {
      const figures = column[index]?.[what];
      return figures === undefined ? "" : `${ms(figures.median)} (${ms(figures.lowest)})`;
    });
  return FOLDERS.flatMap((count, index) => [
    [`a folder of ${count.toLocaleString("en")}: exec until all are there (lowest)`, ...cells(index, "ready")],
    [`a folder of ${count.toLocaleString("en")}: processor time until then (lowest)`, ...cells(index, "processor")],
  ]);
}

function serviceTable(starts: readonly ServiceStart[]): string[] {
  const own = starts.find(({ isBaseline }) => isBaseline)?.time.median ?? NaN;
  return [
    `A service's start under systemd 257, until its program is executed, medians of ${GUEST_ROUNDS} rounds in turns:`,
    "",
    ...markdownTable(
      ["", "median (lowest)", "beside `true` in the same sandbox"],
      starts.map(({ what, time }) => [what, `${ms(time.median)} (${ms(time.lowest)})`, ratio(time.median, own)]),
    ),
  ];
}

function residentRows(residents: Figures<ResidentFigures>): string[][] {
  const row = (what: string, cell: (figures: ResidentFigures) => string) => [what, ...residents.map(cell)];
  const optional = (value: number | undefined) => (value === undefined ? "" : ms(value));
  return [
    row("memory of one: anonymous", ({ anonymous }) => mib(anonymous)),
    row("memory of one: all (PSS)", ({ pss }) => mib(pss)),
    row("the second and the third add: anonymous", ({ marginalAnonymous }) =>
      marginalAnonymous.map((value) => mib(value)).join(", "),
    ),
    row("the second and the third add (PSS)", ({ marginal }) => marginal.map((value) => mib(value)).join(", ")),
    row(`processor time in ${IDLE} idle seconds`, ({ idle }) => ms(idle)),
    row(`requests meanwhile, one every ${POLL} s`, ({ requests }) => String(requests)),
    row("a change until it is in the files", ({ change }) => optional(change)),
    row("of that: from the answer that has it", ({ afterAnswer }) => optional(afterAnswer)),
  ];
}

function serviceRows(services: Figures<readonly ServicesFigures[]>): string[][] {
  return SERVICES.flatMap((count, index) => {
    const what = count === 1 ? "1 service" : `${count} services`;
    const row = (name: string, cell: (figures: ServicesFigures) => string) => [
      `${what}: ${name}`,
      ...services.map((column) => (column[index] === undefined ? "" : cell(column[index]))),
    ];
    return [
      row("until all have their files", ({ wall }) => ms(wall)),
      row("processor time until then", ({ processor }) => ms(processor)),
      row("memory in total (PSS)", ({ memory }) => mib(memory)),
    ];
  });
}

function mib(value: number): string {
  return `${value.toFixed(value < 100 ? 1 : 0)} MiB`;
}
