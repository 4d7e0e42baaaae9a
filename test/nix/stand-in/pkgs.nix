# A stand-in for the package set, of our own: what nix/ asks of it, with programs where a guest of the tests has them.
# Files that nixpkgs would build are written at evaluation, so that a test can read them at their paths.
{ lib }:

let
  at = path: name: {
    inherit name;
    type = "derivation";
    outPath = path;
    outputs = [ "out" ];
    outputName = "out";
    out = at path name;
    meta = { };
    __toString = self: self.outPath;
  };
  file =
    name: text:
    builtins.toFile (lib.strings.sanitizeDerivationName name) (
      builtins.unsafeDiscardStringContext text
    );
in
{
  inherit lib;

  coreutils = at "/usr" "coreutils";
  bash = at "/usr" "bash";
  findutils = at "/usr" "findutils";
  gnugrep = at "/usr" "gnugrep";
  gnused = at "/usr" "gnused";
  systemd = at "/usr" "systemd";

  # What a package would have in its wrapper.
  nodejs = at "/usr/local" "nodejs";

  # `fetcher` and `with-secrets` are in /usr/local/bin of a guest.
  secrets-sidecar = at "/usr/local" "fetcher" // {
    isExecutable = builtins.getEnv "FETCHER_TEST_PROGRAM" == "dist/fetcher";
  };

  stdenv = {
    buildPlatform.canExecute = _: true;
    hostPlatform = { };
  };

  writeText = file;
  writeShellScript = name: text: file name "#!/bin/sh\n${text}\n";

  # The only derivation in nix/ besides packages: it checks the configuration while it copies it. The tests check it.
  runCommand =
    name: env: script:
    assert
      lib.hasInfix "fetcher --check=config --config \"$jsonPath\"" script
      || lib.hasInfix "cp \"$jsonPath\"" script;
    file name env.json;

  callPackage = _: throw "the stand-in has secrets-sidecar already";
}
