/** docs/reference/metrics.md */
import { format } from "prettier";
import { metrics } from "../../src/cli/status-metrics.ts";

export async function metricsPage(): Promise<string> {
  const rows = metrics.map(
    ({ name, type, help }) => `| \`${type === "counter" ? `${name}_total` : name}\` | ${type} | ${help} |`,
  );
  const page = `# Metrics

Made by \`npm run docs\` from the texts of the program. \`fetcher status --metrics\` prints these in the format OpenMetrics 1.0. [Alerts](../how-to/alerts.md) has
a timer for node_exporter, and rules for Prometheus.

| metric | type | meaning |
| --- | --- | --- |
${rows.join("\n")}
| \`fetcher_program\` | gauge | Always 1. \`version\` is that of the program that runs; an upgrade of the package may have left it behind. |

Labels: \`name\` is that of the configuration, \`unit\` the sidecar's; \`backend\` is there once the sidecar has run. Times are seconds since 1970. Counters begin with each life of a sidecar.
`;
  return format(page, { parser: "markdown", printWidth: 120 });
}
