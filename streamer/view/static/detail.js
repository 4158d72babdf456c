// One alert: all that is known, what was suppressed with it, and what to do about it elsewhere.
import { $, badge, clock, copy, count, day, el, fill, moment, value } from "./dom.js";
import { getBytes, getJson } from "./net.js";
import * as url from "./url.js";

const LONG = 2000;
const FIRST = ["proc.cmdline", "proc.name", "proc.pname", "proc.exepath", "user.name", "k8s.ns.name", "k8s.pod.name", "container.image.repository", "container.image.tag", "fd.name"];
const FILTERED = { "k8s.ns.name": "namespace", "container.image.repository": "image" };
let current = null, returnTo = null;

export async function show(id) {
  const place = $("detail");
  if (!current) returnTo = document.activeElement;
  current = id;
  try {
    const alert = await getJson(`api/alert?id=${encodeURIComponent(id)}`);
    if (current !== id) return;
    fill(place, content(alert));
  } catch (error) {
    if (current !== id) return;
    fill(place, head("Not shown", null), el("p", { class: "cause" }, value(error.message)));
  }
  const had = place.hidden;
  place.dataset.id = id;
  place.hidden = false;
  document.body.classList.add("with-detail");
  place.scrollTop = 0;
  if (had) place.querySelector(".close").focus({ preventScroll: true });
}

export async function refresh(id) {
  if (current === id) {
    const at = $("detail").scrollTop;
    const opened = [...$("detail").querySelectorAll("details")].map((each) => each.open);
    const alert = await getJson(`api/alert?id=${encodeURIComponent(id)}`);
    if (current !== id) return;
    fill($("detail"), content(alert));
    $("detail").querySelectorAll("details").forEach((each, number) => { if (opened[number] !== undefined) each.open = opened[number]; });
    $("detail").scrollTop = at;
  }
}

export const shown = () => current;

export function close() {
  if (!current) return false;
  current = null;
  $("detail").hidden = true;
  document.body.classList.remove("with-detail");
  if (returnTo?.isConnected) returnTo.focus({ preventScroll: true });
  return true;
}

function head(title, alert) {
  return el("header", {},
    el("div", {}, alert ? badge(alert.priority) : null, el("h2", {}, value(title))),
    el("button", { type: "button", class: "close quiet", "aria-label": "Close", onclick: () => url.set("id", "") }, "✕"));
}

function content(alert) {
  const where = [alert.cluster, alert.namespace && `${alert.namespace}${alert.pod ? `/${alert.pod}` : ""}`, alert.node].filter(Boolean);
  const time = `${day(alert.time_ms)} ${clock(alert.time_ms, { millis: true })} UTC`;
  const fields = [...alert.fields].sort(([a], [b]) => rank(a) - rank(b));
  return [
    head(alert.rule || "(no rule)", alert),
    el("p", { class: "where" }, time, where.map((each) => [" · ", value(each)])),
    alert.kind === "overflow" ? el("p", { class: "hint" }, "A limit diverted this alert to the overflow topic.") : null,
    alert.kind === "repeated" ? el("p", { class: "hint" }, "The alert that opened this window is older than what is kept here; these are its repeats.") : null,
    long(alert.output || alert.text, "output"),
    actions(alert),
    suppressed(alert),
    section("Fields", table(fields, (name) => FILTERED[name])),
    alert.tags.length ? section("Tags", el("p", { class: "tags" }, alert.tags.map((tag) => el("button", { type: "button", class: "chip", onclick: () => url.toggle("tag", tag) }, value(tag))))) : null,
    section("Record", table([["topic", alert.topic], ["partition", String(alert.partition)], ["offset", alert.offset], ["key", alert.key], ["value", `${count(alert.value_bytes)} bytes`]])),
    section("Headers", table(alert.headers)),
    el("details", {}, el("summary", {}, "The value, as Falco wrote it"), long(alert.value, "raw")),
  ];
}

const rank = (name) => { const at = FIRST.indexOf(name); return at < 0 ? FIRST.length : at; };
const section = (title, ...inside) => el("section", {}, el("h3", {}, title), ...inside);

function table(rows, filter = () => null) {
  return el("table", { class: "fields" }, el("tbody", {}, rows.map(([name, text]) => el("tr", {},
    el("th", { scope: "row" }, value(name)),
    el("td", {}, long(text, "field"), filter(name) && text ? el("button", { type: "button", class: "quiet small", onclick: () => url.toggle(filter(name), text) }, "filter") : null)))));
}

function long(text, cls) {
  const whole = String(text ?? "");
  const made = value(whole, { lines: true, most: LONG, tag: cls === "field" ? "span" : "pre", cls: `${cls} mono` });
  if (cls !== "field") made.tabIndex = 0;
  if (whole.length <= LONG) return made;
  const all = el("button", { type: "button", class: "quiet small", onclick: () => { made.replaceWith(value(whole, { lines: true, tag: made.tagName, cls: `${cls} mono` })); all.remove(); } }, `Show all ${count(whole.length)} characters`);
  return el("div", {}, made, all);
}

function suppressed(alert) {
  if (!alert.repeats) return null;
  const names = [...new Set(alert.variants.flatMap((variant) => variant.fields.map(([name]) => name)))];
  const title = `Repeats: ${count(alert.repeats)}, ${count(alert.variant_count)} ${alert.variant_count === 1 ? "variant" : "variants"}`;
  const rows = alert.variants.map((variant) => {
    const held = Object.fromEntries(variant.fields);
    const own = names.length ? names.map((name) => el("div", {}, names.length > 1 ? el("span", { class: "name" }, value(name), " ") : null, value(held[name] ?? "", { most: 400, cls: "mono" }))) : "the same as this alert";
    return el("tr", {}, el("td", { class: "n" }, count(variant.count)), el("td", {}, own), el("td", {}, variant.new ? el("span", { class: "flag" }, "new") : null), el("td", { class: "time" }, seen(variant.last_seen)));
  });
  const heading = names.length === 1 ? value(names[0]) : "What differs";
  return section(title, el("table", { class: "variants" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "n" }, "Count"), el("th", { scope: "col" }, heading), el("td", {}), el("th", { scope: "col" }, "Last"))),
    el("tbody", {}, rows)),
    alert.variant_count > alert.variants.length ? el("p", { class: "note" }, `The first ${count(alert.variants.length)} are shown.`) : null);
}

function seen(text) {
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? value(text) : moment(ms);
}

function actions(alert) {
  const said = el("span", { class: "note", role: "status" });
  const button = (title, text) => text ? el("button", { type: "button", onclick: () => copy(text).then(() => { said.textContent = `${title}: copied`; }, (error) => { said.textContent = `Not copied: ${error.message}`; }) }, title) : null;
  const link = `${location.origin}${location.pathname}?id=${encodeURIComponent(alert.id)}`;
  return el("div", { class: "actions", role: "group", "aria-label": "Copy" }, el("span", { class: "note" }, "Copy"),
    button("JSON", alert.value), button("tap command", alert.recipes.tap), button("Filter", alert.recipes.filter),
    button("Falco exception", alert.recipes.exception), button("Link", link),
    el("button", { type: "button", onclick: () => save(alert, said) }, "Save bytes"), said);
}

async function save(alert, said) {
  try {
    const address = URL.createObjectURL(await getBytes(`api/value?id=${encodeURIComponent(alert.id)}`));
    el("a", { href: address, download: "alert.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  } catch (error) {
    said.textContent = `Not saved: ${error.message}`;
  }
}
