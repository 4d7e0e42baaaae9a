# The configuration of RFC 59's text ("End-user facing API"), as it is there.
{
  secretsStore = {
    enable = true;

    vault = {
      url = "http://localhost:8200";
      mount = "secret";
      tokenPath = "/etc/secrets/service_secrets_token";
      refreshInterval = 30;
    };

    folder = {
      secretsDir = "/etc/secrets";
    };
  };

  services.secrets_test = {
    enable = true;
    secretsConfig = {
      backend = "folder";
      config = {
        secretsDir = "/etc/secrets_other/";
        reloadOnChange = true;
      };
    };
  };
}
