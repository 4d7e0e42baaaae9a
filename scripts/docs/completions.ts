/** Completions for shells, from the tables that --help is made of. */
import { backendSections } from "./sections.ts";
import { addTexts, removeTexts } from "../../src/cli/add-options.ts";
import { commandTexts, optionTexts } from "../../src/cli/command-line.ts";
import { logFormats, logLevels } from "../../src/runtime/log.ts";

interface Option {
  /** `--config`, `-h` */
  readonly names: readonly string[];
  /** The argument that follows: `FILE`; undefined: none. */
  readonly argument: string | undefined;
  readonly text: string;
}

interface Command {
  readonly name: string;
  readonly text: string;
  readonly options: readonly Option[];
  /** Whether names of services follow. */
  readonly takesNames: boolean;
}

/** File name → text. */
export function completions(): ReadonlyMap<string, string> {
  return new Map([
    ["fetcher.bash", bash()],
    ["_fetcher", zsh()],
    ["fetcher.fish", fish()],
  ]);
}

type Texts = readonly (readonly [words: string, text: string])[];

function optionsOf(texts: Texts): Option[] {
  return texts
    .filter(([words]) => words.startsWith("-"))
    .map(([words, text]) => {
      const [, names = "", argument] = /^(.*?)(?: ([A-Z]+(?:=[A-Z]+)?))?$/.exec(words) ?? [];
      return { names: names.split(", "), argument, text };
    });
}

const general = optionsOf(optionTexts);
const logOptions = general.filter(({ names }) => names[0]?.startsWith("--log-") === true);
/** Options of `run`, which makes its own directory and fetches in one way. */
const ofRun = general.filter(({ names }) => !/^--(?:output|once|check.*|print-schema|version)$/.test(names[0] ?? ""));
const user: Option = { names: ["--user"], argument: undefined, text: "your own units" };

