/** RFC 59's own examples, unchanged. */
import { expect, test } from "vitest";
import { needs } from "../requirements.ts";
import { Evaluation, namesOf, nixPath, setting, type RenderedUnits } from "./evaluation.ts";

const rfc59 = (name: string) => nixPath(import.meta.dirname, "rfc59", name);

needs("nix").describe("the examples of RFC 59", () => {
  const evaluation = new Evaluation();
  const example = (over: string): RenderedUnits =>
    evaluation.value(
      `(host [ (nix + "/modules/secrets-store.nix") ${rfc59("modules/test_service.nix")} ${over} ]).units`,
    ) as RenderedUnits;

  test("the RFC's module and configuration make the pair that it describes", () => {
    const units = example(rfc59("config.nix"));
    expect(namesOf(units)).toEqual(["secrets_test_file-secrets.service", "secrets_test_file.service"]);
    expect(units["secrets_test_file.service"]?.text).toBe(
      `[Unit]
After=secrets_test_file-secrets.service
Description=Simple test service using a secret
JoinsNamespaceOf=secrets_test_file-secrets.service
Requires=secrets_test_file-secrets.service

[Service]
Environment="PATH=/usr/bin:/usr/local/bin"
Environment="SECRETS_SIDECAR=secrets_test_file-secrets.service"
BindReadOnlyPaths=/run/secrets_test_file-secrets/pub:/tmp/.secrets
DynamicUser=true
ExecStart=/usr/local/bin/with-secrets /usr/bin/bash -c '/usr/bin/cat /tmp/secret1; sleep infinity'
PrivateTmp=true
`,
    );
    expect(evaluation.config(units, "secrets_test_file-secrets.service")).toEqual({
      service: "secrets_test_file.service",
      backend: "folder",
      config: { secretsDir: "/etc/secrets_other/", reloadOnChange: true },
      secrets: { secret1: {}, secret2: {} },
      output: { directory: "/run/secrets_test_file-secrets/pub", links: "/tmp" },
      onChange: { action: "restart" },
    });
    // It asks for reloadOnChange, so a restart of the service does not fetch again.
    expect(setting(units, "secrets_test_file-secrets.service", "PartOf")).toEqual([]);
  });

  test("its other store is one word away, and the service's settings override the host's", () => {
    const units = example(`{
      imports = [ (removeAttrs (import ${rfc59("config.nix")}) [ "services" ]) ];
      services.secrets_test = {
        enable = true;
        secretsConfig = {
          backend = "vault";
          config = {
            path = "nixos-testsecrets";
            reloadOnChange = true;
            pollingInterval = 10;
          };
        };
      };
    }`);
    expect(evaluation.config(units, "secrets_test_file-secrets.service")).toMatchObject({
      backend: "vault",
      config: {
        url: "http://localhost:8200",
        mount: "secret",
        tokenPath: "/etc/secrets/service_secrets_token",
        path: "nixos-testsecrets",
        reloadOnChange: true,
        pollingInterval: 10,
      },
    });
  });

  test("accepts the older name refreshInterval, from the host or from the service", () => {
    const config = (text: string) =>
      evaluation.config(
        example(`{
          secretsStore.enable = true;
          secretsStore.vault.tokenPath = "/etc/token";
          services.secrets_test.enable = true;
          services.secrets_test.secretsConfig.backend = "vault";
          ${text}
        }`),
        "secrets_test_file-secrets.service",
      );
    // The defaults of its text and its proof of concept.
    expect(config("")).toHaveProperty("config", {
      url: "http://localhost:8200",
      mount: "secret",
      tokenPath: "/etc/token",
      reloadOnChange: false,
      pollingInterval: 60,
    });
    expect(config("secretsStore.vault.refreshInterval = 30;")).toHaveProperty("config.pollingInterval", 30);
    expect(config("secretsStore.vault.pollingInterval = 5;")).toHaveProperty("config.pollingInterval", 5);
    expect(config("services.secrets_test.secretsConfig.config.refreshInterval = 0.5;")).toHaveProperty(
      "config.pollingInterval",
      0.5,
    );
  });

  test("a host with the store turned off gets no unit", () => {
    expect(example(`{ imports = [ ${rfc59("config.nix")} ]; secretsStore.enable = lib.mkForce false; }`)).toEqual({});
  });

  test("an id that is not loaded stops the evaluation", () => {
    const scope = `(import (nix + "/lib/secrets.nix") { inherit pkgs lib; config = { }; }).serviceSecretsScope {
      loadSecrets = [ "secret1" ];
      backendConfig = { backend = "folder"; config.secretsDir = "/etc/secrets"; };
    }`;
    expect(evaluation.value(`${scope} (secrets: { a.serviceConfig.ExecStart = secrets.secret1; })`)).toHaveProperty(
      "a.serviceConfig.ExecStart",
      "/usr/local/bin/with-secrets /tmp/secret1",
    );
    expect(() => evaluation.value(`${scope} (secrets: { a.serviceConfig.ExecStart = secrets.secret2; })`)).toThrow(
      "attribute 'secret2' missing",
    );
    expect(() => evaluation.value(`${scope} ({ secret2, ... }: { a.script = secret2; })`)).toThrow("secret2");
  });
});
