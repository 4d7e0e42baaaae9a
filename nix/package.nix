# secrets-sidecar: the commands fetcher and with-secrets. fetcher is one executable, made with nixpkgs' Bun, or with
# `withNode` the same program on Node, as secrets-sidecar-node.
# Not buildNpmPackage: its fetcher needs the addresses in the lock file, and this one has only integrity hashes. A
# fixed-output derivation that runs npm itself fetches the packages (scripts/npm-deps-hash.sh computes its hashes).
{
  lib,
  stdenv,
  bun,
  cacert,
  makeBinaryWrapper,
  nodejs_24,
  nodejs-slim_24,
  python3,
  systemd,
  testers,
  util-linux,
  withNode ? false,
  # Not a name that nixpkgs may have: callPackage would fill it in.
  packageManifest ? lib.importJSON ../package.json,
}:

let
  manifest = packageManifest;
  hashes = lib.importJSON ./npm-deps.json;
  inherit (stdenv.hostPlatform) system;

  # We tested with this version what the executable relies on.
  oldestBun = manifest.devDependencies.bun;
  isExecutable =
    !withNode
    &&
      lib.warnIf (lib.versionOlder bun.version oldestBun)
        "secrets-sidecar: nixpkgs has Bun ${bun.version}, and the executable needs ${oldestBun} or newer: the package runs on Node"
        (lib.versionAtLeast bun.version oldestBun);

  asInUnits = lib.concatStringsSep " " (
    lib.mapAttrsToList (name: value: "${name}=${value}")
      (lib.importJSON ./lib/executable.json).environment
  );

  dependencies = stdenv.mkDerivation {
    name = "secrets-sidecar-node-modules-${manifest.version}";
    src = lib.sourceByRegex ../. [
      "package\\.json"
      "package-lock\\.json"
    ];
    nativeBuildInputs = [
      cacert
      nodejs_24
    ];
    dontConfigure = true;
    buildPhase = ''
      runHook preBuild
      export HOME=$TMPDIR
      sh ${./npm-deps.sh} ${stdenv.hostPlatform.node.arch}
      runHook postBuild
    '';
    installPhase = ''
      runHook preInstall
      mv node_modules $out
      runHook postInstall
    '';
    dontFixup = true;
    impureEnvVars = lib.fetchers.proxyImpureEnvVars;
    outputHashMode = "recursive";
    outputHash =
      hashes.${system} or (throw "secrets-sidecar: no hash for ${system} in nix/npm-deps.json");
  };
in
stdenv.mkDerivation (finalAttrs: {
  pname = "secrets-sidecar${lib.optionalString (!isExecutable) "-node"}";
  inherit (manifest) version;

  src = lib.sourceByRegex ../. [
    "package\\.json"
    "LICENSE"
    "(src|backends|scripts|man)(/.*)?"
  ];

  nativeBuildInputs = [
    nodejs_24
  ]
  ++ (
    if isExecutable then
      [ bun ]
    else
      [
        makeBinaryWrapper
        python3
      ]
  );
  # For sd-notify; the executable has its own addon.
  buildInputs = lib.optional (!isExecutable) systemd;

  configurePhase = ''
    runHook preConfigure
    cp -r ${dependencies} node_modules
    chmod -R u+w node_modules
    runHook postConfigure
  '';

  # node-gyp comes with npm, and Node's headers with Node: the build fetches nothing.
  buildPhase = ''
    runHook preBuild
    node scripts/build.mjs
  ''
  + lib.optionalString isExecutable ''
    BUN=${bun}/bin/bun node scripts/build-executable.mjs
  ''
  + lib.optionalString (!isExecutable) ''
    pushd node_modules/sd-notify
    HOME=$TMPDIR node ${nodejs_24}/lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js \
      rebuild --nodedir=${nodejs_24}
    popd
  ''
  + ''
    runHook postBuild
  '';

  installPhase = ''
    runHook preInstall
    lib=$out/lib/secrets-sidecar
    mkdir -p $lib $out/bin
    cp -r dist package.json $lib/
  ''
  + lib.optionalString isExecutable ''
    mv $lib/dist/fetcher $out/bin/fetcher
    # What is for Node: its first line would bring Node along.
    rm -r $lib/dist/{fetcher.js,chunks} $lib/dist/*.node
  ''
  + lib.optionalString (!isExecutable) ''
    mkdir -p $lib/node_modules/sd-notify/build/Release
    cp node_modules/sd-notify/{package.json,index.js,LICENSE} $lib/node_modules/sd-notify/
    cp node_modules/sd-notify/build/Release/*.node $lib/node_modules/sd-notify/build/Release/
    # What finds the addon for it.
    cp -r node_modules/{bindings,file-uri-to-path} $lib/node_modules/
    # Node is without npm at run time; its own first line would bring in the one with npm.
    chmod -x $lib/dist/fetcher.js
    makeWrapper ${nodejs-slim_24}/bin/node $out/bin/fetcher --add-flags "--disable-sigusr1 $lib/dist/fetcher.js" \
      --suffix PATH : ${lib.makeBinPath [ util-linux ]}
  ''
  + ''
    mv $lib/dist/with-secrets $out/bin/with-secrets
    for page in man/*; do
      install -D -m 0644 -t $out/share/man/man''${page##*.} $page
    done
    runHook postInstall
  '';

  # The program is appended to the runtime, where strip and patchelf would remove it.
  dontStrip = isExecutable;
  dontPatchELF = isExecutable;
  disallowedReferences = lib.optionals isExecutable [
    nodejs_24
    nodejs-slim_24
    bun
  ];

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    $out/bin/fetcher --version
  ''
  # An engine that does not know one of these switches ends the program.
  + lib.optionalString isExecutable ''
    env ${asInUnits} $out/bin/fetcher --version
  ''
  + lib.optionalString (!isExecutable) ''
    (cd $out/lib/secrets-sidecar && node -e 'require("sd-notify")')
  ''
  + ''
    echo '{ "backend": "folder", "config": { "secretsDir": "/x" }, "secrets": { "a": {} } }' > check.json
    $out/bin/fetcher --check=config --config check.json
    runHook postInstallCheck
  '';

  passthru = {
    # With it the units of the NixOS module have a narrower sandbox.
    inherit isExecutable;
    tests.version = testers.testVersion { package = finalAttrs.finalPackage; };
  };

  meta = {
    inherit (manifest) description;
    homepage = manifest.repository.url or "https://github.com/NixOS/rfcs/pull/59";
    # Nixpkgs expects the maintainers here.
    maintainers = [ ];
    license = lib.licenses.mit;
    mainProgram = "fetcher";
    platforms = lib.remove "package-lock.json" (lib.attrNames hashes);
  }
  # The address is known once package.json names the repository.
  // lib.optionalAttrs (manifest ? repository) {
    changelog = "${manifest.repository.url}/blob/v${manifest.version}/CHANGELOG.md";
  };
})
