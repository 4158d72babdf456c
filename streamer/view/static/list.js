// The list: the newest first, live unless paused; repeats are a growing count on their alert's row.
import { $, badge, clock, compact, count, day, el, fill, moment, plain, value } from "./dom.js";
import { getJson } from "./net.js";
import * as url from "./url.js";

const MOST_ROWS = 500;
const body = () => $("rows").tBodies[0];
let feed = "connecting";
let rows = [], byId = new Map(), held = [], paused = false, selected = null, open = () => {};

const before = (a, b) => {
  const [at, number] = a.place.split(".").map(Number), [otherAt, otherNumber] = b.place.split(".").map(Number);
  return at > otherAt || (at === otherAt && number > otherNumber);
};

export function start(onOpen) {
  open = onOpen;
  $("pause").addEventListener("click", () => pause(!paused));
  $("older").addEventListener("click", older);
}

export function showPage(page) {
  if (paused && rows.length) return hold("page", page);
  rows = [];
  byId = new Map();
  body().replaceChildren();
  for (const row of page.rows) append(row);
  $("older").hidden = !page.more;
  showState();
}

export function showNew(change) {
  if (paused) return hold("rows", change);
  for (const row of change.rows.sort((a, b) => (before(a, b) ? 1 : -1))) insert(row, true);
  for (const repeat of change.repeats) grow(repeat);
  trim();
  showState();
}

function hold(kind, content) {
  if (kind === "page") held = [[kind, content]];
  else held.push([kind, content]);
  showState();
}

export function pause(on) {
  paused = on;
  $("pause").setAttribute("aria-pressed", on);
  $("pause").textContent = on ? "Resume" : "Pause";
  if (!on) {
    const waiting = held;
    held = [];
    for (const [kind, content] of waiting) (kind === "page" ? showPage : showNew)(content);
  }
  showState();
}

// While the topics are still being read, or cannot be, an empty list says nothing of alerts.
export function setFeed(state) {
  if (feed === state) return;
  feed = state;
  showState();
}

export const isPaused = () => paused;

// Another filter: what was held is of no use.
export function reset() {
  held = [];
  rows = [];
  byId = new Map();
  selected = null;
  body().replaceChildren();
  $("older").hidden = true;
  $("empty").hidden = true;
}

function line(row) {
  const time = el("time", { datetime: new Date(row.time_ms).toISOString(), title: `${day(row.time_ms)} ${clock(row.time_ms, { millis: true })} UTC` }, moment(row.time_ms));
  const workload = row.namespace || row.pod ? [value(row.namespace || "(no namespace)", { cls: "ns" }), row.pod ? value(row.pod, { cls: "pod" }) : null] : [value(row.node, { cls: "pod" })];
  const flag = row.kind === "overflow" ? el("span", { class: "flag" }, "overflow") : row.kind === "repeated" ? el("span", { class: "flag" }, "repeats only") : null;
  const made = el("tr", { tabindex: "-1", onclick: () => choose(row.id, true) },
    el("td", { class: "time" }, time),
    el("td", { class: "priority" }, badge(row.priority)),
    el("td", { class: "rule" }, el("button", { type: "button", class: "open", onclick: (event) => { event.stopPropagation(); choose(row.id, true); } }, value(row.rule || "(no rule)")), flag, value(row.text, { cls: "text", most: 200 })),
    el("td", { class: "cluster" }, value(row.cluster)),
    el("td", { class: "workload", title: plain(`${row.namespace}/${row.pod} on ${row.node}`) }, workload),
    el("td", { class: "process", title: plain(row.process) }, value(row.process, { cls: "mono" })),
    el("td", { class: "user", title: plain(row.user) }, value(row.user, { cls: "mono" })),
    el("td", { class: "n repeats" }, repeats(row)));
  made.dataset.id = row.id;
  return made;
}

const repeats = (row) => (row.repeats ? el("span", { class: "count", title: `${count(row.repeats)} repeats, the last ${moment(row.last_ms)} UTC` }, `+${compact(row.repeats)}`) : "");

function append(row) {
  const tr = line(row);
  rows.push(row);
  byId.set(row.id, { row, tr });
  body().append(tr);
}

function insert(row, fresh) {
  const known = byId.get(row.id);
  if (known) return grow(row);
  const at = rows.findIndex((other) => before(row, other));
  if (at < 0 && !$("older").hidden) return; // it belongs to a page that is not shown
  const tr = line(row);
  if (fresh) tr.classList.add("fresh");
  byId.set(row.id, { row, tr });
  if (at < 0) {
    rows.push(row);
    body().append(tr);
  } else {
    body().insertBefore(tr, byId.get(rows[at].id).tr);
    rows.splice(at, 0, row);
  }
}

function grow(repeat) {
  const known = byId.get(repeat.id);
  if (!known || known.row.repeats === repeat.repeats) return;
  Object.assign(known.row, { repeats: repeat.repeats, last_ms: repeat.last_ms });
  fill(known.tr.lastElementChild, repeats(known.row));
  known.tr.lastElementChild.classList.remove("grown");
  void known.tr.offsetWidth; // so that the highlight begins anew
  known.tr.lastElementChild.classList.add("grown");
}

function trim() {
  while (rows.length > MOST_ROWS) {
    const row = rows.pop();
    byId.get(row.id).tr.remove();
    byId.delete(row.id);
    $("older").hidden = false;
  }
}

async function older() {
  const button = $("older");
  button.disabled = true;
  try {
    const page = await getJson(`api/rows?${url.query()}&before=${rows.at(-1)?.place ?? ""}`);
    for (const row of page.rows) if (!byId.has(row.id)) append(row);
    button.hidden = !page.more || rows.length >= 2000;
  } catch (error) {
    $("list-note").textContent = `Not loaded: ${error.message}`;
  } finally {
    button.disabled = false;
  }
}

function showState() {
  const waiting = held.reduce((total, [, content]) => total + content.rows.length, 0);
  $("list-note").textContent = paused ? `Paused${waiting ? `, ${count(waiting)} new` : ""}` : url.one("from") ? "A fixed stretch of time" : "Newest first, live";
  $("list").classList.toggle("paused", paused);
  const empty = $("empty");
  empty.hidden = rows.length > 0;
  $("rows").hidden = !rows.length;
  if (!rows.length) {
    const filtered = url.conditions().length > 0 || url.one("q");
    if (feed !== "live") {
      const away = feed === "away";
      fill(empty, el("p", { class: "big" }, away ? "Kafka is away" : "Reading the topics"), el("p", {}, away ? "Alerts are shown when it is back." : "Alerts are shown as they are read."));
      return;
    }
    fill(empty, el("p", { class: "big" }, filtered ? "No alert matches" : "No alerts in this time"),
      el("p", {}, filtered ? "The filter leaves nothing in this time." : "That is good news only if the clusters above are OK."),
      filtered ? el("button", { type: "button", onclick: () => { $("q").value = ""; url.set("q", "", { quiet: true, replace: true }); url.clear(); } }, "Clear the filter") : null);
  }
}

export function mark(id) {
  byId.get(selected)?.tr.removeAttribute("aria-current");
  selected = id;
  byId.get(id)?.tr.setAttribute("aria-current", "true");
}

function choose(id, opened) {
  mark(id);
  if (opened) open(id);
}

export function move(step, opened) {
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.id === selected);
  const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
  const { tr } = byId.get(next.id);
  tr.focus({ preventScroll: true });
  tr.scrollIntoView({ block: "nearest" });
  choose(next.id, opened);
}

export const chosen = () => selected;
