/** What each option of the configuration means. Durations are in seconds, here as everywhere. */

export interface OptionText {
  readonly meaning: string;
  /** What holds without it, where that is no fixed value. */
  readonly otherwise?: string;
  /** The version that it came with, where that is not the first one, 0.1.0. */
  readonly since?: string;
}

export type OptionTexts = Readonly<Record<string, OptionText>>;

export const scope: OptionTexts = {
  service: {
    meaning: "the unit that gets the action, or an array of them; `.service` may be left out",
    otherwise: "no action",
  },
  backend: {
    meaning: "where secrets come from: one of those below, or the path of an ES module, relative to this file",
    otherwise: "required, or `--backend`",
  },
  config: { meaning: "the settings of the backend, and the three of the next table" },
  secrets: {
    meaning: "id → what is said of this secret, `{}` where there is nothing to say; ids on the command line are added",
  },
  templates: {
    meaning:
      "file → a template from which it is rendered, with secrets in it ([templates.md](templates.md)); published and rotated with the set",
  },
  resident: {
    meaning:
      "`false`: end when the first set is published; nobody watches, renews or mends, and no process stays. With the unit's `no-resident.conf`",
  },
  startTimeout: {
    meaning: "give up (exit status 69) when the store does not answer for so long at the start; `null`: wait for ever",
  },
};

export const rotation: OptionTexts = {
  "config.reloadOnChange": {
    meaning:
      "watch and poll the store; publish and act when a secret changes. What has a lease is replaced whatever this says",
  },
  "config.pollingInterval": {
    meaning: "how often the store is asked, ±10 %; also behind every watch",
    otherwise: "by backend",
  },
  "config.refreshInterval": { meaning: "another name of `pollingInterval`, as in RFC 59; not both", otherwise: "none" },
};

export const secret: OptionTexts = {
  "secrets.ID.source": { meaning: "where it lives in the store: see the backend" },
  "secrets.ID.file": { meaning: "the name of its file", otherwise: "the id" },
  "secrets.ID.env": {
    meaning: "the name of its variable in secrets.env; `null`: none",
    otherwise: "the id, every character that a variable's name cannot have as `_`",
  },
  "secrets.ID.mode": {
    meaning:
      "octal, as a string. One that is stricter than the default keeps the secret out of secrets.env, unless `env` is set",
    otherwise:
      '`"0444"` where only the service can look (below a directory of mode 0700, in a private /tmp), else `"0400"`',
  },
  "secrets.ID.owner": {
    meaning:
      "name or number of a user. A secret with an owner or a group enters secrets.env only by an explicit `env`; its mode is 0400 if none is given",
    otherwise: "the sidecar's own",
  },
  "secrets.ID.group": { meaning: "name or number of a group", otherwise: "the sidecar's own" },
  "secrets.ID.optional": {
    meaning:
      "the service can start without it: one that is missing, refused or invalid has no file. A store that does not answer is waited for all the same",
  },
  "secrets.ID.empty": {
    meaning:
      "it may become empty. Without this, one that had a value and is empty now keeps that value, as one that vanished does: a failed `decrypt > file` is no rotation",
  },
};

export const template: OptionTexts = {
  "templates.FILE.template": { meaning: "the template: a path, relative to this file; Mustache, with ids as names" },
  "templates.FILE.mode": {
    meaning: "octal, as a string",
    otherwise: "so that nobody can read it who cannot read each of its secrets",
  },
  "templates.FILE.owner": { meaning: "name or number of a user", otherwise: "that of its secrets" },
  "templates.FILE.group": { meaning: "name or number of a group", otherwise: "that of its secrets" },
};

export const output: OptionTexts = {
  "output.directory": {
    meaning:
      "where the files go, an absolute path. `/tmp` only if it is one that `PrivateTmp=` made; no user but root may be able to change it or what it lies in",
  },
  "output.links": { meaning: "a directory that gets a symbolic link to each file, by its name; `null`: none" },
  "output.linksTo": {
    meaning: "where a reader of the links sees `directory`",
    otherwise: "`/tmp/.secrets` if the links are in /tmp, else `output.directory`",
  },
  "output.envFile": { meaning: "the name of the file with all variables; `null`: none" },
};

export const onChange: OptionTexts = {
  "onChange.action": {
    meaning:
      "`restart`; `reload` (a restart where the unit cannot); `signal`; `none`: the service looks by itself. A unit that does not run is never started",
  },
  "onChange.signal": { meaning: 'for the action `signal`, sent to the main process: `"SIGHUP"`' },
  "onChange.settle": {
    meaning:
      "what has changed is published when the store has been quiet for so long, or after 15 times that: one publish and one action",
  },
  "onChange.minInterval": {
    meaning: "the least time between two actions; the unit's own start limit is kept too, with one start in reserve",
  },
  "onChange.splay": {
    meaning: "wait a random time up to this before an action, so that a fleet does not restart at once",
  },
  "onChange.verify.command": {
    meaning:
      "argv, no shell; run with `$SECRETS_DIRECTORY` and the variables before a changed set is published. Any status but 0 refuses the set. Where nothing is published yet, the first set is not verified",
    otherwise: "no verification",
  },
  "onChange.verify.timeout": { meaning: "a command that takes longer refuses the set" },
};
