// Where each version comes from, as files beside its model say: registry, run, data set, code, estimator, accuracy.

import { count, el, percent } from "/console/dom.js";

const VARIANTS = ["stable", "candidate"];
const HASH_SHOWN = 12; // characters; the whole hash is in the title
const ROWS = [
  ["Registry", ({ origin }) => origin && linked([origin.registry, origin.model, origin.version].filter(Boolean).join(" ") || origin.link, origin.link)],
  ["Run", ({ origin }) => origin?.run_id && hashed(origin.run_id, 40)],
  ["Data set", ({ training }) => training && both(training.data, training.data_sha256)],
  ["Export", ({ training }) => training && both(training.dataset_rows === null ? null : `${count(training.dataset_rows)} rows`, training.dataset_content_sha256 ?? training.dataset_manifest_sha256)],
  ["Trained on", ({ training }) => training?.train_rows !== null && training && `${count(training.train_rows)} rows`],
  ["Revision", ({ training }) => training?.revision && hashed(training.revision, 40)],
  ["Estimator", ({ training }) => training?.estimator],
  ["Held-out rows", ({ training }) => training && accuracy(training)],
  ["Problem", ({ problems }) => problems.length && el("span", { class: "bad" }, problems.join("; "))],
];

function accuracy({ held_out_accuracy: share, held_out_rows: rows }) {
  return share === null ? null : `${percent(100 * share)}${rows === null ? "" : ` of ${count(rows)}`} right`;
}

function hashed(text, most = HASH_SHOWN) {
  return text.length > most ? el("code", { title: text }, `${text.slice(0, most)}…`) : el("code", {}, text);
}

/** A text and a hash, or what there is of them; null if there is neither. */
function both(text, hash) {
  if (!text && !hash) return null;
  return el("span", {}, ...[text, text && hash && " ", hash && hashed(hash)].filter(Boolean));
}

/** The text, as a link if its address is one of the web: what a file beside a model says may be anything. */
function linked(text, address) {
  if (!text) return null;
  return /^https?:/i.test(address ?? "") ? el("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, text) : text;
}

/** The table of a release's versions; hidden if nothing is known of any. */
export class Provenance {
  constructor(model) {
    this.model = model;
    this.table = el("div", {});
    this.element = el("div", { class: "part provenance", hidden: true }, el("h3", {}, "Where the versions come from"), this.table);
  }

  update(release) {
    const versions = VARIANTS.flatMap((variant) => release.versions.filter((version) => version.variant === variant));
    const shape = JSON.stringify(versions.map((version) => [version.version, version.provenance]));
    if (shape === this.shape) return; // a link that has the focus keeps it
    this.shape = shape;
    this.element.hidden = !versions.some((version) => version.provenance);
    if (this.element.hidden) return;
    const heads = versions.map(({ variant, version }) => el("th", { scope: "col", class: variant }, el("span", { class: "swatch" }), `${variant} `, el("b", {}, `version ${version}`)));
    const rows = ROWS.map(([name, of]) => [name, versions.map((version) => (version.provenance && of(version.provenance)) || null)])
      .filter(([, cells]) => cells.some((cell) => cell !== null))
      .map(([name, cells]) => el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((cell) => el("td", {}, cell ?? "–"))));
    this.table.replaceChildren(
      el("table", {}, el("caption", { class: "hidden" }, `${this.model}: where the versions come from`),
        el("thead", {}, el("tr", {}, el("td", {}), ...heads)), el("tbody", {}, ...rows)));
    this.table.classList.toggle("single", versions.length === 1);
  }
}
