// The panels beside the releases: errors of the configuration, events, and "Who gets what?".

import { post, words } from "/console/api.js";
import { byId, clock, el, percent, say } from "/console/dom.js";

const SHOWN = 100;
const CLOSED = "The gateway started with a routing file that it refuses: no candidate receives traffic until the file is fixed.";

/** The configuration in force, and what is wrong with the last edit. */
export function showConfig(config) {
  byId("facts").hidden = false;
  say(byId("workers"), `${config.acknowledged} of ${config.workers}`);
  byId("workers").classList.toggle("short", config.acknowledged < config.workers);
  say(byId("revision"), `${config.revision} (generation ${config.generation})`);
  const closed = config.candidates_closed ? [CLOSED] : [];
  list("config-error", [...closed, ...(config.last_error ?? "").split("\n").filter(Boolean)]);
  byId("config-alarm").hidden = !config.last_error;
  const away = config.registry?.error ? [`The registry does not answer, all stays as it is: ${config.registry.error}`] : [];
  list("config-warnings", [...away, ...config.warnings]);
  list("unavailable", config.unavailable.map((one) => `${one.model} version ${one.version}: ${one.reason}`));
}

function list(id, lines) {
  const there = byId(`${id}-list`);
  const texts = [...there.children].map((item) => item.textContent);
  if (texts.join("\n") !== lines.join("\n")) there.replaceChildren(...lines.map((line) => el("li", {}, line)));
  byId(id).hidden = lines.length === 0;
}

/** The list of events, newest first. */
export class EventList {
  constructor() {
    this.list = byId("events");
    this.known = new Set();
    this.config = null;
  }

  decision(decision) {
    const key = `${decision.sequence} ${decision.time_ns}`;
    if (this.known.has(key)) return;
    this.known.add(key);
    this.add(decision.action, decision.time_ns, decision.model ? `${decision.model}: ${decision.action}` : decision.action, `${decision.model ? `version ${decision.candidate}, ` : ""}by ${decision.by}`, decision.reason);
  }

  /** Add an event if the configuration has changed. */
  configured(config) {
    const before = this.config;
    this.config = config;
    if (!before) return;
    if (config.last_error && config.last_error !== before.last_error)
      this.add("error", Date.now() * 1e6, "edit refused", `configuration ${before.revision} stays in force`, config.last_error);
    else if (!config.last_error && (before.last_error || config.revision !== before.revision))
      this.add("config", Date.now() * 1e6, "edit in force", `configuration ${config.revision}, generation ${config.generation}`, "");
  }

  add(kind, timeNs, what, who, why) {
    byId("no-events").hidden = true;
    this.list.prepend(
      el("li", { "data-kind": kind }, el("time", { datetime: new Date(timeNs / 1e6).toISOString() }, clock(timeNs)),
        el("p", {}, el("b", {}, what), el("span", {}, who), why ? el("q", {}, why) : null)),
    );
    while (this.list.children.length > SHOWN) this.list.lastChild.remove();
  }
}

/** The models to choose from in "Who gets what?". */
export function offer(models) {
  const select = byId("what-if").elements.model;
  const there = [...select.options].map((option) => option.value);
  if (there.join("\n") === models.join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(...models.map((model) => el("option", { value: model, selected: model === chosen }, model)));
}

export function answerQuestions() {
  byId("what-if").addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = event.target.elements;
    const answer = byId("what-if-answer");
    try {
      const document = await post("/api/explain", {
        model: fields.model.value,
        customer: fields.customer.value || null,
        modality: fields.modality.value || null,
        headers: pairs(fields.headers.value),
        parameters: pairs(fields.parameters.value),
        key: fields.key.value || null,
      });
      answer.replaceChildren(explained(document));
    } catch (error) {
      answer.replaceChildren(el("p", { class: "failure" }, words(error)));
    }
  });
}

function pairs(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const at = line.search(/[=:]/);
    return at < 0 ? [line, ""] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
}

function explained(answer) {
  const version = answer.version === null ? "at random" : `version ${answer.version}`;
  const trials = answer.routes.map((trial) =>
    el("li", { "data-matched": String(trial.matched) }, el("b", {}, trial.route), ` ${trial.matched ? "matches" : "does not match"}: ${trial.reason}`));
  return el("div", { class: "answer", "data-variant": answer.variant ?? "chance" },
    el("p", { class: "verdict" }, el("b", {}, version), ` ${answer.variant ?? `${percent(answer.weight_ppm / 1e4)} candidate`}`),
    el("p", {}, answer.why), trials.length ? el("ol", {}, ...trials) : null);
}
