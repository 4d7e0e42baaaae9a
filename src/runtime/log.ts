/** Logs to stderr: one JSON line with the `<N>` priority that journald reads, or a line for people. */
import { type DestinationStream, pino } from "pino";
import { shortened } from "../contract/errors.ts";
import { clockTime } from "./clock.ts";
import { writeToStandardError } from "./standard-error.ts";

export const logLevels = ["error", "warn", "notice", "info", "debug", "trace"] as const;
export type LogLevel = (typeof logLevels)[number];
export const logFormats = ["pretty", "json"] as const;
export type LogFormat = (typeof logFormats)[number];

export function isLogLevel(word: string): word is LogLevel {
  return (logLevels as readonly string[]).includes(word);
}
export function isLogFormat(word: string): word is LogFormat {
  return (logFormats as readonly string[]).includes(word);
}

/** What may stand beside a message. Never a value, a token or a foreign error. */
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

export function openLog(level: LogLevel, format: LogFormat, write: (line: string) => void = writeToStandardError): Log {
  const destination: DestinationStream & { [metadata]: true; lastLevel: number } = {
    [metadata]: true,
    lastLevel: numbers.info,
    write(line: string) {
      if (format === "pretty") write(pretty(line));
      else write(`<${priorities.get(destination.lastLevel) ?? 6}>${line}`);
    },
  };
  const logger = pino(
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
  const at = (name: LogLevel) => (message: string, fields?: LogFields) => {
    logger[name](fields === undefined ? {} : shortenedFields(fields), shortened(message, MAX_MESSAGE));
  };
  return {
    error: at("error"),
    warn: at("warn"),
    notice: at("notice"),
    info: at("info"),
    debug: at("debug"),
    trace: at("trace"),
  };
}

/**
 * journald breaks a line beyond 48 KiB (LineMax=) in two, and neither half is JSON then. A character is six bytes of JSON at
 * most, so the message has a third of that, and the lists share another.
 */
const MAX_MESSAGE = 2500;
const MAX_LIST = 16_384;

/** Of a list as many as fit, and how many more there are. */
function shortenedFields(fields: LogFields): LogFields {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, typeof value === "object" ? firstOf(value) : value]),
  );
}

function firstOf(list: readonly string[]): readonly string[] {
  let room = MAX_LIST;
  const fits = list.findIndex((item) => {
    room -= Buffer.byteLength(JSON.stringify(item)) + 1;
    return room < 0;
  });
  return fits < 0 ? list : [...list.slice(0, fits), `… and ${list.length - fits} more`];
}

/** pino tells a destination that carries this symbol the level of each line. */
const metadata = Symbol.for("pino.metadata");

function pretty(line: string): string {
  const { level, time, message, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
  return `${clockTime(new Date(String(time)))} ${String(level).padEnd(6)} ${String(message)}${rest.join("")}\n`;
}
