/** docs/overview-*.svg: service, sidecar and store, for the README, one for each of a reader's colour schemes. */

interface Scheme {
  readonly text: string;
  readonly faint: string;
  readonly line: string;
  readonly fill: string;
  readonly strong: string;
}

const schemes: Readonly<Record<string, Scheme>> = {
  light: { text: "#1f2328", faint: "#59636e", line: "#59636e", fill: "#f6f8fa", strong: "#0550ae" },
  dark: { text: "#f0f6fc", faint: "#a9b4c0", line: "#a9b4c0", fill: "#151b23", strong: "#79c0ff" },
};

/** @returns path → SVG. */
export function overviewPictures(): [string, string][] {
  return Object.entries(schemes).map(([name, scheme]) => [`docs/overview-${name}.svg`, picture(scheme)]);
}

function picture(scheme: Scheme): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 270" width="880" font-family="system-ui, sans-serif" role="img">`,
    "<title>A sidecar fetches secrets from a store, publishes them as files in memory, and tells systemd to restart the service</title>",
    `<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="${scheme.line}"/></marker></defs>`,
    `<rect x="262" y="14" width="606" height="242" rx="10" fill="none" stroke="${scheme.faint}" stroke-dasharray="5 5"/>`,
    label(scheme, 278, 38, "your host", "start"),
    box(scheme, 12, 84, "store", ["folder, sops-nix, agenix", "Vault, OpenBao, AWS", "systemd credentials"]),
    box(scheme, 290, 84, "sidecar", ["hello-secrets.service", "fetches, checks,", "publishes, watches"], scheme.strong),
    box(scheme, 650, 84, "service", ["hello.service", "starts when its", "secrets are there"]),
    arrow(scheme, 212, 132, 284, 132),
    label(scheme, 237, 120, "values"),
    arrow(scheme, 490, 122, 644, 122),
    label(scheme, 567, 96, "files, variables"),
    label(scheme, 567, 112, "in memory"),
    `<path d="M390 184V226H748V190" fill="none" stroke="${scheme.line}" stroke-width="1.5" marker-end="url(#head)"/>`,
    label(scheme, 569, 218, "a new value is in place: restart, reload or signal"),
    "</svg>",
    "",
  ].join("\n");
}

function box(
  scheme: Scheme,
  x: number,
  y: number,
  title: string,
  lines: readonly string[],
  edge = scheme.line,
): string {
  const said = lines.map((line, index) => label(scheme, x + 100, y + 50 + index * 18, line));
  return [
    `<rect x="${x}" y="${y}" width="200" height="100" rx="8" fill="${scheme.fill}" stroke="${edge}" stroke-width="2"/>`,
    `<text x="${x + 100}" y="${y + 26}" text-anchor="middle" font-size="17" font-weight="600" fill="${scheme.text}">${title}</text>`,
    ...said,
  ].join("\n");
}

function label(scheme: Scheme, x: number, y: number, text: string, anchor = "middle"): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="13" fill="${scheme.faint}">${text}</text>`;
}

function arrow(scheme: Scheme, x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${scheme.line}" stroke-width="1.5" marker-end="url(#head)"/>`;
}
