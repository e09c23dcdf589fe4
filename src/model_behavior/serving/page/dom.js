// Elements from data. Texts become text nodes, so nothing that a model wrote is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; `on` holds listeners, true and false switch an attribute, null leaves it out. */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

/** Sets attributes of an element that is there; null removes one. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

/** Announces a text to screen readers. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** A sequence with its falsy members left out, for children that are only sometimes there. */
export function some(...children) {
  return children.flat().filter(Boolean);
}

/** Hides an element; an SVG element has no property for it. */
export function show(element, visible) {
  return set(element, { hidden: !visible });
}

/** True where animations are allowed. */
export function mayMove() {
  return !matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function build(element, { on = {}, ...attributes }, children) {
  set(element, Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined)));
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...some(...children));
  return element;
}
