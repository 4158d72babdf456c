// What the page asks its server for. The token, where one is needed, is kept by the tab and sent as a header.

const SILENT_MS = 40_000; // the server sends something every 15 s
const KEY = "falco-streamer-token";

export class Refused extends Error {}

let token = sessionStorage.getItem(KEY) ?? "";

export function useToken(given) {
  token = given;
  sessionStorage.setItem(KEY, given);
}

async function request(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  if (answer.status === 401) throw new Refused(token ? "This token is not the right one." : "");
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.error ?? `HTTP ${answer.status}`), { status: answer.status });
  }
  return answer;
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const getBytes = async (path) => (await request(path)).blob();

// Server-sent events by fetch, since EventSource sends no header; calls on(name, content) for each, until it ends.
export async function listen(path, on, signal) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENT_MS);
  const stop = () => silence.abort();
  signal.addEventListener("abort", stop);
  try {
    const answer = await request(path, { signal: silence.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(stop, SILENT_MS);
      held += value;
      const events = held.split("\n\n");
      held = events.pop();
      for (const event of events) {
        const found = /^event: (\w+)\ndata: (.*)$/s.exec(event);
        if (found) on(found[1], JSON.parse(found[2]));
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
