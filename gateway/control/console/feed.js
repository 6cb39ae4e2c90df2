// The event stream, read with fetch: EventSource cannot send a key. Comes back by itself when it is lost.

import { fetched, Refused } from "/console/api.js";

const SILENT_MS = 5000; // the gateway says something twice a second
const AGAIN_MS = [200, 500, 1000, 2000, 5000];

/** Follow the stream for ever. `hear(name, data)` for each event; `contact(state)`: live, lost or locked. */
export async function follow(hear, contact, unlocked) {
  let failures = 0;
  for (;;) {
    try {
      await once((name, data) => {
        failures = 0;
        contact("live");
        hear(name, data);
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
    await new Promise((done) => setTimeout(done, AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)]));
  }
}

async function once(hear) {
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
      for (const event of events) tell(event, hear);
    }
  } finally {
    clearTimeout(alarm);
  }
}

function tell(event, hear) {
  const name = /^event: (.*)$/m.exec(event);
  const data = /^data: (.*)$/m.exec(event);
  if (name && data) hear(name[1], JSON.parse(data[1]));
}
