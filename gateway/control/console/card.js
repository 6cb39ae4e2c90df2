// The card of one release: its split, its two versions side by side, the evidence, the last decision, and buttons.

import { post, words } from "/console/api.js";
import { forecastLine, guardRow, rampSteps, SplitBar, Sparkline } from "/console/charts.js";
import { against, clock, count, el, ms, percent, perSecond, say } from "/console/dom.js";
import { Effects } from "/console/effects.js";
import { stopped } from "/console/fleet.js";
import { FeedbackTables, measureFigures } from "/console/outcomes.js";
import { Provenance } from "/console/provenance.js";
import { LENGTH, Rates } from "/console/rates.js";
import { Traffic } from "/console/traffic.js";

const VARIANTS = ["stable", "candidate"];
const FIGURES = [
  { name: "Requests", key: "requests", show: count, period: true },
  { name: "Errors", of: errorPercent, period: true, show: (value) => (value === null ? "–" : percent(value)), worse: true },
  { name: "Rescues", of: (version) => total(version.rescues), show: count, only: "candidate" },
  { name: "p50", key: "latency_p50_ms", show: ms, worse: true, latency: true, period: true },
  { name: "p95", key: "latency_p95_ms", show: ms, worse: true, latency: true, period: true },
  { name: "p99", key: "latency_p99_ms", show: ms, worse: true, latency: true, period: true },
];

const total = (counts) => Object.values(counts).reduce((sum, n) => sum + n, 0);
const scaled = (share) => (share === null || share === undefined ? null : 100 * share);

const THREADS_ADD_MS = 10; // roughly the most that a candidate's threads wait for cores and for the interpreter
const INCOMPARABLE =
  "Latencies are not comparable: stable may run on the event loop, while the candidate runs in a process of its own, which takes longer. With a slow_requests guard, an equal number of stable's requests run in a process too.";

function errorPercent(version) {
  return scaled(version.error_rate);
}

/** The candidate's mark: worse, better or none. Incomparable latencies are marked only if they differ by more than threads add. */
function mark(figure, own, stable, comparable) {
  if (figure.latency && !comparable && Math.abs(own - stable) < THREADS_ADD_MS) return "";
  return own > 1.25 * stable ? "worse" : own < 0.8 * stable ? "better" : "";
}

/** What the model registry says of the model, and what differs from the release here. */
function registered({ registered: name, champion, challenger, note, elsewhere }) {
  const said = [`Registry ${name}: champion ${champion ?? "none"}, challenger ${challenger ?? "none"}`, note, elsewhere];
  return said.filter(Boolean).join(". ");
}

/** `commands`: opens the dialogs, and tells which commands the gateway accepts. */
export class Card {
  constructor(release, commands) {
    this.commands = commands;
    this.rates = new Rates();
    this.bars = new Map();
    this.pressed = null;
    this.build(release.model);
  }

  build(model) {
    const id = `model-${model}`;
    this.stage = el("span", { class: "stage" });
    this.stopButton = el("button", { type: "button", class: "stop" }, "Stop");
    this.stopButton.setAttribute("aria-label", `Stop the candidate of ${model}`);
    this.reasonButton = el("button", { type: "button", class: "quiet", title: "Stop with a reason", "aria-label": `Give a reason and stop ${model}` }, "Stop…");
    this.undoButton = el("button", { type: "button", class: "quiet", "aria-label": `Undo the promotion of ${model}` }, "Undo promotion…");
    this.resumeButton = el("button", { type: "button", class: "primary", "aria-label": `Resume ${model}` }, "Resume…");
    this.promoteButton = el("button", { type: "button", class: "quiet", "aria-label": `Promote the candidate of ${model}` }, "Promote…");
    this.holdButton = el("button", { type: "button", class: "quiet", "aria-label": `Hold the ramp of ${model}` }, "Hold");
    this.continueButton = el("button", { type: "button", class: "quiet", "aria-label": `Continue the ramp of ${model}` }, "Continue");
    this.commandSequence = 0; // of the last command given here: older states are ignored
    this.effect = el("p", { class: "effect", role: "status" });
    this.failure = el("p", { class: "failure", role: "alert", hidden: true });
    this.why = el("p", { class: "why", hidden: true });
    this.registry = el("p", { class: "detail registry", hidden: true });
    this.sentence = el("p", { class: "sentence" });
    this.routes = el("div", { class: "routes" });
    this.measured = new SplitBar("measured");
    this.ramp = el("div", { class: "part", hidden: true });
    this.guards = el("div", { class: "part", hidden: true });
    this.effects = new Effects(model);
    this.feedback = new FeedbackTables(model);
    this.provenance = new Provenance(model);
    this.last = el("p", { class: "last", hidden: true });
    this.versions = el("div", { class: "versions" });
    this.traffic = new Traffic(model, () => this.showFigures());
    this.incomparable = el("p", { class: "detail incomparable", hidden: true }, INCOMPARABLE);
    this.element = el(
      "article",
      { class: "card", id, "aria-labelledby": `${id}-name`, "data-model": model, tabindex: "-1" },
      el("header", {}, el("h2", { id: `${id}-name` }, model), this.stage,
        el("div", { class: "actions" }, this.continueButton, this.holdButton, this.undoButton, this.promoteButton, this.resumeButton, this.reasonButton, this.stopButton)),
      this.effect, this.failure, this.why,
      el("div", { class: "split" }, this.sentence, this.routes, this.registry),
      this.versions, this.traffic.since, this.incomparable, this.effects.element, this.feedback.element, this.ramp, this.guards,
      this.provenance.element,
      this.traffic.details, this.last,
    );
    this.traffic.follow(this.element);
    this.stopButton.addEventListener("click", () => this.stop());
    this.reasonButton.addEventListener("click", () => this.commands.stopWithReason(this.release, this));
    this.undoButton.addEventListener("click", () => this.commands.undoPromote(this.release, this));
    this.resumeButton.addEventListener("click", () => this.commands.resume(this.release, this));
    this.promoteButton.addEventListener("click", () => this.commands.promote(this.release, this));
    this.holdButton.addEventListener("click", () => this.send("hold"));
    this.continueButton.addEventListener("click", () => this.send("continue"));
  }

