/** One line for each sidecar, and its problem below: ten of them fit a screen of 80 by 24. */
import { type Scope, systemScope } from "../config/scope.ts";
import { withoutSuffix } from "../config/unit-names.ts";
import type { SidecarState, SidecarStatus } from "./sidecars.ts";

export interface TableOptions {
  readonly now: Date;
  /** Of the program that prints it. */
  readonly version: string;
  readonly color: boolean;
  /** Of the screen; undefined: no line is broken, for a program to read. */
  readonly columns: number | undefined;
  /** Whose sidecars they are; undefined: the system's. */
  readonly scope?: Pick<Scope, "isUser" | "configDirectory">;
}

const HEAD = ["SERVICE", "BACKEND", "SECRETS", "STATE", "CHECKED", "NEXT", "LEASE", "VERSION"];
const STATE = HEAD.indexOf("STATE");
/** What a narrow screen does without, in this order. */
const LESS_IMPORTANT = ["VERSION", "LEASE", "NEXT", "BACKEND", "CHECKED", "SECRETS"].map((head) => HEAD.indexOf(head));
/** Between two columns. */
const GAP = 2;
/** Longer names of services and backends would push the rest off a screen of 80 columns. */
const LONGEST = 24;
/** The width of the rest, where the backend is a long path too. */
const REST = 100;
/** The most lines that show the problem of one sidecar. */
const MOST_LINES = 3;

const colors: Readonly<Record<SidecarState, number>> = { ok: 32, trouble: 33, starting: 36, failed: 31, stopped: 2 };

export function statusTable(sidecars: readonly SidecarStatus[], options: TableOptions): string {
  if (sidecars.length === 0) {
    const { isUser, configDirectory } = options.scope ?? systemScope;
    return `no sidecar ${isUser ? "of yours" : "on this host"}: ${printable(configDirectory)} has no file, and none runs\n`;
  }
  const rows = sidecars.map((sidecar) => cells(sidecar, options));
  const widths = HEAD.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const shown = columnsFor(widths, options.columns);
  const line = (row: readonly string[], state?: SidecarState) =>
    shown
      .map((column) => {
        const text = (row[column] ?? "").padEnd(widths[column] ?? 0);
        return state !== undefined && column === STATE && options.color
          ? `\x1b[${String(colors[state])}m${text}\x1b[0m`
          : text;
      })
      .join("  ")
      .trimEnd();
  const lines = sidecars.flatMap(({ state, problem }, index) => [
    line(rows[index] ?? [], state),
    ...(problem === null ? [] : broken(printable(problem), options.columns)),
  ]);
  return `${[line(HEAD), ...lines].join("\n")}\n`;
}

/** @returns the columns that the screen has room for: a line that breaks is hard to read. */
function columnsFor(widths: readonly number[], screen: number | undefined): readonly number[] {
  let shown: readonly number[] = [...widths.keys()];
  const width = () => shown.reduce((sum, column) => sum + (widths[column] ?? 0) + GAP, -GAP);
  for (const column of LESS_IMPORTANT) {
    if (screen === undefined || screen === 0 || width() <= screen) break;
    shown = shown.filter((one) => one !== column);
  }
  return shown;
}

function cells({ name, services, state, facts }: SidecarStatus, { now, columns }: TableOptions): readonly string[] {
  const [service = name, ...others] = services.map((unit) => withoutSuffix(unit));
  const shown = others.length === 0 ? service : `${service} +${String(others.length)}`;
  const isUp = facts !== null && (state === "ok" || state === "trouble");
  const since = (time: string | null) => (isUp && time !== null ? span(now.getTime() - Date.parse(time)) : "-");
  const until = (time: string | null) => (isUp && time !== null ? span(Date.parse(time) - now.getTime()) : "-");
  const ago = since(facts?.checkedAt ?? null);
  return [
    cut(printable(shown), columns),
    cut(printable(facts?.backend ?? "-"), columns),
    facts === null
      ? "-"
      : facts.secrets === facts.wanted
        ? String(facts.wanted)
        : `${String(facts.secrets)} of ${String(facts.wanted)}`,
    state,
    ago === "-" ? ago : `${ago} ago`,
    until(facts?.nextLookAt ?? null),
    until(facts?.leaseEndsAt ?? null),
    printable(facts?.program ?? "-"),
  ];
}

/** `12 s`, `5 min`, `3 h`, `9 d`. */
function span(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${String(seconds)} s`;
  if (seconds < 100 * 60) return `${String(Math.round(seconds / 60))} min`;
  return seconds < 100 * 3600 ? `${String(Math.round(seconds / 3600))} h` : `${String(Math.round(seconds / 86_400))} d`;
}

/** Without a screen, and on a wide one, names stay whole. */
function cut(text: string, columns: number | undefined): string {
  const longest = columns === undefined || columns === 0 ? Infinity : Math.max(LONGEST, columns - REST);
  return text.length <= longest ? text : `${text.slice(0, longest - 1)}…`;
}

/** Indented, and on a screen broken between words. */
function broken(text: string, columns: number | undefined): readonly string[] {
  // A terminal that does not know its size has 0: a serial line, a pseudo-terminal without a window.
  if (columns === undefined || columns === 0) return [`  ${text}`];
  const width = Math.max(columns - 2, 20);
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word.slice(0, width));
  }
  const shown = lines.slice(0, MOST_LINES);
  if (lines.length > MOST_LINES) shown[MOST_LINES - 1] = `${(shown.at(-1) ?? "").slice(0, width - 1)}…`;
  return shown.map((one) => `  ${one}`);
}

/** Texts from elsewhere may hold control characters that a terminal obeys. */
function printable(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}
