// Parts that several views share.

import { h, some } from "./dom.js";
import { amount, decimal, percent, signed } from "./format.js";
import { addressOf } from "./hash.js";

/** A view's heading with a line below it. */
export function heading(title, text) {
  return h("div", { class: "heading" }, h("h1", {}, title), ...(text ? [h("p", {}, text)] : []));
}

/** A link to a model on the map. */
export function modelLink(name) {
  return h("a", { href: addressOf("map", { model: name }) }, name);
}

/** The mark of a model that was never voted on. */
export function enrolledMark() {
  return h("span", { class: "tag", title: "Never voted on: rated by what it answers" }, "enrolled");
}

/** The mark of a model that lies beyond the known field; nothing for all others. */
export function beyondMark({ beyond }) {
  return beyond ? h("span", { class: "tag", title: beyondText(beyond) }, "beyond the known field") : null;
}

/** That a model lies beyond the known field, in words; nothing for all others. */
export function beyondNote({ beyond }) {
  return beyond ? h("p", { class: "notice" }, `Beyond the known field: ${beyondText(beyond)}.`) : null;
}

function beyondText(beyond) {
  return `its answers look ${beyond > 0 ? "better" : "worse"} than those of every known model, so that its rating is a guess`;
}

/** What raises and lowers a model's rating, in Elo; nothing where that is not known. */
export function ratingDrivers(found) {
  if (!found) return null;
  const item = ({ effect, text }) => h("li", {}, h("span", { class: "figure-of" }, signed(effect)), ` ${text}`);
  const weight = found.weight === null || found.weight === undefined ? "" : ` This weighs ${percent(found.weight)} in its rating.`;
  return h(
    "section",
    { class: "rating-drivers" },
    h("h3", {}, "What raises and lowers its rating"),
    h("p", { class: "soft" }, `What the votes say about answers like its own, beside the known models, in Elo.${weight}`),
    h("ul", { class: "effects" }, ...[...found.raising, ...found.lowering, { effect: found.rest, text: "all other features of its answers" }].map(item)),
  );
}

/** A message shown while something is fetched. */
export function loading(text) {
  return h("p", { class: "loading", role: "status" }, text);
}

/** A message about an error, with a button to try again where that makes sense. */
export function problem(error, again) {
  return h(
    "div",
    { class: "notice problem", role: "alert" },
    h("p", {}, error.message),
    ...(again ? [h("button", { type: "button", on: { click: again } }, "Try again")] : []),
  );
}

/** A message for an empty view, and what to do about it. */
export function empty(title, text) {
  return h("div", { class: "notice" }, h("p", { class: "lead" }, title), h("p", {}, text));
}

/** Fills a place with the result of a promise; shows a message while it loads, and errors. */
export async function fill(place, text, ask, draw) {
  const turn = (place.turn = (place.turn ?? 0) + 1);
  place.replaceChildren(loading(text));
  let children;
  try {
    children = draw(await ask());
  } catch (error) {
    children = [problem(error, () => fill(place, text, ask, draw))];
  }
  if (place.turn === turn) place.replaceChildren(...some(children)); // an older question's answer comes too late
}

/** Differences of style in words, each with two bars: the subject above, the other below. */
export function driverList(drivers, subject, other) {
  if (!drivers.length) return h("p", { class: "soft" }, "No statistically significant difference of style.");
  return h("ol", { class: "drivers" }, ...drivers.map((driver) => driverItem(driver, subject, other)));
}

function driverItem({ text, value, reference, effect }, subject, other) {
  const most = Math.max(value, reference, 1e-9);
  const bar = (kind, name, size) =>
    h(
      "div",
      { class: `row ${kind}` },
      h("span", { class: "who" }, name),
      meter(Math.max(size, 0) / most),
      h("span", { class: "figure-of" }, amount(size)),
    );
  return h(
    "li",
    { title: `Standardised difference ${decimal(effect)}` },
    h("p", {}, text),
    bar("first", subject, value),
    bar("second", other, reference),
  );
}

/** A bar that is filled to a share in [0, 1]. Beside it stands the number, so it is hidden from screen readers. */
export function meter(share, kind = "") {
  const bar = h("i", {});
  bar.style.setProperty("inline-size", `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(1)}%`);
  return h("span", { class: `meter ${kind}`, "aria-hidden": "true" }, bar);
}

/** A prompt and what was answered. */
export function exemplar({ prompt, response }) {
  return h("figure", { class: "exemplar" }, h("figcaption", {}, prompt), h("blockquote", {}, response));
}

/** A choice among all models, by family. */
export function modelChoice(label, families, chosen, onChange) {
  const groups = families.map(({ name, members }) =>
    h("optgroup", { label: name }, ...members.map((model) => h("option", { selected: model === chosen }, model))),
  );
  const choice = h("select", { on: { change: () => onChange(choice.value) } }, ...groups);
  return h("label", { class: "field" }, h("span", {}, label), choice);
}