  /** Stop on one press, and show how long it took until the gateway confirmed that no response comes from the candidate. */
  async stop(reason = "stopped in the console") {
    const pressed = performance.now();
    this.stopButton.disabled = true;
    say(this.effect, "Stopping …");
    try {
      const decision = await post(`/api/releases/${encodeURIComponent(this.release.model)}/stop`, { reason });
      this.commandSequence = decision.sequence;
      const took = Math.round(performance.now() - pressed);
      this.effect.dataset.ms = took;
      const { done, doubt } = stopped(decision.fleet, took);
      say(this.effect, `${done} Every response${doubt ? " of this host" : ""} comes from version ${this.release.stable}.`);
      this.failure.hidden = true;
      if (doubt) this.fail(doubt);
      this.update({ ...this.release, stopped: true, routes: this.release.routes.map((route) => ({ ...route, in_force_percent: 0 })) });
      this.resumeButton.focus();
    } catch (error) {
      say(this.effect, "");
      this.fail(`Not stopped: ${words(error)}. Press again, or run: gateway stop ${this.release.model}`);
    } finally {
      this.stopButton.disabled = false;
    }
  }

  async send(name) {
    try {
      await post(`/api/releases/${encodeURIComponent(this.release.model)}/${name}`, { reason: "in the console" });
      this.failure.hidden = true;
    } catch (error) {
      this.fail(`${name}: ${words(error)}`);
    }
  }

  fail(text) {
    this.failure.hidden = false;
    say(this.failure, text);
  }

  confirm(text) {
    this.failure.hidden = true;
    say(this.effect, text);
  }

  /** Update the request rates at `timeNs`, even if nothing has changed. */
  tick(timeNs) {
    this.rates.add(timeNs, this.release);
    this.showRates();
  }

  update(release) {
    this.release = release;
    const there = release.candidate !== null;
    const state = !there ? "alone" : release.stopped ? "stopped" : (release.ramp?.stage ?? "running");
    this.element.dataset.state = state;
    say(this.stage, { alone: "no candidate", stopped: "stopped" }[state] ?? state);
    this.stopButton.hidden = !there || release.stopped;
    this.reasonButton.hidden = this.stopButton.hidden;
    this.undoButton.hidden = release.undo_to === undefined || !this.commands.accepts("undo-promote");
    this.resumeButton.hidden = !there || !release.stopped;
    this.promoteButton.hidden = !there || release.stopped;
    this.holdButton.hidden = !(release.ramp?.stage === "ramping" && this.commands.accepts("hold"));
    this.continueButton.hidden = !(["held", "paused"].includes(release.ramp?.stage) && this.commands.accepts("continue"));
    this.why.hidden = !release.stopped;
    if (release.stop) say(this.why, `Stopped by ${release.stop.by} at ${clock(release.stop.time_ns)}: ${release.stop.reason}`);
    else if (release.stopped) say(this.why, "Stopped.");
    if (!release.stopped && this.effect.textContent.startsWith("Stopped")) say(this.effect, "");
    this.showSplit(release);
    this.registry.hidden = !release.registry;
    if (release.registry) say(this.registry, registered(release.registry));
    this.showVersions(release);
    this.showMore(release);
  }

  showSplit(release) {
    const names = release.candidate === null ? [] : release.routes.map((route) => route.route);
    if (names.join("\n") !== [...this.bars.keys()].join("\n")) {
      this.bars = new Map(names.map((name) => [name, new SplitBar(name, () => this.setWeight(name))]));
      this.measured = new SplitBar("measured");
      this.measured.row.classList.add("measured");
      this.routes.replaceChildren(...[...this.bars.values()].map((bar) => bar.row), ...(names.length ? [this.measured.row] : []));
    }
    for (const route of release.routes) this.bars.get(route.route)?.update(route.in_force_percent, route.weight_percent);
    this.routes.hidden = names.length === 0;
    say(this.sentence, sentence(release));
  }

