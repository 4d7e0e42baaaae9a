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
/** Longer names of services and backends would push the rest off the screen. */
const LONGEST = 24;
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
  const line = (row: readonly string[], state?: SidecarState) =>
    row
      .map((cell, column) => {
        const text = cell.padEnd(widths[column] ?? 0);
        return state !== undefined && column === 3 && options.color
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

function cells({ name, services, state, facts }: SidecarStatus, { now }: TableOptions): readonly string[] {
  const [service = name, ...others] = services.map((unit) => withoutSuffix(unit));
  const shown = others.length === 0 ? service : `${service} +${String(others.length)}`;
  const isUp = facts !== null && (state === "ok" || state === "trouble");
  const since = (time: string | null) => (isUp && time !== null ? span(now.getTime() - Date.parse(time)) : "-");
  const until = (time: string | null) => (isUp && time !== null ? span(Date.parse(time) - now.getTime()) : "-");
  const ago = since(facts?.checkedAt ?? null);
  return [
    cut(printable(shown)),
    cut(printable(facts?.backend ?? "-")),
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

function cut(text: string): string {
  return text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 1)}…`;
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
