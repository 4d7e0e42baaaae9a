import tseslint from "typescript-eslint";

const importOnly = (files, forbidden, message) => ({
  files,
  rules: { "no-restricted-imports": ["error", { patterns: [{ regex: forbidden, message }] }] },
});

/**
 * The rooms of the house, from the ground up, and what each may import beside itself (docs/explanation/architecture.md). Nothing
 * imports upwards. Only the engine knows backends, and only by their table.
 */
const rooms = {
  contract: [],
  runtime: ["contract"],
  config: ["contract"],
  units: ["contract", "config"],
  setup: ["contract", "config", "units"],
  output: ["contract", "config"],
  publish: ["contract", "config", "output"],
  systemd: ["contract", "runtime", "config", "publish"],
  engine: ["contract", "runtime", "config", "publish", "systemd", "../backends/index\\.ts$"],
  cli: ["contract", "runtime", "config", "units", "setup", "publish", "systemd", "engine"],
};

const room = (name, allowed) =>
  importOnly(
    [`src/${name}/**/*.ts`],
    `^\\.\\./(?!${allowed.map((one) => (one.endsWith("$") ? one : `${one}/`)).join("|") || "nothing"})`,
    `src/${name} may import ${["itself", ...allowed].join(", ").replaceAll("\\", "").replace("$", "")}: see docs/explanation/architecture.md.`,
  );

export default tseslint.config(
  { ignores: ["dist", "**/dist.*", "**/node_modules", "coverage", "site/.vitepress/cache"] },
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ["eslint.config.js"] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/consistent-type-definitions": "off",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      eqeqeq: "error",
      "no-console": "error",
    },
  },
  ...Object.entries(rooms).map(([name, allowed]) => room(name, allowed)),
  importOnly(
    ["backends/**/*.ts"],
    "/src/(?!contract/)",
    "A backend knows src/contract and its own client library, no more: see docs/explanation/architecture.md.",
  ),
  importOnly(
    ["src/start.ts", "src/main.ts"],
    "/backends/",
    "Only the engine knows backends, by their table backends/index.ts.",
  ),
  {
    files: ["src/**/*.ts", "backends/**/*.ts"],
    // A longer one usually has two thoughts.
    rules: { "max-lines-per-function": ["error", { max: 45, skipBlankLines: true, skipComments: true }] },
  },
  {
    // A unit is one list of settings.
    files: ["src/units/acting-units.ts", "src/units/render.ts", "src/units/sandbox.ts"],
    rules: { "max-lines-per-function": ["error", { max: 65, skipBlankLines: true, skipComments: true }] },
  },
  { files: ["**/*.js", "**/*.mjs"], ...tseslint.configs.disableTypeChecked },
  { files: ["scripts/**", "bench/**", "test/**", "site/**"], rules: { "no-console": "off" } },
);
