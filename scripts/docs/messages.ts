/** docs/reference/messages.md: each line that the program can say, with its cause and what to do. */
import { format } from "prettier";
import { codeOf } from "../../src/runtime/message-codes.ts";
import { type Message, messagesIn } from "./message-templates.ts";
import { particular } from "./message-texts.ts";

interface Meaning {
  readonly cause: string;
  readonly cure: string;
}

/** By kind. When you add a kind, say here what it means. */
const general: Readonly<Record<string, Meaning>> = {
  config: { cause: "the configuration is wrong (78)", cure: "correct the option that the line names" },
  usage: { cause: "the command line is wrong (64)", cure: "`fetcher --help`" },
  unavailable: {
    cause: "the store is away, or something on the way to it (69 if the start gives up)",
    cure: "bring it back; fetcher asks again by itself",
  },
  denied: { cause: "no permission (77)", cure: "a file's mode, a token's policy, a role's permissions" },
  invalid: {
    cause: "the store's value or answer is not right (78)",
    cure: "correct it in the store, or the secret's `source`",
  },
  missing: { cause: "it does not exist (66)", cure: "create it, or correct the name" },
  cannotCreate: {
    cause: "something is in the way of the output (73)",
    cure: "remove what the line names, or name another place",
  },
  ioError: {
    cause: "the disk or the system refuses a write (74)",
    cure: "make space, check the disk; fetcher tries again",
  },
  unreadable: { cause: "a file cannot be read (78, or 74)", cure: "put it there, or give it to root" },
  bug: { cause: "a bug of fetcher (70)", cure: "report it, with the lines of the journal" },
  error: { cause: "something failed after the start", cure: "see the status; fetcher tries again if that may help" },
  warn: { cause: "something is wrong; the service continues", cure: "see the line" },
  notice: { cause: "news", cure: "nothing" },
  info: { cause: "news", cure: "nothing" },
  debug: { cause: "a detail, with `--log-level debug`", cure: "nothing" },
  part: { cause: "part of a longer line", cure: "see the rest of that line" },
  // For a kind that is known only when it happens.
  any: {
    cause: "the store failed; the exit status says how",
    cure: "[by exit status](exit-statuses.md)",
  },
};

/** A command that a person types says the same kinds, but nothing retries for it. */
const typed: Readonly<Record<string, Meaning>> = {
  unavailable: { cause: "the command could not finish (69)", cure: "see the line, then run the command again" },
};
const isTyped = (text: string) => /^(?:add|check|reload|remove|units): /.test(text);

/** Messages that are never trouble have no code in the journal. */
const news: readonly string[] = ["notice", "info", "debug", "trace"];

/** The messages with a code, which the program must know. Those of a shell script have none. */
export function codedTexts(messages: readonly Message[]): string[] {
  return messages
    .filter(isCoded)
    .map(({ text }) => text)
    .sort(compare);
}

function isCoded({ kind, file }: Message): boolean {
  return file.endsWith(".ts") && !news.includes(kind);
}

/** Each message once. @param root of the project. */
export function distinctMessages(root: string): Message[] {
  const rows = new Map<string, Message>();
  for (const message of messagesIn(root)) {
    const known = rows.get(message.text);
    // A complete message says more than a part of one.
    if (known === undefined || known.kind === "part") rows.set(message.text, message);
  }
  return [...rows.values()];
}

export async function messagesPage(messages: readonly Message[]): Promise<string> {
  const sorted = messages.toSorted((a, b) => compare(key(a.text), key(b.text)) || compare(a.text, b.text));
  const page = [
    "# Messages",
    "",
    "This page has each line that the program can say, in alphabetical order; `npm run docs` makes it from the source. `…` stands for a part",
    "that differs: a name, a path, a number. Many lines begin with the name of an option or a backend (`configuration: secrets.a.mode: …`,",
    "`vault: …`). [Troubleshooting](../how-to/troubleshooting.md) explains the usual ones in detail.",
    "",
    "In the journal a warning or an error ends in the code of what it says most of, such as `[F-7Q2KX]`: search for it here. A line can be",
    "made of several messages: the others are here too. A code changes with the words of its message.",
    "",
    "| message | code | cause | what to do |",
    "| --- | --- | --- | --- |",
    ...sorted.map((message) => {
      const { cause, cure } = meaningOf(message.text, message.kind);
      return `| ${code(message.text)} | ${isCoded(message) ? codeOf(message.text) : ""} | ${cause} | ${cure} |`;
    }),
  ].join("\n");
  return await format(page, { parser: "markdown", printWidth: 120 });
}

function meaningOf(text: string, kind: string): Meaning {
  const meaning = particular[text] ?? (isTyped(text) ? typed[kind] : undefined) ?? general[kind] ?? general["any"];
  if (meaning === undefined) throw new Error(`${text}: no meaning of the kind ${kind}`);
  return meaning;
}

/** The text without the part at its beginning that differs. */
function key(text: string): string {
  return text.toLowerCase().replace(/^[^\p{L}\p{N}]+/u, "");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function code(text: string): string {
  const plain = text.replaceAll("|", "\\|");
  return plain.includes("`") ? `\`\` ${plain} \`\`` : `\`${plain}\``;
}
