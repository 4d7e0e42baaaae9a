/**
 * Services as modules of nixpkgs make them, in our own words: the parts of their units that matter, read in nixpkgs in
 * 2026. Each has an option for a secret, which takes a path of ours; a wrong path stops the build, and the message
 * gives the right one.
 */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, type RenderedUnits, setting } from "./evaluation.ts";

interface Module {
  /** What nixpkgs makes of its options, which are in `cfg`. */
  readonly units: string;
  /** What a host's owner writes; `of` is `config.secretsStore.services`. */
  readonly host: string;
  /** Lines that must be there. */
  readonly lines: readonly (readonly [unit: string, setting: string, value: string])[];
  /** The same host with one part of the text replaced, and the expected message. */
  readonly wrong: readonly (readonly [part: string, instead: string, message: string])[];
}

const pub = (service: string, file: string) => `/run/${service}-secrets/pub/${file}`;
const folder = `secretsConfig = { backend = "folder"; config.reloadOnChange = true; };`;

const modules: Readonly<Record<string, Module>> = {
  // LoadCredential= in five units, of which a timer starts one.
  nextcloud: {
    units: `let more = [ "secret_file:\${cfg.secretFile}" ]; one = { serviceConfig = { User = "nextcloud"; LoadCredential = more; }; }; in {
      nextcloud-setup = { before = [ "phpfpm-nextcloud.service" ]; wants = [ "nextcloud-update-db.service" ];
        serviceConfig = { Type = "oneshot"; User = "nextcloud"; LoadCredential = [ "adminpass:\${cfg.adminpassFile}" ] ++ more; };
        script = ''[ -n "$(<"$CREDENTIALS_DIRECTORY/adminpass")" ] || echo "\${cfg.adminpassFile} is empty"''; };
      nextcloud-cron = one; nextcloud-update-db = one; nextcloud-update-plugins = one;
      phpfpm-nextcloud = { preStart = ''cp "$CREDENTIALS_DIRECTORY"/* /run/phpfpm-nextcloud/''; serviceConfig.LoadCredential = more; };
    }`,
    host: `app = { adminpassFile = of.nextcloud-setup.secrets.admin.hostPath; secretFile = of.nextcloud-setup.secrets."s.json".hostPath; };
      secretsStore.services.nextcloud-setup = { secrets = { admin = { }; "s.json" = { }; }; ${folder}
        consumers = [ "nextcloud-cron.service" "nextcloud-update-db.service" "nextcloud-update-plugins.service" "phpfpm-nextcloud.service" ]; };`,
    lines: [
      ["nextcloud-setup", "LoadCredential", `adminpass:${pub("nextcloud-setup", "admin")}`],
      ["phpfpm-nextcloud", "LoadCredential", `secret_file:${pub("nextcloud-setup", "s.json")}`],
    ],
    wrong: [
      [
        "phpfpm-nextcloud.service",
        "other.service",
        'add "phpfpm-nextcloud.service" to secretsStore.services.nextcloud-setup.consumers',
      ],
    ],
  },
  // The credential's name is the end of its path, so it is the one that we give, too.
  keycloak: {
    units: `{
      keycloakPostgreSQLInit = { before = [ "keycloak.service" ]; serviceConfig = { Type = "oneshot"; User = "postgres";
        LoadCredential = [ "db_password:\${cfg.passwordFile}" ]; }; script = "psql"; };
      keycloak = { after = [ "keycloakPostgreSQLInit.service" ]; bindsTo = [ "keycloakPostgreSQLInit.service" ]; script = "kc.sh";
        serviceConfig = { DynamicUser = true; User = "keycloak"; LoadCredential = map (p: "\${baseNameOf p}:\${p}") [ cfg.passwordFile ]; }; };
    }`,
    host: `app.passwordFile = of.keycloak.secrets.db_password.hostPath;
      secretsStore.services.keycloak = { secrets.db_password = { }; consumers = [ "keycloakPostgreSQLInit.service" ]; ${folder} };`,
    lines: [
      ["keycloak", "LoadCredential", `db_password:${pub("keycloak", "db_password")}`],
      ["keycloakPostgreSQLInit", "LoadCredential", `db_password:${pub("keycloak", "db_password")}`],
      ["keycloak-secrets", "Before", "keycloak.service keycloakPostgreSQLInit.service"],
    ],
    wrong: [
      [
        `"keycloakPostgreSQLInit.service"`,
        "",
        'add "keycloakPostgreSQLInit.service" to secretsStore.services.keycloak.consumers',
      ],
      ["secrets.db_password.hostPath", "secrets.db_password.path", "use `hostPath' instead of `path'"],
      // Another file by that name is another thing.
      [
        "app.passwordFile = of",
        `systemd.services.keycloak.serviceConfig.LoadCredential = [ "db_password:/etc/p" ]; app.passwordFile = of`,
        'loads the credential "db_password" by a line of its own',
      ],
    ],
  },
  // Without a password, its LoadCredential= is empty and takes away what stands before it.
  paperless: {
    units: `let one = { serviceConfig = { User = "paperless"; EnvironmentFile = lib.mkIf (cfg ? environmentFile) cfg.environmentFile; }; }; in {
      paperless-scheduler = lib.recursiveUpdate one { serviceConfig.LoadCredential = lib.optionalString (cfg ? passwordFile) "PAPERLESS_ADMIN_PASSWORD:\${cfg.passwordFile}"; };
      paperless-task-queue = one // { after = [ "paperless-scheduler.service" ]; };
      paperless-web = one // { after = [ "paperless-scheduler.service" ]; bindsTo = [ "paperless-scheduler.service" ];
        unitConfig.JoinsNamespaceOf = "paperless-task-queue.service"; script = "gunicorn"; };
    }`,
    host: `app.environmentFile = of.paperless-scheduler.environmentFile.hostPath;
      secretsStore.services.paperless-scheduler = { secrets.PAPERLESS_DBPASS = { }; environmentFile.enable = true; ${folder}
        consumers = [ "paperless-task-queue.service" "paperless-web.service" ]; };`,
    lines: [
      ["paperless-web", "EnvironmentFile", pub("paperless-scheduler", "secrets.env")],
      ["paperless-scheduler", "LoadCredential", `PAPERLESS_DBPASS:${pub("paperless-scheduler", "PAPERLESS_DBPASS")}`],
    ],
    wrong: [
      [
        "environmentFile.enable = true;",
        "",
        "set secretsStore.services.paperless-scheduler.environmentFile.enable = true",
      ],
      [
        "app.environmentFile",
        "app.passwordFile = of.paperless-scheduler.secrets.PAPERLESS_DBPASS.path; app.environmentFile",
        "use `hostPath' instead of `path'",
      ],
    ],
  },
  // A set of units with one list of files, and a script that reads another as the service's user.
  mastodon: {
    units: `let one = { requires = [ "mastodon-init-dirs.service" ]; after = [ "mastodon-init-dirs.service" ];
        serviceConfig = { User = "mastodon"; EnvironmentFile = [ "/var/lib/mastodon/.secrets_env" ] ++ cfg.extraEnvFiles; }; }; in {
      mastodon-init-dirs = { script = ''echo "SMTP_PASSWORD=$(cat \${cfg.smtpPasswordFile})"''; serviceConfig = { Type = "oneshot"; User = "mastodon"; }; };
      mastodon-web = one; mastodon-sidekiq-all = one; mastodon-streaming-1 = one;
    }`,
    host: `app = { extraEnvFiles = [ of.mastodon-web.secrets.env.hostPath ]; smtpPasswordFile = of.mastodon-web.secrets.smtp.hostPath; };
      secretsStore.services.mastodon-web = { secrets.env = { }; secrets.smtp.owner = "mastodon"; delivery = "files"; ${folder}
        consumers = [ "mastodon-init-dirs.service" "mastodon-sidekiq-all.service" "mastodon-streaming-1.service" ]; };`,
    lines: [
      ["mastodon-sidekiq-all", "EnvironmentFile", pub("mastodon-web", "env")],
      [
        "mastodon-web-secrets",
        "Before",
        "mastodon-web.service mastodon-init-dirs.service mastodon-sidekiq-all.service mastodon-streaming-1.service",
      ],
    ],
    wrong: [
      ["mastodon-streaming-1.service", "a.service", 'add "mastodon-streaming-1.service" to'],
      [
        '"mastodon-init-dirs.service"',
        "",
        "systemd.services.mastodon-init-dirs.script names /run/mastodon-web-secrets/pub/smtp, and nothing orders it after the secrets",
      ],
      [
        `delivery = "files";`,
        "",
        `which its user cannot read: set secretsStore.services.mastodon-web.delivery = "files"`,
      ],
      [`secrets.smtp.owner = "mastodon";`, "secrets.smtp = { };", "which its user cannot read"],
    ],
  },
  // What root runs before the service; the file that reads the secret is in the store.
  ddclient: {
    units: `{ ddclient = { after = [ "network.target" ]; serviceConfig = { DynamicUser = true; Type = "oneshot"; RuntimeDirectory = "ddclient";
      ExecStartPre = [ "!/bin/replace-secret @password@ \${cfg.passwordFile}" ]; ExecStart = "/bin/ddclient"; }; }; }`,
    host: `app.passwordFile = of.ddclient.secrets.key.hostPath; secretsStore.services.ddclient = { secrets.key = { }; ${folder} };`,
    lines: [["ddclient", "ExecStartPre", `!/bin/replace-secret @password@ ${pub("ddclient", "key")}`]],
    wrong: [],
  },
  // A script that reads it as the service's own user: the path of the running service.
  freshrss: {
    units: `{ freshrss-config = { script = ''./cli/do-install.php --password "$(cat \${cfg.passwordFile})"''; serviceConfig = { Type = "oneshot"; User = "freshrss"; }; };
      freshrss-updater = { after = [ "freshrss-config.service" ]; serviceConfig.User = "freshrss"; }; }`,
    host: `app.passwordFile = of.freshrss-config.secrets.admin.path; secretsStore.services.freshrss-config = { secrets.admin = { }; ${folder} };`,
    lines: [["freshrss-config", "LoadCredential", `admin:${pub("freshrss-config", "admin")}`]],
    wrong: [
      [
        "secrets.admin.path",
        "secrets.admin.hostPath",
        "which its user cannot read: use `path' instead of `hostPath' of secretsStore.services.freshrss-config",
      ],
    ],
  },
  gitea: {
    units: `{ gitea = { preStart = ''replace-secret '#dbpass#' '\${cfg.passwordFile}' app.ini''; serviceConfig = { User = "gitea"; ExecStart = "/bin/gitea web"; }; };
      gitea-dump = { after = [ "gitea.service" ]; serviceConfig = { User = "gitea"; ExecStart = "/bin/gitea dump"; }; }; }`,
    host: `app.passwordFile = of.gitea.secrets.db.path; secretsStore.services.gitea = { secrets.db = { }; ${folder} };`,
    lines: [["gitea", "LoadCredential", `db:${pub("gitea", "db")}`]],
    wrong: [
      [
        "secrets.db.path",
        "secrets.db.hostPath",
        "systemd.services.gitea.preStart names /run/gitea-secrets/pub/db, which its user cannot read",
      ],
      [
        "app.passwordFile",
        "systemd.services.gitea-dump.environment.DB = of.gitea.secrets.db.path; app.passwordFile",
        "where gitea alone finds its secrets: use `hostPath'",
      ],
    ],
  },
  // Another unit than the one by the certificate's name; a command that root runs, and mounts below /tmp.
  acme: {
    units: `{ acme-order-renew-a = { after = [ "network-online.target" ]; wants = [ "network-online.target" ]; script = "lego";
      serviceConfig = { Type = "oneshot"; User = "acme"; PrivateTmp = true; EnvironmentFile = cfg.environmentFile; BindPaths = [ "/var/lib/acme/a:/tmp/out" ];
        Environment = lib.mapAttrsToList (k: v: "\${k}=%d/\${k}") cfg.credentialFiles; LoadCredential = lib.mapAttrsToList (k: v: "\${k}:\${v}") cfg.credentialFiles;
        ExecStartPost = "+/bin/acme-postrun"; }; }; acme-a = { after = [ "acme-order-renew-a.service" ]; }; }`,
    host: `app = { environmentFile = of.acme-order-renew-a.environmentFile.hostPath; credentialFiles.CF_TOKEN_FILE = of.acme-order-renew-a.secrets.token.hostPath; };
      secretsStore.services.acme-order-renew-a = { secrets.token = { }; environmentFile.enable = true; ${folder} };`,
    lines: [
      ["acme-order-renew-a", "EnvironmentFile", pub("acme-order-renew-a", "secrets.env")],
      ["acme-order-renew-a", "LoadCredential", `CF_TOKEN_FILE:${pub("acme-order-renew-a", "token")}`],
    ],
    wrong: [
      [folder, `${folder} delivery = "private-tmp";`, "has a command with the prefix `+'"],
      // Whoever takes the certificate's name for the unit's.
      ["acme-order-renew-a", "acme-a", 'add "acme-order-renew-a.service" to secretsStore.services.acme-a.consumers'],
    ],
  },
  alertmanager: {
    units: `{ alertmanager = { after = [ "network-online.target" ]; preStart = "envsubst"; serviceConfig = { DynamicUser = true; WorkingDirectory = "/tmp";
      EnvironmentFile = lib.mkIf (cfg.environmentFile != null) cfg.environmentFile; ExecStart = "/bin/alertmanager"; ExecReload = "/bin/kill -HUP $MAINPID"; }; }; }`,
    host: `app.environmentFile = of.alertmanager.secrets.env.hostPath; secretsStore.services.alertmanager = { secrets.env = { }; secrets.SMTP = { }; environment.SMTP = "SMTP"; ${folder} };`,
    lines: [
      ["alertmanager", "EnvironmentFile", pub("alertmanager", "env")],
      ["alertmanager", "EnvironmentFile", pub("alertmanager", "secrets.env")],
    ],
    wrong: [["secrets.env.hostPath", "secrets.env.path", "use `hostPath' instead of `path'"]],
  },
  hedgedoc: {
    units: `{ hedgedoc = { preStart = "envsubst"; serviceConfig = { User = "hedgedoc"; PrivateUsers = true; PrivateMounts = true; ProtectSystem = "strict"; CapabilityBoundingSet = "";
      EnvironmentFile = lib.mkIf (cfg.environmentFile != null) [ cfg.environmentFile ]; ExecStart = "/bin/hedgedoc"; }; }; }`,
    host: `app.environmentFile = of.hedgedoc.environmentFile.hostPath; secretsStore.services.hedgedoc = { secrets.CMD_SESSION_SECRET = { }; environmentFile.enable = true; ${folder} };`,
    lines: [["hedgedoc", "EnvironmentFile", pub("hedgedoc", "secrets.env")]],
    wrong: [["environmentFile.enable = true;", "", "environmentFile.enable = true"]],
  },
  // A timer starts it; the password is in a file that the running program opens, as any user.
  restic: {
    units: `{ restic-backups-home = { restartIfChanged = false; wants = [ "network-online.target" ]; after = [ "network-online.target" ]; preStart = "restic cat config";
      environment.RESTIC_PASSWORD_FILE = cfg.passwordFile; serviceConfig = { Type = "oneshot"; User = "backup"; PrivateTmp = true; EnvironmentFile = cfg.environmentFile; ExecStart = [ "/bin/restic backup" ]; }; }; }`,
    host: `app = { passwordFile = of.restic-backups-home.secrets.password.path; environmentFile = of.restic-backups-home.secrets.s3.hostPath; };
      secretsStore.services.restic-backups-home = { secrets.password = { }; secrets.s3 = { }; ${folder} };`,
    lines: [
      ["restic-backups-home", "EnvironmentFile", pub("restic-backups-home", "s3")],
      ["restic-backups-home", "LoadCredential", `password:${pub("restic-backups-home", "password")}`],
      // A switch leaves a backup alone, and its sidecar with it.
      ["restic-backups-home-secrets", "X-RestartIfChanged", "false"],
    ],
    wrong: [
      ["secrets.password.path", "secrets.password.hostPath", "systemd.services.restic-backups-home.environment names"],
    ],
  },
  borgbackup: {
    units: `{ borgbackup-job-home = { environment.BORG_PASSCOMMAND = cfg.passCommand; script = "borg create"; serviceConfig = { User = "root"; ProtectSystem = "strict"; PrivateTmp = true; }; }; }`,
    host: `app.passCommand = "cat \${of.borgbackup-job-home.secrets.pass.path}"; secretsStore.services.borgbackup-job-home = { secrets.pass = { }; ${folder} };`,
    lines: [
      [
        "borgbackup-job-home",
        "Environment",
        '"BORG_PASSCOMMAND=cat /run/credentials/borgbackup-job-home.service/pass"',
      ],
    ],
    wrong: [],
  },
  // Root's script, after the network: also a store there will do.
  "wg-quick": {
    units: `{ wg-quick-wg0 = { requires = [ "network-online.target" ]; after = [ "network.target" "network-online.target" ];
      script = "wg set wg0 private-key <(cat \${cfg.privateKeyFile})"; serviceConfig = { Type = "oneshot"; RemainAfterExit = true; PrivateTmp = true; }; }; }`,
    host: `app.privateKeyFile = of.wg-quick-wg0.secrets.key.hostPath;
      secretsStore.services.wg-quick-wg0 = { secrets.key = { }; secretsConfig = { backend = "vault"; config.tokenPath = "/t"; }; };`,
    lines: [["wg-quick-wg0", "LoadCredential", `key:${pub("wg-quick-wg0", "key")}`]],
    wrong: [],
  },
  postgresql: {
    units: `{ postgresql = { serviceConfig = { Type = "notify"; User = "postgres"; ExecStart = "/bin/postgres"; }; };
      postgresql-setup = { requires = [ "postgresql.service" ]; after = [ "postgresql.service" ]; script = ''psql -f "\${cfg.initialScript}" -d postgres''; serviceConfig = { Type = "oneshot"; User = "postgres"; RemainAfterExit = true; }; }; }`,
    host: `app.initialScript = of.postgresql-setup.templates."init.sql".path;
      secretsStore.services.postgresql-setup = { secrets.web = { }; templates."init.sql".text = "ALTER USER web PASSWORD '{{web}}'"; ${folder} };`,
    lines: [["postgresql-setup", "LoadCredential", `init.sql:${pub("postgresql-setup", "init.sql")}`]],
    wrong: [[`"init.sql".path`, `"init.sql".hostPath`, "which its user cannot read: use `path'"]],
  },
  // Workers read the file by the same option.
  "matrix-synapse": {
    units: `let run = { serviceConfig = { User = "matrix-synapse"; ExecStart = "/bin/synapse --config-path \${cfg.extraConfigFile}"; ExecReload = "/bin/kill -HUP $MAINPID"; }; }; in {
      matrix-synapse = run; matrix-synapse-worker-a = run // { after = [ "matrix-synapse.service" ]; }; }`,
    host: `app.extraConfigFile = of.matrix-synapse.templates."extra.yaml".hostPath;
      secretsStore.services.matrix-synapse = { secrets.shared = { }; templates."extra.yaml" = { text = "s: {{shared}}"; owner = "matrix-synapse"; }; delivery = "files";
        consumers = [ "matrix-synapse-worker-a.service" ]; ${folder} };`,
    lines: [
      ["matrix-synapse-worker-a", "ExecStart", `/bin/synapse --config-path ${pub("matrix-synapse", "extra.yaml")}`],
    ],
    wrong: [
      [
        `"matrix-synapse-worker-a.service"`,
        "",
        "systemd.services.matrix-synapse-worker-a.serviceConfig.ExecStart names",
      ],
      [`delivery = "files";`, `delivery = "credentials";`, "which its user cannot read"],
    ],
  },
  cloudflared: {
    units: `{ cloudflared-tunnel-a = { after = [ "network.target" "network-online.target" ]; serviceConfig = { DynamicUser = true; RuntimeDirectory = "cloudflared";
      LoadCredential = [ "credentials.json:\${cfg.credentialsFile}" ]; ExecStart = "/bin/cloudflared tunnel run"; }; }; }`,
    host: `app.credentialsFile = of.cloudflared-tunnel-a.secrets.tunnel.hostPath; secretsStore.services.cloudflared-tunnel-a = { secrets.tunnel = { }; ${folder} };`,
    lines: [["cloudflared-tunnel-a", "LoadCredential", `credentials.json:${pub("cloudflared-tunnel-a", "tunnel")}`]],
    wrong: [],
  },
};

