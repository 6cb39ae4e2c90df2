// The console: shows the events that the gateway sends.

import { forgetKey, hasKey, keepKey, read, onKeyNeeded } from "/console/api.js";
import { Card } from "/console/card.js";
import { promote, resume, stopWithReason, undoPromote, weight } from "/console/dialogs.js";
import { byId, el, say } from "/console/dom.js";
import { follow } from "/console/feed.js";
import { showFleet } from "/console/fleet.js";
import { answerQuestions, EventList, offer, showConfig } from "/console/panels.js";
import { periodChoice } from "/console/traffic.js";

const cards = new Map();
const chips = new Map();
const events = new EventList();
const CONTACT = { live: "Live", lost: "Disconnected", locked: "API key required" };
let accepted = new Set(); // the paths of the commands that this gateway accepts, from its OpenAPI document
let unlock = () => {};

const commands = { promote, resume, stopWithReason, undoPromote, weight, accepts: (command) => accepted.has(`/api/releases/{model}/${command}`) };

const HANDLERS = {
  snapshot({ time_ns, sequence, releases, fleet, config, decisions }) {
    const names = releases.map((release) => release.model);
    for (const name of [...cards.keys()].filter((known) => !names.includes(known))) drop(name);
    for (const release of releases) show(release, sequence);
    offer(names);
    byId("nothing").hidden = names.length > 0;
    HANDLERS.config(config);
    showFleet(fleet);
    for (const decision of [...decisions].reverse()) HANDLERS.decision(decision);
    for (const card of cards.values()) card.tick(time_ns);
  },
  live({ time_ns, sequence, releases, fleet }) {
    showFleet(fleet);
    for (const release of releases) show(release, sequence);
    for (const card of cards.values()) card.tick(time_ns);
  },
  decision(decision) {
    events.decision(decision);
    cards.get(decision.model)?.decided(decision);
  },
  config(config) {
    events.configured(config);
    showConfig(config);
  },
  end() {},
};

function show(release, sequence) {
  let card = cards.get(release.model);
  if (!card) {
    card = new Card(release, commands);
    cards.set(release.model, card);
    const chip = el("a", { href: `#model-${release.model}` }, el("span", { class: "dot" }), release.model);
    chips.set(release.model, chip);
    byId("releases").append(card.element);
    byId("chips").append(chip);
  }
  if (sequence < card.commandSequence) return; // a state from before the command given here
  card.update(release);
  chips.get(release.model).dataset.state = card.element.dataset.state;
}

function drop(name) {
  cards.get(name).element.remove();
  chips.get(name).remove();
  cards.delete(name);
  chips.delete(name);
}

function contact(state) {
  const pill = byId("contact");
  if (pill.dataset.state === state) return;
  pill.dataset.state = state;
  say(byId("contact-text"), state === "lost" ? `Disconnected since ${new Date().toLocaleTimeString("en-GB")}` : CONTACT[state]);
  document.body.classList.toggle("stale", state !== "live");
  if (state !== "live") return;
  byId("key-form").hidden = true;
  byId("forget").hidden = !hasKey();
  read("/openapi.json").then((document) => {
    accepted = new Set(Object.keys(document.paths));
    for (const card of cards.values()) card.update(card.release);
  }, () => {});
}

onKeyNeeded((why) => {
  byId("key-form").hidden = false;
  say(byId("key-why"), why);
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value.trim());
  byId("key").value = "";
  unlock();
});

byId("forget").addEventListener("click", () => {
  forgetKey();
  location.reload();
});

byId("chips").after(periodChoice());
answerQuestions();
follow((name, data) => HANDLERS[name]?.(data), contact, () => new Promise((done) => { unlock = done; }));
