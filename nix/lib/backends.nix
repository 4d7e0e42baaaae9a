# The stores: what can be set for each, on the host and by a service. `null` says nothing.
{ lib }:

let
  inherit (lib) mkOption types;
  inherit (import ./values.nix { inherit lib; }) positiveSeconds secretPath;

  # Settings that all backends share (RFC 59). `null` says nothing.
  rotation = {
    reloadOnChange = {
      type = types.bool;
      description = ''
        Whether a change in the store is followed: published, and then acted on by `onChange`. Otherwise the service
        gets fresh secrets whenever it is restarted.
      '';
    };
    pollingInterval = {
      type = positiveSeconds;
      example = 30;
      description = "How often to ask the store, in seconds; also behind a backend that is told of changes.";
    };
    refreshInterval = {
      type = positiveSeconds;
      example = 30;
      description = "Older name of `pollingInterval`, in seconds.";
    };
  };

  # Settings that are a set themselves; `null` says nothing here, too.
  section = settings: description: {
    type = types.submodule {
      options = lib.mapAttrs (_: setting: mkOption (setting // { default = null; })) settings;
    };
    apply = value: if value == null then null else lib.filterAttrs (_: one: one != null) value;
    inherit description;
  };

  # Nobody knows what a command or somebody else's module needs: its keys, an agent's socket, the network.
  open = {
    # The host's own, with which age and sops decrypt.
    reads = _: [ "/etc/ssh" ];
    sandbox = {
      TemporaryFileSystem = "";
      BindReadOnlyPaths = "";
      ProtectHome = "read-only";
      PrivateNetwork = false;
      IPAddressDeny = "";
      RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6";
    };
  };

  # `network`: whether the sidecar talks to other hosts. `reads`: files and directories outside the Nix store, from its
  # settings, that may be replaced at any time; `stays`: directories that are not. `sandbox`: what its unit has
  # otherwise.
  backends = {
    folder = {
      description = "a directory of files that only root can read: /etc/secrets, sops-nix, agenix";
      reads = config: [ config.secretsDir ];
      required = [ "secretsDir" ];
      settings.secretsDir = {
        type = secretPath;
        example = "/run/secrets";
        description = "Directory with one file for each secret.";
      };
    };

    vault = {
      description = "HashiCorp Vault or OpenBao";
      network = true;
      reads =
        config:
        let
          auth = config.auth or { };
          tls = config.tls or { };
          socket = builtins.match "unix:(//)?(/.*)" (config.url or "");
          # The program's default.
          jwtPath =
            if (auth.method or null) == "kubernetes" then
              "/var/run/secrets/kubernetes.io/serviceaccount/token"
            else
              null;
        in
        [
          (lib.mapNullable lib.last socket)
          (config.tokenPath or null)
          (auth.tokenPath or null)
          (auth.roleIdPath or null)
          (auth.secretIdPath or null)
          (auth.jwtPath or jwtPath)
        ]
        ++ map (name: lib.mapNullable toString (tls.${name} or null)) [
          "caFile"
          "caDirectory"
          "certFile"
          "keyFile"
        ];
      settings = {
        url = {
          type = types.str;
          default = "http://localhost:8200";
          description = "Address of the server.";
        };
        mount = {
          type = types.str;
          default = "secret";
          description = "Where the secrets engine is mounted.";
        };
        path = {
          type = types.str;
          example = "nixos-testsecrets";
          description = "Path below `mount` whose keys are the ids, unless a secret's `source` says otherwise.";
        };
        tokenPath = {
          type = secretPath;
          example = "/etc/secrets/service_secrets_token";
          description = "File with the token; read again when it changes.";
        };
        kvVersion = {
          type = types.enum [
            1
            2
          ];
          description = "Version of the key/value engine; the server is asked where this is not set.";
        };
        namespace = {
          type = types.str;
          description = "Namespace on the server.";
        };
        auth = section {
          method = {
            type = types.nullOr (
              types.enum [
                "token"
                "approle"
                "jwt"
                "kubernetes"
                "cert"
                "aws"
                "none"
              ]
            );
            description = "How to log in.";
          };
          tokenPath = {
            type = types.nullOr secretPath;
            description = "For `token`: file with the token.";
          };
          mount = {
            type = types.nullOr types.str;
            description = "Where the method is mounted below `auth/`; its own name where not set.";
          };
          role = {
            type = types.nullOr types.str;
            description = "Role to log in as.";
          };
          roleId = {
            type = types.nullOr types.str;
            description = "For `approle`: the role's id.";
          };
          roleIdPath = {
            type = types.nullOr secretPath;
            description = "For `approle`: file with the role's id.";
          };
          secretIdPath = {
            type = types.nullOr secretPath;
            description = "For `approle`: file with the secret id.";
          };
          wrapped = {
            type = types.nullOr types.bool;
            description = "For `approle`: whether that file holds a wrapping token instead.";
          };
          jwtPath = {
            type = types.nullOr secretPath;
            description = "For `jwt` and `kubernetes`: file with the signed token.";
          };
          region = {
            type = types.nullOr types.str;
            description = "For `aws`: region of the STS that the server asks.";
          };
          serverId = {
            type = types.nullOr types.str;
            description = "For `aws`: the server's `iam_server_id_header_value`.";
          };
          profile = {
            type = types.nullOr types.str;
            description = "For `aws`: profile in the AWS configuration files.";
          };
        } "How to log in, instead of `tokenPath`.";
        tls = section {
          caFile = {
            type = types.nullOr types.path;
            description = "Certificates of the authorities to trust, in PEM.";
          };
          caDirectory = {
            type = types.nullOr types.path;
            description = "Directory of such files.";
          };
          certFile = {
            type = types.nullOr types.path;
            description = "Own certificate; read again when it changes.";
          };
          keyFile = {
            type = types.nullOr secretPath;
            description = "The key of `certFile`.";
          };
          serverName = {
            type = types.nullOr types.str;
            description = "Name in the server's certificate, where it is not that of `url`.";
          };
          minVersion = {
            type = types.nullOr (
              types.enum [
                "TLSv1.2"
                "TLSv1.3"
              ]
            );
            description = "Oldest version of TLS (the program's default is TLSv1.2).";
          };
          insecureDoNotVerifyServer = {
            type = types.nullOr types.bool;
            description = "Trust whoever answers.";
          };
        } "Certificates: whom to trust, and what to show.";
        connectTimeout = {
          type = positiveSeconds;
          description = "Seconds until the connection stands (the program's default is 5).";
        };
        responseTimeout = {
          type = positiveSeconds;
          description = "Seconds between two pieces of an answer (the program's default is 20).";
        };
        requestTimeout = {
          type = positiveSeconds;
          description = "Seconds for all of a request (the program's default is 60).";
        };
        revokeOnStop = {
          type = types.bool;
          description = "Whether leases end with the sidecar.";
        };
      };
      intervals.refreshInterval = 60;
      # Of these a service's settings go over the host's one by one, too.
      sections = [ "tls" ];
      # A service that says one of them does not get the host's other.
      alternatives = [
        "tokenPath"
        "auth"
      ];
    };

    nixops = {
      description = "keys that NixOps uploads after boot";
      # A mount of NixOps' own.
      stays = config: [ (config.keysDir or "/run/keys") ];
      settings.keysDir = {
        type = secretPath;
        example = "/run/keys";
        description = "Where the keys arrive (the program's default is `/run/keys`).";
      };
    };

    aws = {
      description = "AWS Secrets Manager";
      network = true;
      # Where ~/.aws may be.
      sandbox.ProtectHome = "read-only";
      settings = {
        region = {
          type = types.str;
          example = "eu-central-1";
          description = "Region of the secrets.";
        };
        endpoint = {
          type = types.str;
          description = "Address of the service, where it is not the region's own.";
        };
        profile = {
          type = types.str;
          description = "Profile in the AWS configuration files.";
        };
        roleArn = {
          type = types.str;
          description = "Role to assume.";
        };
        externalId = {
          type = types.str;
          description = "External id that the role asks for.";
        };
        secretId = {
          type = types.str;
          description = "Secret whose JSON keys are the ids, unless a secret's `source` says otherwise.";
        };
        timeout = {
          type = positiveSeconds;
          description = "Seconds for one request (the program's default is 15).";
        };
      };
    };

    credentials = {
      description = "systemd credentials of the sidecar's own unit (LoadCredentialEncrypted=, ImportCredential=)";
      settings = { };
    };

    command = open // {
      description = "what a command prints: `sops -d`, `pass`, `keyctl pipe`";
      settings = {
        command = {
          type = types.nonEmptyListOf types.str;
          example = [
            "/run/current-system/sw/bin/pass"
            "show"
          ];
          description = ''
            The command, its arguments each an element; no shell is involved. Not needed where every secret has a
            `command` in its `source`.
          '';
        };
        timeout = {
          type = positiveSeconds;
          description = "Seconds that it may take.";
        };
        environment = {
          type = types.attrsOf types.str;
          example = {
            SOPS_AGE_KEY_FILE = "/etc/secrets/age.key";
          };
          description = ''
            Variables of the command, which inherits none but `PATH`. They are in the Nix store, for everybody to read.
          '';
        };
      };
    };

    static = {
      description = "values that are in the Nix store, for everybody to read; for tests only";
      required = [
        "values"
        "allowInsecure"
      ];
      settings = {
        values = {
          type = types.attrsOf types.str;
          description = "The secrets by their ids.";
        };
        allowInsecure = {
          type = types.bool;
          description = "Must be `true`.";
        };
      };
    };
  };

  # What is in the table for a name; nothing for a module's path, which may be one in the store.
  backendOf = name: backends.${builtins.unsafeDiscardStringContext name} or { };

  isModulePath = name: lib.hasInfix "/" name || lib.hasSuffix ".mjs" name || lib.hasSuffix ".js" name;
in
{
  inherit
    backendOf
    backends
    isModulePath
    open
    rotation
    ;
}
