// Charts: the split, a sparkline, evidence against its threshold and how much it takes, a ramp's steps.

import { count, el, percent, svg } from "/console/dom.js";

const WIDTH = 160;
const HEIGHT = 36;

/** One route: how much of it the candidate gets, and how much it would get if it were not stopped. `set`: called to set its weight. */
export class SplitBar {
  constructor(name, set = null) {
    this.ghost = el("span", { class: "ghost" });
    this.share = el("span", { class: "share" });
    this.bar = el("div", { class: "bar", role: "img" }, this.ghost, this.share);
    this.figure = el(set ? "button" : "span", { class: set ? "figure set" : "figure", type: set && "button", title: set && "Set the weight of this route" });
    if (set) this.figure.addEventListener("click", set);
    this.row = el("div", { class: "route", "data-route": name }, el("span", { class: "name" }, name), this.bar, this.figure);
    this.name = name;
  }

  update(inForce, configured, note = "") {
    this.ghost.style.width = `${configured}%`;
    this.share.style.width = `${inForce}%`;
    this.share.classList.toggle("some", inForce > 0);
    this.row.dataset.percent = inForce;
    const text = percent(inForce) + note;
    if (this.figure.textContent === text) return;
    this.figure.textContent = text;
    if (this.figure.tagName === "BUTTON") this.figure.setAttribute("aria-label", `${text}: set the weight of route ${this.name}`);
    this.bar.setAttribute("aria-label", `${this.name}: ${text} to the candidate`);
  }
}

/** A figure over time; all sparklines of a model share a scale, so that heights can be compared. */
export class Sparkline {
  constructor(label) {
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "spark", role: "img" };
    const ground = svg("path", { class: "ground", d: `M0 ${HEIGHT - 1}H${WIDTH}` });
    this.element = svg("svg", { ...box, "aria-label": label }, ground, this.area, this.line);
  }

  update(values, most, length) {
    const step = WIDTH / (length - 1);
    const first = WIDTH - step * (values.length - 1);
    const points = values.map((value, index) => {
      const y = HEIGHT - 2 - ((HEIGHT - 5) * value) / (most || 1);
      return `${(first + step * index).toFixed(1)} ${y.toFixed(1)}`;
    });
    const line = points.length > 1 ? `M${points.join("L")}` : "";
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", line && `${line}L${WIDTH} ${HEIGHT}L${first.toFixed(1)} ${HEIGHT}Z`);
  }
}

/** A guard: evidence on a log scale that ends a quarter beyond its threshold. */
export function guardRow(guard) {
  const known = guard.log10_e !== null;
  const scale = guard.threshold_log10 * 1.25;
  const share = known ? Math.min(1, Math.max(0, guard.log10_e / scale)) : 0;
  const fill = el("span", { class: "fill" });
  fill.style.width = `${share * 100}%`;
  const mark = el("span", { class: "threshold" });
  mark.style.left = `${(guard.threshold_log10 / scale) * 100}%`;
  const odds = known ? `${formatOdds(guard.log10_e)} to 1` : guard.summary;
  const atThreshold = guard.action === "none" ? "used by the ramp only" : `${guard.action}s at ${formatOdds(guard.threshold_log10)} to 1`;
  return el(
    "div",
    { class: "guard", "data-verdict": guard.verdict },
    el("span", { class: "name" }, guard.name),
    el("div", { class: "bar", role: "img", "aria-label": `${odds}; ${atThreshold}` }, fill, mark),
    el("span", { class: "verdict" }, known ? guard.verdict : "no evidence"),
    el("span", { class: "detail" }, `${odds}, ${atThreshold}`),
  );
}

/** How many requests a stop takes. */
export function forecastLine(forecast) {
  const needed = forecast?.requests_to_detect_doubling;
  if (!needed) return [];
  const [about, once] = forecast.at_least ? ["at least", ": a sticky customer counts once"] : ["about", ""];
  return [el("p", { class: "detail" }, `At this weight it takes ${about} ${count(Math.round(needed))} requests to detect twice as many failures${once}.`)];
}

/** Format a power of ten as odds: 13, 0.06, 10^7. */
function formatOdds(log10) {
  return Math.abs(log10) < 5 ? String(Number((10 ** log10).toPrecision(2))) : `10^${Math.round(log10)}`;
}

/** The steps of a ramp: past, current and future. */
export function rampSteps(ramp) {
  const steps = ramp.weights.map((weight, index) => {
    const place = index < ramp.step ? "done" : index === ramp.step ? "now" : "next";
    return el("li", { "data-place": place, "aria-current": place === "now" && "step" }, percent(weight));
  });
  const left = ramp.next_step_in_s === null ? "" : `; next step in ${duration(ramp.next_step_in_s)} at the earliest`;
  const text = `${ramp.stage} at ${percent(ramp.weight_percent)}${left}`;
  const waits = ramp.blocked_on ? ` Waiting for ${ramp.blocked_on}.` : "";
  return el("div", { class: "ramp" }, el("ol", {}, ...steps), el("p", {}, `${text}.${waits}`));
}

function duration(seconds) {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}
