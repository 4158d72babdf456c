// The values that occur most; a click filters everything.
import { $, compact, count, el, fill, plain, sparkline, value } from "./dom.js";
import * as url from "./url.js";

const TITLES = { rule: "Rules", namespace: "Namespaces", node: "Nodes", image: "Images" };
const made = new Map();

export function showTops(top) {
  const place = $("tops");
  if (!made.size) {
    for (const [name, title] of Object.entries(TITLES)) {
      const list = el("ol", {});
      made.set(name, list);
      place.append(el("section", { class: "panel" }, el("h2", {}, title), list));
    }
  }
  for (const [name, list] of made) showOne(name, list, top[name]);
}

function showOne(name, list, rows) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.value : null;
  const most = Math.max(1, ...rows.map((row) => row.published + row.suppressed));
  const chosen = new Set(url.values(name));
  fill(list, rows.length ? rows.map((row) => line(name, row, most, chosen.has(row.value))) : el("li", { class: "none" }, "none"));
  if (focused !== null) [...list.querySelectorAll("button")].find((button) => button.dataset.value === focused)?.focus();
}

function line(name, row, most, chosen) {
  const total = row.published + row.suppressed;
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${Math.max(1, (100 * total) / most)}%`;
  const button = el("button", { type: "button", "aria-pressed": chosen, title: `${plain(row.value)}\n${count(row.published)} published, ${count(row.suppressed)} suppressed`, onclick: (event) => url.toggle(event.shiftKey ? `not.${name}` : name, row.value) },
    bar, value(row.value, { cls: "name" }), sparkline(row.spark),
    el("span", { class: "n" }, compact(total), el("span", { class: "hidden-text" }, ` alerts, ${count(row.published)} published`)));
  button.dataset.value = row.value;
  return el("li", {}, button);
}
