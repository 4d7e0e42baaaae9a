/** As much of SVG as the charts in docs/ need. */

export function svg(width: number, height: number, title: string, body: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<title>${title}</title>
<rect width="100%" height="100%" fill="#fff"/>
${body.join("\n")}
</svg>
`;
}

export interface TextStyle {
  readonly anchor?: "middle" | "end";
  readonly fill?: string;
  readonly size?: number;
}

export function text(x: number, y: number, words: string | number, { anchor, fill, size }: TextStyle = {}): string {
  const attributes = [
    size === undefined ? "" : ` font-size="${size}"`,
    anchor === undefined ? "" : ` text-anchor="${anchor}"`,
    fill === undefined ? "" : ` fill="${fill}"`,
  ];
  return `<text x="${x}" y="${y}"${attributes.join("")}>${words}</text>`;
}

/** A line from point to point. */
export function line(points: readonly (readonly [number, number])[], stroke: string, more = ""): string {
  const path = points.map(([x, y], index) => `${index === 0 ? "M" : "L"}${x} ${y}`).join("");
  return `<path d="${path}" fill="none" stroke="${stroke}"${more}/>`;
}

/** A horizontal line of the grid, and what stands at its left. */
export function gridLine(x: number, y: number, width: number, label: string | number): string {
  return `<path d="M${x} ${y}h${width}" stroke="#ddd"/>${text(x - 6, y + 4, label, { anchor: "end" })}`;
}
