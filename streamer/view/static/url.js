// The filter is the URL: what is shown can be shared, and the browser's "back" works.

export const FACETS = ["priority", "cluster", "rule", "namespace", "node", "image", "source", "tag"];
const OURS = new Set([...FACETS, ...FACETS.map((name) => `not.${name}`), "q", "where", "range", "from", "to"]);

let listeners = [];
export const onChange = (listener) => listeners.push(listener);
const changed = () => listeners.forEach((listener) => listener());

export const parameters = () => new URLSearchParams(location.search);

// What the server is asked with; the same filter is always the same text.
export function query() {
  const kept = [...parameters()].filter(([name, value]) => OURS.has(name) && value !== "");
  kept.sort(([one, a], [other, b]) => (one < other ? -1 : one > other ? 1 : a < b ? -1 : a > b ? 1 : 0));
  return new URLSearchParams(kept).toString();
}

function go(next, { replace = false, quiet = false } = {}) {
  const text = next.toString();
  history[replace ? "replaceState" : "pushState"](null, "", text ? `?${text}` : location.pathname);
  if (!quiet) changed();
}

addEventListener("popstate", changed);

export const values = (name) => parameters().getAll(name);
export const one = (name) => parameters().get(name) ?? "";

export function toggle(name, value) {
  const next = parameters();
  const had = next.getAll(name);
  next.delete(name);
  for (const each of had) if (each !== value) next.append(name, each);
  if (!had.includes(value)) next.append(name, value);
  go(next);
}

export function set(name, value, options) {
  const next = parameters();
  if (value) next.set(name, value);
  else next.delete(name);
  go(next, options);
}

export function span(range) {
  const next = parameters();
  for (const name of ["range", "from", "to"]) next.delete(name);
  next.set("range", range);
  go(next);
}

export function between(from, to) {
  const next = parameters();
  next.delete("range");
  next.set("from", Math.floor(from));
  next.set("to", Math.ceil(to));
  go(next);
}

export function clear() {
  const next = parameters();
  for (const name of OURS) if (!["range", "from", "to"].includes(name)) next.delete(name);
  go(next);
}

// The conditions that are set, but for the time.
export function conditions() {
  const found = [];
  for (const [name, value] of parameters()) {
    if (value !== "" && (FACETS.includes(name) || name.startsWith("not.") || name === "where") && OURS.has(name)) found.push([name, value]);
  }
  return found;
}
