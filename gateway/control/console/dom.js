// Elements without markup: text is always text, so that nothing a model, a person or a client says becomes HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (false and null leave one out) and children (strings become text). */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Set an element's text only if it differs: screen readers announce every change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const count = new Intl.NumberFormat("en").format;

export function percent(value) {
  return value === 0 ? "0%" : value < 0.01 ? "<0.01%" : `${Number(value.toPrecision(value >= 99.5 ? 4 : 3))}%`;
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toPrecision(3)} s`;
  return value < 1 ? `${Math.round(value * 1000)} µs` : `${Number(value.toPrecision(3))} ms`;
}

/** How a figure compares with another: a percentage, or a factor if it is large; empty if they are about equal. */
export function against(own, other) {
  if (!other || own === null || own === undefined) return "";
  const ratio = own / other;
  if (ratio >= 2) return `${Number(ratio.toPrecision(2))}×`;
  const change = Math.round(100 * (ratio - 1));
  return Math.abs(change) < 5 ? "" : `${change > 0 ? "+" : "−"}${Math.abs(change)}%`;
}

export function perSecond(value) {
  return value === null ? "–" : `${value >= 100 ? count(Math.round(value)) : Number(value.toPrecision(2))}/s`;
}

export function clock(timeNs) {
  return new Date(timeNs / 1e6).toLocaleTimeString("en-GB");
}
