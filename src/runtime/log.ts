/** Logs to stderr: lines for people, with a `<N>` priority where journald reads them, or JSON where it is asked for. */
import { type DestinationStream, pino } from "pino";
import { printable, shortened } from "../contract/errors.ts";
import { clockDate, clockTime } from "./clock.ts";
import { codeIn } from "./message-codes.ts";
import { standardErrorGoesTo, writeToStandardError } from "./standard-error.ts";

export const logLevels = ["error", "warn", "notice", "info", "debug", "trace"] as const;
export type LogLevel = (typeof logLevels)[number];
export const logFormats = ["text", "json"] as const;
export type LogFormat = (typeof logFormats)[number];

export function isLogLevel(word: string): word is LogLevel {
  return (logLevels as readonly string[]).includes(word);
}
export function isLogFormat(word: string): word is LogFormat {
  return (logFormats as readonly string[]).includes(word);
}

/** The fields that a message may have. Never a value, a token or a foreign error. */
export type LogFields = Readonly<Record<string, string | number | boolean | readonly string[]>>;
export type Log = Readonly<Record<LogLevel, (message: string, fields?: LogFields) => void>>;

/** pino's numbers; `notice` lies between info and warn, as in syslog(3). */
const numbers = { trace: 10, debug: 20, info: 30, notice: 35, warn: 40, error: 50 } as const;
/** Priorities of syslog(3), by pino's number. */
const priorities = new Map<number, number>([
  [10, 7],
  [20, 7],
  [30, 6],
  [35, 5],
  [40, 4],
  [50, 3],
]);

/** How a line looks. */
export interface LineStyle {
  readonly format: LogFormat;
  /** Each line begins with its priority, which journald removes again (sd-daemon(3)). journald adds the time itself. */
  readonly priority?: boolean;
  /** `clock`: the time of day; `date`: with the date, because people may read a file next week. */
  readonly time?: "clock" | "date";
  readonly color?: boolean;
}

/** @param isDaemon adds the time of a line. A command that a person runs needs none: it ends soon. */
export function lineStyle(format: LogFormat, environment: NodeJS.ProcessEnv, isDaemon: boolean): LineStyle {
  const place = standardErrorGoesTo(environment);
  if (place === "journal") return { format, priority: true };
  const isTerminal = place === "terminal";
  return {
    format,
    color: isTerminal && allowsColor(environment),
    ...(isDaemon ? { time: isTerminal ? ("clock" as const) : ("date" as const) } : {}),
  };
}

/** no-color.org: set and not empty. */
export function allowsColor({ NO_COLOR, TERM }: NodeJS.ProcessEnv): boolean {
  return (NO_COLOR === undefined || NO_COLOR === "") && TERM !== "dumb";
}

export function openLog(level: LogLevel, style: LineStyle, write?: (line: string) => void): Log {
  const out =
    write ??
    ((line: string): void => {
      writeToStandardError(line, tellLost);
    });
  const tellLost = (count: number) => {
    log.warn(`${count} lines are lost: no reader took them`);
  };
  const destination: DestinationStream & { [metadata]: true; lastLevel: number } = {
    [metadata]: true,
    lastLevel: numbers.info,
    write(json: string) {
      const priority = style.priority === true ? `<${priorities.get(destination.lastLevel) ?? 6}>` : "";
      out(priority + (style.format === "json" ? json : textLine(json, style)));
    },
  };
  // Opened for the first line, which a start writes after READY.
  let logger: ReturnType<typeof openLogger> | undefined;
  const at = (name: LogLevel) => (message: string, fields?: LogFields) => {
    if (numbers[name] < numbers[level]) return;
    logger ??= openLogger(level, destination);
    const code = style.format === "json" && isTrouble(name) ? codeIn(message) : undefined;
    const all = code === undefined ? fields : { ...fields, code };
    logger[name](all === undefined ? {} : shortenedFields(all), shortened(message, MAX_MESSAGE));
  };
  const log: Log = {
    error: at("error"),
    warn: at("warn"),
    notice: at("notice"),
    info: at("info"),
    debug: at("debug"),
    trace: at("trace"),
  };
  return log;
}

function openLogger(level: LogLevel, destination: DestinationStream) {
  return pino(
    {
      level,
      customLevels: numbers,
      useOnlyCustomLevels: true,
      base: null,
      messageKey: "message",
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}

/**
 * journald breaks a line beyond 48 KiB (LineMax=) in two: the second half has no priority, and neither half is JSON. A
 * character takes six bytes of JSON at most, so the message gets a third of that, and each list another third.
 */
const MAX_MESSAGE = 2500;
const MAX_LIST = 16_384;

/** Keeps as many items of a list as fit, and says how many more there are. */
function shortenedFields(fields: LogFields): LogFields {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, typeof value === "object" ? firstOf(value) : value]),
  );
}

function firstOf(list: readonly string[]): readonly string[] {
  let room = MAX_LIST;
  const fits = list.findIndex((item) => {
    room -= Buffer.byteLength(printable(JSON.stringify(item))) + 1;
    return room < 0;
  });
  return fits < 0 ? list : [...list.slice(0, fits), `… and ${list.length - fits} more`];
}

/** pino tells a destination that carries this symbol the level of each line. */
const metadata = Symbol.for("pino.metadata");

/**
 * The one place that makes a line for people. It shows lists in brackets; other fields are for machines. In the
 * journal, which people search, a line about trouble ends with its code.
 */
function textLine(json: string, { priority, time: wanted, color }: LineStyle): string {
  const { level, time, message, ...fields } = JSON.parse(json) as Record<string, unknown> & { message: string };
  const lists = Object.entries(fields).flatMap(([key, list]) =>
    Array.isArray(list) ? [textOfList(key, list as readonly string[], message)] : [],
  );
  const told = lists.filter((list) => list !== "");
  const text = told.length === 0 ? message : `${message} (${told.join("; ")})`;
  const label = priority === true ? undefined : labels.get(level as LogLevel);
  const [word, escape] = label ?? ["", ""];
  const begin = color === true && escape !== "" ? `\x1b[${escape}m${word}\x1b[0m` : word;
  const at = new Date(String(time));
  const when = wanted === undefined ? "" : wanted === "clock" ? `${clockTime(at)} ` : `${clockDate(at)} `;
  const code = priority === true && isTrouble(level as LogLevel) ? codeIn(message) : undefined;
  return `${when}${begin}${printable(text)}${code === undefined ? "" : ` [${code}]`}\n`;
}

/** Whether an operator asks what to do about such a line. */
function isTrouble(level: LogLevel): boolean {
  return level === "error" || level === "warn";
}

/** How a line outside the journal begins, and its colour (ECMA-48). Lines of `info` and `notice` have neither. */
const labels: ReadonlyMap<LogLevel, readonly [word: string, color: string]> = new Map([
  ["error", ["error: ", "31"]],
  ["warn", ["warning: ", "33"]],
  ["debug", ["debug: ", "2"]],
  ["trace", ["trace: ", "2"]],
]);

/** Ids need no name, and are left out where the message has them all. */
function textOfList(key: string, list: readonly string[], message: string): string {
  if (key !== "secrets") return list.length === 0 ? "" : `${key}: ${list.map(plain).join(", ")}`;
  return list.every((id) => message.includes(JSON.stringify(id))) ? "" : list.map(plain).join(", ");
}

/** Quotes an item that would look like more than one. */
function plain(item: string): string {
  return /[,;()"]|^\s*$/.test(item) ? JSON.stringify(item) : item;
}
