// The timeline: published alerts by priority, what was suppressed, and gaps and storms as marks. Drag to zoom.
import uPlot from "./uplot.js";
import { $, compact, count, el, fill, moment, PRIORITIES, priorityName, value } from "./dom.js";
import * as url from "./url.js";

const SUPPRESSED = ["overflow", "repeated"];
const NAMES = { overflow: "on the overflow topic", repeated: "repeats, in summaries" };
const MARK_NAMES = { gap: ["gap", "gaps"], storm: ["storm", "storms"], falco_report: ["report of Falco's own", "reports of Falco's own"] };
const MARK_WORDS = { gap: "gap", storm: "storm", falco_report: "drops" };
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let shown = null, top = null, below = null, hovered = null;

export function showTimeline(overview) {
  shown = overview;
  const bars = overview.repeated.length, width = overview.bar_seconds;
  const x = Array.from({ length: bars }, (_, at) => overview.from + at * width);
  const published = stacked(PRIORITIES.map((name) => overview.published[name] ?? new Array(bars).fill(0)));
  const suppressed = stacked(SUPPRESSED.map((name) => overview[name]));
  const range = [overview.from, overview.from + bars * width];
  if (!top) make();
  for (const [plot, data] of [[top, [x, ...published.reverse()]], [below, [x, ...suppressed.reverse()]]]) {
    plot.barSeconds = width;
    plot.timeRange = range;
    plot.setData(data, true);
  }
  if (hovered === null || hovered >= bars) hovered = null;
  showLegend();
  showMarks(overview.marks);
  const total = overview.totals;
  $("chart-published").setAttribute("aria-label", `Published alerts over time: ${count(total.published)} in all. ${Object.entries(overview.published).map(([name, numbers]) => `${sum(numbers)} ${name}`).join(", ")}`);
  $("chart-suppressed").setAttribute("aria-label", `Suppressed alerts over time: ${count(total.repeated)} repeats, ${count(total.overflow)} on the overflow topic`);
  const until = overview.live ? "now" : `${moment(range[1] * 1000)} UTC`;
  let note = `${moment(range[0] * 1000)} UTC to ${until}. Drag to zoom.`;
  if (!overview.of_all && overview.since_ms && overview.since_ms > range[0] * 1000) note = `Counts of the records that are kept, from ${moment(overview.since_ms)} UTC on: a search looks into these. ${note}`;
  else if (overview.since_ms > range[0] * 1000 + width * 1000) note = `Counted from ${moment(overview.since_ms)} UTC on. ${note}`;
  $("timeline-note").textContent = note;
}

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);

function stacked(rows) {
  const found = [];
  let before = null;
  for (const row of rows) {
    before = row.map((number, at) => number + (before ? before[at] : 0));
    found.push(before);
  }
  return found;
}

