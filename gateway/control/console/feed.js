// The event stream, read with fetch: EventSource cannot send a key. Reconnects by itself.

import { fetched, Refused } from "/console/api.js";

const SILENT_MS = 5000; // the gateway sends an event twice a second
const RETRY_MS = [200, 500, 1000, 2000, 5000];

/** Follow the stream for ever. `onEvent(name, data)` is called for each event, `contact(state)` with live, lost or locked. */
export async function follow(onEvent, contact, unlocked) {
  let failures = 0;
  for (;;) {
    try {
      await once((name, data) => {
        failures = 0;
        contact("live");
        onEvent(name, data);
      });
      contact("lost");
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        contact("locked");
        await unlocked();
        continue;
      }
      contact("lost");
    }
    await new Promise((done) => setTimeout(done, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]));
  }
}

async function once(onEvent) {
  const silent = new AbortController();
  let alarm = setTimeout(() => silent.abort(), SILENT_MS);
  try {
    const response = await fetched("/api/events", { signal: silent.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(alarm);
      alarm = setTimeout(() => silent.abort(), SILENT_MS);
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) dispatch(event, onEvent);
    }
  } finally {
    clearTimeout(alarm);
  }
}

function dispatch(event, onEvent) {
  const name = /^event: (.*)$/m.exec(event);
  const data = /^data: (.*)$/m.exec(event);
  if (name && data) onEvent(name[1], JSON.parse(data[1]));
}
