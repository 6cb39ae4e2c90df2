// "Is it better?": for each metric how much the candidate differs from stable, with the interval that holds it, and a
// line at zero. Better is always to the right.

import { count, el, say } from "/console/dom.js";
import { valueText } from "/console/outcomes.js";

const ROOM = 1.12; // the scale's half, over what is farthest from zero

/** All effects of a release: on all traffic, and by route, to be opened. Open parts stay open. */
export class Effects {
  constructor(model) {
    this.model = model;
    this.overall = el("div", { class: "effects" });
    this.routes = el("div", { class: "effects" });
    this.more = el("details", { hidden: true }, el("summary", {}, "By route"), this.routes);
    this.note = el("p", { class: "detail" });
    this.element = el("div", { class: "part", hidden: true }, el("h3", {}, "Is it better?"), this.overall, this.more, this.note);
    this.rows = new Map();
  }

  update(release) {
    const effects = release.effects ?? [];
    this.element.hidden = effects.length === 0;
    const shape = JSON.stringify(effects.map((one) => [one.metric, one.route]));
    if (shape !== this.shape) this.build(effects);
    this.shape = shape;
    for (const one of effects) this.rows.get(keyOf(one)).update(one);
    const level = effects.find((one) => one.level)?.level;
    say(this.note, `Candidate minus stable. The bar is the interval that holds the true difference with ${level ? valueText(level, "share") : "high"} probability, however often you look.`);
  }

  build(effects) {
    this.rows = new Map(effects.map((one) => [keyOf(one), new EffectRow(one)]));
    const rowsOf = (route) => effects.filter((one) => one.route === route).map((one) => this.rows.get(keyOf(one)).element);
    const routes = [...new Set(effects.map((one) => one.route).filter((route) => route !== null))];
    this.overall.replaceChildren(axis(), ...rowsOf(null));
    this.routes.replaceChildren(...routes.flatMap((route) => [el("h4", {}, route), axis(), ...rowsOf(route)]));
    this.more.hidden = routes.length === 0;
  }
}

const keyOf = (one) => `${one.metric}\n${one.route ?? ""}`;

function axis() {
  return el("div", { class: "axis", "aria-hidden": "true" }, el("span", {}, "← worse"), el("span", {}, "better →"));
}

class EffectRow {
  constructor() {
    this.name = el("span", { class: "name" });
    this.interval = el("span", { class: "interval" });
    this.point = el("span", { class: "point" });
    this.bar = el("div", { class: "span", role: "img" }, el("span", { class: "zero" }), this.interval, this.point);
    this.verdict = el("span", { class: "verdict" });
    this.detail = el("span", { class: "detail" });
    this.element = el("div", { class: "difference" }, this.name, this.bar, this.verdict, this.detail);
  }

  update(one) {
    const known = one.effect !== null;
    this.element.dataset.verdict = one.verdict;
    this.element.classList.toggle("none", !known);
    say(this.name, one.label);
    say(this.verdict, one.verdict);
    const text = known ? `${differenceText(one.effect, one.form)}, ${intervalText(one)}` : "";
    say(this.detail, [sides(one), text, one.words].filter(Boolean).join(" · "));
    this.bar.setAttribute("aria-label", `${one.label}: ${text || "nothing to compare yet"}; ${one.words}`);
    if (known) this.draw(one);
  }

  draw({ effect, low, high, higher_is_better: higher }) {
    const most = ROOM * Math.max(...[effect, low, high].filter((value) => value !== null).map(Math.abs)) || 1;
    const place = (value) => 50 * (1 + (higher === false ? -value : value) / most);
    const ends = [low === null ? -most : low, high === null ? most : high].map(place).sort((a, b) => a - b);
    this.interval.style.left = `${ends[0]}%`;
    this.interval.style.width = `${ends[1] - ends[0]}%`;
    this.point.style.left = `${place(effect)}%`;
  }
}

function sides(one) {
  if (one.stable === null || one.candidate === null) return "";
  return `${valueText(one.stable, one.form)} → ${valueText(one.candidate, one.form)}`;
}

/** A difference with its sign; of shares in percentage points. */
function differenceText(value, form) {
  const size = form === "share" ? `${Number((100 * Math.abs(value)).toPrecision(2))} points` : valueText(Math.abs(value), form);
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${size}`;
}

function intervalText({ low, high, form, units_stable: stable, units_candidate: candidate }) {
  const bounds = [low, high].map((value) => (value === null ? "?" : differenceText(value, form).replace(" points", "")));
  return `interval ${bounds.join(" to ")} (n=${count(stable)} and ${count(candidate)})`;
}
