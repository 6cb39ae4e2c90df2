// "Is it better?": for each metric how much the candidate differs from stable, with the interval that holds it, and a
// line at zero. Better is always to the right.

import { count, el, percent, say } from "/console/dom.js";
import { valueText } from "/console/outcomes.js";

const UNKNOWN = "not known yet";
const ROOM = 1.12; // the scale's half, over what is farthest from zero

/** All effects of a release: on all traffic, and by route, to be opened. Open parts stay open. */
export class Effects {
  constructor(model) {
    this.model = model;
    this.overall = el("div", { class: "effects" });
    this.routes = el("div", { class: "effects scroll", tabindex: "0", role: "region", "aria-label": `${model}: is it better, by route` });
    this.more = el("details", { hidden: true }, el("summary", {}, "By route"), this.routes);
    this.note = el("p", { class: "detail" });
    this.element = el("div", { class: "part", hidden: true }, el("h3", {}, "Is it better?"), this.overall, this.more, this.note);
    this.rows = new Map();
  }

  update(release) {
    const effects = release.effects ?? [];
    this.element.hidden = effects.length === 0;
    const shape = JSON.stringify(effects.map((one) => [keyOf(one), one.higher_is_better]));
    if (shape !== this.shape) this.build(effects);
    this.shape = shape;
    const scales = scalesOf(effects);
    for (const one of effects) this.rows.get(keyOf(one)).update(one, scales.get(scaleOf(one)));
    say(this.note, noteOn(effects));
  }

  build(effects) {
    this.rows = new Map(effects.map((one) => [keyOf(one), new EffectRow()]));
    const rowsOf = (some) => some.map((one) => this.rows.get(keyOf(one)).element);
    const overall = effects.filter((one) => one.route === null);
    const [directed, others] = [overall.filter(isDirected), overall.filter((one) => !isDirected(one))];
    this.overall.replaceChildren(
      ...(directed.length ? [axis("← worse", "better →"), ...rowsOf(directed)] : []),
      ...(others.length ? [axis("← lower", "higher →"), ...rowsOf(others)] : []));
    const routes = effects.filter((one) => one.route !== null);
    this.routes.replaceChildren(...overall.flatMap((metric) => {
      const same = routes.filter((one) => one.metric === metric.metric);
      const ends = isDirected(metric) ? ["← worse", "better →"] : ["← lower", "higher →"];
      return same.length ? [el("h4", {}, metric.label), axis(...ends), ...rowsOf(same)] : [];
    }));
    this.more.hidden = routes.length === 0;
  }
}

function noteOn(effects) {
  const overall = effects.find((one) => one.route === null);
  if (!overall) return "";
  const rough = effects.some((one) => one.asymptotic && one.low !== null) ? " Where the metric has no range in the routing file, that holds for many outcomes only." : "";
  const often = effects.some((one) => one.form === "ratio") ? " ×: how many times as often as for stable." : "";
  return `Candidate minus stable, since this release began, each outcome compared with others of its route, and weighed by both versions' chances of it: where weights differ or have changed, that is not the difference of the two means. The bar holds the true difference with a probability of ${percent(100 * overall.level)}, however often you look.${often}${rough}`;
}

/** Whether somebody has said which direction is better. */
const isDirected = (one) => one.higher_is_better !== null;

/** The routes of a metric share a scale, so that they can be compared. */
const scaleOf = (one) => `${one.metric}\n${one.route !== null}`;

/** From zero, or on a logarithmic scale from once as often. */
const distance = (value, form) => (form === "ratio" ? Math.log1p(Math.max(value, -0.999)) : value);

/** What is farthest from zero, by scale. */
function scalesOf(effects) {
  const scales = new Map();
  for (const one of effects) {
    const most = Math.max(...[one.effect, one.low, one.high].map((value) => Math.abs(distance(value ?? 0, one.form))));
    scales.set(scaleOf(one), Math.max(most, scales.get(scaleOf(one)) ?? 0));
  }
  return scales;
}

const keyOf = (one) => `${one.metric}\n${one.route ?? ""}`;

function axis(left, right) {
  return el("div", { class: "axis", "aria-hidden": "true" }, el("span", {}, left), el("span", {}, right));
}

class EffectRow {
  constructor() {
    this.name = el("span", { class: "name" });
    this.interval = el("span", { class: "interval" });
    this.point = el("span", { class: "point" });
    this.bar = el("div", { class: "span", role: "img" }, el("span", { class: "zero" }), this.interval, this.point);
    this.verdict = el("span", { class: "verdict" });
    this.difference = el("b", {});
    this.detail = el("span", {});
    this.element = el("div", { class: "difference" }, this.name, this.bar, this.verdict,
      el("span", { class: "detail" }, this.difference, this.detail));
  }

  update(one, scale) {
    const known = one.effect !== null && one.low !== null;
    this.element.dataset.verdict = one.verdict;
    this.element.classList.toggle("none", !known);
    say(this.name, one.route ?? one.label);
    say(this.verdict, one.verdict === UNKNOWN ? "not known" : one.verdict);
    const text = one.effect === null ? "" : differenceText(one.effect, one.form) + (known ? `, ${intervalText(one)}` : "");
    say(this.difference, text);
    const [, more] = one.words.match(`^${one.verdict}(?:$|[:;] )(.*)`) ?? ["", one.words]; // "no worse than 5" is shown whole
    say(this.detail, [sides(one), more].filter(Boolean).join("; "));
    this.bar.setAttribute("aria-label", `${[one.label, one.route].filter(Boolean).join(" on ")}: ${text || "nothing to compare yet"}; ${one.words}`);
    if (known) this.draw(one, ROOM * scale || 1);
  }

  draw({ effect, low, high, form, higher_is_better: higher }, most) {
    const place = (value) => 50 * (1 + ((higher === false ? -1 : 1) * distance(value, form)) / most);
    const ends = [low, high].map(place).sort((a, b) => a - b);
    this.interval.style.left = `${ends[0]}%`;
    this.interval.style.width = `${ends[1] - ends[0]}%`;
    this.point.style.left = `${place(effect)}%`;
  }
}

/** Both means, each with the number of outcomes behind it. */
function sides(one) {
  if (one.form === "ratio") return `stable n=${count(one.stable_units)}, candidate n=${count(one.candidate_units)}`;
  const side = (mean, units) => (mean === null ? "none" : `${valueText(mean, one.form)} (n=${count(units)})`);
  return `stable ${side(one.stable, one.stable_units)}, candidate ${side(one.candidate, one.candidate_units)}`;
}

/** A difference with its sign; of shares in percentage points. */
function differenceText(value, form) {
  if (form === "ratio") return value > 998.99 ? "1,000 × or more" : `${Number((1 + value).toPrecision(3))} ×`;
  const size = form === "share" ? `${Number((100 * Math.abs(value)).toPrecision(2))} points` : valueText(Math.abs(value), form);
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${size}`;
}

function intervalText({ low, high, form }) {
  const ends = [low, high].map((value) => differenceText(value, form));
  return `between ${form === "share" ? ends[0].replace(" points", "") : ends[0]} and ${ends[1]}`;
}