function make() {
  const sync = uPlot.sync("timeline");
  const axis = (more) => ({ stroke: () => style("--ink-2"), grid: { stroke: () => style("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif", ...more });
  const base = (height, names, colour, labels) => ({
    width: 600, height, legend: { show: false }, padding: [8, 18, labels ? 0 : 6, 0],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
    scales: { x: { range: (plot) => plot.timeRange ?? [0, 1] }, y: { range: (_, __, most) => [0, Math.max(4, most * 1.08)] } },
    cursor: { sync: { key: sync.key, setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false },
    axes: [
      axis({ show: labels, space: 70, size: labels ? 26 : 0, values: (_, splits) => splits.map(label) }),
      axis({ size: 52, space: 28, values: (_, splits) => splits.map((each) => (Number.isInteger(each) ? compact(each) : "")) }),
    ],
    series: [{}, ...names.map((name) => ({ fill: () => style(colour(name)), stroke: () => style("--panel"), width: 0.5, points: { show: false }, paths: uPlot.paths.bars({ size: [0.94, Infinity], align: 1 }) }))],
    hooks: {
      setSelect: [(plot) => select(plot)],
      setCursor: [(plot) => hover(plot.cursor.idx)],
      drawClear: [drawMarks],
      draw: labels ? [] : [nameMarks],
    },
  });
  const reversed = [...PRIORITIES].reverse();
  top = new uPlot(base(158, reversed, (name) => `--p-${name}`, false), [[], ...reversed.map(() => [])], $("chart-published"));
  below = new uPlot(base(104, [...SUPPRESSED].reverse(), (name) => `--s-${name}`, true), [[], [], []], $("chart-suppressed"));
  const fit = () => { for (const plot of [top, below]) plot.setSize({ width: $("chart-published").clientWidth, height: plot.height }); };
  new ResizeObserver(fit).observe($("chart-published"));
  $("chart-published").addEventListener("mouseleave", () => hover(null));
  fit();
}

export function restyle() {
  for (const plot of [top, below]) plot?.redraw(true);
}

function label(seconds) {
  const at = new Date(seconds * 1000).toISOString();
  const whole = top.timeRange[1] - top.timeRange[0];
  if (whole > 172800) return at.slice(5, 10);
  return whole <= 600 ? at.slice(11, 19) : at.slice(11, 16);
}

function select(plot) {
  if (plot.select.width < 5) return;
  const from = plot.posToVal(plot.select.left, "x"), to = plot.posToVal(plot.select.left + plot.select.width, "x");
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  url.between(from, Math.max(to, from + 15));
}

function hover(at) {
  const next = at === undefined ? null : at;
  if (next === hovered) return;
  hovered = next;
  showLegend();
}

function showLegend() {
  const at = hovered;
  const number = (numbers) => (numbers ? (at === null ? sum(numbers) : numbers[at] ?? 0) : 0);
  const line = (cls, name, numbers, key) => {
    const total = number(numbers);
    return el("li", { class: total ? "" : "zero" }, el("span", { class: `swatch ${cls}`, "aria-hidden": "true" }), name, el("span", { class: "n" }, count(total)));
  };
  const published = PRIORITIES.filter((name) => shown.published[name]);
  const when = at === null ? "In this time" : `From ${moment((shown.from + at * shown.bar_seconds) * 1000)} UTC`;
  fill($("legend"),
    el("p", { class: "when" }, when),
    el("h3", {}, "Published", el("span", { class: "n" }, count(published.reduce((total, name) => total + number(shown.published[name]), 0)))),
    el("ul", {}, published.length ? published.map((name) => line(`p-${name}`, priorityName(name), shown.published[name])) : el("li", { class: "zero" }, "none")),
    el("h3", {}, "Suppressed", el("span", { class: "n" }, count(number(shown.repeated) + number(shown.overflow)))),
    el("ul", {}, SUPPRESSED.toReversed().map((name) => line(`s-${name}`, NAMES[name], shown[name]))));
}

function drawMarks(plot) {
  if (!shown) return;
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const mark of shown.marks) {
    const from = plot.valToPos(mark.from_ms / 1000, "x", true), to = plot.valToPos(mark.to_ms / 1000, "x", true);
    const width = Math.max(2 * devicePixelRatio, to - from);
    const colour = style(`--m-${mark.health}`);
    ctx.globalAlpha = 0.16;
    ctx.fillStyle = colour;
    ctx.fillRect(from, bbox.top, width, bbox.height);
    ctx.globalAlpha = 1;
    ctx.fillRect(from, bbox.top, width, 3 * devicePixelRatio);
  }
  ctx.restore();
}

// Above the bars, on a ground of their own: a mark has a word, not only a colour.
function nameMarks(plot) {
  if (!shown) return;
  const { ctx, bbox } = plot, unit = devicePixelRatio;
  ctx.save();
  ctx.font = `600 ${11 * unit}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "top";
  let free = -Infinity;
  for (const mark of shown.marks) {
    const word = MARK_WORDS[mark.health], width = ctx.measureText(word).width + 8 * unit;
    const from = Math.min(Math.max(plot.valToPos(mark.from_ms / 1000, "x", true), bbox.left), bbox.left + bbox.width - width);
    if (from < free) continue;
    free = from + width;
    ctx.fillStyle = style(`--m-${mark.health}`);
    ctx.fillRect(from, bbox.top, width, 17 * unit);
    ctx.fillStyle = style("--panel");
    ctx.fillText(word, from + 4 * unit, bbox.top + 3 * unit);
  }
  ctx.restore();
}

function showMarks(marks) {
  const place = $("marks"), [summary, list] = place.children;
  place.hidden = !marks.length;
  const kinds = Object.entries(MARK_NAMES).map(([kind, [one, several]]) => [marks.filter((mark) => mark.health === kind).length, one, several]).filter(([number]) => number);
  summary.textContent = "In this time: " + kinds.map(([number, one, several]) => `${count(number)} ${number === 1 ? one : several}`).join(", ");
  fill(list, marks.slice(-50).reverse().map((mark) => el("li", {},
    el("span", { class: `swatch m-${mark.health}`, "aria-hidden": "true" }), `${moment(mark.from_ms)} `, el("strong", {}, value(mark.cluster)), " ", value(mark.what))));
}
