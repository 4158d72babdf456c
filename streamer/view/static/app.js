// The page: one stream of events from the server, and the URL that says what is shown.
import { $ } from "./dom.js";
import { listen, Refused, useToken } from "./net.js";
import * as url from "./url.js";
import { restyle, showTimeline } from "./chart.js";
import * as coverage from "./coverage.js";
import * as detail from "./detail.js";
import * as filters from "./filters.js";
import * as list from "./list.js";
import { showTops } from "./tops.js";
import { showFeed, showVerdicts } from "./verdict.js";

const AGAIN_MS = [500, 1000, 2000, 5000, 10000];
let stream = null, asked = null, failures = 0, overview = null, connected = false;
let status = { feed: { state: "connecting", share: 0, missing: [], why: "" }, verdicts: [], counts: {} };

const on = {
  status(content) {
    status = content;
    status.feed.seen_ms = Date.now();
    showVerdicts(status.verdicts, status.counts, status.feed);
    showFeed(status.feed, true);
    list.setFeed(status.feed.state);
  },
  overview(content) {
    overview = content;
    filters.showFilters(content);
    showTimeline(content);
    showTops(content.top);
  },
  page: list.showPage,
  rows(content) {
    list.showNew(content);
    const opened = detail.shown();
    if (content.repeats.some((each) => each.id === opened)) detail.refresh(opened).catch(() => {});
  },
};

async function follow() {
  const query = url.query();
  if (asked === query && stream) return;
  stream?.abort();
  const mine = (stream = new AbortController());
  if (asked !== query) list.reset();
  asked = query;
  while (!mine.signal.aborted) {
    try {
      await listen(`api/live?${query}`, (name, content) => {
        if (mine.signal.aborted) return;
        connected = true;
        failures = 0;
        on[name]?.(content);
      }, mine.signal);
    } catch (error) {
      if (mine.signal.aborted) return;
      if (error instanceof Refused) return askToken(error.message);
      if (error.status === 400) return refuse(error.message);
    }
    if (mine.signal.aborted) return;
    connected = false;
    showFeed(status.feed, false);
    await new Promise((done) => setTimeout(done, AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)]));
  }
}

function refuse(why) {
  const banner = $("banner");
  banner.hidden = false;
  banner.classList.add("bad");
  banner.textContent = `This filter is not understood: ${why}`;
  filters.showFilters(overview);
}

function askToken(why) {
  if (why) $("token-note").textContent = why;
  if (!$("token").open) $("token").showModal();
  $("token-value").focus();
}

function sendToken() {
  useToken($("token-value").value.trim());
  $("token-value").value = "";
  $("token").close();
  stream = asked = null;
  follow();
}

function showTab() {
  const isCoverage = url.one("tab") === "coverage";
  $("view-alerts").hidden = isCoverage;
  $("view-coverage").hidden = !isCoverage;
  for (const [id, current] of [["tab-alerts", !isCoverage], ["tab-coverage", isCoverage]]) {
    if (current) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  if (isCoverage) coverage.show();
  else coverage.leave();
}

function showUrl() {
  showTab();
  filters.showFilters(overview);
  const id = url.one("id");
  if (!id) {
    detail.close();
    list.mark(null);
  } else if (detail.shown() !== id) {
    list.mark(id);
    detail.show(id);
  }
  follow();
}

function theme(next) {
  document.documentElement.dataset.theme = next;
  localStorage.setItem("falco-streamer-theme", next);
  restyle();
}

function key(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (detail.shown()) url.set("id", "");
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const actions = {
    "/": () => $("q").focus(),
    "?": () => $("help").showModal(),
    j: () => list.move(1, Boolean(detail.shown())),
    k: () => list.move(-1, Boolean(detail.shown())),
    p: () => list.pause(!list.isPaused()),
    1: () => url.span("15m"),
    2: () => url.span("6h"),
    3: () => url.span("24h"),
  };
  if (event.key === "Enter" && event.target.tagName === "TR") actions.Enter = () => url.set("id", list.chosen() ?? "");
  const action = actions[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
}

for (const [id, tab] of [["tab-alerts", ""], ["tab-coverage", "coverage"]]) {
  $(id).addEventListener("click", (event) => {
    event.preventDefault();
    url.set("tab", tab);
  });
}
const kept = localStorage.getItem("falco-streamer-theme");
if (kept) document.documentElement.dataset.theme = kept;
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", restyle);
$("theme").addEventListener("click", () => theme((document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark"));
$("help-open").addEventListener("click", () => $("help").showModal());
$("token-send").addEventListener("click", sendToken);
$("token-value").addEventListener("keydown", (event) => { if (event.key === "Enter") sendToken(); });
$("token").addEventListener("cancel", (event) => event.preventDefault());
document.addEventListener("keydown", key);
filters.start();
list.start((id) => url.set("id", id, { replace: Boolean(detail.shown()) }));
url.onChange(showUrl);
showFeed(status.feed, true);
showVerdicts([], {}, status.feed);
showUrl();
