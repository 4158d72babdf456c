// How each cluster stands, and how the feed does.
import { $, ago, clock, count, el, fill, moment, value } from "./dom.js";

const WORDS = { ok: "OK", degraded: "DEGRADED", blind: "BLIND" };
const MARKS = { ok: "✓", degraded: "!", blind: "✕" };
const COVERAGE = { following: "following", silent: "silent", text: "text mode", blind: "blind", unreported: "not reported" };
const ORDER = { blind: 0, degraded: 1, ok: 2 };
let last = {};

// `code` in a fix, set apart.
export function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? el("code", {}, value(part)) : value(part)));
}

export function showVerdicts(verdicts, counts, feed) {
  const place = $("verdicts");
  const open = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.cluster));
  if (!verdicts.length) {
    const loading = feed.state === "loading" || feed.state === "connecting";
    const text = loading ? "Reading what the topics have …" : "No record of any cluster was read yet.";
    fill(place, feed.state === "away" ? null : el("div", { class: "verdict none" }, el("p", {}, text)));
    return;
  }
  const sorted = [...verdicts].sort((a, b) => ORDER[a.state] - ORDER[b.state] || (a.cluster < b.cluster ? -1 : 1));
  fill(place, sorted.map((verdict) => card(verdict, counts[verdict.cluster] ?? {}, feed, open.has(verdict.cluster))));
  announce(sorted);
}

function card(verdict, counts, feed, open) {
  const [first, ...others] = verdict.causes;
  const stale = feed.state === "away";
  const state = el("p", { class: "state" },
    el("span", { class: "sign", "aria-hidden": "true" }, MARKS[verdict.state]), WORDS[verdict.state]);
  const since = verdict.since_ms ? el("p", { class: "since" }, `since ${moment(verdict.since_ms)} UTC, ${ago(verdict.since_ms)}`) : null;
  const covered = Object.entries(counts).map(([name, number]) => `${count(number)} ${COVERAGE[name] ?? name}`).join(", ");
  const all = el("p", { class: "since" }, `${verdict.summary}${covered ? `: ${covered}` : ""}`);
  const head = el("div", { class: "verdict-head" }, state, el("h2", {}, value(verdict.cluster || "(no name)")), since);
  const made = el("article", { class: `verdict ${verdict.state}${stale ? " stale" : ""}` }, head);
  if (first) {
    made.append(el("p", { class: "cause" }, value(first.what)), el("p", { class: "fix" }, prose(first.fix)));
    if (others.length) {
      const list = el("ul", {}, others.map((cause) => el("li", {},
        el("strong", {}, WORDS[cause.state]), " ", value(cause.what), el("span", { class: "since" }, ` since ${moment(cause.since_ms)}`),
        el("p", { class: "fix" }, prose(cause.fix)))));
      const details = el("details", { open }, el("summary", {}, `${others.length} more`), list);
      details.dataset.cluster = verdict.cluster;
      made.append(details);
    }
  }
  if (verdict.reported_ms) made.append(all);
  if (stale) made.append(el("p", { class: "since" }, `As of ${moment(feed.contact_ms)} UTC; Kafka is away`));
  return made;
}

function announce(verdicts) {
  const now = Object.fromEntries(verdicts.map((each) => [each.cluster, each.state]));
  const changes = verdicts.filter((each) => last[each.cluster] && last[each.cluster] !== each.state);
  if (changes.length) $("announce").textContent = changes.map((each) => `${each.cluster} is ${WORDS[each.state]}`).join(". ");
  last = now;
  const worst = verdicts[0];
  document.title = `${worst && worst.state !== "ok" ? `${WORDS[worst.state]} ` : ""}Alerts · falco-streamer`;
}

export function showFeed(feed, connected) {
  const place = $("feed"), banner = $("banner");
  const words = {
    connecting: "Connecting to Kafka …",
    loading: `Reading the topics: ${Math.floor(feed.share * 100)} %`,
    live: "Live",
    away: "Kafka is away",
  };
  const state = connected ? feed.state : "lost";
  place.className = `feed ${state}`;
  const progress = connected && feed.state === "loading" ? el("progress", { max: 1, value: feed.share, "aria-label": "Reading the topics" }) : null;
  fill(place, el("span", { class: "dot", "aria-hidden": "true" }), connected ? words[feed.state] : "Disconnected", progress);
  let told = null;
  if (!connected) told = ["The viewer does not answer. Trying again; what is shown is as of ", clock(feed.seen_ms ?? Date.now()), " UTC."];
  else if (feed.state === "away") told = ["Kafka is away, so nothing new can be shown: ", value(feed.why), ".", feed.contact_ms ? ` Last contact ${moment(feed.contact_ms)} UTC. The viewer goes on where it was.` : ""];
  else if (feed.missing.length) told = ["Not there, or not for this viewer to read: ", value(feed.missing.join(", "))];
  banner.hidden = told === null;
  banner.classList.toggle("bad", !connected || feed.state === "away");
  if (told) fill(banner, ...told);
}
