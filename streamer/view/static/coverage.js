// The Falco pods: which of them bring alerts, and what to do about the others.
import { $, ago, count, el, fill, moment, value } from "./dom.js";
import { getJson } from "./net.js";
import { prose } from "./verdict.js";

const EVERY_MS = 5000, LATE_MS = 5000;
const STATES = {
  blind: ["✕", "blind", "The log is not being read. `falco-streamer doctor` says why."],
  text: ["!", "text mode", "Alerts become dead letters. Set `json_output: true` in Falco."],
  unreported: ["?", "not reported", "Deleted, or not watched by any worker."],
  silent: ["–", "silent", "The log is read; nothing has come for five minutes."],
  following: ["✓", "following", "The log is read."],
};
const LATE = "Alerts come late. Set buffered_outputs: false in Falco, before 0.44 with -U; or the worker is behind.";
let timer = 0;

export function leave() { clearTimeout(timer); }

export async function show() {
  clearTimeout(timer);
  const place = $("view-coverage");
  try {
    fill(place, content(await getJson("api/coverage")));
  } catch (error) {
    fill(place, el("div", { class: "empty" }, el("p", { class: "big" }, "Not loaded"), el("p", {}, value(error.message))));
  }
  timer = setTimeout(show, EVERY_MS);
}

// On a phone there is no head of the table.
const cell = (label, cls, ...inside) => el("td", { class: cls, "data-label": label }, ...inside);

function content(found) {
  if (!found.pods.length) {
    return el("section", { class: "panel" }, el("div", { class: "empty" }, el("p", { class: "big" }, "No Falco pod has been reported"), el("p", {}, "Workers report each pod they watch every five minutes (health.coverage_seconds).")));
  }
  const totals = {};
  for (const counts of Object.values(found.counts)) for (const [state, number] of Object.entries(counts)) totals[state] = (totals[state] ?? 0) + number;
  const tiles = Object.entries(STATES).filter(([state]) => totals[state]).map(([state, [mark, name, told]]) => el("div", { class: `tile c-${state}` },
    el("p", { class: "big" }, el("span", { class: "sign", "aria-hidden": "true" }, mark), count(totals[state]), " ", name), el("p", {}, prose(told))));
  const rows = found.pods.map((pod) => {
    const [mark, name] = STATES[pod.state] ?? ["?", pod.state];
    const late = pod.delay_ms !== null && pod.delay_ms > LATE_MS;
    return el("tr", {},
      el("td", { class: `state c-${pod.state}` }, el("span", { class: "sign", "aria-hidden": "true" }, mark), name),
      el("td", { class: "rule" }, value(pod.node || "(no node)")),
      el("td", { class: "workload" }, value(`${pod.namespace}/${pod.pod}`), pod.container !== "falco" ? [" ", value(pod.container)] : null),
      el("td", { class: "cluster" }, value(pod.cluster)),
      cell("Since", "time", moment(pod.since_ms)),
      cell("Last alert", "time", pod.last_ms ? ago(pod.last_ms) : "none read"),
      cell("Delay", "n", pod.delay_ms === null ? null : `${(pod.delay_ms / 1000).toFixed(1)} s`, late ? el("span", { class: "flag", title: LATE }, "late") : null),
      cell("Lines", "n", count(pod.lines)));
  });
  const heads = [["State"], ["Node"], ["Falco pod"], ["Cluster"], ["Since"], ["Last alert"], ["Delay", "n"], ["Lines", "n"]];
  return [
    el("section", { class: "tiles", "aria-label": "Falco pods by state" }, tiles),
    el("section", { class: "panel list" },
      el("div", { class: "panel-head" }, el("h2", {}, `Falco pods, the worst first`), el("p", { class: "note" }, found.pod_count > found.pods.length ? `the first ${count(found.pods.length)} of ${count(found.pod_count)}` : `${count(found.pod_count)} in all`)),
      el("table", { class: "coverage" }, el("thead", {}, el("tr", {}, heads.map(([title, cls]) => el("th", { scope: "col", class: cls }, title)))), el("tbody", {}, rows))),
    rows.length && found.pods.some((pod) => pod.delay_ms > LATE_MS) ? el("p", { class: "note" }, LATE) : null,
  ];
}
