// The panel "Fleet": its hosts, whether candidates get traffic on this one, and stops that may not hold on all of them.

import { byId, el, say } from "/console/dom.js";

const MOST_NAMED = 10;
const SILENT_S = 1.5; // three beats: less is no news
let before = []; // a stop that is being confirmed just now is no news either

/** Show the fleet; `fleet` is null or undefined if the gateway is not in one. */
export function showFleet(fleet) {
  byId("fleet").hidden = !fleet;
  if (!fleet) return;
  byId("fleet").dataset.state = !fleet.open ? "closed" : fleet.why ? "doubtful" : "open";
  say(byId("fleet-title"), `Fleet ${fleet.name}`);
  say(byId("fleet-state"), state(fleet));
  const hosts = byId("fleet-hosts");
  const rows = fleet.members.map((member) => host(member, fleet.leaders));
  if (hosts.textContent !== rows.map((row) => row.textContent).join("")) hosts.replaceChildren(...rows);
  const unconfirmed = fleet.unconfirmed.filter((release) => before.includes(release));
  before = fleet.unconfirmed;
  byId("fleet-unconfirmed").hidden = unconfirmed.length === 0;
  say(byId("fleet-unconfirmed"), unconfirmed.length ? `Stopped here, but not confirmed on all hosts: ${unconfirmed.map(named).join(", ")}` : "");
  const differences = differing(fleet.routing);
  byId("fleet-routing").hidden = differences.length === 0;
  say(byId("fleet-routing"), differences.join(" "));
}

/** What of the routing files is not the same on all hosts, in sentences. */
function differing(routing) {
  if (!routing) return [];
  const other = routing.drift.map((one) => `${one.host} has other entries in its routing file: ${listed(one.models)}.`);
  const waiting = routing.waiting.map((one) => `An edit of ${one.model} is not made here: ${one.why}.`);
  const cut = routing.problem ? [`Edits are not exchanged with other hosts: ${routing.problem}.`] : [];
  return [...other, ...waiting, ...cut];
}

function listed(models) {
  return models.slice(0, MOST_NAMED).join(", ") + (models.length > MOST_NAMED ? ", …" : "");
}

function state(fleet) {
  if (!fleet.open) return `Candidates get no traffic on this host: ${fleet.why}`;
  return fleet.why ? `Candidates get traffic on this host, but: ${fleet.why}` : "Candidates get traffic on this host.";
}

function host(member, leaders) {
  const led = leaders.filter((one) => one.leader === member.name).map((one) => `leads ${one.model}`);
  const marks = [member.here && "this one", ...led, member.hold && "holds without contact"];
  const news = [!member.up_to_date && "not all stops in force yet", member.silent_s >= SILENT_S && `silent for ${Math.round(member.silent_s)} s`];
  return el("li", { "data-silent": String(member.silent_s >= SILENT_S) }, el("b", {}, member.name),
    el("span", {}, marks.filter(Boolean).map((mark) => ` · ${mark}`).join("")), el("em", {}, news.filter(Boolean).map((one) => ` · ${one}`).join("")));
}

function named(release) {
  const at = release.lastIndexOf("/");
  return `version ${release.slice(at + 1)} of ${release.slice(0, at)}`;
}

/** What the page says of a stop: `done`, and `doubt` if it may not hold on all hosts. `known`: null without a fleet. */
export function stopped(known, took) {
  if (!known) return { done: `Stopped: in effect ${took} ms after the press.`, doubt: "" };
  const hosts = `${known.hosts} ${known.hosts === 1 ? "host" : "hosts"}`;
  if (known.confirmed) return { done: `Stopped on ${hosts}: in effect ${took} ms after the press.`, doubt: "" };
  return { done: "Stopped on this host.", doubt: `Not confirmed on all hosts: ${known.reason}. This host goes on trying; the panel Fleet shows when it is.` };
}