  setWeight(name) {
    this.commands.weight(this.release, this.release.routes.find((route) => route.route === name), this);
  }

  showVersions(release) {
    this.figures = [...FIGURES, ...measureFigures(release)];
    const shape = JSON.stringify(release.versions.map((version) => [version.version, ...this.figures.map((figure) => [figure.name, figure.there?.(version)])]));
    if (shape !== this.shape) this.buildVersions(release);
    this.shape = shape;
    this.showFigures();
    this.incomparable.hidden = release.candidate === null || release.latency_compared;
    this.showRates();
  }

  showFigures() {
    for (const cell of this.cells ?? []) cell(this.release);
  }

  buildVersions(release) {
    const present = VARIANTS.filter((variant) => release.versions.some((version) => version.variant === variant));
    const numbers = Object.fromEntries(release.versions.map((version) => [version.variant, version.version]));
    this.sparks = {};
    this.rateCells = {};
    this.cells = [];
    const heads = present.map((variant) =>
      el("th", { scope: "col", class: variant }, el("span", { class: "swatch" }), `${variant} `, el("b", {}, `version ${numbers[variant]}`)));
    const rates = present.map((variant) => {
      this.sparks[variant] = new Sparkline(`${variant}: requests per second in the last minute`);
      this.rateCells[variant] = el("span", { class: "rate" }, "–");
      return el("td", { class: variant }, this.rateCells[variant], this.sparks[variant].element);
    });
    const rows = this.figures.filter((figure) => !figure.there || release.versions.some(figure.there))
      .filter((figure) => !figure.only || present.includes(figure.only))
      .map((figure) => el("tr", {}, el("th", { scope: "row" }, figure.name), ...present.map((variant) => this.cell(figure, variant))));
    this.versions.replaceChildren(
      el("table", {}, el("caption", { class: "hidden" }, `${release.model}: versions side by side`),
        el("thead", {}, el("tr", {}, el("td", {}), ...heads)),
        el("tbody", {}, el("tr", { class: "traffic" }, el("th", { scope: "row" }, "Traffic"), ...rates), ...rows)),
    );
    this.versions.classList.toggle("single", present.length === 1);
  }

  cell(figure, variant) {
    const value = el("span", {});
    const compared = el("small", {});
    const read = (release, of) => {
      const live = release.versions.find((one) => one.variant === of);
      const version = live && figure.period ? (this.traffic.of(live) ?? live) : live;
      return version === undefined ? null : figure.of ? figure.of(version) : version[figure.key];
    };
    this.cells.push((release) => {
      const own = read(release, variant);
      say(value, figure.only && figure.only !== variant ? "" : own === undefined ? "–" : figure.show(own));
      const stable = variant === "candidate" && figure.worse ? read(release, "stable") : null;
      say(compared, against(own, stable));
      compared.className = mark(figure, own, stable, release.latency_compared);
    });
    return el("td", { class: variant }, value, " ", compared);
  }

  showRates() {
    const most = Math.max(0, ...VARIANTS.flatMap((variant) => this.rates.course(variant)));
    for (const variant of Object.keys(this.sparks ?? {})) {
      say(this.rateCells[variant], perSecond(this.rates.samples.length ? this.rates.of(variant) : null));
      this.sparks[variant].update(this.rates.course(variant), most, LENGTH);
    }
    const share = this.rates.samples.length ? this.rates.share() : null;
    this.measured.row.classList.toggle("none", share === null);
    this.measured.update(share ?? 0, 0, share === null ? " (no traffic)" : "");
  }

  showMore(release) {
    this.effects.update(release);
    this.feedback.update(release);
    this.provenance.update(release);
    this.ramp.hidden = !release.ramp;
    if (release.ramp) this.ramp.replaceChildren(el("h3", {}, "Ramp"), rampSteps(release.ramp));
    const guards = (release.guards ?? []).filter((guard) => guard.action !== "none" || release.ramp);
    this.guards.hidden = guards.length === 0;
    if (guards.length) {
      this.guards.replaceChildren(el("h3", {}, "Evidence against the candidate"), ...guards.map(guardRow), ...forecastLine(release.forecast));
    }
  }

  /** The last decision about this release. */
  decided(decision) {
    this.last.hidden = false;
    say(this.last, `Last decision, ${clock(decision.time_ns)}: ${decision.action} of version ${decision.candidate} by ${decision.by}, ${decision.reason}`);
  }
}

function unsplitNote(release) {
  if (!release.unsplit?.requests) return "";
  return `, as do requests with too little time to run both versions (${percent(release.unsplit.percent)} of all)`;
}

function sentence(release) {
  if (release.candidate === null) return `Version ${release.stable} answers every request.`;
  if (release.stopped) return `Version ${release.stable} answers every request until version ${release.candidate} is resumed.`;
  if (release.routes.length === 0) return `No route sends requests to version ${release.candidate}.`;
  return `Share of each route that version ${release.candidate} gets; the first matching route decides. All other requests go to version ${release.stable}${unsplitNote(release)}.`;
}
