// A release's figures over an hour, a day or its whole life, and its most frequent routes and customers.

import { read } from "/console/api.js";
import { count, el, percent, say } from "/console/dom.js";

const PERIODS = { release: "Whole release", day: "Last day", hour: "Last hour" };
const DOUBTFUL = 0.05; // a share of a count that may be too much: then it is shown as an upper bound
const STORED = "canary-gateway-period";
const REFRESH_MS = 5000; // of the cards that are on the screen
const shown = new Set();
let chosen = sessionStorage.getItem(STORED) ?? "release";
let supported = true; // false: the gateway is of a release before

/** The choice of the period that all cards show. */
export function periodChoice() {
  const choices = Object.entries(PERIODS).map(([key, name]) => {
    const input = el("input", { type: "radio", name: "period", value: key, checked: key === chosen });
    input.addEventListener("change", () => {
      chosen = key;
      sessionStorage.setItem(STORED, key);
      for (const traffic of shown) traffic.show();
    });
    return el("label", {}, input, el("span", {}, name));
  });
  return el("fieldset", { class: "period" }, el("legend", { class: "hidden" }, "Figures of"), ...choices);
}

setInterval(() => { for (const traffic of shown) traffic.refresh(); }, REFRESH_MS);

/** One release's traffic; `changed` is called when there is more to show. */
export class Traffic {
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    this.known = null;
    this.since = el("p", { class: "detail" });
    this.lists = el("div", { class: "tops" });
    this.details = el("details", { class: "part", hidden: true }, el("summary", {}, "Routes and customers"), this.lists);
  }

  /** Keep it up to date while `card` is on the screen. */
  follow(card) {
    new IntersectionObserver(([{ isIntersecting }]) => {
      if (isIntersecting) {
        shown.add(this);
        this.refresh();
      } else {
        shown.delete(this);
      }
    }).observe(card);
  }

  async refresh() {
    if (!supported || this.asking || document.hidden) return;
    this.asking = true;
    try {
      this.known = await read(`/api/releases/${encodeURIComponent(this.model)}/traffic`);
      this.show();
    } catch (error) {
      if (error.status === 404 && error.message.includes("not served here")) supported = false;
    } finally {
      this.asking = false;
    }
  }

  /** The figures of this version in the chosen period; null where they are not known. */
  of(version) {
    return this.known?.versions.find((one) => one.version === version.version && one.variant === version.variant)?.[chosen] ?? null;
  }

  show() {
    this.changed();
    if (!this.known) return;
    const { since_time_s, counted, counted_since_s, routes, customers } = this.known;
    say(this.since, chosen === "release" ? `Figures since ${moment(since_time_s)}, when this release began.` : `Figures of the ${PERIODS[chosen].toLowerCase()}.`);
    this.details.hidden = counted === 0;
    if (counted === 0) return;
    this.lists.replaceChildren(
      list("Route", routes), list("Customer", customers),
      el("p", { class: "detail" }, `The ten most frequent, estimated from about ${count(counted)} recorded requests since ${moment(counted_since_s)}.`),
    );
  }
}

function list(heading, counts) {
  const rows = counts.map((one) => el("tr", {}, el("th", { scope: "row" }, one.name), el("td", {}, `${one.too_many > DOUBTFUL * one.requests ? "≤" : ""}${count(one.requests)}`),
    el("td", {}, one.candidate_requests ? percent((100 * one.candidate_requests) / one.requests) : "–")));
  return el("table", {}, el("thead", {}, el("tr", {}, ...[heading, "Requests", "Candidate"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...rows));
}

function moment(timeS) {
  return new Date(timeS * 1000).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}
