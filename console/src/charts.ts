// Small charts as SVG.

import { fill, h, svg } from "./dom.ts";
import { KEPT } from "./live.ts";

export interface Series {
  values: (number | undefined)[];
  /** The class that has its colour. */
  tone: "main" | "error" | "slow";
}

const [WIDTH, HEIGHT] = [240, 56];

/** A figure with its name and its course. */
export class ChartCard {
  private readonly figure = h("span", { class: "figure" }, "–");
  private readonly second = h("span", {});
  private readonly plot = h("div", { class: "plot" });
  readonly element: HTMLElement;

  constructor(private readonly title: string) {
    this.element = h("div", { class: "chart-card" }, h("div", { class: "chart-head" }, h("span", { class: "chart-title" }, title), this.second), this.figure, this.plot);
  }

  show(figure: string, second: string, series: Series[]): void {
    this.figure.textContent = figure;
    this.second.textContent = second;
    // It has the colour of its line.
    this.second.className = series.some((one) => one.tone === "slow") ? "slow-text" : "";
    fill(this.plot, chart(series, `${this.title}: ${figure}${second ? `, ${second}` : ""}`));
  }
}

export function chart(series: Series[], label: string): SVGElement {
  const all = series.flatMap((one) => one.values).filter((value): value is number => value !== undefined);
  const top = Math.max(...all, 0) || 1;
  // A page that has just been opened shows its first seconds large.
  const seconds = Math.min(KEPT, Math.max(30, ...series.map((one) => one.values.length)));
  const x = (at: number, count: number) => WIDTH - ((count - 1 - at) * WIDTH) / (seconds - 1);
  const y = (value: number) => HEIGHT - 3 - (value / top) * (HEIGHT - 8);
  const lines = series.flatMap(({ values, tone }) => {
    const runs: string[] = [];
    let run: string[] = [];
    let [begin, last] = [0, 0];
    const close = (): void => {
      if (run.length > 0) {
        const line = `M${run.join("L")}`;
        runs.push(line);
        if (tone === "main") areas.push(`${line}L${last.toFixed(1)} ${HEIGHT}L${begin.toFixed(1)} ${HEIGHT}Z`);
      }
      run = [];
    };
    const areas: string[] = [];
    values.forEach((value, at) => {
      if (value === undefined) return close();
      if (run.length === 0) begin = x(at, values.length);
      last = x(at, values.length);
      run.push(`${last.toFixed(1)} ${y(value).toFixed(1)}`);
    });
    close();
    return [
      areas.length > 0 ? svg("path", { class: `area ${tone}`, d: areas.join("") }) : null,
      runs.length > 0 ? svg("path", { class: `line ${tone}`, d: runs.join(""), "vector-effect": "non-scaling-stroke" }) : null,
    ];
  });
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
    svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, class: "axis" }), lines);
}

/** A line without figures, for a row of a table. */
export function spark(values: number[], label: string): SVGElement {
  // Of many functions most are quiet.
  return chart(values.some((value) => value > 0) ? [{ values, tone: "main" }] : [], label);
}