const commands: readonly Command[] = commandTexts.flatMap(([words, text]) => {
  const name = words.split(" ")[1] ?? "";
  if (!/^[a-z]+$/.test(name)) return [];
  // The options in its line: `--json, --metrics, --metrics=FILE`.
  const named = [...new Set(text.match(/(?<= )--[a-z]+(?![a-z' ]*=)(?=[,;:]|$)/g) ?? [])]
    .filter((option) => option !== "--help")
    .map((option) => ({ names: [option], argument: undefined, text: "" }));
  const own: Readonly<Record<string, readonly Option[]>> = {
    add: optionsOf(addTexts),
    remove: optionsOf(removeTexts),
    run: [...named, ...ofRun],
    reload: general.filter(({ names }) => names[0] === "--config"),
    status: [...named, user],
    units: [user],
    check: [user],
  };
  const options = [...(own[name] ?? named), ...(name === "run" ? [] : logOptions.filter(isFormat))];
  return [{ name, text, options, takesNames: words.includes("NAME") }];
});

function isFormat({ names }: Option): boolean {
  return names.includes("--log-format");
}

/** The words that an argument can be. */
function choices({ names, argument }: Option): readonly string[] | undefined {
  if (names.includes("--backend")) return backendSections.map(({ name }) => name);
  if (argument === "LEVEL") return logLevels;
  return argument === "FORMAT" ? logFormats : undefined;
}

const takesArgument = (options: readonly Option[]) => options.filter(({ argument }) => argument !== undefined);
const words = (options: readonly Option[]) => options.flatMap(({ names }) => names).join(" ");
const unique = (options: readonly Option[]) => [...new Map(options.map((one) => [one.names.join(), one])).values()];
const every = unique([...general, ...commands.flatMap(({ options }) => options)]);
const made = "Made by `npm run docs` from the tables of --help.";

function bash(): string {
  const cases = takesArgument(every).map((option) => {
    const reply = choices(option);
    const action =
      reply !== undefined
        ? `mapfile -t COMPREPLY < <(compgen -W '${reply.join(" ")}' -- "$word")`
        : option.argument === "FILE"
          ? `compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word")`
          : option.argument === "DIR"
            ? `compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$word")`
            : "COMPREPLY=()";
    return `    ${option.names.join(" | ")}) ${action}; return ;;`;
  });
  return `# ${made}
_fetcher() {
  local word=$2 before=$3 command='' options names=0 at
  for ((at = 1; at < COMP_CWORD; at++)); do
    # What is behind it is a command of its own.
    if [[ \${COMP_WORDS[at]} == -- ]]; then
      if declare -F _command_offset >/dev/null; then _command_offset $((at + 1)); else mapfile -t COMPREPLY < <(compgen -c -f -- "$word"); fi
      return
    fi
  done
  case \${COMP_WORDS[1]} in
    ${commands.map(({ name }) => name).join(" | ")}) [[ $COMP_CWORD == 1 ]] || command=\${COMP_WORDS[1]} ;;
  esac
  case $before in
${cases.join("\n")}
  esac
  case $command in
${commands.map(({ name, options, takesNames }) => `    ${name}) options='${words(options)}' names=${takesNames ? 1 : 0} ;;`).join("\n")}
    *) options='${words(general)}'; [[ $COMP_CWORD != 1 ]] || options+=' ${commands.map(({ name }) => name).join(" ")}' ;;
  esac
  if [[ $word != -* && $names == 1 ]]; then
    options=$(cd /etc/fetcher 2>/dev/null && printf '%s\\n' *.json | sed -n 's/\\.json$//p' | grep -vFx '*')
  fi
  mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -F _fetcher fetcher
`;
}

/** A single-quoted word of zsh and fish. */
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

function zsh(): string {
  const spec = (option: Option) => {
    const { names, argument, text } = option;
    const told = text.replaceAll(/[\[\]:\\]/g, "\\$&");
    const reply = choices(option);
    const action =
      reply !== undefined
        ? `(${reply.join(" ")})`
        : argument === "FILE"
          ? "_files"
          : argument === "DIR"
            ? "_files -/"
            : "";
    return names.map((name) => {
      const repeat = argument?.includes("=") === true ? "*" : "";
      return quoted(`${repeat}${name}[${told}]${argument === undefined ? "" : `:${argument}:${action}`}`);
    });
  };
  const list = (options: readonly Option[]) => options.flatMap(spec).join(" \\\n        ");
  return `#compdef fetcher
# ${made}
_fetcher_names() {
  local -a names
  names=(/etc/fetcher/*.json(N:t:r))
  compadd -a names
}
_fetcher() {
  local -a commands
  commands=(
${commands.map(({ name, text }) => `    ${quoted(`${name}:${text.replaceAll(":", "\\:")}`)}`).join("\n")}
  )
  if (( CURRENT == 2 )); then _describe command commands; fi
  case $words[2] in
${commands
  .map(
    ({ name, options, takesNames }) => `    ${name})
      _arguments \\
        ${list(options)} \\
        '2:: :' ${name === "run" ? `'*:::command:_normal'` : takesNames ? `'*:name:_fetcher_names'` : ""}
      ;;`,
  )
  .join("\n")}
    *)
      _arguments \\
        ${list(general)}
      ;;
  esac
}
_fetcher "$@"
`;
}

function fish(): string {
  const line = (condition: string, option: Option) => {
    const { names, argument, text } = option;
    const long = names
      .map((name) => (name.startsWith("--") ? ` -l ${name.slice(2)}` : ` -s ${name.slice(1)}`))
      .join("");
    const reply = choices(option);
    const values =
      argument === undefined
        ? ""
        : reply !== undefined
          ? ` -x -a '${reply.join(" ")}'`
          : argument === "FILE"
            ? " -r -F"
            : argument === "DIR"
              ? " -x -a '(__fish_complete_directories)'"
              : " -x";
    return `complete -c fetcher -n ${condition}${long}${values} -d ${quoted(text)}`;
  };
  const first = "__fish_use_subcommand";
  return `${[
    `# ${made}`,
    "complete -c fetcher -f",
    ...commands.map(({ name, text }) => `complete -c fetcher -n ${first} -a ${name} -d ${quoted(text)}`),
    // An option with \`=\` has its own line in --help only.
    ...general.filter(({ names }) => !names[0]?.includes("=")).map((option) => line(first, option)),
    ...commands.flatMap(({ name, options, takesNames }) => {
      const condition = `'__fish_seen_subcommand_from ${name}'`;
      const names = "(path change-extension '' -- (path basename -- /etc/fetcher/*.json))";
      return [
        ...options.map((option) => line(condition, option)),
        ...(takesNames ? [`complete -c fetcher -n ${condition} -a "${names}"`] : []),
      ];
    }),
  ].join("\n")}
`;
}
