// What feedback says of each version: its measures side by side, by route, and recall by class.

import { count, el, percent, say } from "/console/dom.js";

const VARIANTS = ["stable", "candidate"];
const MIN_ROWS = 10; // of a class, below which its recall says little

/** A measure's value: shares (0 to 1) in percent. */
export function valueText(value, form) {
  if (form === "share") return percent(100 * value);
  if (form === "count" || Math.abs(value) >= 1000) return count(Math.round(value));
  return Number(value.toPrecision(3)).toString().replace("-", "−");
}

/** The rows that the table of both versions shows for their measures, in the form of its other figures. */
export function measureFigures(release) {
  return metricsOf(release.versions.map((version) => version.measures)).map(({ metric, label }) => ({
    name: titled(metric, label),
    of: (version) => version.measures?.find((one) => one.metric === metric) ?? null,
    show: measureText,
    there: (version) => version.measures?.some((one) => one.metric === metric) ?? false,
  }));
}

function measureText(one) {
  return one === null ? "–" : `${valueText(one.value, one.form)} (n=${count(one.count)})`;
}

function titled(metric, label) {
  return metric.startsWith("metrics.") ? label : label[0].toUpperCase() + label.slice(1);
}

/** Each metric that occurs in these lists of measures, once. */
function metricsOf(lists) {
  const found = new Map();
  for (const one of lists.flatMap((list) => list ?? [])) found.set(one.metric, one);
  return [...found.values()];
}

/** Two tables to open: measures by route, and recall by class. They stay open while figures come in. */
export class FeedbackTables {
  constructor(model) {
    this.routes = new Table(`${model}: feedback by route`, "Feedback by route", "Route");
    this.classes = new Table(`${model}: recall by class`, "Recall by class", "Class");
    this.element = el("div", { class: "part feedback", hidden: true }, this.routes.element, this.classes.element);
  }

  update(release) {
    const versions = VARIANTS.flatMap((variant) => release.versions.filter((version) => version.variant === variant));
    this.routes.update(versions, routeRows(versions));
    this.classes.update(versions, classRows(versions));
    this.element.hidden = this.routes.element.hidden && this.classes.element.hidden;
  }
}

function routeRows(versions) {
  const routes = [...new Set(versions.flatMap((version) => (version.routes ?? []).map((one) => one.route)))].sort();
  if (routes.length < 2) return []; // the table of both versions says the same
  return routes.flatMap((route) => {
    const lists = versions.map((version) => version.routes?.find((one) => one.route === route)?.measures);
    return metricsOf(lists).map(({ metric, label }, index, all) => ({
      head: route,
      span: index ? 0 : all.length, // one head for all measures of the route
      what: label,
      cells: lists.map((list) => measureText(list?.find((one) => one.metric === metric) ?? null)),
    }));
  });
}

function classRows(versions) {
  const names = [...new Set(versions.flatMap((version) => (version.classes ?? []).map((one) => one.name)))];
  return names.map((name) => ({
    head: name,
    span: 1,
    what: "",
    cells: versions.map((version) => {
      const one = version.classes?.find((other) => other.name === name);
      if (!one) return "–";
      return `${percent(100 * one.recall)} (n=${count(one.rows)}${one.rows < MIN_ROWS ? ", few" : ""})`;
    }),
  }));
}

class Table {
  constructor(caption, title, head) {
    this.caption = caption;
    this.head = head;
    this.place = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
    this.element = el("details", { hidden: true }, el("summary", {}, title), this.place);
  }

  update(versions, rows) {
    this.element.hidden = rows.length === 0;
    const shape = JSON.stringify([versions.map((version) => version.version), rows.map((row) => [row.head, row.what])]);
    if (shape !== this.shape) this.build(versions, rows);
    this.shape = shape;
    rows.forEach((row, index) => row.cells.forEach((text, column) => say(this.cells[index][column], text)));
  }

  build(versions, rows) {
    const what = rows.some((row) => row.what);
    this.cells = rows.map((row) => row.cells.map(() => el("td", {})));
    const heads = versions.map((version) =>
      el("th", { scope: "col", class: version.variant }, el("span", { class: "swatch" }), `${version.variant} `, el("b", {}, `version ${version.version}`)));
    const lines = rows.map((row, index) =>
      el("tr", {}, row.span ? el("th", { scope: "row", rowspan: row.span }, row.head) : null, what ? el("td", { class: "what" }, row.what) : null, ...this.cells[index]));
    this.place.replaceChildren(
      el("table", {}, el("caption", { class: "hidden" }, this.caption),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, this.head), what ? el("th", { scope: "col" }, "Measure") : null, ...heads)),
        el("tbody", {}, ...lines)));
  }
}
