/** docs/explanation/figures.svg: from exec to READY over the number of secrets; both scales are logarithmic. */
import type { Starts } from "./start.ts";
import { COUNTS } from "./stores.ts";
import { gridLine, line, svg, text } from "./svg.ts";

/** Pixels. */
const [WIDTH, HEIGHT, LEFT, TOP, LEGEND] = [480, 300, 60, 40, 220];
const colours = ["#1f5f8b", "#8a3a20", "#3c7d3c", "#8a6d1f", "#6a3d8a", "#1f8b85", "#b0486a", "#555"];

export function chart({ rows, shell, node }: Starts): string {
  const lines: [string, readonly (number | undefined)[], string, string][] = Array.from(
    rows,
    ([name, times], index) => [
      name.replaceAll("`", ""),
      times.map((start) => start?.ready),
      colours[index % colours.length] ?? "#000",
      "",
    ],
  );
  lines.push(["shell loop that copies files", shell, "#000", ' stroke-dasharray="2 3"']);
  lines.push(["node -e 0", COUNTS.map(() => node.ready), "#000", ' stroke-dasharray="8 4"']);
  const times = lines.flatMap(([, values]) => values.filter((time) => time !== undefined));
  const [lowest, highest] = [10 ** Math.floor(Math.log10(Math.min(...times))), Math.max(...times) * 1.2];
  const x = (index: number) => Math.round(LEFT + 20 + (index / (COUNTS.length - 1)) * (WIDTH - 40));
  const y = (time: number) =>
    Math.round(TOP + HEIGHT - (Math.log(time / lowest) / Math.log(highest / lowest)) * HEIGHT);
  const grid = [1, 3]
    .flatMap((digit) => Array.from({ length: 6 }, (_, power) => digit * 10 ** power))
    .filter((time) => time >= lowest && time <= highest);
  const pointsOf = (values: readonly (number | undefined)[]) =>
    values.flatMap((time, index): [number, number][] => (time === undefined ? [] : [[x(index), y(time)]]));
  return svg(LEFT + WIDTH + LEGEND, TOP + HEIGHT + 50, "From exec to READY over the number of secrets", [
    text(LEFT, 20, "Milliseconds from exec to READY (median); both scales are logarithmic", { size: 14 }),
    ...grid.map((time) => gridLine(LEFT, y(time), WIDTH, time.toLocaleString("en"))),
    ...COUNTS.map((count, index) =>
      text(x(index), TOP + HEIGHT + 18, count.toLocaleString("en"), { anchor: "middle" }),
    ),
    text(LEFT + WIDTH / 2, TOP + HEIGHT + 38, "secrets", { anchor: "middle" }),
    ...lines.flatMap(([, values, colour, style]) => [
      line(pointsOf(values), colour, ` stroke-width="1.5"${style}`),
      ...pointsOf(values).map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="2.5" fill="${colour}"/>`),
    ]),
    ...lines.map(([name, , colour, style], index) => {
      const [left, middle] = [LEFT + WIDTH + 14, TOP + 10 + index * 20];
      const sample = [
        [left, middle],
        [left + 24, middle],
      ] as const;
      return `${line(sample, colour, ` stroke-width="1.5"${style}`)}${text(left + 30, middle + 4, name)}`;
    }),
  ]);
}
