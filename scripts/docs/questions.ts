/** What people ask most, for the manual page of fetcher(8). */
export const questions: readonly (readonly [question: string, answer: string])[] = [
  ["How do I give a service its secrets?", "`fetcher add NAME --env ID`. It shows what it writes, and asks first."],
  [
    "Where are the secrets?",
    "In /run/NAME-secrets/pub, in memory. With `--env` they are also variables of the service.",
  ],
  ["Which services have a sidecar, and what is wrong?", "`fetcher status`, or `systemctl status NAME-secrets`."],
  [
    "Why does my service not start?",
    "It waits for its sidecar, whose status says why; `journalctl -u NAME-secrets` has the details.",
  ],
  [
    "How do I try a configuration?",
    "`fetcher --check=config --config FILE` for the file alone; `fetcher check NAME` asks the store, in the sandbox of the unit.",
  ],
  ["How do I fetch at once?", "`systemctl reload NAME-secrets`. It publishes what has changed, and acts."],
  [
    "How does a new value restart the service?",
    'Set `"reloadOnChange": true` in `config`; `onChange.action` chooses restart, reload or signal.',
  ],
  [
    "What happens when the store is away?",
    "The published secrets stay in use, and the sidecar asks again. A start waits, or continues with the last run's set.",
  ],
  ["How do I undo that?", "`fetcher remove NAME`. The secrets in the store stay."],
  [
    "How do I use it without systemd?",
    "`fetcher run --config FILE -- COMMAND` runs one command with its secrets; `fetcher --once` publishes them and ends.",
  ],
];
