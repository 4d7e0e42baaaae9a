import { fileURLToPath } from "node:url";

// How esbuild makes the bundle: shared by the build and by the tests that bundle a part of the program. backends/vault
// gives node-vault its own transport, debug function, validator and commands (none). So the bundle leaves out what
// node-vault would load for these, and they cost no time at start. node-vault calls `debug` as it loads. Its client is an
// emitter of events, all about timers of its own that fetcher does not start.
const nodeVaultAlone = {
  name: "node-vault-alone",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(axios|debug|events|https|mustache|tv4|\.\/commands\.js)$/ }, ({ path, importer }) =>
      importer.includes("/node_modules/node-vault/") ? { path, namespace: "left-out" } : undefined,
    );
    onLoad({ filter: /.*/, namespace: "left-out" }, ({ path }) => ({
      contents: path === "events" ? "module.exports = class {};" : "module.exports = () => () => undefined;",
    }));
  },
};

// src/runtime/log.ts gives pino a stream of its own and plain fields. So pino does not need its files, worker threads
// and exit handlers, its handling of circles, errors, requests and hidden paths, or its look-up of the caller and the
// host.
const pinoParts = {
  "safe-stable-stringify": "module.exports = { configure: () => JSON.stringify };",
  "pino-std-serializers": "module.exports = { err: (error) => error };",
  "node:diagnostics_channel": "module.exports = { tracingChannel: () => ({ hasSubscribers: false }) };",
  "node:os": "module.exports = { hostname: () => undefined };",
};
const pinoAlone = {
  name: "pino-alone",
  setup({ onResolve, onLoad }) {
    // Evaluated for the first line of the log, which a start writes after READY: a thirtieth of the executable's start.
    onResolve({ filter: /^pino$/ }, ({ path, namespace, resolveDir }) =>
      namespace === "pino-late" ? undefined : { path, namespace: "pino-late", pluginData: resolveDir },
    );
    onLoad({ filter: /.*/, namespace: "pino-late" }, ({ pluginData }) => ({
      contents: 'export const pino = (...parts) => require("pino")(...parts);',
      resolveDir: pluginData,
    }));
    onResolve(
      {
        filter:
          /^(\.\/(?:lib\/)?(?:transport|caller|multistream)|node:(?:diagnostics_channel|os)|sonic-boom|on-exit-leak-free|worker_threads|@pinojs\/redact|safe-stable-stringify|pino-std-serializers)$/,
      },
      ({ path, importer }) =>
        importer.includes("/node_modules/pino/") ? { path, namespace: "pino-left-out" } : undefined,
    );
    onLoad({ filter: /.*/, namespace: "pino-left-out" }, ({ path }) => ({
      contents: pinoParts[path] ?? "module.exports = function () {};",
    }));
  },
};

// The SDK of AWS runs a profile's `credential_process` without a time limit, and forgets it.
const credentialProcess = {
  name: "credential-process",
  setup({ onResolve }) {
    onResolve({ filter: /^(node:)?child_process$/ }, ({ importer }) =>
      importer.includes("/node_modules/@aws-sdk/credential-provider-process/")
        ? { path: fileURLToPath(new URL("../backends/credential-process.ts", import.meta.url)) }
        : undefined,
    );
  },
};

// The texts of options are for the documents. In the bundle the two functions are empty, and esbuild removes their
// calls with everything in their arguments.
const withoutTexts = {
  name: "without-texts",
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/contract\/option\.ts$/ }, () => ({
      contents:
        "export function means() {} export function aboutBackend() {} export const option = (schema) => schema;",
    }));
  },
};

/** @type {import("esbuild").BuildOptions} */
export const bundleOptions = {
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20.19",
  minifySyntax: true,
  minifyWhitespace: true,
  // Else esbuild makes a call of valibot's pattern for emojis, which nothing here uses, and keeps that call.
  supported: { "regexp-unicode-property-escapes": true },
  // The build writes the licences of all packages to one file.
  legalComments: "none",
  external: ["sd-notify"],
  plugins: [nodeVaultAlone, pinoAlone, credentialProcess, withoutTexts],
  // CommonJS libraries in the bundle call require(), which ES modules do not have.
  banner: {
    js: 'import { createRequire as createRequireForBundle } from "node:module"; const require = createRequireForBundle(import.meta.url);',
  },
  logLevel: "warning",
};