needs("nix").describe("a service of nixpkgs", () => {
  const evaluation = new Evaluation();
  const host = ({ units, host: written }: Pick<Module, "units" | "host">) => `(host [
    (nix + "/modules/secrets-store.nix")
    ({ config, lib, ... }: {
      options.app = lib.mkOption { type = lib.types.attrsOf lib.types.anything; default = { }; };
      config.systemd.services = let cfg = config.app; in ${units};
    })
    ({ config, ... }: let of = config.secretsStore.services; in {
      secretsStore.enable = true;
      secretsStore.folder.secretsDir = "/etc/secrets";
      ${written}
    })
  ])`;

  test.each(Object.entries(modules))("%s accepts a path of ours, and the units are complete", (_, module) => {
    const units = evaluation.value(`${host(module)}.units`) as RenderedUnits;
    for (const [unit, name, value] of module.lines)
      expect(setting(units, `${unit}.service`, name), `${unit}: ${name}`).toContain(value);
  });

  test.each(
    Object.entries(modules).flatMap(([name, module]) => module.wrong.map((wrong) => [name, wrong, module] as const)),
  )("%s: a mistake stops the build, with advice: %j", (_, [part, instead, message], module) => {
    expect(module.host).toContain(part);
    const failed = evaluation.value(`${host({ ...module, host: module.host.replaceAll(part, instead) })}.failed`);
    expect((failed as string[]).join("\n")).toContain(message);
    expect(failed).not.toEqual([]);
  });
});
