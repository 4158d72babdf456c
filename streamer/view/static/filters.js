// The filter: ranges, priorities, menus, search, and what is set.
import { $, badge, compact, el, fill, moment, plain, PRIORITIES, value } from "./dom.js";
import * as url from "./url.js";

const RANGES = { "15m": "15 min", "6h": "6 h", "24h": "24 h" };
const MENUS = { cluster: "Cluster", source: "Source", tag: "Tag" };
const SEARCH_MS = 250;
// A condition as in `filters`, such as proc.name =~ "(ba|z)?sh": it is set by Enter.
const MATCHER = /^("[^"]*"|\S+)\s*([=!]~|!=|=|[<>]=?)\s*("|\w+$)/;

export function start() {
  const search = $("q");
  let timer = 0;
  search.value = url.one("q");
  search.addEventListener("input", () => {
    clearTimeout(timer);
    if (!MATCHER.test(search.value.trim())) timer = setTimeout(() => url.set("q", search.value.trim(), { replace: true }), SEARCH_MS);
  });
  search.addEventListener("keydown", (event) => {
    const text = search.value.trim();
    if (event.key !== "Enter" || !MATCHER.test(text)) return;
    search.value = "";
    url.set("q", "", { replace: true, quiet: true });
    if (!url.values("where").includes(text)) url.toggle("where", text);
  });
  for (const [name, title] of Object.entries(MENUS)) {
    const menu = el("select", { "aria-label": title, id: `menu-${name}`, onchange: () => { if (menu.value) url.toggle(name, menu.value); } });
    $("menus").append(menu);
  }
}

export function showFilters(overview) {
  const range = url.one("from") ? "" : url.one("range") || "15m";
  fill($("ranges"), Object.entries(RANGES).map(([name, title]) => el("button", { type: "button", "aria-pressed": range === name, onclick: () => url.span(name) }, title)),
    url.one("from") ? el("button", { type: "button", "aria-pressed": true, title: "Back to 15 minutes", onclick: () => url.span("15m") }, `${moment(url.one("from") * 1000)} – ${moment(url.one("to") * 1000)} ✕`) : null);
  if (document.activeElement !== $("q")) $("q").value = url.one("q");
  const top = overview?.top ?? {};
  const totals = Object.fromEntries((top.priority ?? []).map((row) => [row.value, row.published + row.suppressed]));
  const chosen = new Set(url.values("priority"));
  const focused = $("priorities").contains(document.activeElement) ? document.activeElement.dataset.value : null;
  fill($("priorities"), PRIORITIES.filter((name) => totals[name] || chosen.has(name)).map((name) => {
    const button = el("button", { type: "button", class: "chip", "aria-pressed": chosen.has(name), onclick: () => url.toggle("priority", name) }, badge(name), el("span", { class: "n" }, compact(totals[name] ?? 0)));
    button.dataset.value = name;
    return button;
  }));
  if (focused) [...$("priorities").children].find((each) => each.dataset.value === focused)?.focus();
  for (const [name, title] of Object.entries(MENUS)) showMenu(name, title, top[name] ?? []);
  showActive();
}

function showMenu(name, title, rows) {
  const menu = $(`menu-${name}`);
  if (document.activeElement === menu) return; // it may be open
  const chosen = new Set(url.values(name));
  const options = rows.map((row) => el("option", { value: row.value }, `${plain(row.value, 60)}  (${compact(row.published + row.suppressed)})${chosen.has(row.value) ? "  ✓" : ""}`));
  fill(menu, el("option", { value: "" }, title), options);
  menu.value = "";
  menu.disabled = !rows.length;
}

function showActive() {
  const found = url.conditions();
  const place = $("active");
  place.hidden = !found.length;
  fill(place, found.map(([name, text]) => el("button", { type: "button", class: "condition", "aria-label": `Remove ${name} ${plain(text)}`, onclick: () => url.toggle(name, text) },
    el("span", { class: "what" }, name.startsWith("not.") ? `not ${name.slice(4)}` : name), value(text, { most: 60 }), el("span", { "aria-hidden": "true" }, "✕"))),
    el("button", { type: "button", class: "quiet", onclick: url.clear }, "Clear all"));
}
