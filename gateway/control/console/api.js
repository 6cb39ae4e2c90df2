// Calls to the control plane. If keys are on, the key is kept for this tab only and sent as a bearer token.

const STORED = "canary-gateway-key";

/** A request that the control plane refused, with its message. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let askForKey = () => {};

/** `ask(why)` is called whenever the gateway needs a key, or another one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export const hasKey = () => sessionStorage.getItem(STORED) !== null;
export const keepKey = (key) => sessionStorage.setItem(STORED, key);
export const forgetKey = () => sessionStorage.removeItem(STORED);

/** A response with status 2xx; throws Refused with the reason, or TypeError if no gateway answers. */
export async function fetched(path, options = {}) {
  const headers = { "x-gateway-client": "console", ...options.headers }; // decisions say that they were made here
  if (hasKey()) headers.authorization = `Bearer ${sessionStorage.getItem(STORED)}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.ok) return response;
  const reason = await reasonOf(response);
  if (response.status === 401) askForKey(hasKey() ? reason : "");
  throw new Refused(response.status, reason);
}

async function reasonOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the gateway returned status ${response.status}`;
  }
}

export async function read(path) {
  return (await fetched(path)).json();
}

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  return (await fetched(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** An error as text for the user. */
export function words(error) {
  return error instanceof Refused ? error.message : "the gateway does not respond";
}
