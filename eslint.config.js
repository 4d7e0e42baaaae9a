import tseslint from "typescript-eslint";

/** Imports go one way: main → cli, config, engine, backends; backends → src/backend, src/errors. */
const importOnly = (files, forbidden, message) => ({
  files,
  rules: { "no-restricted-imports": ["error", { patterns: [{ regex: forbidden, message }] }] },
});

export default tseslint.config(
  { ignores: ["dist", "dist.*", "node_modules", "coverage"] },
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
  importOnly(
    ["backends/**/*.ts"],
    "/src/(?!(backend|errors|settings|helper-command)\\.ts$)",
    "A backend knows the contract (src/backend), the errors (src/errors) and the settings helpers (src/settings) and how to run a program (src/helper-command), no more.",
  ),
  importOnly(["src/**/*.ts"], "/backends/(?!index\\.ts$)", "Only the table backends/index names a backend."),
  { files: ["**/*.js", "**/*.mjs"], ...tseslint.configs.disableTypeChecked },
  { files: ["scripts/**", "bench/**", "test/**"], rules: { "no-console": "off" } },
);
