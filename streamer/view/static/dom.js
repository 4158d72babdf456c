// Elements and texts. Text of alerts is written by attackers: it only ever becomes text nodes.

// What could move, hide or reorder other text: shown by its code instead (as `tap` does).
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e0fff}]/gu;
const CONTROL_BUT_LINES = new RegExp(CONTROL.source.replace("\\u0000-\\u001f", "\\u0000-\\u0008\\u000b-\\u001f"), "gu");

export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-")) {
      if (value !== undefined) made.setAttribute(name, value);
      continue;
    }
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

export const $ = (id) => document.getElementById(id);

export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

function code(char) {
  const point = char.codePointAt(0);
  if (point === 0x1b) return "\\e";
  if (point === 0x0a) return "\\n";
  if (point === 0x09) return "\\t";
  if (point < 0x100) return "\\x" + point.toString(16).padStart(2, "0");
  return point > 0xffff ? `\\u{${point.toString(16)}}` : "\\u" + point.toString(16).padStart(4, "0");
}

// A value of an alert's as an element: isolated from the text around it, and with nothing invisible in it.
export function value(text, { lines = false, most = Infinity, tag = "span", cls = "" } = {}) {
  const whole = String(text ?? "");
  const shown = whole.length > most ? whole.slice(0, most) : whole;
  const made = el(tag, { class: `v ${cls}`.trim() });
  let from = 0;
  for (const found of shown.matchAll(lines ? CONTROL_BUT_LINES : CONTROL)) {
    if (found.index > from) made.append(shown.slice(from, found.index));
    made.append(el("span", { class: "code" }, code(found[0])));
    from = found.index + found[0].length;
  }
  if (from < shown.length) made.append(shown.slice(from));
  if (whole.length > most) made.append("…");
  return made;
}

// The same as plain text, for titles and attributes.
export const plain = (text, most = 300) => {
  const whole = String(text ?? "");
  return whole.slice(0, most).replace(CONTROL, code) + (whole.length > most ? "…" : "");
};

const two = (number) => String(number).padStart(2, "0");

export function clock(ms, { millis = false } = {}) {
  const at = new Date(ms);
  const time = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
  return millis ? `${time}.${String(at.getUTCMilliseconds()).padStart(3, "0")}` : time;
}

export const day = (ms) => new Date(ms).toISOString().slice(0, 10);

// A moment, with its date where it is not today's.
export function moment(ms, options) {
  return day(ms) === day(Date.now()) ? clock(ms, options) : `${day(ms)} ${clock(ms, options)}`;
}

export function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const count = (number) => whole.format(number);
export const compact = (number) => (number < 10000 ? whole.format(number) : short.format(number));

export const PRIORITIES = ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"];
const NAMES = { informational: "Info" };
const MARKS = { emergency: "◆", alert: "◆", critical: "▲", error: "▲", warning: "●", notice: "○", informational: "·", debug: "·" };
export const priorityName = (priority) => NAMES[priority] ?? priority[0].toUpperCase() + priority.slice(1);

export function badge(priority) {
  const mark = el("span", { class: "mark", "aria-hidden": "true" }, MARKS[priority] ?? "");
  return el("span", { class: `badge p-${PRIORITIES.includes(priority) ? priority : "debug"}` }, mark, priorityName(priority));
}

export function sparkline(numbers) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const most = Math.max(1, ...numbers), width = 72, height = 18;
  const step = numbers.length > 1 ? width / (numbers.length - 1) : width;
  const points = numbers.map((number, at) => `${(at * step).toFixed(1)},${(height - 1 - (number / most) * (height - 2)).toFixed(1)}`);
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}

export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  // Without TLS a browser gives no clipboard to a page.
  const area = el("textarea", { class: "hidden-text", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not allow it");
}
