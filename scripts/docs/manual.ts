/** The manual pages fetcher(8), fetcher.json(5) and with-secrets(1). */
import { addTexts, removeTexts } from "../../src/cli/add-options.ts";
import { commandTexts, optionTexts, usage } from "../../src/cli/command-line.ts";
import { ExitCode, exitMeanings } from "../../src/contract/errors.ts";
import { questions } from "./questions.ts";
import { list, literal, more, roff, section, subsection, text, title } from "./roff.ts";
import { backendSections, defaultOf, programSections, type Section } from "./sections.ts";

/** The configuration of docs and examples. */
export const exampleConfiguration = `{
  "service": "hello.service",
  "backend": "folder",
  "config": { "secretsDir": "/etc/fetcher/hello/secrets", "reloadOnChange": true },
  "secrets": { "greeting": {}, "db_password": {} },
  "output": { "directory": "/run/hello-secrets/pub", "links": "/tmp" }
}
`;

/** File name → text. */
export function manualPages(version: string): ReadonlyMap<string, string> {
  return new Map([
    ["fetcher.8", page(fetcher(version))],
    ["fetcher.json.5", page(configuration(version))],
    ["with-secrets.1", page(withSecrets(version))],
  ]);
}

function page(parts: readonly string[]): string {
  return ['.\\" Made by `npm run docs`.', ...parts, ""].join("\n");
}

function fetcher(version: string): string[] {
  return [
    title("fetcher", 8, version),
    section("NAME", "fetcher \\- the secrets sidecar of a systemd service"),
    section("SYNOPSIS", ".B fetcher", ...usage.map((line) => roff(line.replace(/^fetcher /, "")))),
    section(
      "DESCRIPTION",
      text(
        "Fetches the secrets of one service from a store, publishes them as files and as secrets.env, tells systemd that it is ready, and keeps watching for changes. New values are in place first; then the service is restarted, reloaded or signalled.",
        "systemd starts it before the service, as a unit of its own, one for each service. In a terminal, use `--once` and `--check`: they work as an ordinary user and touch no service.",
        "*SECRET_ID*s are added to those of the configuration.",
      ),
    ),
    section(
      "OPTIONS",
      list(optionTexts),
      list(commandTexts),
      more("The command line overrides the configuration: see `fetcher.json`(5)."),
    ),
    section(
      "ADD AND REMOVE",
      text(
        "`fetcher add` writes /etc/fetcher/NAME.json, or adds to it, and has systemd make the units. It shows what changes and asks first; it asks the store in the sandbox of the unit, and changes nothing if something is wrong. No service is touched without `--now`.",
      ),
      list(addTexts),
      more("`fetcher remove` undoes `fetcher add`. The service keeps running, and the secrets in the store stay."),
      list(removeTexts),
    ),
    section("QUESTIONS", ...questions.map(([question, answer]) => subsection(question, text(answer)))),
    section(
      "EXIT STATUS",
      list(Object.entries(ExitCode).map(([name, code]) => [String(code), exitMeanings[name as keyof typeof ExitCode]])),
      more(
        "Once ready, it keeps running whatever the store does: the last values stay, and the status says what is wrong.",
      ),
      more(
        "`fetcher run` ends with the status of its command, or with 128 plus the number of the signal that killed it; 126 if it cannot run the command, 127 if the command does not exist.",
      ),
    ),
    section(
      "SIGNALS",
      list([
        ["SIGHUP", "fetch now, publish what has changed, and act: `systemctl reload`"],
        [
          "SIGUSR2",
          "change to the installed program in the same process, so that the service does not notice; packages do this after an upgrade. Needs Node 22.15 or newer",
        ],
        ["SIGTERM, SIGINT", "stop. Where systemd did not start it, it removes what it published"],
      ]),
    ),
    section(
      "ENVIRONMENT",
      list([
        ["NOTIFY_SOCKET, WATCHDOG_USEC", "set by systemd: see `sd_notify`(3)"],
        ["CREDENTIALS_DIRECTORY", "where the backend `credentials` reads"],
        ["AWS_REGION, AWS_DEFAULT_REGION", "for the backend `aws`, whose SDK reads others, too"],
        ["FETCHER_LOG_FORMAT, FETCHER_LOG_LEVEL", "as `--log-format` and `--log-level`"],
        ["NO_COLOR", "not empty: no colour in a terminal"],
        ["XDG_RUNTIME_DIR", "where `--once` makes its directory"],
      ]),
    ),
    section(
      "FILES",
      list([
        ["/etc/fetcher/NAME.json", "what NAME.service has, from which systemd makes the units: `fetcher.json`(5)"],
        ["/etc/fetcher/NAME/secrets", "its folder, unless the file names another store"],
        ["~/.config/fetcher/NAME.json", "the same for a service of a user"],
        ["/run/NAME-secrets/pub", "what is published, in memory, for the service alone"],
        ["/tmp/ID, /tmp/secrets.env", "links to it in the service's private /tmp, with the delivery `private-tmp`"],
      ]),
    ),
    section(
      "EXAMPLES",
      text("Check that everything is there, without writing or showing a value:"),
      literal("fetcher --check --config /etc/fetcher/hello.json"),
      more("Fetch once from a directory of your own:"),
      literal('fetcher --once --backend folder --set secretsDir="$PWD/my-secrets" db_password'),
    ),
    section("SEE ALSO", text("`fetcher.json`(5), `with-secrets`(1), `systemctl`(1), `systemd.exec`(5)")),
  ];
}

