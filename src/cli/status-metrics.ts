/**
 * `fetcher status` for machines: OpenMetrics 1.0, limited to what node_exporter's textfile collector reads too (it has
 * neither the type `info` nor times of samples).
 */
import type { SidecarStatus } from "./sidecars.ts";

interface Metric {
  readonly name: string;
  readonly type: "gauge" | "counter";
  readonly help: string;
  /** undefined: the sidecar has no such value. */
  readonly value: (sidecar: SidecarStatus) => number | undefined;
}

const seconds = (time: string | null | undefined) =>
  time === null || time === undefined ? undefined : Date.parse(time) / 1000;

/** Tests compare the documents with it. */
export const metrics: readonly Metric[] = [
  {
    name: "fetcher_sidecar_up",
    type: "gauge",
    help: "1: it runs and has published every secret; 0: it is starting or has failed. A sidecar that no unit needs has none.",
    value: ({ state }) => (state === "stopped" ? undefined : state === "ok" || state === "trouble" ? 1 : 0),
  },
  {
    name: "fetcher_last_success_timestamp_seconds",
    type: "gauge",
    help: "When the store last answered for all secrets. Where a thread looks at the store, this may be half a minute behind.",
    value: ({ facts }) => seconds(facts?.checkedAt),
  },
  {
    name: "fetcher_failing_since_timestamp_seconds",
    type: "gauge",
    help: "Since when the store does not give a secret; 0: it gives all.",
    value: ({ facts }) => (facts === null ? undefined : (seconds(facts.failingSince) ?? 0)),
  },
  {
    name: "fetcher_secrets",
    type: "gauge",
    help: "Secrets that are published.",
    value: ({ facts }) => facts?.secrets,
  },
  {
    name: "fetcher_secrets_wanted",
    type: "gauge",
    help: "Secrets of the configuration.",
    value: ({ facts }) => facts?.wanted,
  },
  {
    name: "fetcher_lease_end_timestamp_seconds",
    type: "gauge",
    help: "When the first lease is asked about, renewed or replaced.",
    value: ({ facts }) => seconds(facts?.leaseEndsAt),
  },
  {
    name: "fetcher_rotations",
    type: "counter",
    help: "Sets that were published after the first.",
    value: ({ facts }) => facts?.rotations,
  },
  {
    name: "fetcher_actions",
    type: "counter",
    help: "Restarts, reloads and signals for new secrets.",
    value: ({ facts }) => facts?.actions,
  },
  {
    name: "fetcher_actions_failed",
    type: "counter",
    help: "Those after which the service had failed.",
    value: ({ facts }) => facts?.actionsFailed,
  },
];

export function metricsText(sidecars: readonly SidecarStatus[]): string {
  const families = metrics.map(({ name, type, help, value }) => {
    const sample = type === "counter" ? `${name}_total` : name;
    const lines = sidecars.flatMap((sidecar) => {
      const number = value(sidecar);
      return number === undefined || Number.isNaN(number) ? [] : [`${sample}${labels(sidecar)} ${String(number)}\n`];
    });
    return lines.length === 0 ? "" : `# TYPE ${name} ${type}\n# HELP ${name} ${help}\n${lines.join("")}`;
  });
  const versions = sidecars.flatMap((sidecar) =>
    sidecar.facts === null ? [] : [`fetcher_program${labels(sidecar, { version: sidecar.facts.program })} 1\n`],
  );
  const program =
    versions.length === 0
      ? ""
      : `# TYPE fetcher_program gauge\n# HELP fetcher_program Its version.\n${versions.join("")}`;
  return `${families.join("")}${program}# EOF\n`;
}

function labels({ name, unit, facts }: SidecarStatus, more: Readonly<Record<string, string>> = {}): string {
  const all = { name, unit, ...(facts === null ? {} : { backend: facts.backend }), ...more };
  const escaped = (text: string) => text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return `{${Object.entries(all)
    .map(([key, value]) => `${key}="${escaped(value)}"`)
    .join(",")}}`;
}