function configuration(version: string): string[] {
  return [
    title("fetcher.json", 5, version),
    section("NAME", "fetcher.json \\- configuration of fetcher(8)"),
    section(
      "DESCRIPTION",
      text(
        "A JSON object. An unknown key is an error, reported with its full path. Durations are in seconds. `ID` stands for the id of a secret: one component of a path, at most 255 bytes. Every option exists since 0.1.0 unless its text says otherwise.",
        "In /etc/fetcher/NAME.json without `output`, from which systemd makes the units, some defaults differ: `service` is NAME.service, `backend` is `folder`, `config.secretsDir` is /etc/fetcher/NAME/secrets, `output.directory` is /run/NAME-secrets/pub, and `config.reloadOnChange` is `true` if the file has `onChange`.",
        "`fetcher --check=config --config` *FILE* checks a file without asking a store. `fetcher --print-schema` prints a JSON Schema for editors, which `$schema` may name.",
      ),
    ),
    section("OPTIONS", ...programSections.map(part)),
    section(
      "BACKENDS",
      ...backendSections.flatMap((backend) => [
        subsection(backend.name, text(backend.about.text), options(backend)),
        ...backend.cases.map((login) => part({ ...login, title: `${backend.name}: ${login.title}` })),
      ]),
    ),
    section(
      "EXAMPLE",
      text("Secrets from a folder, for a service that restarts when they change:"),
      literal(exampleConfiguration),
    ),
    section("SEE ALSO", text("`fetcher`(8), `with-secrets`(1)")),
  ];
}

function part(of: Section): string {
  return subsection(of.title, options(of));
}

function options(of: Section): string {
  return list(
    of.options.map((option) => {
      const { text = "", since: version } = option.about;
      const since = version === undefined ? "" : ` Since ${version}.`;
      return [option.path, `${text}. Default: ${defaultOf(option)}.${since}`];
    }),
  );
}

function withSecrets(version: string): string[] {
  return [
    title("with-secrets", 1, version),
    section("NAME", "with-secrets \\- run a command with the secrets of its unit as variables"),
    section("SYNOPSIS", ".B with\\-secrets", roff("*COMMAND* [*ARG*...]")),
    section(
      "DESCRIPTION",
      text(
        "Reads /tmp/secrets.env, which the sidecar of the unit publishes, and becomes *COMMAND*: the same process, so that the main PID, signals and `Type=notify` stay as they were. Put it before the command in `ExecStart=`.",
        "It reads only a regular file that belongs to root, through links and directories that belong to root, in a private /tmp. (A command with the prefix `+` sees the /tmp that everybody shares, where anybody could put such a file.)",
      ),
    ),
    section(
      "EXIT STATUS",
      text("That of *COMMAND*, or:"),
      list([
        ["64", "no command was given"],
        ["66", "there is no secrets.env: see the status of the sidecar"],
        ["77", "this user cannot read it"],
        ["78", "it, or this /tmp, cannot be trusted"],
      ]),
    ),
    section("ENVIRONMENT", list([["SECRETS_SIDECAR", "the sidecar's name, for messages; *COMMAND* does not get it"]])),
    section("SEE ALSO", text("`fetcher`(8), `systemd.exec`(5)")),
  ];
}
